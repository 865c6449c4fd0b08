"""Calls that a dead process left open and whose rows are in the spill alone, while the store cannot take them over.

They may come back any moment, and must be found. Their rows are kept in a database in memory; there are as many as calls were
going on, however long the spill is.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table, create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.pool import StaticPool

from exoflow.store.changes import Change, Row
from exoflow.store.spill import Spill
from exoflow.store.tables import calls, metadata


def left_open(spill: Spill) -> Connection | None:
    """A database of those calls; None if there are none. Reads the spill twice."""
    unusable = spill.unusable
    closed: dict[str, bool] = {}
    for change in _changes(spill):
        closed.update(
            (row["id"], row["closed_at"] is not None) for table, some in change.rows if table is calls for row in some
        )
    wanted = {call for call, over in closed.items() if not over}
    if not wanted:
        spill.unusable = unusable
        return None
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    connection = engine.connect()
    metadata.create_all(connection)
    for change in _changes(spill):
        Change((table, [row for row in some if _of(table, row) in wanted]) for table, some in change.rows)(connection)
    connection.commit()
    spill.unusable = unusable  # counted when it is applied
    return connection


def _changes(spill: Spill) -> Iterator[Change]:
    return (change for batch in spill.batches() for _, change in batch)


def _of(table: Table, row: Row) -> object:
    return row.get("id" if table is calls else "call_id")
