"""A hand-written app for the embedded switch: raw sockets and its own parser, so that the two cannot share a mistake."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import gevent
from gevent import socket
from gevent.queue import Queue
from gevent.server import StreamServer

from exoflow.sim import EmbeddedSwitch

WAIT = 5.0  # wall seconds any one thing may take in these tests


class Late(Exception):
    """What was waited for did not come in time."""


class Frame:
    """Head and body as they came; `headers` of the event if the body is one."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.raw = head + b"\n\n" + body
        self.head = _pairs(head)
        self.body = body
        event = self.head.get("Content-Type") == "text/event-plain"
        self.headers = _pairs(body.split(b"\n\n")[0]) if event else self.head

    @property
    def name(self) -> str:
        return self.headers.get("Event-Name", self.head.get("Content-Type", ""))

    def get(self, name: str) -> str:
        return self.headers.get(name, "")

    def __repr__(self) -> str:
        return f"<{self.name} {self.get('Application')} {self.get('Reply-Text')}>"


def _pairs(text: bytes) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").split("\n"):
        name, colon, value = line.partition(": ")
        if colon:
            pairs.setdefault(name, unquote(value))
    return pairs


class Wire:
    """One connection, either direction."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""
        self.frames: list[Frame] = []  # all that came
        self.tokens = 0

    def send(self, text: str | bytes) -> None:
        self.sock.sendall(text if isinstance(text, bytes) else text.encode())

    def frame(self, seconds: float = WAIT) -> Frame | None:
        """The next frame; None at EOF."""
        with gevent.Timeout(seconds, Late("no frame")):
            while b"\n\n" not in self._buffer:
                if not self._more():
                    return None
            head, _, self._buffer = self._buffer.partition(b"\n\n")
            pairs = _pairs(head)
            length = 0 if "Event-Name" in pairs else int(pairs.get("Content-Length", "0"))
            while len(self._buffer) < length:
                if not self._more():
                    return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        frame = Frame(head, body)
        self.frames.append(frame)
        return frame

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        self._buffer += data
        return bool(data)

    def until(self, wanted: Callable[[Frame], bool], seconds: float = WAIT) -> Frame:
        with gevent.Timeout(seconds, Late("the awaited frame did not come")):
            while (frame := self.frame(seconds)) is not None:
                if wanted(frame):
                    return frame
        raise EOFError(f"closed before the awaited frame; had {self.frames}")

    def event(self, name: str, **headers: str) -> Frame:
        wanted = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.until(lambda f: f.name == name and all(f.get(k) == v for k, v in wanted.items()))

    def command(self, text: str) -> Frame:
        self.send(text + "\n\n")
        return self.until(lambda f: f.name in ("command/reply", "api/response"))

    def api(self, text: str) -> str:
        return self.command(f"api {text}").body.decode()

    def start(self, application: str, argument: str = "", *, lock: bool = True) -> str:
        """Sends an execute, reads its reply and gives its token."""
        self.tokens += 1
        token = f"token-{self.tokens}"
        body = argument.encode()
        head = f"sendmsg\ncall-command: execute\nexecute-app-name: {application}\nevent-uuid: {token}\n"
        head += "event-lock: true\n" if lock else ""
        self.send(f"{head}content-type: text/plain\ncontent-length: {len(body)}\n\n".encode() + body)
        self.until(lambda f: f.name == "command/reply")
        return token

    def complete(self, token: str) -> Frame:
        return self.until(lambda f: f.name == "CHANNEL_EXECUTE_COMPLETE" and f.get("Application-UUID") == token)

    def run(self, application: str, argument: str = "") -> Frame:
        return self.complete(self.start(application, argument))

    def eof(self) -> list[Frame]:
        """All that still comes until the switch closes."""
        begun = len(self.frames)
        while self.frame(WAIT) is not None:
            pass
        return self.frames[begun:]

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Ends the connection as a process does that is killed with bytes unread."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class App:
    """Accepts the switch's connections; `call()` takes the next one. `script` instead runs on each."""

    def __init__(self, script: Callable[[Wire], None] | None = None) -> None:
        self._calls: Queue[Wire] = Queue()
        self._script = script
        self._server = StreamServer(("127.0.0.1", 0), self._accepted)
        self._done: list[gevent.event.Event] = []
        self._server.start()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self._server.server_port)

    def _accepted(self, sock: socket.socket, peer: object) -> None:
        wire = Wire(sock)
        if self._script is not None:
            self._script(wire)
            sock.close()
            return
        self._calls.put(wire)
        done = gevent.event.Event()
        self._done.append(done)
        done.wait()  # StreamServer closes the socket when the handler returns

    def call(self, *, greet: bool = True) -> Wire:
        """The next connection; with `greet` the whole handshake of the contract is done on it."""
        wire = self._calls.get(timeout=WAIT)
        if greet:
            self.greet(wire)
        return wire

    @staticmethod
    def greet(wire: Wire, events: str = "") -> Frame:
        wire.send("connect\n\n")
        first = wire.frame()
        assert first is not None
        wire.command("linger 5")
        wire.command(f"filter Unique-ID {first.get('Unique-ID')}")
        wire.command(
            "event plain CHANNEL_EXECUTE_COMPLETE CHANNEL_ANSWER CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE CHANNEL_BRIDGE "
            f"CHANNEL_UNBRIDGE {events}".rstrip()
        )
        wire.run("sched_cancel")
        return first

    def stop(self) -> None:
        for done in self._done:
            done.set()
        self._server.stop(timeout=0)


def event_socket(address: tuple[str, int], password: str = "exoflow") -> Wire:
    """An authenticated connection to the switch's event socket."""
    wire = Wire(socket.create_connection(address))
    greeting = wire.frame()
    assert greeting is not None
    assert greeting.name == "auth/request"
    assert wire.command(f"auth {password}").get("Reply-Text") == "+OK accepted"
    return wire


@contextmanager
def running(
    script: Callable[[Wire], None] | None = None, *, speed: float | None = None, **options: Any
) -> Iterator[tuple[EmbeddedSwitch, App]]:
    """A started switch and the app it connects to; both are stopped at the end."""
    app = App(script)
    try:
        with EmbeddedSwitch(app.address, speed=speed, **options) as switch:
            yield switch, app
    finally:
        app.stop()


def eventually(true: Callable[[], bool], seconds: float = WAIT) -> None:
    """Returns as soon as it is true; for what no event tells of."""
    with gevent.Timeout(seconds, Late("it did not come true")):
        while not true():
            gevent.sleep(0.002)


def codes(switch: EmbeddedSwitch) -> list[str]:
    return [violation.code for violation in switch.violations]
