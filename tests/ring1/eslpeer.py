"""FreeSWITCH's end of an event socket, scripted: its own frames, its own parser, over a real TCP connection."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import gevent
from gevent import socket

UUID = "2e1f5c7a-0d4b-4a3c-9f10-6b8d7e5a4c21"
WAIT = 2.0  # wall seconds that anything may take; what never comes is found out after HANGS
HANGS = 0.06
EARLY = b"event plain DTMF"  # comes in the packet of `connect`, and is answered behind it without being shown
GOODBYE = b"Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"


class Late(Exception):
    """What was waited for did not come in time."""


@contextmanager
def within(seconds: float = WAIT, what: str = "it") -> Iterator[None]:
    with gevent.Timeout(seconds, Late(f"{what} did not happen within {seconds:g} s")):
        yield


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one loopback connection: (ours, the switch's)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


class Command:
    """A command as FreeSWITCH would read it: its lines, headers and body."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.raw, self.body = head, body
        self.lines = head.decode("utf-8", "replace").split("\n")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in self.lines)}

    @property
    def line(self) -> str:
        return self.lines[0]

    @property
    def application(self) -> str:
        return self.headers.get("execute-app-name", "")

    @property
    def argument(self) -> str:
        return self.headers.get("execute-app-arg", self.body.decode("utf-8", "replace"))

    @property
    def token(self) -> str:
        """What FreeSWITCH gives back as Application-UUID: the sender's, or one of its own."""
        return self.headers.setdefault("event-uuid", str(uuid.uuid4()))

    def __repr__(self) -> str:
        return f"<{self.line} {self.application} {self.argument[:60]}>"


def event_frame(name: str, headers: dict[str, str] | None = None, body: bytes = b"", *, raw: bytes = b"") -> bytes:
    """`headers` are encoded as FreeSWITCH does; `raw` are further lines as they are."""
    values = {"Event-Name": name, "Unique-ID": UUID} | (headers or {})
    text = "".join(f"{key}: {quote(value, safe=' /()!,')}\n" for key, value in values.items()).encode() + raw
    text += b"Content-Length: %d\n\n%b" % (len(body), body) if body else b"\n"
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b" % (len(text), text)


def channel_data(number: str = "9811100001") -> bytes:
    """The reply to `connect`."""
    lines = (
        "Event-Name: CHANNEL_DATA", f"Unique-ID: {UUID}", f"Caller-Caller-ID-Number: {number}", f"variable_uuid: {UUID}",
        f"variable_call_uuid: {UUID}", "Content-Type: command/reply", "Reply-Text: %2BOK%0A",
        "Socket-Mode: async", "Control: full",
    )  # fmt: skip
    return ("\n".join(lines) + "\n\n").encode()


def notice(disposition: str) -> bytes:
    body = GOODBYE if disposition == "disconnect" else b""
    head = f"Content-Type: text/disconnect-notice\nControlled-Session-UUID: {UUID}\nContent-Disposition: {disposition}\n"
    return f"{head}Content-Length: {len(body)}\n\n".encode() + body


class Peer:
    """One connection, seen from FreeSWITCH."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small frames follow each other at once
        self.commands: list[Command] = []
        self._buffer = b""

    # --- what it sends ---

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self, text: str = "+OK") -> None:
        self.send(f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode())

    def api(self, text: str) -> None:
        body = text.encode()
        self.send(b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(body), body))

    def event(self, name: str, headers: dict[str, str] | None = None, body: bytes = b"", *, raw: bytes = b"") -> None:
        self.send(event_frame(name, headers, body, raw=raw))

    def complete(self, command: Command, headers: dict[str, str] | None = None, body: bytes = b"", *, raw: bytes = b"") -> None:
        """The end of an application, findable by greenswitch's key and by the token."""
        known = {"Application": command.application, "variable_current_application": command.application}
        self.event("CHANNEL_EXECUTE_COMPLETE", known | {"Application-UUID": command.token} | (headers or {}), body, raw=raw)

    # --- what it reads ---

    def command(self, seconds: float = WAIT) -> Command:
        """The next command; EOFError when the connection was closed before."""
        with within(seconds, "a command"):
            while b"\n\n" not in self._buffer:
                self._more()
            head, _, self._buffer = self._buffer.partition(b"\n\n")
            lengths = [line[16:] for line in head.split(b"\n") if line.lower().startswith(b"content-length: ")]
            wanted = int(lengths[0]) if lengths else 0
            while len(self._buffer) < wanted:
                self._more()
        body, self._buffer = self._buffer[:wanted], self._buffer[wanted:]
        if head == EARLY:
            self.reply()
            return self.command(seconds)
        self.commands.append(Command(head, body))
        return self.commands[-1]

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("closed by the app")
        self._buffer += data

    def eof(self, seconds: float = WAIT) -> bool:
        """Reads whatever still comes until the app closes."""
        with within(seconds, "the end of the connection"):
            try:
                while self.sock.recv(65536):
                    pass
            except ConnectionError:
                pass
        return True

    def serve(self, *, answers: Callable[[Command], bool] = lambda command: False) -> None:
        """As a FreeSWITCH on which every application ends at once, until the app closes. `answers`: has it dealt with it?"""
        try:
            while True:
                command = self.command(60)
                if answers(command):
                    continue
                if command.line == "connect":
                    self.send(channel_data())
                elif command.line.startswith("api "):
                    self.api("+OK\n")
                else:
                    self.reply()
                if command.application == "hangup":
                    self.goodbye()
                    return
                if command.application:
                    self.complete(command)
                if command.line == "exit":
                    return
        except (EOFError, OSError):
            pass
        finally:
            self.close()

    def goodbye(self, cause: str = "NORMAL_CLEARING") -> None:
        """The channel's end under linger, up to the last notice."""
        self.event("CHANNEL_HANGUP", {"Hangup-Cause": cause})
        self.send(notice("linger"))
        self.event("CHANNEL_HANGUP_COMPLETE", {"Hangup-Cause": cause, "variable_hangup_cause_q850": "16"})
        self.send(notice("disconnect"))

    def close(self) -> None:
        self.sock.close()
