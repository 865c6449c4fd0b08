"""A caller with a telephone: hears what is played, presses keys when asked, speaks after a beep, hangs up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from exoflow.sim.clock import Timer
from exoflow.sim.sounds import ENDLESS, Sound

if TYPE_CHECKING:
    from exoflow.sim.session import Session
    from exoflow.sim.switch import EmbeddedSwitch
    from exoflow.sim.trunk import Trunk

THINKING_SECONDS = 1.0  # of switch time between a question's first word and the key
KEY_SECONDS = 0.25  # of switch time from one key of an answer to the next: nobody types faster
SILENT = "-"  # in `keys`: let this question pass without a key

# what the owner of the phone notices, as (kind, text): ringing, answered, hears, asked, key, agent, talking, ended
Notice = Callable[[str, str], None]


@dataclass
class Heard:
    """One sound that began, with its text; `at` and `seconds` in switch time."""

    at: float
    text: str
    file: str = ""
    seconds: float = 0.0


class Phone:
    """One call of one caller. Times are switch seconds since the switch started, None until it happened."""

    def __init__(
        self,
        switch: EmbeddedSwitch,
        trunk: Trunk,
        *,
        keys: str | Iterable[str] = "",
        speaks: float = 4.0,
        on_event: Notice | None = None,
    ) -> None:
        self.switch, self.trunk = switch, trunk
        self.session: Session | None = None
        self.uuid = ""
        self.heard: list[Heard] = []
        self.pressed: list[str] = []
        self.agents: list[tuple[str, str]] = []  # (what, who), as they were dialled, rang, talked and left
        self.cause = ""
        self.called_at = switch.clock.elapsed()
        self.ringing_at: float | None = None
        self.answered_at: float | None = None
        self.talked_at: float | None = None
        self.ended_at: float | None = None
        self._speaks = speaks
        self._answers = deque(keys if not isinstance(keys, str) else [keys] if keys else [])
        self._one_by_one = isinstance(keys, str)
        self._on_event = on_event
        self._ended = Event()
        self._thinking: Timer | None = None
        self.asked = Event()  # set while the switch waits for keys

    # --- what the caller does ---

    def press(self, keys: str) -> None:
        """Presses one key or several, now."""
        if self.session is None or self.session.channel.hung_up:
            return
        for key in keys:
            self.pressed.append(key)
            self._notice("key", key)
            self.session.press(key)

    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        if self.session is not None:
            self.session.channel.hangup(cause)

    def after(self, seconds: float, act: Callable[..., object], *arguments: object) -> Timer:
        """Does something so many seconds of switch time from now: `phone.after(3, phone.press, "1")`."""
        return self.switch.clock.later(seconds, act, *arguments)

    def wait(self, seconds: float | None = None) -> bool:
        """Until the call has ended, at most so many wall seconds. Has it?"""
        return bool(self._ended.wait(seconds))

    def wait_until(self, happened: Callable[[Phone], bool], seconds: float) -> bool:
        """Until something became true of this phone (or its call ended), at most so many wall seconds. Has it?"""
        with gevent.Timeout(seconds, False):
            while not happened(self) and not self._ended.is_set():
                self.switch.noticed.wait()
        return happened(self)

    # --- what the session tells ---

    @property
    def texts(self) -> list[str]:
        """What was heard, texts alone."""
        return [heard.text for heard in self.heard]

    def is_ringing(self) -> None:
        if self.ringing_at is None:
            self.ringing_at = self.switch.clock.elapsed()
            self._notice("ringing", "")

    def was_answered(self) -> None:
        self.answered_at = self.switch.clock.elapsed()
        self._notice("answered", "")

    def hears(self, sound: Sound) -> None:
        self.heard.append(Heard(self.switch.clock.elapsed(), sound.text, sound.file))
        length = "" if sound.seconds == ENDLESS else f" ({sound.seconds:.1f} s)"
        self._notice("hears", sound.text if sound.file else sound.text + length)

    def heard_until_now(self) -> None:
        self.heard[-1].seconds = self.switch.clock.elapsed() - self.heard[-1].at

    def hears_ringback(self) -> None:
        self._notice("hears", "ringback")

    def is_asked(self, most: int) -> None:
        """The switch collects up to `most` keys from now on."""
        self.asked.set()
        self._notice("asked", str(most))
        if self._answers:
            answer = self._next_answer(most)
            if answer != SILENT:
                self._thinking = self.switch.clock.later(THINKING_SECONDS, self._type, answer)

    def _type(self, keys: str) -> None:
        """Key by key; who has begun types on, also when the question has had enough."""
        self.press(keys[0])
        if keys[1:]:
            self.switch.clock.later(KEY_SECONDS, self._type, keys[1:])

    def was_asked(self) -> None:
        self.asked.clear()
        if self._thinking is not None:
            self._thinking.cancel()
            self._thinking = None

    def _next_answer(self, most: int) -> str:
        """A text of keys is used up question by question, each taking as many as it wants; `-` lets one pass."""
        answer = self._answers.popleft()
        if not self._one_by_one:
            return answer or SILENT
        take = 1 if answer.startswith(SILENT) else min(max(1, most), len(answer.split(SILENT)[0]))
        if rest := answer[take:]:
            self._answers.appendleft(rest)
        return answer[:take]

    def speaks(self) -> float:
        """Seconds the caller speaks after the beep."""
        return self._speaks

    def agent(self, what: str, who: str) -> None:
        self.agents.append((what, who))
        if what == "talks":
            self.talked_at = self.switch.clock.elapsed()
        self._notice("agent", f"{who} {what}")

    def has_ended(self) -> None:
        self.ended_at = self.switch.clock.elapsed()
        if self.session is not None:
            self.cause = self.session.channel.cause
        self._finish()

    def cut_off(self, cause: str) -> None:
        """The switch died: the exchange clears the call."""
        if self.ended_at is None:
            self.turned_away(cause)

    def turned_away(self, cause: str) -> None:
        """The exchange had no free channel, so that our switch never saw this call, or has lost it."""
        self.ended_at, self.cause = self.switch.clock.elapsed(), cause
        self._finish()

    def _finish(self) -> None:
        self.was_asked()
        self._notice("ended", self.cause)
        self._ended.set()
        self.switch.pulse()

    def _notice(self, kind: str, text: str) -> None:
        self.switch.pulse()
        if self._on_event is not None:
            self._on_event(kind, text)
