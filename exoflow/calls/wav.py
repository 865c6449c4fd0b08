"""WAV files whose writer died: their header is made to tell what is there. In a thread: it touches a disk."""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

UNKNOWN = (0, 0xFFFFFFFF)  # lengths in headers that nobody came back to
MAX_LENGTH = 0xFFFFFFFF - 8  # a header's lengths have 32 bits
MAX_CHUNKS = 100  # before the sound; real files have one to three
_RIFF_HEAD = 12


@dataclass(frozen=True, slots=True)
class _Sound:
    """Where a file's sound is."""

    length_at: int  # of the data chunk's length field
    data_at: int
    length: int  # as the header has it
    frame: int  # bytes of one sample of all channels
    bytes_a_second: int


def is_recording(folder: Path, path: str) -> bool:
    """Does a path lead into the folder of recordings, whatever links and dots are in it?"""
    return "\0" not in path and os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))


def repair(path: str | os.PathLike[str]) -> float | None:
    """Seconds of sound in a file, whose lengths are written into its header if they were missing or beyond the file's end.

    Sound is never taken away. None: there is no such file, no sound in it, or it is no WAV that could be understood.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "r+b") as file:
            status = os.fstat(descriptor)
            sound = _sound(file) if stat.S_ISREG(status.st_mode) else None
            if sound is None:
                return None
            there = status.st_size - sound.data_at
            if sound.length in UNKNOWN or sound.length > there:
                _write_lengths(file, sound, status.st_size)
            else:
                there = sound.length
    except (OSError, struct.error):
        return None
    return there // sound.frame * sound.frame / sound.bytes_a_second or None


def _sound(file: BinaryIO) -> _Sound | None:
    head = file.read(_RIFF_HEAD)
    if len(head) < _RIFF_HEAD or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    frame = bytes_a_second = 0
    for _ in range(MAX_CHUNKS):
        at = file.tell()
        chunk = file.read(8)
        if len(chunk) < 8:
            return None
        length: int = struct.unpack("<I", chunk[4:])[0]
        if chunk[:4] == b"data":
            return _Sound(at + 4, at + 8, length, frame, bytes_a_second) if frame and bytes_a_second else None
        if chunk[:4] == b"fmt ":
            bytes_a_second, frame = struct.unpack("<IH", file.read(16)[8:14])
        file.seek(at + 8 + length + length % 2)
    return None


def _write_lengths(file: BinaryIO, sound: _Sound, size: int) -> None:
    whole_frames = (size - sound.data_at) // sound.frame * sound.frame
    file.seek(sound.length_at)
    file.write(struct.pack("<I", min(whole_frames, MAX_LENGTH)))
    file.seek(4)
    file.write(struct.pack("<I", min(size - 8, MAX_LENGTH)))
    file.flush()
    os.fsync(file.fileno())
