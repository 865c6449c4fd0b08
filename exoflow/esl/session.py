"""One call's socket: FreeSWITCH connected to us (`socket host:port async full`) and does what we say to one channel."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Signal
from greenswitch.esl import OutboundSession

from exoflow.errors import CallEnded, CommandRefused, Disconnected, ExoflowError, ProtocolError, UnsafeText
from exoflow.esl import lease, safety
from exoflow.esl.codec import Event, Headers, encode_execute
from exoflow.esl.heart import Heart
from exoflow.esl.tenure import Tenure, new_token, unheard
from exoflow.esl.wire import RECEIVE_BYTES, REPLY_SECONDS, Reply

log = logging.getLogger("exoflow.esl")

CONNECT_SECONDS = 5.0  # a peer that sends us no channel data by then is no FreeSWITCH; the dialplan's guard fires then, too
LINGER_SECONDS = 5  # the events after a hangup come within milliseconds; a bound all the same (without one: for ever)
BLOCK_SECONDS = 3600.0  # for an application that greenswitch's callers wait for without naming a time
SILENCE = "silence_stream://10"  # plays nothing where an argument must not be empty
DIGITS_DEFAULTS = (1, 1, 1, 5000, "none", SILENCE, SILENCE, "exo_digits")  # one key, once, within 5 s
LAST_WORD_SECONDS = 0.5  # for the events of a hangup that came before we had subscribed to them; then there are none
FAREWELL_SECONDS = 10.0  # for the last events of a hung-up channel: linger, its rounding, and a busy box
MAX_KEYS = 300  # that nobody took yet: two full questions, and more than a hand types
_READ = 1  # the event loop's word for `readable`

EVENTS = (
    "CHANNEL_EXECUTE_COMPLETE",
    "CHANNEL_ANSWER",
    "CHANNEL_BRIDGE",
    "CHANNEL_UNBRIDGE",
    "CHANNEL_HANGUP",
    "CHANNEL_HANGUP_COMPLETE",
)


@dataclass(slots=True)
class Before:
    """An application that takes no time, to be run right in front of another; `ended` gets its CHANNEL_EXECUTE_COMPLETE."""

    application: str
    argument: str
    token: str = field(default_factory=new_token)
    ended: AsyncResult = field(default_factory=AsyncResult)


class CallSession(Tenure, OutboundSession):
    """The caller's channel. Applications run one after the other; each wait ends by result, error, hangup, EOF or deadline."""

    def __init__(self, client_address: Any, sock: Any, heart: Heart | None = None) -> None:
        """As Tenure."""
        self.channel = Headers(b"")
        self.hangup_event: Event | None = None  # CHANNEL_HANGUP or, better, CHANNEL_HANGUP_COMPLETE
        self.answered_event: Event | None = None
        self.bridged_event: Event | None = None  # of the bridge that runs or ran last
        self._keys: deque[tuple[int, str]] = deque()  # sequence, key
        self.keyed = Signal()  # set by each key that the switch took, until `take_keys`
        self._subscribed = False
        self.ended = Signal()
        self.complete = Signal()  # nothing more will come
        self._executes: dict[str, AsyncResult] = {}
        self._uuid = ""
        super().__init__(client_address, sock, heart)
        self.event_handlers.clear()  # greenswitch registers its own methods; what they do is done in `on_event`, at once

    def _listen(self) -> None:
        """A call's frames are few and small, so the event loop itself takes them: a greenlet's switches cost more than they.

        What follows from them here never waits: it only wakes those who do.
        """
        self._readable = gevent.get_hub().loop.io(self.sock.fileno(), _READ)
        self._readable.start(self.receive_events)

    def _listen_no_more(self) -> None:
        self._readable.stop()
        self._readable.close()

    def receive_events(self) -> None:
        """The loop says that there is something to read. Nothing may leave here: the loop would call again at once."""
        try:
            data = os.read(self.sock.fileno(), RECEIVE_BYTES)
            (self._drain if self.ceded else self._received)(data)
        except BlockingIOError:
            return
        except Exception as error:
            if not isinstance(error, OSError):
                log.exception("reading from the switch failed")
            self._finish(Disconnected("the next frame", str(error)))

    # --- the beginning ------------------------------------------------------------------------

    def begin(self) -> Headers:
        """Takes the call over: `connect`, the events we need, the guard disarmed and a lease armed. Returns the channel's data.

        Nothing but `connect` may come first (mod_event_socket.c:2704-2717). `sched_cancel` is awaited: a socket closed
        within some 50 ms of `connect` would leave the caller parked for ever (facts, section 2). A caller who hangs up in
        these milliseconds is no error here: `hung_up` is then true.
        Raises DeadlineExceeded, Disconnected, ProtocolError, CommandRefused.
        """
        self.connect()
        token = new_token()
        done = self._executes[token] = AsyncResult()
        commands = (f"linger {LINGER_SECONDS}", f"filter Unique-ID {self._uuid}", f"event plain {' '.join(EVENTS)}")
        packet = "".join(command + "\n\n" for command in commands).encode() + encode_execute("sched_cancel", "", token)
        packet += encode_execute("sched_transfer", lease.first_argument(), new_token())
        # a refused subscription shows as sched_cancel's deadline at the latest; the reply tells it at once
        fails = [self._fails_if_refused(done, command) for command in (*commands, "sched_cancel")]
        try:
            self.write(packet, *fails, unheard)
            self.lease_begins()
            self._wait(done, "end of sched_cancel", CONNECT_SECONDS)
        except CallEnded:
            return self.channel
        finally:
            self._executes.pop(token, None)
        self._subscribed = True
        return self.channel

    def connect(self) -> Headers:
        """The channel's data, asked for once. Raises DeadlineExceeded, Disconnected, ProtocolError."""
        if not self._uuid:
            age = self._silent_seconds()
            # keys that waited in a call that comes back are eaten from the first moment on: who wants to hear of them asks in
            # the same packet, without a filter yet, which needs the channel's name
            connected = AsyncResult()
            self.write(b"connect\n\nevent plain DTMF\n\n", _into(connected), unheard)
            reply = self._wait(connected, "reply to `connect`", CONNECT_SECONDS)
            self.channel = reply.frame.headers
            try:
                self._uuid = safety.uuid(self.channel.get("Unique-ID") or self.channel.variable("uuid"))
            except ExoflowError:
                raise ProtocolError("channel data without a uuid", reply.data.encode()) from None
            self._outbound_connected = True
            self._stay_away(age)
        return self.channel

    @property
    def uuid(self) -> str:
        return self._uuid

    @property
    def session_data(self) -> dict[str, str] | None:
        """The channel's data as greenswitch's callers read it; made when asked for: a hundred headers nobody else needs."""
        return self.channel.headers if self._uuid else None

    @session_data.setter
    def session_data(self, value: None) -> None:
        """greenswitch's constructor says that there is none yet."""

    # --- applications -------------------------------------------------------------------------

    def execute(
        self,
        application: str,
        argument: str = "",
        *,
        deadline: float,
        then: tuple[str, str] | None = None,
        before: Before | None = None,
    ) -> Event:
        """Runs an application and returns its CHANNEL_EXECUTE_COMPLETE, also when a hangup ended it.

        `then` is a second application and its argument, in the same packet: the switch runs it when the first has ended, also
        if we are no longer there. Its end is not waited for, and its refusal does not fail the first. `before` is one that runs
        in front of it, of the same packet: a parked switch hardly ever takes a key between the two.
        Raises CallEnded (the channel is down and it never ran to an end), CommandRefused, DeadlineExceeded (it may still
        run), Disconnected, UnsafeText.
        """
        if self.ended.is_set():
            raise self._end()
        token = new_token()
        done = AsyncResult()
        packets, answers = [_encoded(application, argument, token)], [self._fails_if_refused(done, application)]
        if then is not None:
            packets.append(_encoded(*then, new_token()))
            answers.append(unheard)
        if before is not None:
            packets.insert(0, _encoded(before.application, before.argument, before.token))
            answers.insert(0, unheard)
            self._executes[before.token] = before.ended
        bare = not self._leased or application == "bridge"
        if bare:
            self._put_between(packets, answers)
        self._executes[token] = done
        try:
            self.write(b"".join(packets), *answers)
            event: Event = self._wait(done, f"end of {application}", deadline)
        finally:
            self._executes.pop(token, None)
            if before is not None:
                self._executes.pop(before.token, None)
            if bare and self._leased:
                self.lease_on()
        return event

    def take_keys(self, until: int | None = None) -> str:
        """Keys that the switch took since this was asked last, for whatever application or for none; with `until` those only
        from before that event (its sequence)."""
        taken = ""
        while self._keys and (until is None or self._keys[0][0] < until):
            taken += self._keys.popleft()[1]
        if not self._keys:
            self.keyed.clear()
        return taken

    def _fails_if_refused(self, done: AsyncResult, command: str) -> Any:
        def answer(reply: Reply | ExoflowError) -> None:
            if isinstance(reply, ExoflowError):
                if not done.ready():
                    done.set_exception(self._end())
            elif reply.refused and not done.ready():
                done.set_exception(CommandRefused(command, reply.data.strip()))

        return answer

    # --- what the reader finds ----------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        if self._is_away(event):
            self.cede("the dialplan gave it to others (a guard or lease ran out)")
            return
        if event.name == "CHANNEL_EXECUTE_COMPLETE":
            done = self._executes.get(event.get("Application-UUID"))
            if done is not None and not done.ready():
                done.set(event)
            return
        if event.get("Unique-ID") != self._uuid:
            return  # a B leg's end is not the call's
        if event.name == "CHANNEL_ANSWER":
            self.answered_event = event
        elif event.name == "CHANNEL_BRIDGE":
            self.bridged_event = event
        elif event.name == "DTMF" and not self._from_before(event):  # else it was taken by what ran before
            if len(self._keys) == MAX_KEYS:
                self._keys.clear()  # all or none: the last of them alone would be another number
            self._keys.append((event.sequence, event.get("DTMF-Digit")))
            self.keyed.set()
        elif event.name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"):
            self.hangup_event = event
            self.ended.set()
            if self._heart is not None:
                self._heart.leases.drop(self)
            if event.name == "CHANNEL_HANGUP_COMPLETE":
                self._all_said()

    def on_linger(self) -> None:
        self._lingering = True
        self.ended.set()
        if not self._subscribed:
            gevent.spawn_later(LAST_WORD_SECONDS, self._all_said)

    def on_closed(self, why: ExoflowError) -> None:
        self._outbound_connected = False
        self.ended.set()
        self._all_said()
        if self._heart is not None:
            self._heart.leases.drop(self)

    def _all_said(self) -> None:
        """No COMPLETE can come any more: frees every wait."""
        self.complete.set()
        for done in self._executes.values():
            if not done.ready():
                done.set_exception(self._end())

    def _end(self) -> ExoflowError:
        """Why nothing more can be done here: the caller's end, or only the socket's."""
        if self.hung_up:
            return CallEnded(self.cause, self.q850)
        return Disconnected("the call", str(self.close_reason))

    @property
    def hung_up(self) -> bool:
        """Is the channel down, as far as it told us?"""
        return self.hangup_event is not None or self._lingering

    @property
    def cause(self) -> str:
        """Why the channel ended, by FreeSWITCH's name; empty while it lives or if nothing told."""
        return self.hangup_event.get("Hangup-Cause") if self.hangup_event is not None else ""

    @property
    def q850(self) -> int | None:
        text = self.hangup_event.variable("hangup_cause_q850") if self.hangup_event is not None else ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else None

    # --- the end ------------------------------------------------------------------------------

    def hang_up(self, cause: str) -> None:
        """Ends the call with a Q.850 cause and waits for its last events, FAREWELL_SECONDS at most."""
        if not self.ended.is_set():
            packet = encode_execute("hangup", safety.cause(cause), new_token())
            self.write(packet, self._hangup_answered)
        self.complete.wait(FAREWELL_SECONDS)

    def _hangup_answered(self, reply: Reply | ExoflowError) -> None:
        if isinstance(reply, Reply) and reply.refused:
            self._all_said()  # the only refusal is that there is no such channel (mod_event_socket.c:2172-2226)

    # --- greenswitch's own names, with the same meaning and without their faults ----------------

    def call_command(
        self, app_name: str, app_args: str | None = None, block: bool = False, response_timeout: Any = None
    ) -> Any:
        """As greenswitch's; `block` waits for the application's end, correlated by our token."""
        if block:
            return self.execute(app_name, app_args or "", deadline=response_timeout or BLOCK_SECONDS)
        wait = AsyncResult()
        packet = _encoded(app_name, app_args or "", new_token())
        self.write(packet, _into(wait))
        reply = self._wait(wait, f"reply to {app_name}", self.reply_seconds)
        if reply.refused:
            raise CommandRefused(app_name, reply.data.strip())
        return reply

    def playback(self, path: str, block: bool = True) -> Any:
        return self.call_command("playback", path, block=block)

    def play_and_get_digits(
        self,
        min_digits: int | None = None,
        max_digits: int | None = None,
        max_attempts: int | None = None,
        timeout: int | None = None,
        terminators: str | None = None,
        prompt_file: str | None = None,
        error_file: str | None = None,
        variable: str | None = None,
        digits_regex: str | None = None,
        digit_timeout: int | None = None,
        transfer_on_fail: str | None = None,
        block: bool = True,
        response_timeout: float = 30,
    ) -> Any:
        """As greenswitch's: the digits, "" if none came. What is not given is left out or has a value that does nothing."""
        first = (min_digits, max_digits, max_attempts, timeout, terminators, prompt_file, error_file, variable)
        fields = [default if field is None else field for field, default in zip(first, DIGITS_DEFAULTS, strict=True)]
        given = [field for field in (digits_regex, digit_timeout, transfer_on_fail) if field is not None]
        if given != [digits_regex, digit_timeout, transfer_on_fail][: len(given)]:
            raise UnsafeText("play_and_get_digits", "an empty argument would shift those behind it", repr(given))
        argument = " ".join(safety.word("argument of play_and_get_digits", str(field)) for field in (*fields, *given))
        done = self.call_command("play_and_get_digits", argument, block=block, response_timeout=response_timeout)
        return done.variable(str(fields[-1])) if block else done

    def say(
        self,
        module_name: str = "en",
        lang: str | None = None,
        say_type: str = "NUMBER",
        say_method: str = "pronounced",
        gender: str = "FEMININE",
        text: str = "",
        block: bool = True,
        response_timeout: float = 30,
    ) -> Any:
        words = (f"{module_name}:{lang}" if lang else module_name, say_type, say_method, gender)
        argument = " ".join(safety.word("argument of say", word) for word in words)
        return self.call_command("say", f"{argument} {text}", block=block, response_timeout=response_timeout)

    def answer(self) -> Event:
        return self.execute("answer", deadline=REPLY_SECONDS)

    def raise_if_disconnected(self) -> None:
        if self.ended.is_set():
            raise self._end()


def _encoded(application: str, argument: str, token: str) -> bytes:
    return encode_execute(safety.application(application), safety.argument(application, argument), token)


def pause(session: CallSession, seconds: float) -> None:
    """Waits, unless the call ends before. Raises what ended it."""
    if session.ended.wait(seconds):
        session.raise_if_disconnected()


def _into(wait: AsyncResult) -> Callable[[Reply | ExoflowError], None]:
    return lambda reply: wait.set_exception(reply) if isinstance(reply, ExoflowError) else wait.set(reply)
