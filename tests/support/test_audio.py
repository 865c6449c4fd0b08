"""The ear that ring 2 judges recordings by must itself be right."""

from __future__ import annotations

import random
from array import array
from pathlib import Path

import pytest

from support.audio import FLOOR_DB, Sound, read_wav, sine, write_wav

RATE = 8000


def mono(*parts: array) -> Sound:
    return Sound([sum(parts, array("h"))], RATE)


def quiet(seconds: float) -> array:
    return array("h", bytes(2 * round(seconds * RATE)))


def rounded(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(round(start, 3), round(end, 3)) for start, end in spans]


@pytest.mark.parametrize("hz", [350, 440, 880, 1800])
@pytest.mark.parametrize("db", [-3.0, -20.0, -40.0])
def test_a_sines_level_is_the_same_by_both_measures(hz: int, db: float) -> None:
    sound = mono(sine(hz, 1, db=db))
    assert sound.level() == pytest.approx(db, abs=0.2)
    assert sound.tone(hz) == pytest.approx(db, abs=0.2)


def test_one_tone_is_not_heard_at_the_others_frequency() -> None:
    assert mono(sine(440, 2)).tone(880) < -60
    assert mono(sine(880, 2)).tone(440) < -60


def test_a_tone_is_found_in_noise() -> None:
    noise = random.Random(1)
    sound = mono(array("h", (value + noise.randint(-3000, 3000) for value in sine(440, 2, db=-20))))
    assert sound.tone(440) == pytest.approx(-20, abs=1)
    assert sound.tone(880) < -40


def test_digital_silence_is_the_floor() -> None:
    assert mono(quiet(1)).level() == mono(quiet(1)).tone(440) == mono().level() == mono().tone(440) == FLOOR_DB


def test_silences_and_sounds_are_found_where_they_are() -> None:
    sound = mono(quiet(0.3), sine(440, 0.5), quiet(0.04), sine(440, 0.2), quiet(0.4), sine(440, 0.3))
    assert rounded(sound.silences()) == [(0.0, 0.3), (1.04, 1.44)]
    # a hole of two lost frames parts nothing
    assert rounded(sound.sounds()) == [(0.3, 1.04), (1.44, 1.74)]
    assert sound.longest_silence() == pytest.approx(0.4)
    assert mono(sine(440, 1)).silences() == []
    assert mono(quiet(1)).sounds() == []


def test_a_part_and_its_blocks() -> None:
    sound = mono(sine(440, 1), sine(880, 1))
    assert sound.part(0, 1).tone(880) < -60
    assert sound.part(1).seconds == 1
    loud = [level > -10 for level in sound.tone_blocks(880, 0.5)]
    assert loud == [False, False, True, True]


def test_stereo_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    write_wav(path, Sound([sine(440, 0.5), sine(880, 0.5)], RATE))
    sound = read_wav(path)
    assert sound.seconds == 0.5
    assert sound.left.tone(440) == pytest.approx(-6, abs=0.1)
    assert sound.right.tone(880) == pytest.approx(-6, abs=0.1)
    assert sound.left.tone(880) < -60


def test_a_file_whose_recorder_was_killed_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "killed.wav"
    write_wav(path, mono(sine(440, 0.5)))
    data = bytearray(path.read_bytes())
    data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert read_wav(path).seconds == 0.5
