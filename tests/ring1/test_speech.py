"""What is a message, and what is only a line."""

from __future__ import annotations

import math
import random
import struct
import wave
from pathlib import Path

import pytest

from exoflow.calls.speech import is_anything_said

RATE = 8000


def noise(seconds: float, db: float, seed: int = 1) -> list[float]:
    chance, size = random.Random(seed), 32768 / math.sqrt(2) * 10 ** (db / 20)
    return [chance.gauss(0, size) for _ in range(round(seconds * RATE))]


def voice(seconds: float, db: float) -> list[float]:
    """Syllables of 0.2 s with 0.1 s between them, of some partial tones."""
    size = 32768 / math.sqrt(2) * 10 ** (db / 20)
    tones = (180, 360, 540, 900)

    def at(moment: float) -> float:
        loud = math.sin(math.pi * (moment % 0.3) / 0.2) if moment % 0.3 < 0.2 else 0.0
        return size * loud * sum(math.sin(math.tau * hz * moment) for hz in tones) / 2

    return [at(n / RATE) for n in range(round(seconds * RATE))]


def tone(seconds: float, db: float, *hz: int) -> list[float]:
    size = 32768 * 10 ** (db / 20)
    return [size * sum(math.sin(math.tau * one * n / RATE) for one in hz) for n in range(round(seconds * RATE))]


def over(line: list[float], sound: list[float], start: float = 0.0) -> list[float]:
    begin = round(start * RATE)
    return [value + (sound[n - begin] if 0 <= n - begin < len(sound) else 0.0) for n, value in enumerate(line)]


LINE = -45.0  # the noise of a PRI
SILENT = [0.0] * RATE


@pytest.mark.parametrize(
    ("sound", "said"),
    [
        pytest.param(SILENT * 5, False, id="digital silence"),
        pytest.param(noise(5, LINE), False, id="the noise of a PRI"),
        pytest.param(noise(5, -60), False, id="a quiet line"),
        pytest.param([400 + value for value in noise(5, LINE)], False, id="a line with an offset"),
        pytest.param(over(noise(0.6, LINE), tone(0.1, -12, 941, 1477), 0.5), False, id="the hash key in band"),
        pytest.param(over(noise(0.4, LINE), tone(0.02, -3, 1000), 0.3), False, id="the click of a handset"),
        pytest.param(over(noise(0.6, LINE), voice(0.6, -22)), True, id="hello"),
        pytest.param(over(SILENT, voice(0.6, -22)), True, id="hello on a silent line"),
        pytest.param(over(noise(0.6, LINE), voice(0.6, -28)), True, id="a soft hello"),
        pytest.param(over(noise(10, LINE), voice(2, -30), 7.0), True, id="late and soft"),
        pytest.param(over(noise(5, -65), voice(2, -40), 2.0), True, id="from far, on a quiet line"),
        pytest.param(tone(3, -20, 440), True, id="sound without a pause"),
        pytest.param([], False, id="no sound"),
    ],
)
def test_a_voice_is_known_from_its_line(tmp_path: Path, sound: list[float], said: bool) -> None:
    path = tmp_path / "message.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        samples = (max(-32768, min(32767, round(value))) for value in sound)
        file.writeframes(struct.pack(f"<{len(sound)}h", *samples))
    assert is_anything_said(str(path)) == said


def test_what_cannot_be_read_is_kept(tmp_path: Path) -> None:
    (tmp_path / "message.wav").write_text("no sound")
    assert is_anything_said(str(tmp_path / "message.wav"))
    assert is_anything_said(str(tmp_path / "none.wav"))
