"""The deliveries' table as a queue: claimed under a lease, settled under a fence, in order per call.

What tells of phones that ring now (`dial.busy`, `dial.free`) goes a way of its own, past what waits for an address that is
dead; what is behind it in its call waits for it.

A claim is a short transaction of its own; HTTP happens outside any. `attempts` counts the claims: only the claim with the
highest number may settle a row, so an answer that comes after its lease was taken over changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, exists, insert, select, text, update
from sqlalchemy.engine import Connection

from exoflow.store.tables import Utc, attempts, deliveries

PASSES_AFTER = 5  # failures after which a row no longer holds back later rows of its call (a poisoned row)


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
    """The accounts that have a row to be sent. Steps from account to account, so that a backlog of 100,000 costs nothing."""
    return list(connection.execute(_DUE_ACCOUNTS, {"now": now}).scalars())


def claim(
    connection: Connection,
    limits: Mapping[str, int],
    *,
    now: datetime,
    lease_until: datetime,
    total: int,
    urgent: bool = False,
) -> list[Claimed]:
    """Leases due rows, oldest first: of each account at most its limit, `total` in all. `urgent`: those alone that tell of
    phones; else all others."""
    claimed: list[Claimed] = []
    for account, limit in limits.items():
        most = min(limit, total - len(claimed))
        if most > 0:
            claimed += _claim_of(connection, account, most, now, lease_until, urgent)
    return claimed


def settle(connection: Connection, row: Claimed, attempt: Attempt, **changes: Any) -> bool:
    """Notes the attempt and changes the row; False if the lease was taken over meanwhile, the row then stays as it is."""
    _note(connection, row, attempt)
    ours = and_(deliveries.c.id == row.id, deliveries.c.attempts == row.attempt, deliveries.c.state == "leased")
    return connection.execute(update(deliveries).where(ours).values(**changes)).rowcount == 1


def release(connection: Connection, now: datetime) -> int:
    """Ends all leases. Only for the store's one writing process at its start, when whoever held them is dead."""
    held = and_(text(_OPEN.format("deliveries")), deliveries.c.state == "leased", deliveries.c.lease_until > now)
    return connection.execute(update(deliveries).where(held).values(lease_until=now)).rowcount


def again(connection: Connection, webhook_ids: Sequence[str], now: datetime) -> int:
    """Makes these due with their whole schedule before them, whatever came of them; what is under way stays. How many."""
    chosen = and_(deliveries.c.webhook_id.in_(webhook_ids), deliveries.c.state != "leased")
    fresh = {"state": "pending", "next_at": now, "lease_until": now, "failures": 0, "delivered_at": None, "problem": ""}
    return connection.execute(update(deliveries).where(chosen).values(**fresh)).rowcount


def is_followed(connection: Connection, row: Claimed, type: str) -> bool:
    """Has its call a later row of this type?"""
    later = and_(deliveries.c.call_id == row.call_id, deliveries.c.id > row.id, deliveries.c.type == type)
    return connection.execute(select(exists().where(later))).scalar_one()


def overtake(connection: Connection, call_id: str, type: str, problem: str) -> int:
    """Gives up what of a call and type has not been taken, for something that must not come before it goes first. How many.
    What is under way stays."""
    chosen = and_(deliveries.c.call_id == call_id, deliveries.c.type == type, deliveries.c.state == "pending")
    return connection.execute(update(deliveries).where(chosen).values(state="dead", problem=problem)).rowcount


# Written out, not bound: SQLite takes a partial index only if it sees the index's own condition.
_OPEN = "{}.state IN ('pending', 'leased')"
_URGENT = "{}.type IN ('dial.busy', 'dial.free')"

_DUE_ACCOUNTS = text(
    f"""
    WITH RECURSIVE step(account) AS (
        SELECT min(account) FROM deliveries WHERE {_OPEN.format("deliveries")}
        UNION ALL
        SELECT (SELECT min(d.account) FROM deliveries d WHERE {_OPEN.format("d")} AND d.account > step.account)
        FROM step WHERE step.account IS NOT NULL
    )
    SELECT account FROM step WHERE account IS NOT NULL AND EXISTS (
        SELECT 1 FROM deliveries d
        WHERE {_OPEN.format("d")} AND d.account = step.account AND d.next_at <= :now AND d.lease_until <= :now
    )
    """
).bindparams(bindparam("now", type_=Utc()))


def _lease_statement(*, urgent: bool) -> Any:
    """What is urgent is held back by its like alone."""
    row, earlier = deliveries.alias("d"), deliveries.alias("earlier")
    kind = text(_URGENT.format("d") if urgent else f"NOT {_URGENT.format('d')}")
    held_back = exists().where(
        earlier.c.call_id == row.c.call_id,
        earlier.c.id < row.c.id,
        text(_OPEN.format("earlier")),
        earlier.c.failures < PASSES_AFTER,
        *([text(_URGENT.format("earlier"))] if urgent else []),
    )
    now = bindparam("now", type_=Utc())
    # by next_at, as the index has it: the first few rows are found without sorting the backlog
    chosen = (
        select(row.c.id)
        .where(
            text(_OPEN.format("d")),
            kind,
            row.c.account == bindparam("of_account"),
            row.c.next_at <= now,
            row.c.lease_until <= now,
            ~held_back,
        )
        .order_by(row.c.next_at, row.c.id)
        .limit(bindparam("most"))
    )
    return (
        update(deliveries)
        .where(deliveries.c.id.in_(chosen))
        .values(state="leased", lease_until=bindparam("lease_end"), attempts=deliveries.c.attempts + 1)
        .returning(*(deliveries.c[name] for name in _CLAIMED))
    )


_CLAIMED = ("id", "webhook_id", "call_id", "account", "type", "body", "attempts", "failures")
# once: to put it together costs as much as to run it
_LEASE, _LEASE_URGENT = _lease_statement(urgent=False), _lease_statement(urgent=True)


def _claim_of(
    connection: Connection, account: str, limit: int, now: datetime, lease_until: datetime, urgent: bool
) -> list[Claimed]:
    wanted = {"of_account": account, "now": now, "most": limit, "lease_end": lease_until}
    found = sorted(
        connection.execute(_LEASE_URGENT if urgent else _LEASE, wanted).mappings(), key=lambda claimed: int(claimed["id"])
    )
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
