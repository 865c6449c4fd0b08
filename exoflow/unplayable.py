"""Sounds that could not be played, for `/readyz`: each until it has been played."""

from __future__ import annotations

from collections.abc import Callable

MAX_SOUNDS = 100  # that are remembered; a folder that nobody may enter is told by one of them
CURE = "make it a sound (`file` tells), and let FreeSWITCH's user read it and enter each folder above it"


class Unplayable:
    """One for the process."""

    def __init__(self) -> None:
        self._sounds: dict[str, str] = {}

    def add(self, sound: str, problem: str) -> None:
        """A caller heard a tone in its place. `problem` goes on after the sound's name."""
        if sound in self._sounds or len(self._sounds) < MAX_SOUNDS:
            self._sounds[sound] = problem

    def played(self, sound: Callable[[], str]) -> None:
        """It was heard. `sound` is asked only if one is known that was not."""
        if self._sounds:
            self._sounds.pop(sound().removeprefix("file_string://"), None)

    def problem(self) -> str:
        """A sentence with its cure; empty if all sounds were played."""
        if not self._sounds:
            return ""
        sound, problem = next(iter(self._sounds.items()))
        more = f" (and {len(self._sounds) - 1} more)" if len(self._sounds) > 1 else ""
        return f"{sound} {problem}{more}; {CURE}"
