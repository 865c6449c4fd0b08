"""A folder of sound files made during calls: bounded, each under its key, the longest unused dropped first.

Its functions touch the disk, and are called by one thread at a time (crm/audio.py); they know nothing of gevent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exoflow.errors import ExoflowError

MAX_BYTES = 256 * 1024 * 1024  # some four hours of speech; a folder for callers must not fill the switch's disk
IN_USE_SECONDS = 3600.0  # a file taken so lately may still be played to somebody: hold audio is, as long as he waits
NAME_HEX_DIGITS = 24  # as prompts' files (config/promptpath.py)
_MAKING = ".making-"  # folders of files that are not whole yet
_MAKING_SECONDS = 600.0  # after which such a folder is what a killed process left


class ShelfFull(ExoflowError):
    """All that the folder holds is in use, and there is no room for one more."""

    def __init__(self, folder: Path, most: int) -> None:
        super().__init__(
            f"{folder} holds {most // 1024 // 1024} MiB of sound that callers have heard within the hour; no more fits. "
            "Let the CRM give the same audio under the same URL, and shorter texts"
        )


@dataclass(slots=True)
class _Held:
    bytes: int
    used: float  # seconds since the epoch


class Shelf:
    """What lies in `folder`, which it makes; files of an earlier process count."""

    def __init__(self, folder: Path, most_bytes: int = MAX_BYTES) -> None:
        self.folder, self._most = folder.resolve(), most_bytes
        self.dropped = 0  # files given up for newer ones: the bound's overflow
        self.refused = 0  # files for which there was no room at all
        self._held: dict[str, _Held] | None = None  # read at the first use

    def path(self, key: str) -> Path:
        """Where the key's file lies or would lie. Nothing of the key is in it."""
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:NAME_HEX_DIGITS]}.wav"

    def take(self, key: str) -> Path | None:
        """The key's file, which counts as used now; None if there is none."""
        path = self.path(key)
        held = self._read().get(path.name)
        if held is None:
            return None
        try:
            os.utime(path)
        except OSError:  # taken away by somebody
            del self._read()[path.name]
            return None
        held.used = time.time()
        return path

    def put(self, key: str, sound: bytes, notes: Mapping[str, str] | None = None, text: str = "") -> Path:
        """Writes the key's file, which appears whole or not at all; before it its `notes`, and its `text` beside it as prompts
        have theirs. Raises ShelfFull, OSError."""
        path = self.path(key)
        self._make_room(len(sound), path.name)
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_MAKING, dir=self.folder) as folder:
            made = Path(folder) / "made.wav"
            made.write_bytes(sound)
            for suffix, beside in ((".json", json.dumps(dict(notes)) if notes else ""), (".txt", text)):
                if beside:
                    made.with_suffix(suffix).write_text(beside, encoding="utf-8")
                    os.replace(made.with_suffix(suffix), path.with_suffix(suffix))
                else:
                    path.with_suffix(suffix).unlink(missing_ok=True)
            os.replace(made, path)
        self._read()[path.name] = _Held(len(sound), time.time())
        return path

    def notes(self, key: str) -> dict[str, str]:
        """What was noted beside the key's file; nothing if it cannot be read."""
        try:
            found = json.loads(self.path(key).with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {name: text for name, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}

    def _make_room(self, wanted: int, name: str) -> None:
        held = self._read()
        total = wanted + sum(one.bytes for other, one in held.items() if other != name)
        for oldest in sorted(held, key=lambda other: held[other].used):
            if total <= self._most:
                return
            if oldest != name and held[oldest].used < time.time() - IN_USE_SECONDS:
                total -= held.pop(oldest).bytes
                self.dropped += 1
                for suffix in (".wav", ".json", ".txt"):
                    (self.folder / oldest).with_suffix(suffix).unlink(missing_ok=True)
        if total > self._most:
            self.refused += 1
            raise ShelfFull(self.folder, self._most)

    def _read(self) -> dict[str, _Held]:
        if self._held is None:
            self._held = {}
            with suppress(OSError):  # no folder yet
                for found in os.scandir(self.folder):
                    status = found.stat()
                    if found.name.endswith(".wav"):
                        self._held[found.name] = _Held(status.st_size, status.st_mtime)
                    elif found.name.startswith(_MAKING) and status.st_mtime < time.time() - _MAKING_SECONDS:
                        shutil.rmtree(found.path, ignore_errors=True)
        return self._held
