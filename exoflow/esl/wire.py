"""What greenswitch does between socket and program, done so that no wait is left behind.

`Wire` goes before a greenswitch class in the inheritance and takes over its reader, its dispatcher and its `send`. The
defects it cures are those of facts/freeswitch-socket.md, section 10; each has its test in tests/ring1/test_esl_cures.py,
which fails on greenswitch alone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Signal
from gevent.lock import RLock

from exoflow.errors import CommandRefused, DeadlineExceeded, Disconnected, ExoflowError, ProtocolError
from exoflow.esl import safety
from exoflow.esl.codec import Event, Frame, FrameReader

log = logging.getLogger("exoflow.esl")

RECEIVE_BYTES = 65536  # of one read; a channel's data has some 10 kB
REPLY_SECONDS = 5.0  # FreeSWITCH answers a command in under a millisecond; a box that needs seconds is in trouble
WRITE_SECONDS = 5.0  # commands are small: a full socket buffer for so long means that nobody reads
MAX_PENDING_REPLIES = 1000  # commands in flight; more means that nobody answers


class Reply:
    """FreeSWITCH's answer to one command. `headers` and `data` are what greenswitch's callers look at."""

    __slots__ = ("data", "frame")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        is_reply = frame.kind == "command/reply"
        self.data = frame.headers.get("Reply-Text") if is_reply else frame.body.decode("utf-8", "replace")

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.frame.headers.items())

    @property
    def refused(self) -> bool:
        return self.data.startswith("-ERR") or self.data.startswith("-USAGE")


class Wire:
    """The connection: frames in, commands out, every waiter freed at its end."""

    sock: Any
    sock_file: Any
    connected: bool
    _run: bool

    def start_event_handlers(self) -> None:
        """Called by greenswitch when the socket is there."""
        self.closed = Signal()
        self.close_reason: ExoflowError = Disconnected("the end")
        self._answers: deque[Callable[[Reply | ExoflowError], None]] = deque()
        self._write_lock = RLock()
        self._receive_events_greenlet = gevent.spawn(self.receive_events)

    # --- reading ------------------------------------------------------------------------------

    def receive_events(self) -> None:
        """The reader's greenlet: until EOF, an error, or bytes that are no frames."""
        reader, why = FrameReader(), "the peer closed the connection"
        try:
            while self._run:
                data = self.sock.recv(RECEIVE_BYTES)
                if not data:
                    if reader.unfinished:
                        why = "the connection ended inside a frame"
                    break
                for frame in reader.feed(data):
                    self._take(frame)
        except OSError as error:
            why = str(error)
        except ProtocolError as error:
            log.error("%s", error)
            self._finish(error)
            return
        self._finish(Disconnected("the next frame", why))

    def _take(self, frame: Frame) -> None:
        if frame.kind == "text/event-plain":
            event = Event.from_plain(frame.body)
            try:
                self.on_event(event)
            except Exception:  # a fault in our own handler must not end the connection of all calls
                log.exception("handling event %s failed", event.name)
        elif frame.kind in ("command/reply", "api/response"):
            # either kind answers the oldest command: some replace each other (facts, section 5)
            if not self._answers:
                raise ProtocolError("a reply to no command", frame.body)
            self._answers.popleft()(Reply(frame))
        elif frame.kind == "text/disconnect-notice":
            if frame.headers.get("Content-Disposition") == "linger":
                self.on_linger()
        elif frame.kind == "auth/request":
            self.on_auth_request()
        elif frame.kind == "text/rude-rejection":
            raise ProtocolError("FreeSWITCH's access list refuses this host (event_socket.conf.xml, apply-inbound-acl)")
        elif frame.kind != "log/data":
            log.warning("frame of unknown type %r passed over", frame.kind)

    def on_event(self, event: Event) -> None:
        """An event came. Runs in the reader: must not block."""

    def on_linger(self) -> None:
        """The channel is down; the socket stays for its last events."""

    def on_auth_request(self) -> None:
        """FreeSWITCH asks for the password."""

    def on_closed(self, why: ExoflowError) -> None:
        """The connection is gone; all waits were freed. Must not block."""

    def _finish(self, why: ExoflowError) -> None:
        self.connected = self._run = False
        if self.closed.is_set():
            return
        self.close_reason = why
        self.sock.close()
        while self._answers:
            self._answers.popleft()(why)
        self.closed.set()
        self.on_closed(why)

    # --- writing ------------------------------------------------------------------------------

    def write(self, data: bytes, *answers: Callable[[Reply | ExoflowError], None]) -> None:
        """Sends whole commands at once; each answer is called with the reply or with the error that ended the connection.

        Raises Disconnected.
        """
        with self._write_lock:
            if not self.connected:
                raise Disconnected("a command to be sent", str(self.close_reason))
            if len(self._answers) > MAX_PENDING_REPLIES:
                self._finish(Disconnected("replies", f"{MAX_PENDING_REPLIES} commands unanswered"))
                raise Disconnected("a command to be sent", str(self.close_reason))
            self._answers.extend(answers)
            try:
                with gevent.Timeout(WRITE_SECONDS):
                    self.sock.sendall(data)
            except (OSError, gevent.Timeout) as error:
                # half a command may be on the wire: nothing can follow it
                why = f"the switch read nothing for {WRITE_SECONDS:g} s" if isinstance(error, gevent.Timeout) else str(error)
                self._finish(Disconnected("a command to be sent", why))
                raise Disconnected("a command to be sent", why) from None

    def command(self, text: str, *, deadline: float = REPLY_SECONDS) -> Reply:
        """One command of one line, and its reply. Raises UnsafeText, CommandRefused, DeadlineExceeded, Disconnected."""
        reply = self.commands(text, deadline=deadline)[0]
        if reply.refused:
            raise CommandRefused(text.split(" ")[0], reply.data.strip())
        return reply

    def commands(self, *texts: str, deadline: float = REPLY_SECONDS) -> list[Reply]:
        """Several commands in one packet, and their replies, refused ones included."""
        waits = [AsyncResult() for _ in texts]
        packet = "".join(safety.line("command", text) + "\n\n" for text in texts)
        self.write(packet.encode(), *(_setter(wait) for wait in waits))
        return [self._wait(wait, f"reply to `{text.split(' ')[0]}`", deadline) for wait, text in zip(waits, texts, strict=True)]

    def api(self, command: str, *, deadline: float = REPLY_SECONDS) -> str:
        """Runs an API command and returns what it prints; a text that starts with -ERR raises CommandRefused."""
        return self.command("api " + command, deadline=deadline).data

    def _wait(self, result: AsyncResult, what: str, deadline: float) -> Any:
        try:
            return result.get(timeout=deadline)
        except gevent.Timeout:
            raise DeadlineExceeded(what, deadline) from None

    # --- greenswitch's own names ----------------------------------------------------------------

    def send(self, data: str) -> Reply:
        """As greenswitch's `send`, with a deadline and with every door shut. Takes one command of one line."""
        return self.commands(data)[0]

    def stop(self) -> None:
        """Closes the connection; never waits for the peer."""
        if not hasattr(self, "closed"):  # never connected
            return
        reader = self._receive_events_greenlet
        self._finish(Disconnected("anything", "closed by us"))
        if reader is not gevent.getcurrent():
            reader.kill(block=False)
        self.sock_file.close()


def _setter(wait: AsyncResult) -> Callable[[Reply | ExoflowError], None]:
    def answer(reply: Reply | ExoflowError) -> None:
        if isinstance(reply, ExoflowError):
            wait.set_exception(reply)
        else:
            wait.set(reply)

    return answer
