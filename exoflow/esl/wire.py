"""What greenswitch does between socket and program, done so that no wait is left behind.

`Wire` goes before a greenswitch class in the inheritance and takes over its reader, its dispatcher and its `send`. The
defects it cures are those of facts/freeswitch-socket.md, section 10; each has its test in tests/ring1/test_esl_cures.py,
which fails on greenswitch alone.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Signal
from gevent.lock import BoundedSemaphore

from exoflow.errors import CommandRefused, DeadlineExceeded, Disconnected, ExoflowError, ProtocolError
from exoflow.esl import safety
from exoflow.esl.codec import Event, Frame, FrameReader

log = logging.getLogger("exoflow.esl")

RECEIVE_BYTES = 16384  # an event has some 4 kB; Python allocates so much for each read
REPLY_SECONDS = 5.0  # FreeSWITCH answers a command in under a millisecond; a box that needs seconds is in trouble
WRITE_SECONDS = 5.0  # commands are small: a full socket buffer for so long means that nobody reads
MAX_PENDING_REPLIES = 1000  # commands in flight; more means that nobody answers


class Reply:
    """FreeSWITCH's answer to one command. `headers` and `data` are what greenswitch's callers look at."""

    __slots__ = ("frame",)

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    @property
    def data(self) -> str:
        """What FreeSWITCH says: the text of a reply, or what an API command printed."""
        is_reply = self.frame.kind == "command/reply"
        return self.frame.headers.get("Reply-Text") if is_reply else self.frame.body.decode("utf-8", "replace")

    @property
    def headers(self) -> dict[str, str]:
        return self.frame.headers.headers

    @property
    def refused(self) -> bool:
        return self.data.startswith(("-ERR", "-USAGE"))


class Wire:
    """The connection: frames in, commands out, every waiter freed at its end."""

    sock: Any
    sock_file: Any
    connected: bool
    event_handlers: dict[str, list[Callable[[Event], None]]]
    reply_seconds = REPLY_SECONDS  # for replies whose command names no other deadline
    _run: bool
    _esl_event_queue: Any

    def start_event_handlers(self) -> None:
        """Called by greenswitch when the socket is there."""
        self.closed = Signal()
        self._is_shut = False
        self.close_reason: ExoflowError = Disconnected("the end")
        self._answers: deque[Callable[[Reply | ExoflowError], None]] = deque()
        self._write_lock = BoundedSemaphore(1)
        self._process_events_greenlet: gevent.Greenlet | None = None
        self._reader = FrameReader()
        self._listen()

    # --- reading ------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._receive_events_greenlet = gevent.spawn(self.receive_events)

    def _listen_no_more(self) -> None:
        if self._receive_events_greenlet is not gevent.getcurrent():
            self._receive_events_greenlet.kill(block=False)

    def receive_events(self) -> None:
        """The reader's greenlet: until EOF, an error, or bytes that are no frames."""
        try:
            while self._run:
                self._received(self.sock.recv(RECEIVE_BYTES))
        except OSError as error:
            self._finish(Disconnected("the next frame", str(error)))
        finally:
            self._finish(Disconnected("the next frame", "the reader was stopped"))

    def _received(self, data: bytes) -> None:
        """Takes what was read; nothing read is the connection's end, and so are bytes that are no frames."""
        if not data:
            why = "the connection ended inside a frame" if self._reader.unfinished else "the peer closed the connection"
            self._finish(Disconnected("the next frame", why))
            return
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except ProtocolError as error:
            log.error("%s", error)
            self._finish(error)

    def _take(self, frame: Frame) -> None:
        if frame.kind == "text/event-plain":
            event = Event.from_plain(frame.body)
            try:
                self.on_event(event)
            except Exception:  # a fault in our own handler must not end the connection of all calls
                log.exception("handling event %s failed", event.name)
            if self.event_handlers:
                self._hand_over(event)
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
            why = "FreeSWITCH's access list refuses this host (event_socket.conf.xml, apply-inbound-acl)"
            self._finish(Disconnected("auth/request", why))
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
        """The connection's end: frees all waits and the descriptor."""
        self._free_waits(why)
        self._shut()

    def _free_waits(self, why: ExoflowError) -> None:
        """Nothing is written or waited for any more; the descriptor stays open."""
        self.connected = self._run = False
        if self.closed.is_set():
            return
        self.close_reason = why
        while self._answers:
            self._answers.popleft()(why)
        self.closed.set()
        self.on_closed(why)
        if self._process_events_greenlet is not None:
            self._esl_event_queue.put(None)

    def _shut(self) -> None:
        if not self._is_shut:
            self._is_shut = True
            self._listen_no_more()
            self.sock_file.close()  # the descriptor lives as long as this has it
            self.sock.close()

    # --- handlers that a program registers, as with greenswitch -----------------------------------

    def _hand_over(self, event: Event) -> None:
        name = event.get("Event-Subclass") if event.name == "CUSTOM" else event.name
        handlers = self.event_handlers.get(name) or self.event_handlers.get("*")
        if handlers:
            if self._process_events_greenlet is None:
                self._process_events_greenlet = gevent.spawn(self.process_events)
            self._esl_event_queue.put((event, tuple(handlers)))

    def process_events(self) -> None:
        """The handlers' greenlet: not the reader's, so that a handler may wait for an application or stop the connection."""
        for event, handlers in iter(self._esl_event_queue.get, None):
            for handler in handlers:
                try:
                    handler(event)
                except (Exception, gevent.Timeout):
                    log.exception("a handler of %s failed", event.name)

    # --- writing ------------------------------------------------------------------------------

    def write(self, data: bytes, *answers: Callable[[Reply | ExoflowError], None]) -> None:
        """Sends whole commands at once; each answer is called with the reply or with the error that ended the connection.

        Raises Disconnected. Whatever else breaks a write off closes the connection, too: half a command may be on the wire,
        and nothing can follow it.
        """
        with self._write_lock:
            self._before_write()
            if not self.connected:
                raise Disconnected("a command to be sent", str(self.close_reason))
            if len(self._answers) > MAX_PENDING_REPLIES:
                self._finish(Disconnected("replies", f"{MAX_PENDING_REPLIES} commands unanswered"))
                raise Disconnected("a command to be sent", str(self.close_reason))
            self._answers.extend(answers)
            try:
                self._send_all(data)
            except OSError as error:
                self._finish(Disconnected("a command to be sent", str(error)))
                raise Disconnected("a command to be sent", str(error)) from None
            except BaseException:
                self._finish(Disconnected("a command to be sent", "its sender was stopped"))
                raise

    def write_at_once(self, data: bytes, *answers: Callable[[Reply | ExoflowError], None]) -> bool:
        """As `write`, but never waits: False, and nothing is sent, when somebody else is writing or the peer does not read."""
        if self._write_lock.locked():
            return False
        self._before_write()
        if not self.connected or len(self._answers) > MAX_PENDING_REPLIES:
            return False
        self._answers.extend(answers)
        try:
            sent: int = self.sock.send(data, 0, 0.0)
        except BlockingIOError:
            for _ in answers:
                self._answers.pop()
            return False
        except OSError as error:
            self._finish(Disconnected("a command to be sent", str(error)))
            return False
        if sent < len(data):
            self._finish(Disconnected("a command to be sent", "the switch reads nothing: half a command fills its buffer"))
        return sent == len(data)

    def _before_write(self) -> None:
        """Asked right before each write; may end the connection. Must not block."""

    def _send_all(self, data: bytes) -> None:
        try:
            sent = self.sock.send(data, 0, 0.0)
        except BlockingIOError:
            sent = 0
        # nearly always all of it is gone by now, and no timer was needed
        if sent < len(data):
            with gevent.Timeout(WRITE_SECONDS, TimeoutError(f"the switch read nothing for {WRITE_SECONDS:g} s")):
                self.sock.sendall(memoryview(data)[sent:])

    def command(self, text: str, *, deadline: float | None = None) -> Reply:
        """One command of one line, and its reply. Raises UnsafeText, CommandRefused, DeadlineExceeded, Disconnected."""
        reply = self.commands(text, deadline=deadline)[0]
        if reply.refused:
            raise CommandRefused(text.split(" ")[0], reply.data.strip())
        return reply

    def commands(self, *texts: str, deadline: float | None = None) -> list[Reply]:
        """Several commands in one packet, and their replies, refused ones included. The deadline is for all together."""
        waits = [AsyncResult() for _ in texts]
        packet = "".join(safety.line("command", text) + "\n\n" for text in texts)
        self.write(packet.encode(), *(_setter(wait) for wait in waits))
        until = time.monotonic() + (self.reply_seconds if deadline is None else deadline)
        return [
            self._wait(wait, f"reply to `{text.split(' ')[0]}`", until - time.monotonic())
            for wait, text in zip(waits, texts, strict=True)
        ]

    def api(self, command: str, *, deadline: float | None = None) -> str:
        """Runs an API command and returns what it prints; a text that starts with -ERR raises CommandRefused."""
        return self.command("api " + command, deadline=deadline).data

    def _wait(self, result: AsyncResult, what: str, deadline: float) -> Any:
        result.wait(max(0.0, deadline))  # not `get`: its Timeout could be one that somebody around us has set
        if not result.ready():
            raise DeadlineExceeded(what, round(deadline, 2))
        return result.get()

    # --- greenswitch's own names ----------------------------------------------------------------

    def send(self, data: str) -> Reply:
        """As greenswitch's `send`, with a deadline and with every door shut. Takes one command of one line."""
        return self.commands(data)[0]

    def stop(self) -> None:
        """Closes the connection; never waits for the peer."""
        if not hasattr(self, "closed"):  # never connected
            return
        self._finish(Disconnected("anything", "closed by us"))


def _setter(wait: AsyncResult) -> Callable[[Reply | ExoflowError], None]:
    def answer(reply: Reply | ExoflowError) -> None:
        if isinstance(reply, ExoflowError):
            wait.set_exception(reply)
        else:
            wait.set(reply)

    return answer
