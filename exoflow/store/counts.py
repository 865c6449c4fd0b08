"""Hourly counts of what has no call of its own: refusals, seconds with all channels taken, what an ailing store made us drop.

Sums are written absolute, so that writing them twice changes nothing; each has a source of its own, and whoever reads adds
the sources up.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import gevent
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from exoflow.store import tables as t
from exoflow.store.changes import Change
from exoflow.store.waiting import Mirror

MAX_KEYS = 1000  # names and trunks of one hour: a switch that makes up trunk names must not fill memory and disk
OTHER = "(other)"
ALL_BUSY = "all_busy_seconds"  # the count of seconds in which a trunk had no free channel
LEAST_FREE_SECONDS = 60.0  # fewer say nothing of how many calls come when there is room
LOOK_SECONDS = 10.0  # how often watched counters are read: at most so much of an hour is put to the next

Key = tuple[datetime, str, str]  # hour, name, trunk


@dataclass(slots=True)
class _Sum:
    """One begun anew in an hour whose sum has left memory must not be written over that."""

    source: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    amount: float = 0.0


def utcnow() -> datetime:
    return datetime.now(UTC)


class Counts(Mirror):
    """`add` never waits; the sums are mirrored like a call's record."""

    def __init__(self, mirror: Callable[[Mirror], Any], *, clock: Callable[[], datetime] = utcnow) -> None:
        self._mirror = mirror
        self._clock = clock
        self._sums: dict[Key, _Sum] = {}  # of this hour, and what is not yet on disk
        self._changed: set[Key] = set()
        self._writing: set[Key] = set()
        self._spilling: set[Key] = set()
        self._seen: dict[tuple[str, str], float] = {}
        self._watched: list[Callable[[], Mapping[tuple[str, str], float]]] = []
        self._looker: gevent.Greenlet | None = None

    def add(self, name: str, trunk: str, amount: float = 1.0, *, at: datetime | None = None) -> None:
        """Counts into the hour that it is, or that it was `at` that time."""
        if not amount:
            return
        hour = (at or self._clock()).replace(minute=0, second=0, microsecond=0)
        key = (hour, name, trunk)
        if key not in self._sums and len(self._sums) >= MAX_KEYS:
            key = (hour, name, OTHER)
        self._sums.setdefault(key, _Sum()).amount += amount
        self._changed.add(key)
        self._mirror(self)

    def watch(self, read: Callable[[], Mapping[tuple[str, str], float]]) -> None:
        """Running sums since the process began, by name and trunk: what they grow by is counted, every LOOK_SECONDS."""
        self._watched.append(read)
        if self._looker is None:
            self._looker = gevent.spawn(self._look_on)

    def look(self) -> None:
        """Reads what is watched now."""
        for read in self._watched:
            for (name, trunk), total in read().items():
                before = self._seen.get((name, trunk), 0.0)
                self._seen[name, trunk] = total
                self.add(name, trunk, total - before)

    def stop(self) -> None:
        """Reads a last time what is watched."""
        if self._looker is not None:
            self._looker.kill()
            self.look()

    def _look_on(self) -> None:
        while True:
            gevent.sleep(LOOK_SECONDS)
            self.look()

    # --- the mirror in the store ------------------------------------------------------------------

    def collect(self) -> Change:
        self._writing, self._changed = self._changed, set()
        return self._of(self._writing)

    def collect_whole(self) -> Change:
        self._spilling, self._changed = self._changed | self._writing, set()
        return self._of(self._spilling)

    def committed(self) -> None:
        self._writing = set()
        self._forget_past_hours()

    def put_back(self) -> None:
        self._changed |= self._writing
        self._writing = set()

    def spilled(self, *, durable: bool) -> None:
        if not durable:
            self._changed |= self._spilling
        self._spilling = set()
        self._forget_past_hours()

    def _of(self, keys: set[Key]) -> Change:
        sums = [(key, self._sums[key]) for key in sorted(keys)]
        rows = [
            {"hour": hour, "name": name, "trunk": trunk, "source": total.source, "amount": total.amount}
            for (hour, name, trunk), total in sums
        ]
        return Change([(t.counts, rows)])

    def _forget_past_hours(self) -> None:
        newest = max((hour for hour, _, _ in self._sums), default=None)
        waiting = self._changed | self._writing | self._spilling
        self._sums = {key: total for key, total in self._sums.items() if key[0] == newest or key in waiting}

    def failed(self, error: Exception) -> None:
        self.put_back()


def by_hour(connection: Connection, since: datetime) -> list[tuple[datetime, str, str, float]]:
    """Hour, name, trunk and amount, of all sources together, oldest first."""
    c = t.counts.c
    total = func.sum(c.amount)
    wanted = select(c.hour, c.name, c.trunk, total).where(c.hour >= since).group_by(c.hour, c.name, c.trunk)
    return [(row[0], row[1], row[2], float(row[3])) for row in connection.execute(wanted.order_by(c.hour, c.name, c.trunk))]


def arrivals_by_hour(connection: Connection, since: datetime) -> dict[tuple[datetime, str], int]:
    """Calls that came in, by hour and trunk, those that were refused included."""
    hour = func.strftime("%Y-%m-%d %H:00:00", t.calls.c.created_at)
    wanted = select(hour, t.calls.c.trunk, func.count()).where(t.calls.c.created_at >= since).group_by(hour, t.calls.c.trunk)
    return {
        (datetime.fromisoformat(text).replace(tzinfo=UTC), trunk): amount for text, trunk, amount in connection.execute(wanted)
    }


def turned_away(arrivals: int, busy: float, seconds: float) -> float:
    """An estimate of the callers whom the exchange gave the engaged tone while all channels of a trunk were taken.

    They send us nothing. While a channel was free, `arrivals` calls came in `seconds` - `busy` seconds; as many an hour are
    taken to have tried while none was. Whoever tries again within the hour is counted among both.
    """
    free = seconds - busy
    if busy <= 0 or seconds <= 0:
        return 0.0
    return busy * arrivals / max(free, LEAST_FREE_SECONDS)
