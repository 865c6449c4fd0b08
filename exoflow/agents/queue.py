"""Callers who wait until an agent of their group is free: in which order they are served, and the moment in which they are.

In the memory of the one process. A place is as old as it was when its caller came, whoever had his call in between, so that
the order is the same after a death. Nothing here waits: who is freed is claimed for the first in line before anybody else
can ask.
"""

from __future__ import annotations

import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from gevent.event import Event

# an agent whose leg has just ended is nobody's until his call has told whether he talked, or so many seconds are over: it
# decides about the time he is left behind a talk, and waits 2 s for the switch itself (flow/attempt.py)
SETTLE_SECONDS = 2.5
LAST_SERVED = 20  # callers whose services tell what the next ones have to expect; older ones were another hour
FEW_SERVED = 2  # fewer tell nothing
AT_ONCE_SECONDS = 1.0  # who is served within so many has not waited

Key = tuple[str, str]  # account and group


class Claimed(Protocol):
    """An agent who is claimed for a leg (staff.Picked)."""

    @property
    def leg(self) -> str: ...


@dataclass(eq=False, slots=True)
class Place:
    """One caller's. `claim` claims agents for him beside those that he is not to get, and returns them; it never waits."""

    call: str  # its id
    since: datetime  # when he came
    claim: Callable[[Collection[str]], Sequence[Claimed]]
    on_line: bool = True  # False: he waits to be called back
    avoided: dict[str, datetime] = field(default_factory=dict)  # numbers that were rung for him in vain, until then
    picked: Sequence[Claimed] = ()  # who is claimed for him, once it is his turn
    woken: Event = field(default_factory=Event)


@dataclass(slots=True)
class Line:
    """Those who wait for one group."""

    places: list[Place] = field(default_factory=list)  # the oldest first
    since: datetime | None = None  # when somebody was served last, or the first one came
    intervals: deque[float] = field(default_factory=lambda: deque(maxlen=LAST_SERVED))  # seconds from one service to the next


class Queues:
    """All queues of this process."""

    def __init__(self, clock: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._lines: dict[Key, Line] = {}
        self._unsettled: dict[str, float] = {}  # numbers by when they were let go of, the oldest first

    # --- places -----------------------------------------------------------------------------------

    def waiting(self, key: Key) -> int:
        """How many wait for a group."""
        return len(self._line(key).places)

    def on_line(self, key: Key) -> int:
        """How many of them are on the telephone."""
        return sum(place.on_line for place in self._line(key).places)

    def position(self, key: Key, place: Place) -> int:
        """1 is the first in line; 0: he is not in it (any more)."""
        places = self._line(key).places
        return places.index(place) + 1 if place in places else 0

    def join(self, key: Key, place: Place) -> None:
        """He waits from now on, before all who came later. If somebody is free, he or the first in line is served at once."""
        line = self._line(key)
        if not line.places:
            line.since = self._clock()
        place.woken.clear()
        insort(line.places, place, key=lambda one: one.since)
        self.wake()

    def leave(self, key: Key, place: Place) -> None:
        """He waits no more; nothing if he does not."""
        places = self._line(key).places
        if place in places:
            places.remove(place)

    def expected(self, key: Key, place: Place) -> float | None:
        """Seconds that he will wait, drawn from how fast callers of this group were served lately; None: nobody knows."""
        line, position = self._line(key), self.position(key, place)
        if not position or len(line.intervals) < FEW_SERVED:
            return None
        return position * sum(line.intervals) / len(line.intervals)

    # --- waking -----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Somebody may be free: the first in line gets him. Of two queues for one agent, the one whose first waits longer."""
        waiting = [(key, line) for key, line in self._lines.items() if line.places]
        for _, line in sorted(waiting, key=lambda found: found[1].places[0].since):
            self._serve(line)

    def let_go(self, number: str) -> None:
        """A telephone is engaged no more; whether its agent may be rung is told by `settled`."""
        self._unsettled.pop(number, None)  # the newest are last
        self._unsettled[number] = self._monotonic()
        self._forget_settled()

    def settled(self, numbers: Collection[str]) -> None:
        """What became of them is known now."""
        for number in numbers:
            self._unsettled.pop(number, None)

    def _serve(self, line: Line) -> None:
        self._forget_settled()
        now = self._clock()
        for place in list(line.places):
            place.avoided = {number: until for number, until in place.avoided.items() if until > now}
            place.picked = place.claim({*place.avoided, *self._unsettled})
            if place.picked:
                line.places.remove(place)
                if line.since is not None and (now - place.since).total_seconds() >= AT_ONCE_SECONDS:
                    line.intervals.append(max(0.0, (now - line.since).total_seconds()))
                line.since = now
                place.woken.set()
            elif not place.avoided:
                return  # nobody is free for those behind, either

    def _forget_settled(self) -> None:
        before = self._monotonic() - SETTLE_SECONDS
        while self._unsettled and (oldest := next(iter(self._unsettled.items())))[1] <= before:
            del self._unsettled[oldest[0]]

    def _line(self, key: Key) -> Line:
        return self._lines.setdefault(key, Line())
