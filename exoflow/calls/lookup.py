"""Looks into the store for people: the newest calls, one call by its id's beginning, its deliveries with their attempts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.engine import Connection

from exoflow.calls import rows
from exoflow.calls.model import CallState
from exoflow.store import tables as t
from exoflow.store.outbox import Attempt

SHORTEST_ID = 4  # digits; fewer name too many calls


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery as it stands. `state`: pending, leased (under way), delivered or dead (given up)."""

    webhook_id: str
    seq: int
    type: str
    state: str
    created_at: datetime
    next_at: datetime
    delivered_at: datetime | None
    problem: str
    attempts: list[Attempt] = field(default_factory=list)


def recent(connection: Connection, limit: int, *, account: str | None = None, outcome: str | None = None) -> list[CallState]:
    """The newest calls, first the newest."""
    conditions = []
    if account is not None:
        conditions.append(t.calls.c.account == account)
    if outcome is not None:
        conditions.append(t.calls.c.outcome == outcome)
    return rows.load(connection, *conditions, limit=limit, newest_first=True)


def by_id(connection: Connection, beginning: str) -> list[CallState]:
    """The calls whose id begins so, ten at most; none for a text that is no beginning of an id."""
    text = beginning.lower().replace("-", "")
    if len(text) < SHORTEST_ID or any(char not in "0123456789abcdef" for char in text):
        return []
    return rows.load(connection, t.calls.c.id.between(text, text + "g"), limit=10, newest_first=True)


def ends_of(connection: Connection, channels: Collection[str], ids: Collection[str]) -> dict[str, bool]:
    """Of the calls with these channels or ids that are known: by both, whether they are closed (all of that channel)."""
    table = t.calls
    chosen = select(table.c.channel, table.c.id, table.c.closed_at).where(table.c.channel.in_(channels) | table.c.id.in_(ids))
    known: dict[str, bool] = {}
    for channel, call_id, closed_at in connection.execute(chosen):
        known[channel] = known.get(channel, True) and closed_at is not None
        known[call_id] = closed_at is not None
    return known


def deliveries_of(connection: Connection, call_id: str) -> list[Delivery]:
    """The deliveries of one call in the order they are sent."""
    table = t.deliveries
    found = connection.execute(select(table).where(table.c.call_id == call_id).order_by(table.c.id)).mappings().all()
    deliveries = {
        row["id"]: Delivery(
            webhook_id=row["webhook_id"],
            seq=row["seq"],
            type=row["type"],
            state=row["state"],
            created_at=row["created_at"],
            next_at=row["next_at"],
            delivered_at=row["delivered_at"],
            problem=row["problem"],
        )
        for row in found
    }
    made = select(t.attempts).where(t.attempts.c.delivery_id.in_(deliveries)).order_by(t.attempts.c.attempt)
    for row in connection.execute(made).mappings():
        attempt = Attempt(row["at"], row["url"], row["status"], row["ms"], row["answer"], row["reason"])
        deliveries[row["delivery_id"]].attempts.append(attempt)
    return list(deliveries.values())
