"""The deliveries' table as a queue: claimed under a lease, settled under a fence, in order per call.

A claim is a short transaction of its own; HTTP happens outside any. `attempts` counts the claims: only the claim with the
highest number may settle a row, so an answer that comes after its lease was taken over changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, insert, select, update
from sqlalchemy.engine import Connection

from exoflow.store.tables import attempts, deliveries

PASSES_AFTER = 5  # failures after which a row no longer holds back later rows of its call (a poisoned row)
OPEN = ("pending", "leased")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row that is ours until its lease ends."""

    id: int
    webhook_id: str
    call_id: str
    account: str
    type: str
    body: bytes
    attempt: int
    failures: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt went. `status` is None if there was no answer; `reason` is empty for a success."""

    at: datetime
    url: str
    status: int | None
    ms: int
    answer: str
    reason: str


def due_accounts(connection: Connection, now: datetime) -> list[str]:
    """The accounts that have a row to be sent."""
    return list(connection.execute(select(deliveries.c.account).where(_due(now)).distinct()).scalars())


def claim(
    connection: Connection, limits: Mapping[str, int], *, now: datetime, lease_until: datetime, total: int
) -> list[Claimed]:
    """Leases due rows, oldest first: of each account at most its limit, `total` in all."""
    claimed: list[Claimed] = []
    for account, limit in limits.items():
        most = min(limit, total - len(claimed))
        if most > 0:
            claimed += _claim_of(connection, account, most, now, lease_until)
    return claimed


def settle(connection: Connection, row: Claimed, attempt: Attempt, **changes: Any) -> bool:
    """Notes the attempt and changes the row; False if the lease was taken over meanwhile, the row then stays as it is."""
    _note(connection, row, attempt)
    ours = and_(deliveries.c.id == row.id, deliveries.c.attempts == row.attempt, deliveries.c.state == "leased")
    return connection.execute(update(deliveries).where(ours).values(**changes)).rowcount == 1


def release(connection: Connection, now: datetime) -> int:
    """Ends all leases. Only for the store's one writing process at its start, when whoever held them is dead."""
    held = and_(deliveries.c.state == "leased", deliveries.c.lease_until > now)
    return connection.execute(update(deliveries).where(held).values(lease_until=now)).rowcount


def _due(now: datetime) -> Any:
    return and_(deliveries.c.state.in_(OPEN), deliveries.c.next_at <= now, deliveries.c.lease_until <= now)


def _claim_of(connection: Connection, account: str, limit: int, now: datetime, lease_until: datetime) -> list[Claimed]:
    earlier = deliveries.alias("earlier")
    held_back = exists().where(
        earlier.c.call_id == deliveries.c.call_id,
        earlier.c.id < deliveries.c.id,
        earlier.c.state.in_(OPEN),
        earlier.c.failures < PASSES_AFTER,
    )
    chosen = (
        select(deliveries.c.id)
        .where(_due(now), deliveries.c.account == account, ~held_back)
        .order_by(deliveries.c.id)
        .limit(limit)
    )
    leased = (
        update(deliveries)
        .where(deliveries.c.id.in_(chosen))
        .values(state="leased", lease_until=lease_until, attempts=deliveries.c.attempts + 1)
        .returning(*(deliveries.c[name] for name in _CLAIMED))
    )
    found = sorted(connection.execute(leased).mappings(), key=lambda row: int(row["id"]))
    return [
        Claimed(
            id=row["id"],
            webhook_id=row["webhook_id"],
            call_id=row["call_id"],
            account=row["account"],
            type=row["type"],
            body=row["body"].encode(),
            attempt=row["attempts"],
            failures=row["failures"],
        )
        for row in found
    ]


_CLAIMED = ("id", "webhook_id", "call_id", "account", "type", "body", "attempts", "failures")


def _note(connection: Connection, row: Claimed, attempt: Attempt) -> None:
    connection.execute(
        insert(attempts),
        {
            "delivery_id": row.id,
            "attempt": row.attempt,
            "at": attempt.at,
            "url": attempt.url,
            "status": attempt.status,
            "ms": attempt.ms,
            "answer": attempt.answer,
            "reason": attempt.reason,
        },
    )
