"""FreeSWITCH's event socket in a few plain lines, for tests only.

Written apart from exoflow's own `esl/`, so that a mistake there cannot hide itself in the tests. Both directions: `EventSocket`
connects to FreeSWITCH, `AppServer` is connected to by the dialplan's `socket`. All waits have a deadline in seconds, and raise
`Gone` when the peer closed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

import gevent
from gevent import socket
from gevent.event import AsyncResult, Event
from gevent.server import StreamServer

DEADLINE = 10.0
"""Seconds; nothing on loopback takes as long unless it hangs."""

Headers = dict[str, str]


class Gone(ConnectionError):
    """The peer closed the connection."""


class HungUp(Exception):
    """The call ended while something was done with it."""


class Frame(NamedTuple):
    headers: Headers
    body: bytes

    @property
    def reply(self) -> str:
        return self.headers.get("Reply-Text", "")

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


def parse_headers(block: bytes) -> Headers:
    """Header lines, each value decoded once; later ones do not replace earlier ones."""
    headers: Headers = {}
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b": ")
        if colon:
            headers.setdefault(name.decode(errors="replace"), unquote(value.decode(errors="replace")))
    return headers


def parse_event(body: bytes) -> Headers:
    """A plain event; a body of its own, if it has one, is under `_body`."""
    block, _, rest = body.partition(b"\n\n")
    event = parse_headers(block)
    if rest:
        event["_body"] = rest.decode(errors="replace")
    return event


def when(event: Headers) -> float:
    """Epoch seconds at which the switch made the event."""
    return int(event["Event-Date-Timestamp"]) / 1e6


class Link:
    """One connection: replies in order, events to whoever listens."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.frames: deque[Frame] = deque()
        self.listeners: list[Callable[[Headers], None]] = []
        self.eof = Event()
        self._replies: deque[AsyncResult] = deque()
        self._reader = gevent.spawn(self._read_all)

    def command(self, line: str, body: str = "", *, deadline: float = DEADLINE) -> Frame:
        """Sends a command and waits for its reply."""
        return self.send(line, body).get(timeout=deadline)

    def send(self, line: str, body: str = "") -> AsyncResult:
        if self.eof.is_set():
            raise Gone(f"connection closed before {line!r}")
        reply = AsyncResult()
        self._replies.append(reply)
        data = body.encode()
        if data:
            line += f"\ncontent-length: {len(data)}"
        self.sock.sendall(line.encode() + b"\n\n" + data)
        return reply

    def close(self) -> None:
        """Ends the connection at once, as a killed process does."""
        # closing alone would leave it open for as long as the reader has its file
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self._reader.kill()
        self._ended()

    def _read_all(self) -> None:
        stream = self.sock.makefile("rb")
        try:
            while True:
                block = b""
                while (line := stream.readline()) not in (b"", b"\n"):
                    block += line
                if not line:
                    return
                headers = parse_headers(block)
                body = stream.read(int(headers.get("Content-Length", 0)))
                self._dispatch(Frame(headers, body))
        except OSError:
            return
        finally:
            self._ended()

    def _dispatch(self, frame: Frame) -> None:
        kind = frame.headers.get("Content-Type")
        if kind in ("command/reply", "api/response"):
            self._replies.popleft().set(frame)
        elif kind == "text/event-plain":
            event = parse_event(frame.body)
            for listener in list(self.listeners):
                listener(event)
        else:
            self.frames.append(frame)

    def _ended(self) -> None:
        self.eof.set()
        while self._replies:
            self._replies.popleft().set_exception(Gone("connection closed while a reply was waited for"))


class EventSocket(Link):
    """A connection to FreeSWITCH's own event socket."""

    def __init__(self, host: str, port: int, password: str, *events: str) -> None:
        super().__init__(socket.create_connection((host, port), timeout=None))
        reply = self.command(f"auth {password}").reply
        if not reply.startswith("+OK"):
            raise PermissionError(reply)
        if events:
            self.command("event plain " + " ".join(events))

    def api(self, command: str, *, deadline: float = DEADLINE) -> str:
        return self.command(f"api {command}", deadline=deadline).text.strip()


