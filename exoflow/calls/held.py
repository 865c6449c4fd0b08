"""Bounds what calls keep in memory while neither store nor spill takes it.

Journey lines go first, of calls that are over, oldest first; whole calls with their deliveries last. What goes is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

log = logging.getLogger(__name__)

# both together: 140 MiB measured
MAX_LINES = 100_000  # journey lines not yet on disk
MAX_CALLS = 10_000  # closed calls not yet on disk, with their deliveries; eight minutes at 20 calls a second


class Holds(Protocol):
    """A call whose record is not yet on disk."""

    @property
    def closed(self) -> bool: ...

    @property
    def lines_waiting(self) -> int: ...

    def drop_lines(self) -> None: ...

    def drop(self) -> None: ...


def trim(calls: Iterable[Holds]) -> None:
    """Drops what is above the bounds. `calls` are those not yet on disk, oldest first."""
    calls = list(calls)
    closed = [call for call in calls if call.closed]
    too_many = len(closed) - MAX_CALLS
    if too_many > 0:
        log.error(
            "the records of %d calls are lost: more than %d wait, and neither store nor spill takes them", too_many, MAX_CALLS
        )
    for call in closed[: max(0, too_many)]:
        call.drop()
    kept = closed[max(0, too_many) :] + [call for call in calls if not call.closed]
    waiting = sum(call.lines_waiting for call in kept)
    for call in kept:
        if waiting <= MAX_LINES:
            return
        waiting -= call.lines_waiting
        call.drop_lines()
