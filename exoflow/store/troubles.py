"""What ails a store as a whole, in words with the cure; told apart from a change that is at fault itself."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Literal

from sqlalchemy.exc import DBAPIError

from exoflow.errors import StoreError

Kind = Literal["locked", "slow", "full", "readonly", "damaged", "gone", "refused", "unreadable"]

# these come and go by themselves: a start goes on without the store and opens it as soon as it can
PASSING: frozenset[Kind] = frozenset({"locked", "full", "unreadable"})
# the connection is of no more use: the file is looked at anew before anything is written
REOPENED: frozenset[Kind] = frozenset({"damaged", "gone", "refused", "unreadable"})
FULL_BYTES = 1024 * 1024  # with less room SQLite cannot make its -shm file (32 KiB) and a commit

_KINDS: dict[int, Kind] = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "readonly",
    sqlite3.SQLITE_PERM: "readonly",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
    sqlite3.SQLITE_IOERR: "unreadable",
    sqlite3.SQLITE_CANTOPEN: "unreadable",
}
_CURES: dict[Kind, str] = {
    "locked": "another process holds its lock: end that one (`fuser {path}` names it)",
    "slow": "the disk does not answer: look at it (dmesg, iostat)",
    "full": "is the disk full? Free space on its file system",
    "readonly": "make file and folder writable for exoflow's user, and their file system mounted rw",
    "damaged": (
        "it is damaged and left as it is. Restore a backup, or save what is left with `sqlite3 {path} .recover`, and start"
        " exoflow again"
    ),
    "unreadable": "is the disk full or failing, or the file no longer this user's? Look at dmesg",
}


class StoreTrouble(StoreError):
    """The store cannot be written at all just now. What was to be written is kept, and tried again."""

    def __init__(self, kind: Kind, message: str) -> None:
        self.kind = kind
        super().__init__(message)


def trouble(path: Path, error: BaseException | None) -> StoreTrouble | None:
    """What the driver's error says of the store; None if it speaks of the change alone, or is no error of the driver."""
    if isinstance(error, StoreTrouble) or error is None:
        return error
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, sqlite3.Error):
        return None
    kind = _KINDS.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF)
    if kind is None:
        return None
    if kind == "unreadable" and _free(path) < FULL_BYTES:
        kind = "full"
    return StoreTrouble(kind, f"{path}: cannot be written ({cause}); {_CURES[kind].format(path=path)}")


def slow(path: Path, seconds: float, spilled: int) -> StoreTrouble:
    """`spilled` bytes are being applied, or a commit hangs."""
    if spilled:
        return StoreTrouble(
            "slow", f"{path}: {spilled >> 10} KiB that were spilled are being taken over; this passes by itself"
        )
    return StoreTrouble("slow", f"{path}: a commit takes longer than {seconds:g} s; {_CURES['slow']}")


def _free(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return FULL_BYTES
