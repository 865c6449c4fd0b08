"""One writer for SQLite under gevent, and readers beside it; no greenlet ever touches a connection.

A connection used from greenlets stalls the loop for as long as a lock or an fsync takes (up to seconds), so one thread owns
the only writable connection. Closures that wait are committed together: `BEGIN IMMEDIATE`, a savepoint each, one `COMMIT`.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import gevent
from gevent.event import AsyncResult, Event
from gevent.threadpool import ThreadPool
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from exoflow.errors import DeadlineExceeded, StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")
Closure = Callable[[Connection], Any]

BATCH = 200  # closures in one commit: measured 38,000 rows/s with a longest stall of 2.7 ms
LINGER_SECONDS = 0.01  # changes nobody waits for gather that long: a lone fsync for each would cost more than the writing
READERS = 4
CLOSE_SECONDS = 10.0  # to write what is queued; longer than one busy wait of 5 s


class Mirror:
    """Something in memory whose changes are collected only when the writer is free, so that many become one write."""

    def collect(self) -> Closure:
        """Called in the loop's thread just before the batch is written; must not switch greenlets."""
        raise NotImplementedError

    def committed(self) -> None:
        """The collected changes are on disk."""

    def failed(self, error: Exception) -> None:
        """The collected changes were not written; called before anything else of this mirror is collected."""


class _Given(Mirror):
    def __init__(self, fn: Closure) -> None:
        self._fn = fn

    def collect(self) -> Closure:
        return self._fn


class _Done(Generic[T]):
    """What became of one closure."""

    __slots__ = ("error", "value")

    def __init__(self, value: T | None = None, error: Exception | None = None) -> None:
        self.value, self.error = value, error


