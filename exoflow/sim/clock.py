"""The embedded switch's clocks: switch time may run faster than the wall clock, or jump to the next thing that is due.

All of the switch's own waits go through its clock, in seconds of switch time. docs/embedded-switch.md has the rules.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import gevent
from gevent.event import Event

from exoflow.clock import utcnow

LOOK_SECONDS = 0.0005  # wall seconds between two questions whether the app is still busy, when nothing else tells
IDLE_LOOKS = 2  # hub cycles without any event before the clock jumps: the second sees what the first one's answers caused


class Timer:
    """Something to be done at a time. `cancel` and forget, or wait until `pending` is no longer true."""

    def __init__(self, due: float, act: Callable[[], object]) -> None:
        self.due, self._act = due, act
        self.pending = True
        self.waiting: gevent.Greenlet | None = None  # until then, if one does

    def cancel(self) -> None:
        self.pending = False
        if self.waiting is not None and self.waiting is not gevent.getcurrent():
            self.waiting.kill(block=False)

    def run(self) -> None:
        if self.pending:
            self.pending = False
            self._act()


class Clock:
    """Switch time at a fixed speed. With speed 20 a prompt of 10 s lasts half a second, and timestamps say 10 s.

    What judges the *app* (the dialplan's `sched_transfer`, its waits between two rounds, how long an app held a call) stays
    on the wall clock, for the app is not faster than it is: `judging` converts such seconds.
    """

    # does a parked call eat a waiting key whenever something short has run, as FreeSWITCH's does? Not when people's keys come
    # so much faster, and the app's next question does not
    eats_between = False

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError("speed must be above 0")
        self.speed = speed
        self._epoch = utcnow().timestamp()
        self._started = time.monotonic()

    def follow(self) -> None:
        """Tells the time that calls go by, from now on."""
        self._epoch = utcnow().timestamp() - self.elapsed()

    def elapsed(self) -> float:
        """Seconds of switch time since the switch was made."""
        return (time.monotonic() - self._started) * self.speed

    def micros(self) -> int:
        """Microseconds since 1970, in switch time: the unit of FreeSWITCH's timestamps."""
        return int((self._epoch + self.elapsed()) * 1_000_000)

    def judging(self, seconds: float) -> float:
        """Seconds of switch time that pass while the app has so many seconds of its own."""
        return seconds * self.speed

    def judge_later(self, seconds: float, act: Callable[[], object]) -> Timer:
        """Does something after so many seconds of the app's."""
        return self.later(self.judging(seconds), act)

    def judging_micros(self) -> int:
        """Microseconds since 1970 by the clock that judges the app."""
        return int((self._epoch + self.elapsed() / self.speed) * 1_000_000)

    def later(self, seconds: float, act: Callable[..., object], *arguments: Any) -> Timer:
        """Does something after so many seconds, in a greenlet of its own."""
        timer = Timer(self.elapsed() + seconds, lambda: act(*arguments))
        timer.waiting = gevent.spawn_later(max(0.0, seconds / self.speed), timer.run)
        return timer

    def wait(self, event: Event, until: float | None = None) -> None:
        """Until the event is set or switch time `until` (as `elapsed` counts) has come; None: without end."""
        event.wait(None if until is None else max(0.0, (until - self.elapsed()) / self.speed))

    def sleep(self, seconds: float) -> None:
        """Lets so many seconds of switch time pass."""
        self.wait(Event(), self.elapsed() + seconds)

    def hold(self, holder: object) -> None:
        """Somebody is busy with something that takes its own time: a virtual clock does not jump before `release`."""

    def release(self, holder: object) -> None:
        """The holder is done. Does nothing if it held nothing."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the clock while the block runs."""
        holder = object()
        self.hold(holder)
        try:
            yield
        finally:
            self.release(holder)

    def watch(self, busy: Callable[[], object]) -> None:
        """A further question to ask before a virtual clock jumps: it does not while `busy()` is true. It must be cheap."""

    def stop(self) -> None:
        """The switch stops: nothing more is due."""


class VirtualClock(Clock):
    """Runs as the wall clock does, and jumps to the next due thing when nobody but the clock has anything to do.

    It jumps when (1) no app owes the switch a command, (2) nobody holds it and no watched thing is busy, and (3) the hub of
    this process was idle in two cycles: no unread bytes, no greenlet ready to run. Until then time goes on at the wall's pace,
    so whatever waits for a real answer is never overtaken, and what never comes ends by its timeout.
    """

    eats_between = True

    def __init__(self) -> None:
        super().__init__(1.0)
        self.jumped = 0.0  # seconds
        self._due: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._holders: set[object] = set()
        self._busy: list[Callable[[], object]] = []
        self._changed = Event()
        self._driver: gevent.Greenlet | None = None

    def elapsed(self) -> float:
        return time.monotonic() - self._started + self.jumped

    def judge_later(self, seconds: float, act: Callable[[], object]) -> Timer:
        # on the wall clock: a lease is renewed by it, and what plays for minutes is over in no time
        timer = Timer(self.elapsed() + seconds, act)
        timer.waiting = gevent.spawn_later(max(0.0, seconds), timer.run)
        return timer

    def judging_micros(self) -> int:
        return self.micros()

    def later(self, seconds: float, act: Callable[..., object], *arguments: Any) -> Timer:
        return self._at(self.elapsed() + seconds, lambda: gevent.spawn(act, *arguments))

    def wait(self, event: Event, until: float | None = None) -> None:
        timer = None if until is None else self._at(until, event.set)
        event.wait()
        if timer is not None:
            timer.cancel()

    def hold(self, holder: object) -> None:
        self._holders.add(holder)

    def release(self, holder: object) -> None:
        self._holders.discard(holder)
        if not self._holders:
            self._changed.set()

    def watch(self, busy: Callable[[], object]) -> None:
        self._busy.append(busy)

    def stop(self) -> None:
        self._due.clear()
        if self._driver is not None:
            self._driver.kill(block=False)

    def _at(self, due: float, act: Callable[[], object]) -> Timer:
        timer = Timer(due, act)
        heapq.heappush(self._due, (due, next(self._numbers), timer))
        if self._driver is None:
            self._driver = gevent.spawn(self._drive)
        if self._due[0][2] is timer:
            self._changed.set()
        return timer

    def _drive(self) -> None:
        while True:
            self._changed.clear()
            next_due = self._next()
            if next_due is None:
                self._changed.wait()
                continue
            left = next_due - self.elapsed()
            if left <= 0:
                heapq.heappop(self._due)[2].run()
            elif self._holders:
                self._changed.wait(left)
            elif any(busy() for busy in self._busy):
                self._changed.wait(min(left, LOOK_SECONDS))
            elif self._idle(left):
                self._jump()

    def _next(self) -> float | None:
        while self._due and not self._due[0][2].pending:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def _idle(self, seconds: float) -> bool:
        """Was the hub idle, within so many seconds? Somebody else's timers do not count: they are on the wall clock."""
        idle = 0
        with gevent.Timeout(seconds, False):
            while idle < IDLE_LOOKS:
                gevent.idle()
                idle += 1
        return idle == IDLE_LOOKS

    def _jump(self) -> None:
        """To what is due next, if nothing has come up meanwhile."""
        next_due = self._next()
        if next_due is None or self._holders or any(busy() for busy in self._busy):
            return
        self.jumped += max(0.0, next_due - self.elapsed())


def stamp(micros: int) -> str:
    """`2026-11-23 05:02:10`, as in FreeSWITCH's `*_stamp` variables; empty for 0."""
    return f"{datetime.fromtimestamp(micros / 1e6, UTC):%Y-%m-%d %H:%M:%S}" if micros else ""
