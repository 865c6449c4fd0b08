"""Was anything said in a message? In a thread: it touches a disk, and looks at each sample."""

from __future__ import annotations

import math
import sys
import wave
from array import array
from operator import mul

FRAME_SECONDS = 0.02  # one frame of a telephone line
# "Hello" has some 0.3 s of loud frames in its 0.6 s. A key heard in band ends a message after 0.1 s, and the click of a
# handset that is put down is shorter than that.
LEAST_SPEECH_SECONDS = 0.2
ABOVE_NOISE_DB = 7.0  # speech over the noise of its line, whose frames differ by 2 dB
# Noise of a PRI is -45 dB or so, and -72 dB where there is none. A file that is all speech has no noise to compare with, so
# what is louder than this and ABOVE_NOISE_DB is speech wherever it stands.
MOST_NOISE_DB = -45.0
LEAST_SPEECH_DB = -50.0  # quieter than that is no voice into a telephone, be the line ever so quiet
QUIET_SHARE = 0.1  # the quietest of a file's frames are its noise: who speaks breathes
_FULL_SCALE = 32768.0 / math.sqrt(2)  # a sine of full scale is 0 dB


def is_anything_said(path: str) -> bool:
    """By loudness over the line's noise. True for what cannot be read as 16-bit sound: a message is rather kept."""
    try:
        with wave.open(path) as sound:
            if sound.getsampwidth() != 2:
                return True
            return _seconds_of_speech(sound) >= LEAST_SPEECH_SECONDS
    except (OSError, EOFError, wave.Error):
        return True


def _seconds_of_speech(sound: wave.Wave_read) -> float:
    """Ends at LEAST_SPEECH_SECONDS of sound that is speech on any line: most messages are known by their first words."""
    frame, channels = max(1, round(sound.getframerate() * FRAME_SECONDS)), sound.getnchannels()
    levels: list[float] = []
    enough, sure = math.ceil(LEAST_SPEECH_SECONDS / FRAME_SECONDS), 0
    while data := sound.readframes(frame):
        if len(data) < 2 * frame * channels:
            break  # part of a frame
        samples = array("h", data)
        if sys.byteorder == "big":
            samples.byteswap()
        levels.append(_level(samples[::channels]))
        sure += levels[-1] > MOST_NOISE_DB + ABOVE_NOISE_DB
        if sure >= enough:
            return sure * FRAME_SECONDS
    if not levels:
        return 0.0
    noise = min(sorted(levels)[int(len(levels) * QUIET_SHARE)], MOST_NOISE_DB)
    least = max(noise + ABOVE_NOISE_DB, LEAST_SPEECH_DB)
    return sum(level > least for level in levels) * FRAME_SECONDS


def _level(samples: array[int]) -> float:
    """In dB, without what a line adds to all samples alike."""
    mean = sum(samples) / len(samples)
    power = sum(map(mul, samples, samples)) / len(samples) - mean * mean
    return 20 * math.log10(max(1.0, math.sqrt(max(0.0, power))) / _FULL_SCALE)
