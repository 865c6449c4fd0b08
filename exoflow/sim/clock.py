"""The embedded switch's clock: its own waits and timestamps may run faster than the wall clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Switch time. With speed 20 a prompt of 10 s lasts half a second, and timestamps say 10 s.

    Scaled are the times people take: prompts, ringing, talking, keys. Waits that judge the *app* (the guard's `sched_transfer`,
    linger, the 25 s for the first command) stay on the wall clock, for the app is not faster than it is.
    """

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError("speed must be above 0")
        self.speed = speed
        self._epoch = time.time()
        self._started = time.monotonic()

    def elapsed(self) -> float:
        """Seconds of switch time since the switch was made."""
        return (time.monotonic() - self._started) * self.speed

    def micros(self) -> int:
        """Microseconds since 1970, in switch time: the unit of FreeSWITCH's timestamps."""
        return int((self._epoch + self.elapsed()) * 1_000_000)

    def wall(self, seconds: float) -> float:
        """How many wall seconds so many seconds of switch time take."""
        return seconds / self.speed


def stamp(micros: int) -> str:
    """`2026-11-23 05:02:10`, as in FreeSWITCH's `*_stamp` variables; empty for 0."""
    return f"{datetime.fromtimestamp(micros / 1e6, UTC):%Y-%m-%d %H:%M:%S}" if micros else ""
