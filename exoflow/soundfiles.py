"""Is a file a sound that FreeSWITCH can open? By its first bytes: mod_sndfile goes by them, and so do we.

Who may read it is another question: `first_closed` answers it for a user that is not this one.
"""

from __future__ import annotations

import os
import stat
import struct

HEAD_BYTES = 4096  # chunks before a WAV's sound are shorter; more is read of none
SHOWN_BYTES = 16  # of a file that is no sound
# codecs without a head (mod_native_file names its files by the codec), and what other modules may play
_HEADLESS = frozenset({".pcmu", ".pcma", ".gsm", ".g722", ".l16", ".raw", ".r8", ".ul", ".al", ".opus"})
_MAGIC = (b"RIFX", b"riff\x2e\x91\xcf\x11", b"RF64", b"FORM", b".snd", b"fLaC", b"OggS", b"caff", b"ID3", b"Creative Voice")
# WAVE formats that libsndfile reads: PCM, ADPCM, float, A-law, µ-law, IMA, GSM 6.10, and the extensible form of them
_WAVE_FORMATS = frozenset({1, 2, 3, 6, 7, 0x11, 0x31, 0xFFFE})


def why_no_sound(path: str | os.PathLike[str]) -> str:
    """What keeps a file from being a sound; empty if nothing is found that does. Reads HEAD_BYTES at most."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(HEAD_BYTES)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not size:
        return "is empty"
    if os.path.splitext(path)[1].lower() in _HEADLESS:
        return ""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _why_no_wave(head, size)
    if head.startswith(_MAGIC) or (head[0] == 0xFF and head[1:2] > b"\xdf"):  # the last: a frame of MP3
        return ""
    return f"is no sound: it begins with {head[:SHOWN_BYTES].decode('latin-1')!r}"


def _why_no_wave(head: bytes, size: int) -> str:
    at, known = 12, False
    while at + 8 <= len(head):
        name, length = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
        if name == b"fmt " and at + 10 <= len(head):
            (form,) = struct.unpack_from("<H", head, at + 8)
            if form not in _WAVE_FORMATS:
                return f"is a WAV of a form that FreeSWITCH does not play ({form:#x}); make it PCM"
            known = True
        elif name == b"data":
            return "" if known and size > at + 8 else "is a WAV without sound in it"
        at += 8 + length + length % 2
    return "" if known and size > len(head) else "is a WAV without sound in it"


def first_closed(path: str | os.PathLike[str], uid: int, groups: frozenset[int]) -> str:
    """The first folder on the way to a file that a user may not enter, or the file if it may not be read; empty if none is.

    By the bits of the mode alone. Raises OSError if one of them is not there.
    """
    if uid == 0:
        return ""
    path = os.path.realpath(path)
    parents = path.split("/")[:-1]
    for folder in ("/".join(parents[: i + 1]) or "/" for i in range(len(parents))):
        if not _has_bit(os.stat(folder), uid, groups, stat.S_IXUSR):
            return folder
    return "" if _has_bit(os.stat(path), uid, groups, stat.S_IRUSR) else path


def _has_bit(status: os.stat_result, uid: int, groups: frozenset[int], bit: int) -> bool:
    shift = 0 if status.st_uid == uid else 3 if status.st_gid in groups else 6
    return bool(status.st_mode & (bit >> shift))
