"""Where a call is: its socket, its record and its flow, and what every applet does with them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import gevent

from exoflow.calls.book import Call
from exoflow.calls.model import Stage
from exoflow.config.model import Account, Config, Flow
from exoflow.config.steps import Prompt
from exoflow.crm.http import CrmClient
from exoflow.errors import DeadlineExceeded, Disconnected, ExoflowError
from exoflow.esl import safety
from exoflow.esl.codec import Event
from exoflow.esl.session import CallSession
from exoflow.flow import variables
from exoflow.lines.legs import moment
from exoflow.lines.lines import Lines
from exoflow.prompts import PromptBook

log = logging.getLogger("exoflow.flow")

QUICK_SECONDS = 5.0  # for applications that take no time of their own; a busy box needs some 0.1 s
PROMPT_MARGIN = 10.0  # seconds beyond a prompt's own length before its end is given up
UNKNOWN_PROMPT_SECONDS = 300.0  # for a sound whose length cannot be read
BREAK_EVERY = 0.1  # seconds; a break that comes before the application has begun is lost, so it is said again
BREAK_SECONDS = 3.0  # an application that does not end by then is left to its own deadline
AFTERMATH_SECONDS = 5.0  # what is still being looked into (a recording's length) before the record is closed


@dataclass(slots=True)
class Parts:
    """What every call needs of the system around it."""

    config: Config
    prompts: PromptBook
    crm: CrmClient
    lines: Lines


class Here:
    """One call in its flow. Applets use it; the engine moves it from step to step."""

    def __init__(self, parts: Parts, session: CallSession, call: Call, account_id: str, account: Account, flow: Flow) -> None:
        self.parts, self.session, self.call = parts, session, call
        self.account_id, self.account, self.flow = account_id, account, flow
        self.step = flow.start
        self.pending: list[Prompt] = []  # greetings that the next menu plays, so that the caller may type over them
        self.talked = False  # did the connect step that ran last end in a talk?
        self.reason = ""  # code of the entry that explains why the last thing failed
        self.keys_collected = 0
        # what the flow knows by name; restored from the journey when a call comes back
        self.variables: dict[str, variables.Value] = variables.remembered(call.state.journey)
        self.crm_said: Any = None  # JSON body of the last passthru's answer
        self._aftermath: list[gevent.Greenlet] = []

    # --- the record -----------------------------------------------------------------------------

    def note(self, stage: Stage, code: str, text: str, *, at: datetime | None = None, **evidence: Any) -> None:
        """A line of the journey, at this step."""
        self.call.note(stage, code, text, step=self.step, at=at, **evidence)

    def failed(self, stage: Stage, code: str, text: str, **evidence: Any) -> None:
        """A line of the journey that explains a failure; the last one becomes the call's reason."""
        self.reason = code
        self.note(stage, code, text, **evidence)

    def afterwards(self, function: Callable[..., None], *arguments: Any) -> None:
        """Runs beside the call; the record is closed after it."""
        self._aftermath.append(gevent.spawn(function, *arguments))

    def wait_for_aftermath(self) -> None:
        gevent.joinall(self._aftermath, timeout=AFTERMATH_SECONDS)

    # --- the caller -----------------------------------------------------------------------------

    @property
    def answered(self) -> bool:
        return self.call.state.answered_at is not None

    @property
    def caller_gone(self) -> bool:
        return self.session.hangup_event is not None

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
        """What the switch plays for a prompt, through the safety door; a tone and a line in the journey if it has gone."""
        sound = self.parts.prompts.sound(prompt)
        if "://" in sound:
            path = self.parts.prompts.path(prompt)
            self.note(
                "C", "prompt.missing", f"Prompt {path} is not there: a tone was played instead; run `exoflow prompts build`"
            )
        return safety.sound(sound)

    def sounds(self, prompts: list[Prompt]) -> str:
        """Several prompts as one sound."""
        found = [self.sound(prompt) for prompt in prompts]
        return found[0] if len(found) == 1 else "file_string://" + "!".join(found)

    def seconds(self, prompts: list[Prompt]) -> float:
        """How long they may take at most, with a margin."""
        return PROMPT_MARGIN + sum(self._length(prompt) for prompt in prompts)

    def _length(self, prompt: Prompt) -> float:
        try:
            return self.parts.prompts.seconds(self.parts.prompts.path(prompt))
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

    def collect(self, prompts: list[Prompt], *, timeout: float, pattern: str) -> str:
        """One key, also one pressed while the prompts play; empty if none came.

        Raises CallEnded, Disconnected. Each collection has a variable of its own, so that an old key is never read for a
        new one. Any key is taken and judged by the flow: a pattern's mismatch would play the switch's own error prompt.
        """
        self.keys_collected += 1
        variable = f"exo_keys_{self.keys_collected}"
        argument = f"1 1 1 {round(timeout * 1000)} none {self.sounds(prompts)} silence_stream://10 {variable} {pattern}"
        try:
            event = self.execute("play_and_get_digits", argument, deadline=timeout + self.seconds(prompts))
        except DeadlineExceeded:
            self.note("C", "switch.slow", "Collecting a key took longer than its prompt and time-out and was broken off")
            self.break_off()
            return ""
        return event.variable(variable)

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


HOLD_AFTER = 0.4  # seconds of silence before hold audio: most CRMs answer faster, and a caller must hear something within 1 s
HOLD_TONE_PERIOD = 3.0  # seconds: 0.3 on, 2.7 off
HOLD_TONE_ONCE = "tone_stream://v=-24;%(300,2700,425);loops={loops}"
