"""The memory of a rush of calls is given back to the system when the rush is over.

Neither CPython nor glibc does it: garbage in cycles waits for so many new objects that an idle process never makes them, and
free blocks between used ones stay in the heap (malloc_trim(3)). A crowd of 5,000 calls, or the calls that waited behind an
ailing store, would be held to the end of the process, and a leak could not be told from it.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any, NoReturn

import gevent

LOOK_SECONDS = 5.0  # a rush that begins and ends between two looks takes little: calls are seldom shorter
RUSH_CALLS = 20  # some 50 KiB each: what fewer took, a MiB at most, waits until none is left
OVER = 4  # a rush is over when a quarter of its calls are left
BEHIND_LOOKS = 13  # then once more: connections to the CRM are closed a minute later (crm/connections.py: twice KEPT_SECONDS)


class GivingBack:
    """`calls` says how many calls are held in memory."""

    def __init__(self, calls: Callable[[], int], give_back: Callable[[int], None] | None = None) -> None:
        self._calls = calls
        self._give_back = give_back or given_back
        self._most = 0
        self._behind = 0  # looks until it is done once more; 0: it is not

    def run(self) -> NoReturn:
        while True:
            gevent.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        now = self._calls()
        self._most = max(self._most, now)
        over = now * OVER <= self._most if self._most >= RUSH_CALLS else now == 0 < self._most
        if over or self._behind == 1:
            self._give_back(now)
        if over:
            self._most, self._behind = now, BEHIND_LOOKS
        elif self._behind:
            self._behind -= 1


def given_back(calls: int) -> None:
    """Holds the loop up for some ms: 2 for 40 MiB that are free, 8 for 270 MiB. `calls` are still held."""
    if calls < RUSH_CALLS:  # with many the search would go through all that they hold, and the loop stand still for it
        gc.collect()
    if _trim is not None:
        _trim(0)


_trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
