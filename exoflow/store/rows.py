"""Rows whose newest state alone matters: kept in memory until the writer takes them, each once, however often it changed."""

from __future__ import annotations

from typing import Any

from gevent.event import AsyncResult
from sqlalchemy import Table

from exoflow.store.changes import Change, Row
from exoflow.store.sqlite import Store
from exoflow.store.waiting import Mirror

Key = tuple[str, tuple[Any, ...]]  # table, and primary key


class Rows(Mirror):
    """`keep` never waits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed: dict[Key, tuple[Table, Row]] = {}
        self._writing: dict[Key, tuple[Table, Row]] = {}
        self._spilling: dict[Key, tuple[Table, Row]] = {}

    def keep(self, table: Table, row: Row) -> AsyncResult:
        """Takes the place of what was kept of this primary key; the result is set when it is on disk. Raises StoreError."""
        self._changed[table.name, tuple(row[column.name] for column in table.primary_key)] = table, row
        return self._store.mirror(self)

    # --- the mirror in the store --------------------------------------------------------------------

    def collect(self) -> Change:
        self._writing, self._changed = self._changed, {}
        return _change(self._writing)

    def collect_whole(self) -> Change:
        self._spilling, self._changed = self._writing | self._changed, {}
        return _change(self._spilling)

    def committed(self) -> None:
        self._writing = {}

    def put_back(self) -> None:
        self._changed = self._writing | self._changed
        self._writing = {}

    def failed(self, error: Exception) -> None:
        self.put_back()

    def spilled(self, *, durable: bool) -> None:
        if not durable:
            self._changed = self._spilling | self._changed
        self._spilling = {}


def _change(kept: dict[Key, tuple[Table, Row]]) -> Change:
    tables = {table.name: table for table, _ in kept.values()}
    return Change((table, [row for of, row in kept.values() if of is table]) for table in tables.values())
