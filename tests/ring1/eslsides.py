"""Our session and server beside greenswitch's own, by one name each: what the tests of the cures share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from eslpeer import WAIT, Command, Late, Peer, channel_data, tcp_pair
from gevent import socket
from greenswitch.esl import OutboundESLServer, OutboundSession

from exoflow.esl.server import CallServer
from exoflow.esl.session import CallSession


class Ours:
    """What both sides offer, by one name each."""

    def __init__(self, patience: float = WAIT) -> None:
        self.patience = patience  # seconds after which something hangs

    def session(self, sock: socket.socket) -> Any:
        return CallSession(("127.0.0.1", 0), sock)

    def header(self, event: Any, name: str) -> str:
        return event.get(name)

    def held(self, session: Any) -> int:
        """Waits that it still keeps."""
        return len(session._executes) + len(session._answers)

    @contextlib.contextmanager
    def server(self, run: Callable[[Any], None], limit: int = 100, port: int = 0) -> Iterator[tuple[str, int]]:
        server = CallServer(("127.0.0.1", port), run, max_calls=limit)
        server.start()
        try:
            yield server.address
        finally:
            server.stop(0)


class Stock(Ours):
    def session(self, sock: socket.socket) -> Any:
        return OutboundSession(("127.0.0.1", 0), sock)

    def header(self, event: Any, name: str) -> str:
        return event.headers.get(name, "")

    def held(self, session: Any) -> int:
        return sum(map(len, session.expected_events.values())) + len(session._commands_sent)

    @contextlib.contextmanager
    def server(self, run: Callable[[Any], None], limit: int = 100, port: int | None = None) -> Iterator[tuple[str, int]]:
        class Application:
            def __init__(self, session: Any) -> None:
                self.session = session
                if run is fails:
                    run(session)

            def run(self) -> None:
                run(self.session)

        if port is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        server = OutboundESLServer("127.0.0.1", port, Application, max_connections=limit)
        try:
            listening = gevent.spawn(server.listen)
            gevent.sleep(0)
            yield "127.0.0.1", port
        finally:
            listening.kill()
            if server.server is not None:
                server.server.close()


class Talk:
    """A session that is connected, and its peer."""

    def __init__(self, side: Ours) -> None:
        ours, theirs = tcp_pair()
        self.side, self.session, self.peer = side, side.session(ours), Peer(theirs)
        self.waits: list[gevent.Greenlet] = []

    def connect(self) -> Talk:
        connecting = self.start(self.session.connect)
        assert self.peer.command().line == "connect"
        self.peer.send(channel_data())
        connecting.get(timeout=WAIT)
        return self

    def start(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> gevent.Greenlet:
        self.waits.append(gevent.spawn(function, *arguments, **options))
        return self.waits[-1]

    def result(self, waiting: gevent.Greenlet) -> Any:
        """What it returns or raises; Late if it hangs."""
        if not gevent.wait([waiting], timeout=self.side.patience):
            raise Late("it hangs")
        return waiting.get()

    def play(self, path: str = "/a.wav", **options: Any) -> tuple[gevent.Greenlet, Command]:
        """A playback that is accepted and runs."""
        playing = self.start(self.session.call_command, "playback", path, **({"block": True} | options))
        command = self.peer.command()
        self.peer.reply()
        return playing, command

    def played(self, event: dict[str, str] | None = None, body: bytes = b"", raw: bytes = b"") -> Any:
        """The event that a playback returns."""
        playing, command = self.play()
        self.peer.complete(command, event, body, raw=raw)
        return self.result(playing)

    def handled(self, name: str, handler: Callable[[Any], None] | None = None) -> gevent.event.AsyncResult:
        """The next event that a registered handler gets."""
        done = gevent.event.AsyncResult()

        def handle(event: Any) -> None:
            if handler is not None:
                handler(event)
            done.set(event)

        self.session.register_handle(name, handle)
        return done

    def has(self, done: gevent.event.AsyncResult) -> Any:
        if not gevent.wait([done], timeout=self.side.patience):
            raise Late("the handler did not come to its end")
        return done.get()

    def close(self) -> None:
        self.peer.close()
        gevent.killall([wait for wait in self.waits if not wait.ready()], block=False)


def fails(session: Any) -> None:
    raise ValueError("a mistake in the application")
