"""Recordings as MP3, made by `lame` or `ffmpeg` where one is installed: once each, kept in a folder of bounded size.

One is made at a time, as a process of its own with a low priority and an end, so that calls notice nothing of it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import gevent
from gevent import subprocess
from gevent.lock import BoundedSemaphore

from exoflow.threads import in_thread

log = logging.getLogger("exoflow.web")

ENCODE_SECONDS = 120.0  # for one; an hour's talk takes lame some 6 s of a core
WAITING = 20  # that wait for their turn or are under way; who comes then gets the WAV
KEPT_BYTES = 1 << 30  # of MP3s: some 50 hours of talk in two channels
LEFT_SHARE = 0.75  # of that, when the oldest are removed
KBITS_A_CHANNEL = 24  # telephone speech needs no more

Command = Callable[[Path, Path, int], list[str]]


class Encoder:
    """`folder` is made when it is needed. Without `command` there are no MP3s."""

    def __init__(self, folder: Path, command: Command | None) -> None:
        self._folder, self._command = folder, command
        self._turn = BoundedSemaphore(1)
        self._under_way: dict[str, gevent.Greenlet] = {}

    @property
    def usable(self) -> bool:
        return self._command is not None

    def stop(self) -> None:
        """What is under way is given up."""
        for one in list(self._under_way.values()):
            one.kill(block=False)

    def mp3_of(self, wav: Path, channels: int) -> Path | None:
        """The MP3 of a recording that changes no more. Waits for it; None if there is none to be had."""
        if self._command is None:
            return None
        name: str | None = in_thread(_name, wav)
        if name is None:
            return None
        made = self._under_way.get(name)
        if made is None:
            if len(self._under_way) >= WAITING:
                return None
            made = self._under_way[name] = gevent.spawn(self._make, name, wav, channels)
        made.join()
        found: Path | None = made.value if isinstance(made.value, Path) else None
        return found

    def _make(self, name: str, wav: Path, channels: int) -> Path | None:
        mp3, part = self._folder / name, self._folder / f"{name}.part"
        try:
            if not in_thread(_kept, mp3):
                with self._turn:
                    self._encode(wav, part, channels)
                in_thread(_keep, part, mp3)
        except (OSError, subprocess.SubprocessError) as error:
            log.error("%s: no MP3 can be made of it, its WAV is sent: %s", wav, error)
            return None
        finally:
            self._under_way.pop(name, None)
            in_thread(_remove, part)
        return mp3

    def _encode(self, wav: Path, part: Path, channels: int) -> None:
        assert self._command is not None
        command = self._command(wav, part, channels)
        # gevent's, in the loop: fork and exec cost it some ms, once for each MP3
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=ENCODE_SECONDS
        )
        if done.returncode != 0:
            said = done.stderr[-200:].decode("utf-8", "replace").strip()
            raise subprocess.SubprocessError(f"the encoder ended with {done.returncode}: {said or 'without a word'}")


def find() -> Command | None:
    """`lame` or else `ffmpeg`, whichever is in PATH."""
    nice = shutil.which("nice")
    gently = [] if nice is None else [nice, "-n", "10"]
    if (lame := shutil.which("lame")) is not None:
        return lambda wav, mp3, channels: [
            *(*gently, lame),
            *("--quiet", "-m", "m" if channels == 1 else "s", "-b", str(KBITS_A_CHANNEL * channels), str(wav), str(mp3)),
        ]
    if (ffmpeg := shutil.which("ffmpeg")) is not None:
        return lambda wav, mp3, channels: [
            *(*gently, ffmpeg),
            *("-nostdin", "-v", "error", "-y", "-i", f"file:{wav}", "-codec:a", "libmp3lame", "-joint_stereo", "0"),
            *("-b:a", f"{KBITS_A_CHANNEL * channels}k", "-f", "mp3", f"file:{mp3}"),
        ]
    return None


def _name(wav: Path) -> str | None:
    """Of the file as it is now: one that has changed since is another one."""
    try:
        status = os.stat(wav)
    except OSError:
        return None
    return hashlib.sha256(f"{wav}\n{status.st_size}\n{status.st_mtime_ns}".encode()).hexdigest()[:32] + ".mp3"


def _kept(mp3: Path) -> bool:
    """Is it there? Makes the folder."""
    mp3.parent.mkdir(mode=0o700, exist_ok=True)
    if not mp3.exists():
        return False
    os.utime(mp3)
    return True


def _keep(part: Path, mp3: Path) -> None:
    if part.stat().st_size == 0:
        raise FileNotFoundError(f"{part}: is empty")
    part.rename(mp3)
    _trim(mp3.parent)


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)


def _trim(folder: Path) -> None:
    """Those that were asked for longest ago go."""
    kept = sorted(((entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in os.scandir(folder)), reverse=True)
    total, most = sum(size for _, size, _ in kept), KEPT_BYTES
    if total <= most:
        return
    for _, size, path in reversed(kept[1:]):
        if total <= most * LEFT_SHARE:
            return
        Path(path).unlink(missing_ok=True)
        total -= size