class AppCall(Link):
    """A call that the dialplan's `socket` brought; nothing is sent until it is asked for."""

    _tokens = itertools.count(1)

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.data: Headers = {}
        self.hangup: Headers = {}
        self.hung_up = Event()
        self.taken = Event()
        self._open: dict[str, AsyncResult] = {}
        self.listeners.append(self._on_event)

    @property
    def uuid(self) -> str:
        return self.data["Unique-ID"]

    def var(self, name: str) -> str | None:
        """A channel variable as it was when the call was brought."""
        return self.data.get(f"variable_{name}")

    def connect(self) -> Headers:
        """`connect`, `linger`, `myevents`; the channel's data."""
        self.data = self.command("connect").headers
        self.command("linger 5")
        self.command("myevents")
        return self.data

    def take(self) -> Headers:
        """What every app does first: `connect`, then the guard is disarmed. `taken` is set when that is done."""
        self.connect()
        self.execute("sched_cancel")
        self.taken.set()
        return self.data

    def start(self, app: str, arg: str = "") -> AsyncResult:
        """Queues an application; its CHANNEL_EXECUTE_COMPLETE comes as result."""
        token = f"test-{next(self._tokens)}"
        done = self._open[token] = AsyncResult()
        head = f"sendmsg\ncall-command: execute\nexecute-app-name: {app}\nevent-lock: true\nevent-uuid: {token}"
        self.send(head + "\ncontent-type: text/plain" if arg else head, arg)
        return done

    def execute(self, app: str, arg: str = "", *, deadline: float = DEADLINE) -> Headers:
        """Runs an application to its end; `HungUp` when the call ended and took the application with it."""
        done = self.start(app, arg)
        gevent.wait([done, self.hung_up], timeout=deadline, count=1)
        # the COMPLETE of an application that the hangup ended comes right behind it, or never
        if not done.ready() and self.hung_up.is_set() and not done.wait(0.5):
            raise HungUp(app)
        return done.get(timeout=0)

    def pause(self, seconds: float) -> None:
        """Lets time pass, unless the call ends."""
        if self.hung_up.wait(seconds):
            raise HungUp(f"pause of {seconds:g} s")

    def wait_hangup(self, deadline: float = DEADLINE) -> Headers:
        if not self.hung_up.wait(deadline):
            raise TimeoutError(f"call {self.uuid} not hung up within {deadline} s")
        return self.hangup

    def _on_event(self, event: Headers) -> None:
        name = event.get("Event-Name")
        if name == "CHANNEL_EXECUTE_COMPLETE" and (done := self._open.pop(event.get("Application-UUID", ""), None)):
            done.set(event)
        elif name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE") and event.get("Unique-ID") == self.uuid:
            self.hangup = event
            self.hung_up.set()

    def _ended(self) -> None:
        super()._ended()
        for done in self._open.values():
            done.set_exception(Gone("connection closed while an application ran"))
        self._open.clear()


class AppServer:
    """Listens where the dialplan's `socket` connects to; `handler` gets each call in a greenlet of its own."""

    def __init__(self, handler: Callable[[AppCall], None], host: str = "127.0.0.1", port: int = 0) -> None:
        self.handler = handler
        self.calls: list[AppCall] = []
        self._server = StreamServer((host, port), self._serve, backlog=256)
        self._server.start()

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def stop(self) -> None:
        """Stops listening and drops every call's connection."""
        self._server.stop(timeout=0)
        for call in self.calls:
            call.close()

    def __enter__(self) -> AppServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self, sock: socket.socket, _address: object) -> None:
        call = AppCall(sock)
        self.calls.append(call)
        self.handler(call)
        # the connection lives as long as this greenlet does
        call.eof.wait()
