"""Our own connection to FreeSWITCH's event socket: B legs' events, and what must not wait behind a running application."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from gevent import socket
from gevent.event import AsyncResult
from gevent.event import Event as Signal
from greenswitch.esl import InboundESL

from exoflow.errors import CommandRefused, Disconnected, ExoflowError, UnsafeText
from exoflow.esl import safety
from exoflow.esl.codec import Event
from exoflow.esl.wire import Wire

CONNECT_SECONDS = 5.0  # loopback connects at once; a box that drops packets must not hold us


class SwitchLink(Wire, InboundESL):
    """One connection; `closed` is set when it ends. It is not opened again: make another."""

    def __init__(self, host: str, port: int, password: str, on_event: Callable[[Event], None]) -> None:
        super().__init__(host, port, password, timeout=CONNECT_SECONDS)
        self._hear = on_event
        self._asked = Signal()

    def connect(self) -> None:
        """Connects and authenticates. Raises Disconnected, CommandRefused (wrong password), ProtocolError."""
        try:
            self.sock = socket.create_connection((self.host, self.port), timeout=CONNECT_SECONDS)
        except OSError as error:
            raise Disconnected("the event socket", f"{self.host}:{self.port}: {error}; is FreeSWITCH running?") from None
        self.sock.settimeout(None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock_file = self.sock.makefile("rb")
        self.connected = True
        self.start_event_handlers()
        try:
            self._greet()
        except ExoflowError:
            self.stop()
            raise

    def _greet(self) -> None:
        gevent.wait([self._asked, self.closed], timeout=CONNECT_SECONDS, count=1)
        if not self._asked.is_set():
            raise (
                self.close_reason if self.closed.is_set() else Disconnected("auth/request", f"silent for {CONNECT_SECONDS:g} s")
            )
        try:
            self.command(f"auth {self.password}", deadline=CONNECT_SECONDS)
        except UnsafeText:
            raise CommandRefused(
                "auth", "the password has a control character or `$`; choose another (event_socket.conf.xml)"
            ) from None
        except CommandRefused:
            raise CommandRefused("auth", "wrong password; compare switch.event_socket with event_socket.conf.xml") from None

    def on_auth_request(self) -> None:
        self._asked.set()

    def on_event(self, event: Event) -> None:
        self._hear(event)

    # --- what we ask ----------------------------------------------------------------------------

    def subscribe(self, *names: str) -> None:
        """Raises CommandRefused, DeadlineExceeded, Disconnected."""
        self.command("event plain " + " ".join(names))

    def interrupt(self, channel: str) -> None:
        """Ends the application that runs on a channel. Plain `uuid_break`: `all` would drop queued ones without a COMPLETE."""
        self.api(f"uuid_break {safety.uuid(channel)}")

    def kill(self, channel: str, cause: str = "NORMAL_CLEARING") -> None:
        self.api(f"uuid_kill {safety.uuid(channel)} {safety.cause(cause)}")

    def background(self, command: str, job: str) -> None:
        """Starts an API command in a thread of the switch's own; its end is told by a BACKGROUND_JOB event with this Job-UUID.

        Raises UnsafeText, CommandRefused, DeadlineExceeded, Disconnected.
        """
        begun = AsyncResult()
        text = f"bgapi {safety.line('command', command)}\nJob-UUID: {safety.uuid(job)}\n\n"
        self.write(text.encode(), begun.set)
        reply = self._wait(begun, "reply to `bgapi`", self.reply_seconds)
        if isinstance(reply, ExoflowError):
            raise reply
        if reply.refused:
            raise CommandRefused("bgapi", reply.data.strip())

    def exists(self, channel: str) -> bool:
        return self.api(f"uuid_exists {safety.uuid(channel)}").strip() == "true"
