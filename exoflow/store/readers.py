"""Looks into the store beside its writer: read-only connections, each used by one thread at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import gevent
from gevent.threadpool import ThreadPool
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from exoflow.errors import DeadlineExceeded, StoreError
from exoflow.store.writer import Done, caught

T = TypeVar("T")

READERS = 4  # looks at once: they take ms each, and more of them would only share the cores


class _Late(Exception):
    """Only the wait's own deadline raises it."""


class Readers:
    """Threads and their connections."""

    def __init__(self, path: Path, connect: Callable[[], Connection]) -> None:
        self._path = path
        self._connect = connect
        self._threads = ThreadPool(READERS)
        self._idle: list[tuple[int, Connection]] = []
        self._generation = 0

    def read(self, fn: Callable[[Connection], T], deadline: float | None) -> T:
        """What `fn` reads. Raises StoreError if the file cannot be read, DeadlineExceeded after `deadline` seconds."""
        try:
            with gevent.Timeout(deadline, _Late):
                end: Done[T] = self._threads.apply(caught, (self._read, fn))
        except _Late:
            raise DeadlineExceeded(f"look into {self._path.name}", deadline or 0) from None
        if isinstance(end.error, (sqlite3.Error, DBAPIError)):
            cause = end.error.orig if isinstance(end.error, DBAPIError) else end.error
            raise StoreError(f"{self._path}: cannot be read ({cause}); is it there, sound, and this user's?") from end.error
        if end.error is not None:
            raise end.error
        return end.value  # type: ignore[return-value]

    def renew(self) -> None:
        """Another file may be at the path: connections of before are of no more use."""
        self._generation += 1

    def close(self) -> None:
        self._threads.apply(self._close)
        self._threads.kill()

    def _read(self, fn: Callable[[Connection], T]) -> T:
        # taken and given back in the thread itself: a greenlet killed while it waits must not free a connection in use
        generation, connection = self._taken()
        try:
            connection.exec_driver_sql("BEGIN")
            return fn(connection)
        finally:
            connection.rollback()
            self._idle.append((generation, connection))

    def _taken(self) -> tuple[int, Connection]:
        while self._idle:
            generation, connection = self._idle.pop()
            if generation == self._generation:
                return generation, connection
            connection.close()
        return self._generation, self._connect()

    def _close(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()
