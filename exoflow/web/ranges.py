"""Parts of files by HTTP (RFC 9110 section 14): one range, a file's version, and its bytes read in a thread."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from exoflow.threads import in_thread

CHUNK = 1 << 18  # bytes read at once: a thread's turn for each costs more than the reading

_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})", re.ASCII)


class Unsatisfiable(Exception):
    """The range begins behind the file's end."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes from `begin`, itself in it, to `end`, itself not."""

    begin: int
    end: int

    def shown(self, size: int) -> str:
        return f"bytes {self.begin}-{self.end - 1}/{size}"


def part_of(size: int, wanted: str) -> Part | None:
    """What the header `Range` asks for; None: the whole, also for more than one range and for what is none. Raises
    Unsatisfiable."""
    found = _RANGE.fullmatch(wanted.replace(" ", ""))
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first == "":
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < begin:
            return None
    if begin >= size or begin >= end:
        raise Unsatisfiable
    return Part(begin, end)


class OpenFile:
    """A regular file, opened without following a link. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._descriptor, self.size, self.version = in_thread(_opened, path)

    def read(self, part: Part) -> Iterator[bytes]:
        """Less than asked for only if the file has become shorter."""
        at = part.begin
        while at < part.end:
            data = in_thread(os.pread, self._descriptor, min(CHUNK, part.end - at), at)
            if not data:
                return
            at += len(data)
            yield data

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _opened(path: Path) -> tuple[int, int, str]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FileNotFoundError(f"{path}: is no file")
    return descriptor, status.st_size, f'"{status.st_size:x}-{status.st_mtime_ns:x}"'


class Body:
    """A WSGI body of a file's part; what is to be done at its end, however it ends, is done once."""

    def __init__(self, file: OpenFile, part: Part, at_end: Callable[[], None]) -> None:
        self._file, self._part, self._at_end = file, part, at_end
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self._file.read(self._part)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._file.close()
            self._at_end()
