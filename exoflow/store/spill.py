"""The spill: a file on another file system that takes what the store cannot be given, until it can.

Append-only lines with a checksum each, on disk before anybody is told so. Run in threads; one exoflow writes to it, the one
that holds the store's lock.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gevent.monkey import get_original

from exoflow.errors import StoreError
from exoflow.store.changes import Change

log = logging.getLogger(__name__)

_Lock = get_original("threading", "Lock")  # between threads, not greenlets: one appends while another applies

MAX_BYTES = 256 * 1024 * 1024  # some 25,000 calls with their journeys and deliveries; applied within a minute
MODE = 0o600  # callers' numbers are in it, as in the store
READ_BYTES = 1024 * 1024  # at once, when it is applied: one transaction


class Spill:
    """`append` lines, read them in `batches`, and `clear` it when all have been applied."""

    def __init__(self, folder: Path, store: Path) -> None:
        """Finds what an earlier process left. Raises StoreError if the folder cannot be written to."""
        # two stores may share a folder
        mark = hashlib.sha256(os.fsencode(store)).hexdigest()[:8]
        self.path = folder / f"{store.stem}-{mark}.spill"
        self._fd = -1
        try:
            self._fd = _opened(self.path)
            self.size = os.fstat(self._fd).st_size
            _sync_folder(folder)
        except OSError as error:
            self.close()
            raise StoreError(
                f"spill: {self.path}: {error.strerror}; `spill` must name a folder on another file system that exoflow's user"
                " can write to"
            ) from error
        self.read = 0  # bytes
        self._lock = _Lock()
        self.unusable = 0  # damaged, or refused by the tables

    def append(self, changes: list[Change]) -> None:
        """All of them are on disk when it returns. Raises StoreError if they cannot be; the file is then as it was before."""
        data = b"".join(change.line() for change in changes)
        with self._lock:
            if self.size + len(data) > MAX_BYTES:
                raise StoreError(f"{self.path}: holds {self.size >> 20} MiB, its limit; make the store work again")
            try:
                self._keep_name()
                if self.size and os.pread(self._fd, 1, self.size - 1) != b"\n":  # a line cut off by a death
                    data = b"\n" + data
                _write(self._fd, data)
                os.fsync(self._fd)
            except OSError as error:
                os.ftruncate(self._fd, self.size)
                raise StoreError(f"{self.path}: {error.strerror}; free space on the spill's file system") from error
            self.size += len(data)

    def batches(self) -> Iterator[list[tuple[bytes, Change]]]:
        """The changes in the order of their writing, each with its line; damaged lines are counted and passed over.

        Goes on with what is appended meanwhile. `read` is then how far it came.
        """
        self.read, rest = 0, b""
        while data := os.pread(self._fd, min(READ_BYTES, self.size - self.read), self.read):
            self.read += len(data)
            *whole, rest = (rest + data).split(b"\n")
            yield self._read(whole)
        if rest:
            yield self._read([rest])

    def reject(self, line: bytes, error: Exception) -> None:
        """The tables refuse this line: it is put aside for people, for it would be refused for ever."""
        self.unusable += 1
        aside = self.path.with_suffix(".refused")
        log.error("%s: a line is refused (%s) and put into %s", self.path, error, aside)
        fd = _opened(aside)
        try:
            _write(fd, line + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)

    def clear(self) -> bool:
        """All that was read has been applied and committed. False if more has come since. Raises OSError."""
        with self._lock:
            if self.size > self.read:
                return False
            os.ftruncate(self._fd, 0)
            os.fsync(self._fd)
            self.size = 0
            return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _keep_name(self) -> None:
        """Somebody may have removed the file: what it holds gets its name again, or a death would lose it."""
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self.path), os.fstat(self._fd)):
                return
        log.error("%s: was removed or replaced while in use; it is written anew", self.path)
        made = _opened(self.path.with_suffix(".new"), os.O_TRUNC)
        for offset in range(0, self.size, READ_BYTES):
            _write(made, os.pread(self._fd, min(READ_BYTES, self.size - offset), offset))
        os.fsync(made)
        os.rename(self.path.with_suffix(".new"), self.path)
        _sync_folder(self.path.parent)
        os.dup2(made, self._fd, inheritable=False)
        os.close(made)

    def _read(self, lines: list[bytes]) -> list[tuple[bytes, Change]]:
        found = []
        for line in lines:
            if not line:
                continue
            try:
                found.append((line, Change.read(line)))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                self.unusable += 1
                log.error("%s: a damaged line of %d bytes is passed over: %s", self.path, len(line), error)
        return found


def _opened(path: Path, more: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | more, MODE)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
