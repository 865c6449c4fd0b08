"""Configurations that were found good, by their hashes: a call ends on the one it began with, also in another process."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection

from exoflow.store.tables import calls, configs

KEPT_DAYS = 30  # after its last load; a call's own record tells what happened without it


def keep(connection: Connection, name: str, files: Mapping[str, str], now: datetime) -> None:
    """Keeps one, and forgets those that were loaded long ago and that no open call needs."""
    row = {"hash": name, "loaded_at": now, "files": dict(files)}
    connection.execute(insert(configs).values(row).on_conflict_do_update(index_elements=["hash"], set_={"loaded_at": now}))
    needed = select(calls.c.config).where(calls.c.closed_at.is_(None))
    old = configs.c.loaded_at < now - timedelta(days=KEPT_DAYS)
    connection.execute(delete(configs).where(old, configs.c.hash.not_in(needed)))


def files_of(connection: Connection, name: str) -> dict[str, str] | None:
    """The texts of one by their names, the main file first; None if it is not kept."""
    found: dict[str, str] | None = connection.execute(select(configs.c.files).where(configs.c.hash == name)).scalar()
    return found
