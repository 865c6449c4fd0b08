"""One writer across processes: two WAL writers corrupt a file with SQLite before 3.51.3 (sqlite.org, WAL-reset bug)."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from exoflow.errors import StoreError

LOCK_SECONDS = 3.0  # a restart hands the store over within 2 s (design, section 7)


class Lock:
    """The file beside the store that its writer holds locked."""

    def __init__(self, store: Path) -> None:
        """Waits LOCK_SECONDS at most. Raises StoreError if another process has it, or it cannot be made."""
        self._store = store
        self._path = store.with_name(store.name + ".lock")
        self._fd = self._take(LOCK_SECONDS)

    def still_held(self) -> None:
        """It may have been removed with the store: takes its successor. Raises StoreError if another process has that."""
        try:
            at = os.stat(self._path)
            ours = os.fstat(self._fd)
            if (at.st_dev, at.st_ino) == (ours.st_dev, ours.st_ino):
                return
        except FileNotFoundError:
            pass
        taken = self._take(0.0)
        os.close(self._fd)
        self._fd = taken

    @property
    def made(self) -> bool:
        """Was there ever a store beside this file?"""
        return os.fstat(self._fd).st_size > 0

    def note_made(self) -> None:
        """A store is there; from here an empty file is one that lost all it had."""
        if not self.made:
            os.pwrite(self._fd, b"exoflow\n", 0)

    def release(self) -> None:
        os.close(self._fd)

    def _take(self, seconds: float) -> int:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}; exoflow's user must be able to write to this folder") from error
        patience = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > patience:
                    os.close(fd)
                    raise StoreError(f"{self._store}: another exoflow process writes to it; stop that one first") from None
                time.sleep(0.05)
            else:
                return fd
