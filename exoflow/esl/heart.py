"""The heartbeat of the event loop: a process that stood still does not touch the calls that it had.

A stopped, swapped out or blocked process keeps its sockets. While it stands still the guard or the lease gives its calls to
others, and FreeSWITCH does not close the old sockets: what the process writes when it wakes would run on another's call.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

import gevent

from exoflow.esl.lease import Leases

log = logging.getLogger("exoflow.esl")

BEAT_SECONDS = 0.5  # how finely a stop is seen, and leases are looked at; two wakings a second cost nothing
STILL_SECONDS = 4.0  # below the guard's 5 s, which FreeSWITCH's scheduler makes 4 to 5: no earlier is a call another's


class Held(Protocol):
    """A call's socket."""

    held_since: float  # monotonic

    def stood_still(self, seconds: float) -> None:
        """The process did, for so long."""

    def release(self) -> None:
        """The process ends."""


class Heart:
    """One a process. What is in `each_beat` is called every BEAT_SECONDS and must not wait."""

    def __init__(self) -> None:
        self.leases = Leases()
        self.held: WeakSet[Held] = WeakSet()
        self.each_beat: list[Callable[[], None]] = [self.leases.renew_due]
        self.stops = 0  # how often the process stood still
        self._beat_at = time.monotonic()
        self._beating: gevent.Greenlet | None = None

    def start(self) -> None:
        self._beat_at = time.monotonic()
        self._beating = gevent.spawn(self._beat)

    def stop(self) -> None:
        if self._beating is not None:
            self._beating.kill()
            self._beating = None

    def check(self) -> None:
        """Before each write to a call's socket: if the loop did not turn all the time, the calls held before are let go of."""
        if self._beating is not None and time.monotonic() - self._beat_at > STILL_SECONDS:
            self._woke()

    def _beat(self) -> None:
        while True:
            self.check()
            self._beat_at = time.monotonic()
            for task in self.each_beat:
                try:
                    task()
                except Exception:
                    log.exception("a task of the heartbeat failed")
            gevent.sleep(BEAT_SECONDS)

    def _woke(self) -> None:
        now, before = time.monotonic(), self._beat_at + STILL_SECONDS
        seconds, self._beat_at = now - self._beat_at, now
        old = [call for call in self.held if call.held_since < before]
        self.stops += 1
        log.error("stood still for %.1f s: %d calls are given back", seconds, len(old))
        for call in old:
            call.stood_still(seconds)
