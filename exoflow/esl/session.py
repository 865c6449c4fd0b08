"""One call's socket: FreeSWITCH connected to us (`socket host:port async full`) and does what we say to one channel."""

from __future__ import annotations

import itertools
import logging
import os
import struct
import time
from typing import Any

import gevent
from gevent import socket
from gevent.event import AsyncResult
from gevent.event import Event as Signal
from greenswitch.esl import OutboundSession

from exoflow.errors import CallEnded, CommandRefused, Disconnected, ExoflowError, ProtocolError, UnsafeText
from exoflow.esl import lease, safety
from exoflow.esl.codec import Event, Headers, encode_execute
from exoflow.esl.heart import Heart
from exoflow.esl.wire import RECEIVE_BYTES, REPLY_SECONDS, Reply, Wire

log = logging.getLogger("exoflow.esl")

CONNECT_SECONDS = 5.0  # a peer that sends us no channel data by then is no FreeSWITCH; the dialplan's guard fires then, too
LINGER_SECONDS = 5  # the events after a hangup come within milliseconds; a bound all the same (without one: for ever)
BLOCK_SECONDS = 3600.0  # for an application that greenswitch's callers wait for without naming a time
SILENCE = "silence_stream://10"  # plays nothing where an argument must not be empty
DIGITS_DEFAULTS = (1, 1, 1, 5000, "none", SILENCE, SILENCE, "exo_digits")  # one key, once, within 5 s
LAST_WORD_SECONDS = 0.5  # for the events of a hangup that came before we had subscribed to them; then there are none
FAREWELL_SECONDS = 10.0  # for the last events of a hung-up channel: linger, its rounding, and a busy box
LEAVE_SECONDS = 1.0  # for whoever has lost a call to notice it; who waits for a CRM finds out later, and cannot write any more
AGE_MARGIN_SECONDS = 2.0  # rounds of the dialplan are a guard's 4 s apart; the two ages are measured within milliseconds
_OURS_NO_MORE = b"exoflow_"  # the dialplan's own extensions: guard, lease, fallback (dialplan/from-pri)
_DESTINATION, _ROUND, _SEQUENCE = "Caller-Destination-Number", "variable_exo_entry", "Event-Sequence"
_LINGERS = b"Content-Disposition: linger"
_LAST_RECEIVED = struct.Struct("I")  # tcpi_last_data_recv of TCP_INFO, milliseconds (linux/tcp.h)
_READ = 1  # the event loop's word for `readable`
# one random part a process and a counter: a token is unique, and cheaper than a uuid each
_TOKEN_ROOT = os.urandom(6).hex()
_tokens = itertools.count(1)

EVENTS = (
    "CHANNEL_EXECUTE_COMPLETE",
    "CHANNEL_ANSWER",
    "CHANNEL_BRIDGE",
    "CHANNEL_UNBRIDGE",
    "CHANNEL_HANGUP",
    "CHANNEL_HANGUP_COMPLETE",
)


