"""Listening to a recording: how loud is a tone, where is silence.

Pure Python over 8 kHz WAV files. Levels are in dB relative to a sine of full scale; digital silence is -120 dB.
"""

from __future__ import annotations

import math
import sys
import wave
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FLOOR_DB = -120.0
BLOCK = 0.02
"""Seconds; one telephone frame."""


@dataclass(frozen=True)
class Sound:
    """Samples of each channel (16 bit) and how many of them make a second."""

    channels: Sequence[array]
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.channels[0]) / self.rate

    @property
    def left(self) -> Sound:
        return Sound([self.channels[0]], self.rate)

    @property
    def right(self) -> Sound:
        return Sound([self.channels[1]], self.rate)

    def part(self, start: float, end: float | None = None) -> Sound:
        """From `start` to `end` seconds."""
        last = None if end is None else round(end * self.rate)
        return Sound([channel[round(start * self.rate) : last] for channel in self.channels], self.rate)

    def level(self) -> float:
        """Loudness of the first channel in dB, all frequencies."""
        return _level(self.channels[0])

    def tone(self, hz: float) -> float:
        """Loudness of one frequency in the first channel in dB (Goertzel)."""
        return _goertzel(self.channels[0], hz, self.rate)

    def tone_blocks(self, hz: float, block: float = 0.1) -> list[float]:
        """The tone's level in each `block` seconds, one after another."""
        size = round(block * self.rate)
        return [_goertzel(piece, hz, self.rate) for piece in _pieces(self.channels[0], size)]

    def silences(self, *, below: float = -50.0, at_least: float = 0.1) -> list[tuple[float, float]]:
        """Each (start, end) in seconds where nothing is louder than `below` dB for `at_least` seconds."""
        return [(start, end) for start, end in self._quiet(below) if end - start >= at_least - BLOCK / 2]

    def sounds(self, *, above: float = -50.0, gap: float = 0.1) -> list[tuple[float, float]]:
        """Each (start, end) in seconds where something is to be heard; a silence shorter than `gap` does not part two of them.

        Two switches on one busy machine lose a frame now and then, so a tone has holes of 20 to 60 ms.
        """
        found, start = [], 0.0
        for quiet_start, quiet_end in [*self.silences(below=above, at_least=gap), (self.seconds, self.seconds)]:
            if quiet_start - start > BLOCK / 2:
                found.append((start, quiet_start))
            start = quiet_end
        return found

    def longest_silence(self, *, below: float = -50.0) -> float:
        return max((end - start for start, end in self._quiet(below)), default=0.0)

    def _quiet(self, below: float) -> list[tuple[float, float]]:
        """Runs of quiet blocks."""
        found, start = [], None
        levels = [_level(piece) for piece in _pieces(self.channels[0], round(BLOCK * self.rate))]
        for number, level in enumerate([*levels, 0.0]):
            if level < below and start is None:
                start = number
            elif level >= below and start is not None:
                found.append((start * BLOCK, number * BLOCK))
                start = None
        return found


def read_wav(path: Path) -> Sound:
    """Reads a 16 bit WAV file. A file whose recorder was killed says a length it does not have; what is there is read."""
    with wave.open(str(path), "rb") as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{path}: {file.getsampwidth() * 8} bit samples, 16 expected")
        count = file.getnchannels()
        data = file.readframes(file.getnframes())
        rate = file.getframerate()
    samples = array("h")
    samples.frombytes(data[: len(data) - len(data) % (2 * count)])
    if sys.byteorder == "big":
        samples.byteswap()
    return Sound([samples[channel::count] for channel in range(count)], rate)


def write_wav(path: Path, sound: Sound) -> None:
    """Writes 16 bit samples; for tests of the listening itself."""
    mixed = array("h", bytes(2 * len(sound.channels) * len(sound.channels[0])))
    for number, channel in enumerate(sound.channels):
        mixed[number :: len(sound.channels)] = channel
    if sys.byteorder == "big":
        mixed.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(sound.channels))
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes(mixed.tobytes())


def sine(hz: float, seconds: float, *, db: float = -6.0, rate: int = 8000) -> array:
    """A sine of `db` below full scale."""
    peak = 32767 * 10 ** (db / 20)
    step = 2 * math.pi * hz / rate
    return array("h", (round(peak * math.sin(step * n)) for n in range(round(seconds * rate))))


def _level(samples: Sequence[int]) -> float:
    if not samples:
        return FLOOR_DB
    mean = math.fsum(sample * sample for sample in samples) / len(samples)
    # a sine of full scale has a mean square of half its peak's
    return max(FLOOR_DB, 10 * math.log10(2 * mean / 32767**2)) if mean else FLOOR_DB


def _goertzel(samples: Sequence[int], hz: float, rate: int) -> float:
    if not samples:
        return FLOOR_DB
    turn = 2 * math.pi * hz / rate
    coefficient = 2 * math.cos(turn)
    before = last = 0.0
    for sample in samples:
        before, last = last, sample + coefficient * last - before
    power = before * before + last * last - coefficient * before * last
    amplitude = 2 * math.sqrt(max(power, 0.0)) / len(samples)
    return max(FLOOR_DB, 20 * math.log10(amplitude / 32767)) if amplitude else FLOOR_DB


def _pieces(samples: array, size: int) -> Iterator[array]:
    for start in range(0, len(samples) - size + 1, size):
        yield samples[start : start + size]
