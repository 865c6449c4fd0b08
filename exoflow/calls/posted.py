"""Deliveries for people: the newest ones by filter, and one with its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from exoflow.calls.lookup import Delivery
from exoflow.store import tables as t
from exoflow.store.outbox import Attempt

STATES = ("pending", "leased", "delivered", "dead")
PREFIX = "msg_"  # of every webhook-id
SHORTEST_ID = 4  # digits; fewer name too many


@dataclass(frozen=True, slots=True)
class Posted:
    """A delivery with whose it is."""

    call_id: str
    account: str
    body: str
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which ones; None is any."""

    account: str | None = None
    state: str | None = None
    type: str | None = None
    since: datetime | None = None

    def __bool__(self) -> bool:
        return self != Wanted()


def newest(connection: Connection, wanted: Wanted, limit: int) -> list[Posted]:
    """First the newest."""
    table = t.deliveries
    columns = ((table.c.account, wanted.account), (table.c.state, wanted.state), (table.c.type, wanted.type))
    conditions = [column == value for column, value in columns if value is not None]
    if wanted.since is not None:
        conditions.append(table.c.created_at >= wanted.since)
    return _posted(connection, select(table).where(*conditions).order_by(table.c.id.desc()).limit(limit))


def by_id(connection: Connection, beginning: str) -> list[Posted]:
    """Those whose webhook-id begins so, with or without `msg_`, ten at most; none for what is no beginning of one."""
    digits = beginning.lower().removeprefix(PREFIX)
    if len(digits) < SHORTEST_ID or any(digit not in "0123456789abcdef" for digit in digits):
        return []
    table, first = t.deliveries, PREFIX + digits
    return _posted(connection, select(table).where(table.c.webhook_id.between(first, first + "g")).limit(10))


def of_call(connection: Connection, call_id: str) -> list[Posted]:
    """Those of one call in the order they are sent."""
    table = t.deliveries
    return _posted(connection, select(table).where(table.c.call_id == call_id).order_by(table.c.id))


def _posted(connection: Connection, chosen: Any) -> list[Posted]:
    found = connection.execute(chosen).mappings().all()
    made = _attempts(connection, [row["id"] for row in found])
    return [
        Posted(
            call_id=row["call_id"],
            account=row["account"],
            body=row["body"],
            delivery=Delivery(
                webhook_id=row["webhook_id"],
                seq=row["seq"],
                type=row["type"],
                state=row["state"],
                created_at=row["created_at"],
                next_at=row["next_at"],
                delivered_at=row["delivered_at"],
                problem=row["problem"],
                attempts=made.get(row["id"], []),
            ),
        )
        for row in found
    ]


def _attempts(connection: Connection, ids: Sequence[int]) -> dict[int, list[Attempt]]:
    made: dict[int, list[Attempt]] = {}
    table = t.attempts
    chosen = select(table).where(table.c.delivery_id.in_(ids)).order_by(table.c.attempt)
    for row in connection.execute(chosen).mappings():
        attempt = Attempt(row["at"], row["url"], row["status"], row["ms"], row["answer"], row["reason"])
        made.setdefault(row["delivery_id"], []).append(attempt)
    return made
