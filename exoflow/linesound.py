"""Sound as a telephone line carries it: WAV files of 8 kHz, 16 bit, mono, and what becomes one.

Needs nothing but Python itself: `python linesound.py in.wav out.wav` does it in a process of its own (exoflow/prompts.py),
since 20 s of speech take a second of a core.
"""

from __future__ import annotations

import io
import math
import struct
import sys
import wave
from array import array
from operator import mul
from pathlib import Path

RATE = 8000  # samples a second on a PRI


def wav(samples: bytes) -> bytes:
    """The file of 16-bit samples at RATE."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(samples)
    return file.getvalue()


def telephone_sound(file: Path) -> array[int]:
    """The samples of a WAV as a telephone line has them: 8 kHz, mono, 16 bit. Raises ValueError for what is no 16-bit WAV."""
    try:
        with wave.open(str(file)) as sound:
            channels, width, rate = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
            frames = sound.readframes(sound.getnframes())
    except (EOFError, wave.Error, struct.error) as problem:
        raise ValueError(f"no PCM WAV file: {problem}") from None
    if width != 2:
        raise ValueError(f"{8 * width}-bit sound")
    samples = array("h", frames[: len(frames) // (2 * channels) * 2 * channels])
    if channels > 1:
        samples = array("h", (sum(samples[i : i + channels]) // channels for i in range(0, len(samples), channels)))
    return samples if rate == RATE else resampled(samples, rate)


SILENCE_LEVEL = 200  # of 32,768: below it a line is silent
EDGE_SAMPLES = 240  # 30 ms are left at each end: words in a row are then 60 ms apart, as spoken; espeak-ng leaves 300


def without_silence(samples: array[int]) -> array[int]:
    """A word without the silence before and after it; silence alone stays as it is."""
    loud = [i for i, sample in enumerate(samples) if abs(sample) > SILENCE_LEVEL]
    return samples[max(0, loud[0] - EDGE_SAMPLES) : loud[-1] + EDGE_SAMPLES] if loud else samples


_ZERO_CROSSINGS = 16  # of the sinc on each side: the band above 4 kHz is gone by 50 dB, a prompt takes 0.1 s
_PASSBAND = 0.92  # of half the lower rate


def resampled(samples: array[int], rate: int) -> array[int]:
    """From `rate` to 8 kHz through a windowed sinc, one filter a phase; sox gives no better telephone sound."""
    common = math.gcd(rate, RATE)
    up, down = RATE // common, rate // common
    cutoff = _PASSBAND * min(1.0, RATE / rate) / 2  # in cycles per sample that comes in
    half = math.ceil(_ZERO_CROSSINGS / (2 * cutoff))
    padded = array("h", bytes(2 * half)) + samples + array("h", bytes(2 * (half + 1)))
    filters: dict[int, list[float]] = {}
    out = array("h")
    for position in range(0, len(samples) * up, down):
        index, phase = divmod(position, up)
        if phase not in filters:
            filters[phase] = _filter(cutoff, half, phase / up)
        value = sum(map(mul, padded[index : index + 2 * half + 1], filters[phase]))
        out.append(max(-32768, min(32767, round(value))))
    return out


def _filter(cutoff: float, half: int, shift: float) -> list[float]:
    """Hann-windowed sinc around `shift`, of unit gain."""

    def tap(x: float) -> float:
        window = 0.5 + 0.5 * math.cos(math.pi * x / (half + 1))
        angle = 2 * math.pi * cutoff * x
        return window * (math.sin(angle) / angle if angle else 1.0)

    taps = [tap(k - shift) for k in range(-half, half + 1)]
    gain = sum(taps)
    return [t / gain for t in taps]


if __name__ == "__main__":
    try:
        Path(sys.argv[2]).write_bytes(wav(telephone_sound(Path(sys.argv[1])).tobytes()))
    except ValueError as problem:
        sys.exit(str(problem))
