"""What happens in the writing thread: the only writable connection, its commits, the spill applied, the file watched.

The file is looked at around each commit: a database that was removed, replaced or cut short while it was open would take
commits that nobody finds again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from exoflow.errors import StoreError
from exoflow.store.changes import Change
from exoflow.store.spill import Spill
from exoflow.store.troubles import REOPENED, StoreTrouble, trouble

log = logging.getLogger(__name__)

T = TypeVar("T")
Closure = Callable[[Connection], Any]

WRITER_BUSY_MS = 1000  # how long one try waits for another process's lock; then the spill may take what waits


class Done(Generic[T]):
    """What became of one closure."""

    __slots__ = ("error", "value")

    def __init__(self, value: T | None = None, error: Exception | None = None) -> None:
        self.value, self.error = value, error


def caught(fn: Callable[..., T], *arguments: Any) -> Done[T]:
    """Run in a thread: gevent's pool would print a traceback, with the callers' numbers in it, for every error it sees."""
    try:
        return Done(fn(*arguments))
    except Exception as error:
        return Done(error=error)


class Writer:
    """All methods but the constructor run in the one writing thread."""

    def __init__(
        self, path: Path, connection: Connection | None, reopen: Callable[[], Connection], spill: Spill | None
    ) -> None:
        """`connection` is None for a store that could not be opened yet. `reopen` raises StoreError."""
        self.path = path
        self.spill = spill
        self.opened = 0  # times; who has a connection of before looks at another file
        self._reopen = reopen
        self._connection: Connection | None = None
        self._known = (0, 0, 0)
        if connection is not None:
            self._use(connection)

    def commit(self, closures: list[Closure], apply_spill: bool) -> list[Done[Any]]:
        """Runs the closures in one transaction, behind what is spilled. `apply_spill`: none of them is older than that.

        Raises StoreTrouble if the store cannot be written, and then no closure was.
        """
        try:
            if self._connection is None:
                self._use(self._opened())
            self._watch_file()
            if apply_spill:
                self._apply_spill()
            ends = self._transaction(closures)
            self._watch_file()
            return ends
        except Exception as error:
            ailing = trouble(self.path, error)
            if ailing is None:
                raise
            if ailing.kind in REOPENED:
                self._let_go(ailing)
            raise ailing from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- the connection -----------------------------------------------------------------------

    def _opened(self) -> Connection:
        if not self.path.exists():
            raise StoreTrouble("gone", f"{self.path}: {_GONE}")
        try:
            return self._reopen()
        except StoreTrouble:
            raise
        except StoreError as error:
            raise StoreTrouble("refused", str(error)) from error

    def _use(self, connection: Connection) -> None:
        self._connection = connection
        connection.exec_driver_sql(f"PRAGMA busy_timeout={WRITER_BUSY_MS}").close()
        connection.rollback()
        at = os.stat(self.path)
        self._known = (at.st_dev, at.st_ino, at.st_size)
        self.opened += 1

    def _watch_file(self) -> None:
        try:
            at = os.stat(self.path)
        except FileNotFoundError:
            raise StoreTrouble("gone", f"{self.path}: {_GONE}") from None
        device, inode, size = self._known
        if (at.st_dev, at.st_ino) != (device, inode):
            raise StoreTrouble("gone", f"{self.path}: was replaced by another file; that one is looked at now")
        if at.st_size < size:  # in WAL mode a database grows only; a foreign VACUUM makes it smaller, and is found sound
            raise StoreTrouble("damaged", f"{self.path}: was cut short by {size - at.st_size} bytes; restore a backup")
        self._known = (device, inode, at.st_size)

    def _let_go(self, ailing: StoreTrouble) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(sqlite3.Error, DBAPIError):
            if ailing.kind == "gone":
                # into the old file, and the log emptied: a new file of this name must not be given the old one's pages
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()
        with suppress(sqlite3.Error, DBAPIError):
            connection.close()

    # --- transactions -------------------------------------------------------------------------

    def _transaction(self, closures: list[Closure]) -> list[Done[Any]]:
        # transactions go past SQLAlchemy: its way of executing costs 40 us for each savepoint
        assert self._connection is not None
        raw: sqlite3.Connection = self._connection.connection.driver_connection  # type: ignore[assignment]
        try:
            raw.execute("BEGIN IMMEDIATE")
            if not closures:  # is it writable? What writes nothing would not tell
                raw.execute("UPDATE alembic_version SET version_num = version_num")
            ends = [self._one(raw, fn) for fn in closures]
            raw.execute("COMMIT")
        except BaseException:
            raw.rollback()
            raise
        finally:
            self._connection.rollback()
        return ends

    def _one(self, raw: sqlite3.Connection, fn: Closure) -> Done[Any]:
        """A closure that fails is undone alone. A failing ROLLBACK TO means SQLite gave the whole transaction up."""
        raw.execute("SAVEPOINT one")
        try:
            assert self._connection is not None
            end: Done[Any] = Done(fn(self._connection))
        except Exception as error:
            try:
                raw.execute("ROLLBACK TO one")
            except sqlite3.Error:
                raise error from None
            end = Done(error=error)
        raw.execute("RELEASE one")
        return end

    def _apply_spill(self) -> None:
        """All of it, before anything newer is written. After a death in between it is applied again, which changes nothing."""
        spill = self.spill
        if spill is None or not spill.size:
            return
        applied = 0
        while True:
            for batch in spill.batches():
                self._apply(spill, batch)
                applied += len(batch)
            if spill.clear():
                break
        log.warning("%s: works again; %d changes were taken over from %s", self.path, applied, spill.path)

    def _apply(self, spill: Spill, batch: list[tuple[bytes, Change]]) -> None:
        ends = self._transaction([change for _, change in batch]) if batch else []
        for (line, _), end in zip(batch, ends, strict=True):
            ailing = trouble(self.path, end.error)
            if ailing is not None:
                raise ailing
            if end.error is not None:
                spill.reject(line, end.error)


_GONE = (
    "was removed while it was in use, and is not made anew. Put it back (from a backup), or stop exoflow and start it again"
    " to begin with an empty one"
)
