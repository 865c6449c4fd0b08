"""What the staff must know again after a restart: whom each flow tried last, who is switched off, how attempts ended lately,
and who talked with a caller last.

Marks and states are kept in tables of their own, written soon after they change and never waited for; the rest is in the
calls' own records.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from gevent.event import AsyncResult
from sqlalchemy import select
from sqlalchemy.engine import Connection

from exoflow.agents.standing import Standings
from exoflow.store import tables as t
from exoflow.store.rows import Rows
from exoflow.store.sqlite import Store

LOOK_BACK = timedelta(hours=12)  # for attempts on agents: behind a night everybody is as good as new
MOST_LEGS = 20_000  # of them, the newest; some 0.1 s of a thread

Key = tuple[str, str]  # account, and flow or agent


class State(NamedTuple):
    """Whether an agent takes calls, and who said so when."""

    available: bool
    changed_at: datetime
    changed_by: str


class Known(NamedTuple):
    """All that is read at the start."""

    marks: dict[Key, str]
    states: dict[Key, State]
    standings: Standings


class Memory:
    """Mirrors marks and states into the store; `marked` and `switched` never wait for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = Rows(store)

    def marked(self, account: str, flow: str, number: str) -> None:
        self._rows.keep(t.marks, {"account": account, "flow": flow, "number": number})

    def switched(self, account: str, agent: str, state: State) -> AsyncResult:
        """The result is set when it is on disk."""
        return self._rows.keep(t.agent_states, {"account": account, "agent": agent, **state._asdict()})

    def read(self, now: datetime) -> Known:
        """Raises StoreError."""
        return self._store.read(lambda connection: known(connection, now))

    def last_agent(self, account: str, caller: str, numbers: Collection[str], since: datetime, deadline: float) -> str | None:
        """Which of these numbers talked with a caller last. Raises StoreError, DeadlineExceeded."""
        return self._store.read(lambda c: last_agent(c, account, caller, numbers, since), deadline=deadline)


# --- what is read ---------------------------------------------------------------------------------


def known(connection: Connection, now: datetime) -> Known:
    """Runs in a thread, or in another process."""
    marks = {(row.account, row.flow): row.number for row in connection.execute(select(t.marks))}
    states = {
        (row.account, row.agent): State(row.available, row.changed_at, row.changed_by)
        for row in connection.execute(select(t.agent_states))
    }
    wanted = (
        select(t.legs.c.number, t.legs.c.outcome, t.legs.c.released_at)
        .join(t.calls, t.calls.c.id == t.legs.c.call_id)
        .where(t.calls.c.created_at >= now - LOOK_BACK, t.legs.c.agent.is_not(None), t.legs.c.released_at.is_not(None))
        .order_by(t.calls.c.created_at.desc())
        .limit(MOST_LEGS)
    )
    standings = Standings()
    for row in sorted(connection.execute(wanted), key=lambda row: row.released_at):
        standings.ended(row.number, row.outcome, row.released_at)
    return Known(marks, states, standings)


def last_agent(connection: Connection, account: str, caller: str, numbers: Collection[str], since: datetime) -> str | None:
    """Which of these numbers talked with a caller last; None if none did since then."""
    wanted = (
        select(t.legs.c.number)
        .join(t.calls, t.calls.c.id == t.legs.c.call_id)
        .where(
            t.calls.c.account == account,
            t.calls.c.caller == caller,
            t.calls.c.created_at >= since,
            t.legs.c.answered_at.is_not(None),
            t.legs.c.number.in_(numbers),
        )
        .order_by(t.legs.c.answered_at.desc())
        .limit(1)
    )
    return connection.execute(wanted).scalar()
