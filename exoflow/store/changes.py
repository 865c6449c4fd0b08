"""Changes as rows: written so that writing them twice changes nothing, and kept as a line where the store cannot take them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection

from exoflow.store.tables import Utc, metadata

Row = dict[str, Any]


class Change:
    """Rows by table, in the order in which they are written. A delivery that is there already stays as it is."""

    __slots__ = ("rows",)

    def __init__(self, rows: Iterable[tuple[Table, Sequence[Row]]]) -> None:
        self.rows = [(table, list(some)) for table, some in rows if some]

    def __call__(self, connection: Connection) -> None:
        for table, some in self.rows:
            connection.execute(_upsert(table.name, tuple(some[0])), some)

    def line(self) -> bytes:
        """One line of ASCII with its checksum."""
        body = json.dumps([[table.name, some] for table, some in self.rows], default=_plain, separators=(",", ":")).encode()
        return b"%08x %s\n" % (zlib.crc32(body), body)

    @classmethod
    def read(cls, line: bytes) -> Change:
        """The change of a line, with or without its end. Raises ValueError if it is not as it was written, or not ours."""
        checksum, _, body = line.rstrip(b"\n").partition(b" ")
        if checksum != b"%08x" % zlib.crc32(body):
            raise ValueError("the checksum does not fit")
        return cls((_table(name), [_typed(_table(name), row) for row in some]) for name, some in json.loads(body))


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be kept as a line")


def _table(name: str) -> Table:
    if name not in metadata.tables:
        raise ValueError(f"there is no table {name!r}")
    return metadata.tables[name]


def _typed(table: Table, row: Row) -> Row:
    times = [column.name for column in table.columns if isinstance(column.type, Utc)]
    return {**row, **{name: datetime.fromisoformat(row[name]) for name in times if row.get(name) is not None}}


@cache
def _upsert(name: str, columns: tuple[str, ...]) -> Any:
    table = metadata.tables[name]
    statement = insert(table)  # of the columns that the rows have
    if name == "deliveries":  # it may be on its way already; its state is the sender's
        return statement.on_conflict_do_nothing(index_elements=["webhook_id"])
    keys = [column.name for column in table.primary_key]
    changes = {column: statement.excluded[column] for column in columns if column not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changes)
