"""Does what a scenario's caller does, at the moments that the switch's events tell of; the same in both rings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import gevent
from gevent.pool import Group

from scenarios.script import Deed

# events that are worth looking at; both switches fire them with the same headers
EVENTS = ("CHANNEL_CREATE", "CHANNEL_ANSWER", "CHANNEL_EXECUTE", "CHANNEL_BRIDGE")
_MOMENTS = {
    "ring_ready": "ringing",
    "play_and_get_digits": "asked",
    "playback": "plays",
    "record": "records",
    "bridge": "rings",
}
SOUND = re.compile(r"/[^!/\s][^!\s]*\.wav")  # what a playback or a question names, also several as one file_string


class Line(Protocol):
    """A caller's telephone in some ring."""

    def press(self, keys: str) -> None: ...

    def hang_up(self) -> None: ...

    def lose_socket(self) -> None: ...

    def free(self, name: str) -> None: ...

    def speak(self, seconds: float) -> None: ...

    def pause(self, seconds: float) -> None: ...


class Caller:
    """Counts moments and does what is due."""

    def __init__(self, deeds: list[Deed], speaks: float, line: Line) -> None:
        self._deeds, self._speaks, self._line = deeds, speaks, line
        self._seen: Counter[str] = Counter()
        self._doing = Group()
        self.failures: list[str] = []
        """deeds that could not be done"""
        self.sounds: list[str] = []
        """files that the switch was told to play to him"""

    def hear(self, name: str, get: Callable[[str], str | None]) -> None:
        """An event of the caller's channel."""
        if name == "CHANNEL_EXECUTE":
            moment = _MOMENTS.get(get("Application") or "", "")
        else:
            moment = {"CHANNEL_ANSWER": "answered", "CHANNEL_BRIDGE": "talks"}.get(name, "")
        if not moment:
            return
        self._seen[moment] += 1
        if moment in ("asked", "plays"):
            self.sounds += SOUND.findall(get("Application-Data") or "")
        if moment == "records":
            self._doing.spawn(self._line.speak, self._speaks)
        for deed in self._deeds:
            if (deed.moment, deed.count) == (moment, self._seen[moment]):
                self._doing.spawn(self._do, deed)

    def _do(self, deed: Deed) -> None:
        try:
            self._act(deed)
        except Exception as failure:
            self.failures.append(f"{deed.what}: {type(failure).__name__}: {failure}")

    def _act(self, deed: Deed) -> None:
        self._line.pause(deed.after)
        if deed.what == "hang up":
            self._line.hang_up()
        elif deed.what == "lose socket":
            self._line.lose_socket()
        elif deed.what.startswith("free "):
            self._line.free(deed.what.removeprefix("free "))
        else:
            self._line.press(deed.what.removeprefix("press "))

    def stop(self) -> None:
        """The call is over."""
        with gevent.Timeout(1, False):
            self._doing.kill()