class Store:
    """`write`, `post` and `mirror` for changes, `read` for looks. Closures must not return live cursors."""

    def __init__(
        self, path: Path, connection: Connection, connect_reader: Callable[[], Connection], release: Callable[[], None]
    ) -> None:
        self.path = path
        self._connection = connection
        self._connect_reader = connect_reader
        self._release = release
        self._queue: deque[tuple[Mirror, AsyncResult]] = deque()
        self._wanted = Event()
        self._hurried = Event()
        self._closing = False
        self._abandoned = False
        self._writer = ThreadPool(1)
        self._reading = ThreadPool(READERS)
        self._idle_readers: list[Connection] = []
        self._batcher = gevent.spawn(self._run)

    def post(self, fn: Callable[[Connection], Any]) -> AsyncResult:
        """Queues `fn`; the result is set after its commit. Raises StoreError if the store is closed."""
        result = self.mirror(_Given(fn))
        self.hurry()
        return result

    def mirror(self, source: Mirror) -> AsyncResult:
        """Queues `source`, whose changes are collected when its turn comes, LINGER_SECONDS later or as soon as one hurries."""
        if self._closing:
            raise StoreError(f"{self.path}: the store is closed")
        result = AsyncResult()
        self._queue.append((source, result))
        self._wanted.set()
        return result

    def hurry(self) -> None:
        """Somebody waits for what is queued."""
        self._hurried.set()

    def write(self, fn: Callable[[Connection], T], *, deadline: float | None = None) -> T:
        """Runs `fn` in the next transaction and waits for its commit, `deadline` seconds at most.

        Raises DeadlineExceeded (the write still happens), what `fn` raised, or StoreError if it could not be committed.
        """
        result = self.post(fn)
        result.wait(deadline)
        if not result.ready():
            raise DeadlineExceeded(f"commit to {self.path.name}", deadline or 0)
        value: T = result.get()
        return value

    def read(self, fn: Callable[[Connection], T]) -> T:
        """What `fn` reads on a read-only connection, all of one moment, in a thread."""
        end: _Done[T] = self._reading.apply(_caught, (self._read, fn))
        if end.error is not None:
            raise end.error
        return end.value  # type: ignore[return-value]

    def close(self, deadline: float = CLOSE_SECONDS) -> None:
        """Writes what is queued (`deadline` seconds at most), then lets the file and its lock go."""
        if self._closing:
            return
        self._closing = True
        self._wanted.set()
        self._hurried.set()
        self._batcher.join(deadline)
        if not self._batcher.dead:
            self._abandoned = True
            log.error("%s: %d writes could not be finished in %g s", self.path, len(self._queue), deadline)
            self._batcher.join(1)
        self._reading.apply(self._close_readers)
        self._reading.kill()
        self._writer.apply(self._connection.close)
        self._writer.kill()
        self._release()

    # --- in the loop's thread -----------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            while self._queue:
                self._hurried.wait(LINGER_SECONDS)
                self._hurried.clear()
                self._write_batch()
            if self._closing:
                return

    def _write_batch(self) -> None:
        batch: list[tuple[Mirror, AsyncResult]] = []
        closures: list[Closure] = []
        while self._queue and len(batch) < BATCH:
            source, result = self._queue.popleft()
            try:
                closures.append(source.collect())
            except Exception as error:
                log.exception("changes could not be collected")
                result.set_exception(error)
            else:
                batch.append((source, result))
        if not closures:
            return
        whole: _Done[list[_Done[Any]]] = self._writer.apply(_caught, (self._commit, closures))
        if whole.error is not None:
            log.error("%s", self._wrapped(whole.error))
        ends = whole.value or [_Done(error=whole.error)] * len(batch)
        for (source, result), end in zip(batch, ends, strict=True):
            if isinstance(end.error, (OperationalError, sqlite3.Error)):
                end = _Done(error=self._wrapped(end.error))
            _tell(source, result, end)

    def _wrapped(self, error: Exception) -> Exception:
        if not isinstance(error, (sqlite3.Error, DBAPIError)):
            return error
        cause = error.orig if isinstance(error, DBAPIError) else error
        return StoreError(f"{self.path}: cannot be written ({cause}); is the disk full, or the file no longer this user's?")

    # --- in the writer's thread ---------------------------------------------------------------

    def _commit(self, closures: list[Closure]) -> list[_Done[Any]]:
        # transactions go past SQLAlchemy: its way of executing costs 40 us for each savepoint
        raw: sqlite3.Connection = self._connection.connection.driver_connection  # type: ignore[assignment]
        self._begin(raw)
        try:
            ends = [self._one(raw, fn) for fn in closures]
            raw.execute("COMMIT")
        except BaseException:
            raw.rollback()
            raise
        finally:
            self._connection.rollback()
        return ends

    def _begin(self, raw: sqlite3.Connection) -> None:
        """Waits out a lock that another process holds; only that is waited for."""
        while True:
            try:
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or self._abandoned:
                    raise
                log.warning("%s: locked by another process for 5 s; writes wait and nothing is lost", self.path)
            else:
                return

    def _one(self, raw: sqlite3.Connection, fn: Closure) -> _Done[Any]:
        """A closure that fails is undone alone. A failing ROLLBACK TO means SQLite gave the whole transaction up."""
        raw.execute("SAVEPOINT one")
        try:
            end: _Done[Any] = _Done(fn(self._connection))
        except Exception as error:
            try:
                raw.execute("ROLLBACK TO one")
            except sqlite3.Error:
                raise error from None
            end = _Done(error=error)
        raw.execute("RELEASE one")
        return end

    # --- in a reader's thread -----------------------------------------------------------------

    def _read(self, fn: Callable[[Connection], T]) -> T:
        # taken and given back in the thread itself: a greenlet killed while it waits must not free a connection in use
        connection = self._idle_readers.pop() if self._idle_readers else self._connect_reader()
        try:
            connection.exec_driver_sql("BEGIN")
            return fn(connection)
        finally:
            connection.rollback()
            self._idle_readers.append(connection)

    def _close_readers(self) -> None:
        while self._idle_readers:
            self._idle_readers.pop().close()


def _caught(fn: Callable[[Any], T], argument: Any) -> _Done[T]:
    """Run in a thread: gevent's pool would print a traceback, with the callers' numbers in it, for every error it sees."""
    try:
        return _Done(fn(argument))
    except Exception as error:
        return _Done(error=error)


def _tell(source: Mirror, result: AsyncResult, end: _Done[Any]) -> None:
    try:
        if end.error is None:
            source.committed()
        else:
            source.failed(end.error)
    except Exception:
        log.exception("a writer's listener failed")
    if end.error is None:
        result.set(end.value)
    else:
        result.set_exception(end.error)