class CallSession(Wire, OutboundSession):
    """The caller's channel. Applications run one after the other; each wait ends by result, error, hangup, EOF or deadline."""

    def __init__(self, client_address: Any, sock: Any, heart: Heart | None = None) -> None:
        """`heart`: of the process, which renews the call's lease; without it the lease is armed, and nobody renews it."""
        self.channel = Headers(b"")  # what `connect` told of the channel
        self.hangup_event: Event | None = None  # CHANNEL_HANGUP or, better, CHANNEL_HANGUP_COMPLETE
        self.answered_event: Event | None = None
        self.bridged_event: Event | None = None  # of the bridge that runs or ran last
        self._subscribed = False
        self._leased = True
        self._heart = heart
        self.held_since = time.monotonic()
        self.ceded = False  # the call is another's; the socket stays open for its sake
        self._mine: tuple[bytes | None, bytes | None] = (None, None)  # destination and round by which it came to us
        self.left = Signal()  # nobody does anything with this session any more
        self.ended = Signal()  # the channel is down, or the socket is
        self.complete = Signal()  # nothing more will come
        self._executes: dict[str, AsyncResult] = {}
        self._uuid = ""
        super().__init__(client_address, sock)
        if heart is not None:
            heart.held.add(self)
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
            if not self.ceded:
                self._received(data)
            elif not data or _LINGERS in data:
                self._shut()
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
        token = _token()
        done = self._executes[token] = AsyncResult()
        commands = (f"linger {LINGER_SECONDS}", f"filter Unique-ID {self._uuid}", f"event plain {' '.join(EVENTS)}")
        packet = "".join(command + "\n\n" for command in commands).encode() + encode_execute("sched_cancel", "", token)
        packet += encode_execute("sched_transfer", lease.argument(), _token())
        # a refused subscription shows as sched_cancel's deadline at the latest; the reply tells it at once
        fails = [self._fails_if_refused(done, command) for command in (*commands, "sched_cancel")]
        try:
            self.write(packet, *fails, _unheard)
            self.lease_on()
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
            reply = self.commands("connect", deadline=CONNECT_SECONDS)[0]
            self.channel = reply.frame.headers
            try:
                self._uuid = safety.uuid(self.channel.get("Unique-ID") or self.channel.variable("uuid"))
            except ExoflowError:
                raise ProtocolError("channel data without a uuid", reply.data.encode()) from None
            self._outbound_connected = True
            self._mine = self.channel.raw(_DESTINATION), self.channel.raw(_ROUND)
            self._stay_away(age)
        return self.channel

    def _silent_seconds(self) -> float:
        """How long the connection has been there: nothing has come on it yet."""
        return int(_LAST_RECEIVED.unpack_from(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64), 52)[0]) / 1000

    def _stay_away(self, age: float) -> None:
        """Raises Disconnected if the call fell to others while this connection waited for us to take it."""
        channel = self.channel
        if not (self._mine[0] or b"").startswith(_OURS_NO_MORE):
            return
        now, round_at = channel.get("Event-Date-Timestamp"), channel.variable("exo_socket_at")
        late = now.isdigit() and round_at.isdigit() and age > (int(now) - int(round_at)) / 1e6 + AGE_MARGIN_SECONDS
        if channel.variable("exo_fallback") or late:
            self.cede("the dialplan gave it to others while its connection waited to be taken")
            raise self._end()

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

    def execute(self, application: str, argument: str = "", *, deadline: float, then: tuple[str, str] | None = None) -> Event:
        """Runs an application and returns its CHANNEL_EXECUTE_COMPLETE, also when a hangup ended it.

        `then` is a second application and its argument, in the same packet: the switch runs it when the first has ended, also
        if we are no longer there. Its end is not waited for, and its refusal does not fail the first.
        Raises CallEnded (the channel is down and it never ran to an end), CommandRefused, DeadlineExceeded (it may still
        run), Disconnected, UnsafeText.
        """
        if self.ended.is_set():
            raise self._end()
        token = _token()
        done = AsyncResult()
        packets, answers = [_encoded(application, argument, token)], [self._fails_if_refused(done, application)]
        if then is not None:
            packets.append(_encoded(*then, _token()))
            answers.append(_unheard)
        bare = not self._leased or application == "bridge"
        if bare:
            self._put_between(packets, answers)
        self._executes[token] = done
        try:
            self.write(b"".join(packets), *answers)
            event: Event = self._wait(done, f"end of {application}", deadline)
        finally:
            self._executes.pop(token, None)
            if bare and self._leased:
                self.lease_on()
        return event

    # --- the lease ------------------------------------------------------------------------------

    def lease_off(self) -> None:
        """What is executed from now on runs without a lease, as a bridge always does: it must outlive us.

        The switch itself takes the lease off before each such application, and arms it again behind: whoever died or froze
        during a bridge loses the call LEASE_SECONDS after its end.
        """
        self._leased = False

    def lease_on(self) -> None:
        """The lease is kept from now on. To be called behind what `lease_off` was called for, however that ended."""
        self._leased = True
        if self._heart is not None and not self.ended.is_set():
            self._heart.leases.keep(self)

    def _put_between(self, packets: list[bytes], answers: list[Any]) -> None:
        """Applications, not `api` commands: those would not keep to the order of what is queued."""
        if self._heart is not None:
            self._heart.leases.drop(self)
        packets.insert(0, encode_execute("sched_cancel", "", _token()))
        packets.append(encode_execute("sched_transfer", lease.argument(), _token()))
        answers.insert(0, _unheard)
        answers.append(_unheard)

    def renew_lease(self, answered: Any) -> bool:
        """False: the socket takes nothing now."""
        return self.write_at_once(lease.renewal(self._uuid), _unheard, answered)

    # --- a call that is another's ---------------------------------------------------------------

    def cede(self, why: str) -> None:
        """The call is another's now. All waits end with Disconnected, nothing is written any more.

        The socket stays open until the channel's end: closing it ends the `socket` of whoever has the call
        (docs/freeswitch-quirks.md).
        """
        if not self.closed.is_set():
            self.ceded = True
            self._free_waits(Disconnected("the call", why))

    def supersede(self) -> None:
        """A newer socket has the call: this one cedes it, and returns when its user has left, LEAVE_SECONDS later at most."""
        self.cede("a newer socket has the call")
        self.left.wait(LEAVE_SECONDS)

    def stop(self) -> None:
        """Closes the connection, unless that would disturb another's call; never waits for the peer."""
        if not self.ceded:
            super().stop()

    def release(self) -> None:
        """Closes the connection in any case: the process ends."""
        self.ceded = False
        self._finish(Disconnected("anything", "closed by us"))

    def stood_still(self, seconds: float) -> None:
        """The process did. What came meanwhile is read; a call that nobody else has comes back by the dialplan."""
        try:
            while not self.closed.is_set():
                self._received(os.read(self.sock.fileno(), RECEIVE_BYTES))
        except OSError:
            self._finish(Disconnected("the call", f"exoflow stood still for {seconds:.1f} s, and others may have it by now"))

    def _before_write(self) -> None:
        if self._heart is not None:
            self._heart.check()

    def _is_away(self, event: Event) -> bool:
        """Did the guard or a lease take the call from us? Its destination tells, or the dialplan's count of rounds.

        Events from before our `connect` come, too, when the switch is busy; the sequence is that of their making.
        """
        destination, entry = event.raw(_DESTINATION), event.raw(_ROUND)
        moved = destination != self._mine[0] and destination is not None and destination.startswith(_OURS_NO_MORE)
        if not moved and (entry is None or self._mine[1] is None or entry == self._mine[1]):
            return False
        ours, its = self.channel.get(_SEQUENCE), event.get(_SEQUENCE)
        earlier = ours.isdigit() and its.isdigit() and int(its) < int(ours)
        return not earlier and event.get("Unique-ID") == self._uuid

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
            packet = encode_execute("hangup", safety.cause(cause), _token())
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
        packet = _encoded(app_name, app_args or "", _token())
        self.write(packet, lambda reply: wait.set_exception(reply) if isinstance(reply, ExoflowError) else wait.set(reply))
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


def _unheard(reply: Reply | ExoflowError) -> None:
    """The reply to what nobody waits for."""


def _token() -> str:
    return f"{_TOKEN_ROOT}-{next(_tokens):x}"


def pause(session: CallSession, seconds: float) -> None:
    """Waits, unless the call ends before. Raises what ended it."""
    if session.ended.wait(seconds):
        session.raise_if_disconnected()
