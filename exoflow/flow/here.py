"""Where a call is: its socket, its record and its flow, and what every applet does with them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import gevent

from exoflow.calls.book import Call
from exoflow.calls.model import Entry, Stage
from exoflow.config.model import Account, Config, Flow
from exoflow.config.steps import Prompt
from exoflow.crm.http import CrmClient
from exoflow.crm.smtp import Mailer
from exoflow.errors import DeadlineExceeded, Disconnected, ExoflowError, UnsafeText
from exoflow.esl import safety
from exoflow.esl.codec import Event
from exoflow.esl.session import CallSession
from exoflow.flow import variables
from exoflow.lines.legs import moment
from exoflow.lines.lines import Lines
from exoflow.prompts import PROMPT_GONE, PromptBook

log = logging.getLogger("exoflow.flow")

TRANSFERRED = "transfer"  # the journey's line of a call that goes on in another flow
ANY_KEY = "[0-9*#]"
QUICK_SECONDS = 5.0  # for applications that take no time of their own; a busy box needs some 0.1 s
PROMPT_MARGIN = 10.0  # seconds beyond a prompt's own length before its end is given up
UNKNOWN_PROMPT_SECONDS = 300.0  # for a sound whose length cannot be read
BREAK_EVERY = 0.1  # seconds; a break that comes before the application has begun is lost, so it is said again
BREAK_SECONDS = 3.0  # an application that does not end by then is left to its own deadline
AFTERMATH_SECONDS = 5.0  # what is still being looked into (a recording's length) before the record is closed


def utcnow() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Parts:
    """What every call needs of the system around it. `clock` tells the time, aware, that opening hours go by."""

    config: Config
    prompts: PromptBook
    crm: CrmClient
    lines: Lines
    clock: Callable[[], datetime] = utcnow
    mailer: Mailer = field(default_factory=Mailer)


class Place(NamedTuple):
    """A step of a flow of the account."""

    flow: str
    step: str


class Keys(NamedTuple):
    """What a caller pressed: the keys, and the one that ended them, if one did."""

    pressed: str
    ended_by: str


class Here:
    """One call in its flow. Applets use it; the engine moves it from step to step."""

    def __init__(self, parts: Parts, session: CallSession, call: Call, account_id: str, account: Account, flow: str) -> None:
        """`flow` is the name of one of the account's."""
        self.parts, self.session, self.call = parts, session, call
        self.account_id, self.account = account_id, account
        self.flow_name = flow
        self.step = self.flow.start
        self.way: list[Place] = []  # where the caller has been, this step last
        self.backs: dict[Place, int] = {}  # how often each `back` has led back
        self.transfers = 0
        self.language = account.language
        self.pending: list[Prompt] = []  # greetings that the next menu plays, so that the caller may type over them
        self.talked = False  # did the connect step that ran last end in a talk?
        self.reason = ""  # code of the entry that explains why the last thing failed
        self.selected: str | None = None  # what the last passthru's answer selects
        self.keys_collected = 0
        self._end_key_left = False  # does the channel still have the end key of the digits before?
        self.late_end_key = ""  # may still be pressed by who has given all digits that were asked for
        # what the flow knows by name; restored from the journey when a call comes back
        self.variables: dict[str, variables.Value] = {**self.flow.arguments, **variables.remembered(call.state.journey)}
        self.crm_said: Any = None  # JSON body of the last passthru's answer
        self.consent = variables.consented(call.state.journey)  # to being recorded; None: not asked
        self._aftermath: list[gevent.Greenlet] = []
        self._aftermath_seconds = AFTERMATH_SECONDS

    # --- the way --------------------------------------------------------------------------------

    @property
    def flow(self) -> Flow:
        return self.account.flows[self.flow_name]

    @property
    def place(self) -> Place:
        return Place(self.flow_name, self.step)

    def go_to(self, place: Place) -> None:
        if place.flow != self.flow_name:
            # a flow's parameters are variables in it
            self.variables.update(self.account.flows[place.flow].arguments)
        self.flow_name, self.step = place

    def restore(self) -> None:
        """The call comes back after its socket was lost: flow, step, language and what a CRM selected, from its journey.

        The way back is not in it: a `back` goes by `otherwise` until the caller has taken new steps."""
        for entry in self.call.state.journey:
            told = entry.evidence
            if told.get("to_flow") in self.account.flows:
                self.go_to(Place(told["to_flow"], self.account.flows[told["to_flow"]].start))
                self.transfers += entry.code == TRANSFERRED
            elif entry.step in self.flow.steps and tells_where(entry):
                self.step = entry.step
            if entry.code == "language.chosen":
                self.language = told.get("language", self.language)
            elif entry.code == "passthru.branch":
                self.selected = told.get("select")

    # --- the record -----------------------------------------------------------------------------

    def note(self, stage: Stage, code: str, text: str, *, at: datetime | None = None, **evidence: Any) -> None:
        """A line of the journey, at this step."""
        self.call.note(stage, code, text, step=self.step, at=at, **evidence)

    def failed(self, stage: Stage, code: str, text: str, **evidence: Any) -> None:
        """A line of the journey that explains a failure; the last one becomes the call's reason."""
        self.reason = code
        self.note(stage, code, text, **evidence)

    def afterwards(self, function: Callable[..., None], *arguments: Any, seconds: float = AFTERMATH_SECONDS) -> None:
        """Runs beside the call; the record is closed after it, or after `seconds` from the call's end."""
        self._aftermath_seconds = max(self._aftermath_seconds, seconds)
        self._aftermath.append(gevent.spawn(function, *arguments))

    def wait_for_aftermath(self) -> None:
        gevent.joinall(self._aftermath, timeout=self._aftermath_seconds)

    # --- the caller -----------------------------------------------------------------------------

    @property
    def answered(self) -> bool:
        return self.call.state.answered_at is not None

    @property
    def caller_gone(self) -> bool:
        return self.session.hung_up

    def execute(self, application: str, argument: str = "", *, deadline: float = QUICK_SECONDS) -> Event:
        """Runs an application; raises CallEnded also when the caller left while it ran."""
        event = self.session.execute(application, argument, deadline=deadline)
        self.session.raise_if_disconnected()
        return event

    def answer(self) -> None:
        """CONNECT, once: from here the caller pays, so it is done by the first step that plays, collects or connects."""
        if self.answered:
            return
        self.execute("answer")
        event = self.session.answered_event
        self.call.answered(moment(event) if event is not None else datetime.now(UTC))
        self.note("C", "call.answered", "Answered: this step is the first that needs the caller on the line")

    def sound(self, prompt: Prompt) -> str:
        """What the switch plays for a prompt in the caller's language, through the safety door; a tone and a line in the
        journey if it has gone."""
        prompt = self.spoken(prompt)
        sound = self.parts.prompts.sound(prompt)
        if "://" in sound:
            path = self.parts.prompts.path(prompt)
            self.note(
                "C", "prompt.missing", f"Prompt {path} is not there: a tone was played instead; run `exoflow prompts build`"
            )
        try:
            return safety.sound(sound)
        except UnsafeText as unsafe:
            self.failed("C", "prompt.unsafe", f"A tone was played instead of a prompt: {unsafe}; rename the file or its folder")
            return PROMPT_GONE

    def spoken(self, prompt: Prompt) -> Prompt:
        """The prompt in the caller's language."""
        return prompt.spoken_in(self.language, self.account.language)

    def sounds(self, prompts: list[Prompt]) -> str:
        """Several prompts as one sound."""
        found = [self.sound(prompt) for prompt in prompts]
        return found[0] if len(found) == 1 else "file_string://" + "!".join(found)

    def seconds(self, prompts: list[Prompt]) -> float:
        """How long they may take at most, with a margin."""
        return PROMPT_MARGIN + sum(self._length(prompt) for prompt in prompts)

    def _length(self, prompt: Prompt) -> float:
        try:
            return self.parts.prompts.seconds(self.parts.prompts.path(self.spoken(prompt)))
        except (ExoflowError, OSError):
            return UNKNOWN_PROMPT_SECONDS

    def play(self, *prompts: Prompt) -> None:
        """Plays prompts that nobody types over. Raises CallEnded, Disconnected."""
        listed = list(prompts)
        self.play_sound(self.sounds(listed), deadline=self.seconds(listed))

    def play_sound(self, sound: str, *, deadline: float) -> None:
        """Plays a sound to its end; one that does not end is broken off and noted."""
        try:
            self.execute("playback", sound, deadline=deadline)
        except DeadlineExceeded:
            self.note("C", "switch.slow", f"Playing {sound} took longer than {deadline:.0f} s and was broken off")
            self.break_off()

    def collect(self, prompts: list[Prompt], *, timeout: float, pattern: str, keys: Collection[str] = ()) -> str:
        """One key, also one pressed while the prompts play; empty if none came. `keys` are those that mean something here.

        Raises CallEnded, Disconnected. Any key is taken and judged by the flow: a pattern's mismatch would play the
        switch's own error prompt.
        """
        late, self.late_end_key = self.late_end_key, ""
        key = self._ask(prompts, 1, timeout, timeout, "none", pattern).pressed
        if key and key == late and key not in keys:
            self.note("C", "digits.late_end", f"Key {key} still belonged to the digits before: it is asked again")
            key = self._ask(prompts, 1, timeout, timeout, "none", pattern).pressed
        return key

    def collect_digits(self, prompts: list[Prompt], *, most: int, timeout: float, digit_timeout: float, end_keys: str) -> Keys:
        """Up to `most` keys, each of `end_keys` ending them; `timeout` seconds for the first, `digit_timeout` between two.

        Raises CallEnded, Disconnected. How many are enough is judged by the flow: to the switch too few are none.
        """
        late, self.late_end_key = self.late_end_key, ""
        arguments = (most, timeout, digit_timeout, end_keys if most > 1 and end_keys else "none", ANY_KEY)
        keys = self._ask(prompts, *arguments)
        if late and late in (keys.pressed, keys.ended_by if not keys.pressed else ""):
            self.note("C", "digits.late_end", f"Key {late} still belonged to the digits before: it is asked again")
            keys = self._ask(prompts, *arguments)
        return keys

    def _ask(self, prompts: list[Prompt], most: int, timeout: float, digit_timeout: float, end_keys: str, pattern: str) -> Keys:
        """One play_and_get_digits. Each has a variable of its own, so that an old key is never read for a new one."""
        if self._end_key_left:
            # FreeSWITCH never takes it back (switch_ivr_play_say.c:2581): these digits would seem to end by the key of others
            self.execute("unset", "read_terminator_used")
        self.keys_collected += 1
        variable = f"exo_keys_{self.keys_collected}"
        words = (1, most, 1, round(timeout * 1000), end_keys, self.sounds(prompts), "silence_stream://10", variable, pattern)
        argument = " ".join(str(word) for word in words)
        if most > 1:
            argument += f" {round(digit_timeout * 1000)}"
        deadline = timeout + self.seconds(prompts) + (most - 1) * digit_timeout
        try:
            event = self.execute("play_and_get_digits", argument, deadline=deadline)
        except DeadlineExceeded:
            self.note("C", "switch.slow", "Collecting a key took longer than its prompt and time-out and was broken off")
            self.break_off()
            return Keys("", "")
        ended_by = event.variable("read_terminator_used")
        self._end_key_left = bool(ended_by)
        return Keys(event.variable(variable), ended_by if most > 1 else "")

    def break_off(self) -> None:
        """Ends the application that runs; never raises but for the call's own end."""
        try:
            self.parts.lines.interrupt(self.session.uuid)
        except ExoflowError:
            # without the event socket our own one does: an `api` does not wait behind the application
            self.session.api(f"uuid_break {self.session.uuid}")

    def while_asking(self, ask: Callable[[], Any], hold: str, seconds: float) -> Any:
        """Runs `ask`, which ends by itself within `seconds`, in its own greenlet; an answered caller hears `hold` meanwhile.

        Returns or raises what `ask` does, also when the caller leaves meanwhile: who asked wants to know.
        """
        asking = gevent.spawn(ask)
        try:
            asking.join(HOLD_AFTER)
            if not asking.ready() and self.answered and not self.session.ended.is_set():
                self._hold_until(asking, hold, seconds)
            return asking.get()
        finally:
            asking.kill(block=False)

    def _hold_until(self, asking: gevent.Greenlet, hold: str, seconds: float) -> None:
        player = gevent.spawn(self._hold, hold, seconds)
        asking.join()
        with gevent.Timeout(BREAK_SECONDS, False), suppress(ExoflowError):
            while not player.ready():
                self.break_off()
                player.join(BREAK_EVERY)

    def _hold(self, hold: str, seconds: float) -> None:
        try:
            self.session.execute("playback", hold, deadline=seconds + PROMPT_MARGIN)
        except ExoflowError as error:
            if not (error.call_over or isinstance(error, Disconnected)):
                self.note("D", "hold.failed", f"The caller could not be given hold audio: {error}")

    def hold_sound(self, prompt: Prompt | None, seconds: float) -> str:
        """Audio for a caller who waits `seconds`; of bounded length, so that a dead app leaves nobody in endless music."""
        if prompt is None:
            return HOLD_TONE_ONCE.format(loops=math.ceil(seconds / HOLD_TONE_PERIOD) + 1)
        sound = self.sound(prompt)
        times = math.ceil(seconds / max(1.0, self._length(prompt))) + 1
        return sound if times == 1 else "file_string://" + "!".join([sound] * times)


# lines that are also written beside the call, which may be at another step by then
_BESIDE = ("recording.", "crm.", "sms.", "mail.", "page.")


def tells_where(entry: Entry) -> bool:
    """Was the call at the entry's step when it was written?"""
    return entry.code.endswith(".sending") or not entry.code.startswith(_BESIDE)


HOLD_AFTER = 0.4  # seconds of silence before hold audio: most CRMs answer faster, and a caller must hear something within 1 s
HOLD_TONE_PERIOD = 3.0  # seconds: 0.3 on, 2.7 off
HOLD_TONE_ONCE = "tone_stream://v=-24;%(300,2700,425);loops={loops}"
