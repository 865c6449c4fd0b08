"""How all agents stand, out of the store: for who looks beside the running process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.engine import Connection

from exoflow.agents.memory import Known, State, known
from exoflow.agents.standing import Why, off_hours
from exoflow.config.model import Account
from exoflow.config.people import Agent
from exoflow.store import tables as t


@dataclass(frozen=True, slots=True)
class Shown:
    """One agent."""

    account: str
    name: str  # in the account's file
    agent: Agent
    groups: list[str]
    why: Why | None  # he is not rung now; None: he is free
    by_groups: list[str]  # which leave him alone, if that is why
    call: str | None  # id of the call that engages him
    state: State | None  # who switched him last; None: nobody ever did
    freed_at: datetime | None  # when his last talk ended


def everybody(connection: Connection, accounts: Mapping[str, Account], now: datetime) -> list[Shown]:
    """By account, in the order of its file."""
    there, uses = known(connection, now), in_use(connection)
    return [
        _shown(account_id, account, name, agent, there, uses, now)
        for account_id, account in accounts.items()
        for name, agent in account.agents.items()
    ]


def in_use(connection: Connection) -> dict[str, list[str]]:
    """Calls by the numbers that they engage: of those who are rung or talk, and of those who call us."""
    going_on = t.calls.c.closed_at.is_(None)
    rung = (
        select(t.legs.c.number, t.calls.c.id)
        .join(t.calls, t.calls.c.id == t.legs.c.call_id)
        .where(going_on, t.legs.c.released_at.is_(None))
    )
    on_the_line = (t.calls.c.ended_at.is_(None), t.calls.c.caller.is_not(None))
    calling = select(t.calls.c.caller, t.calls.c.id).where(going_on, *on_the_line)
    found: dict[str, list[str]] = {}
    for wanted in (rung, calling):
        for number, call in connection.execute(wanted):
            found.setdefault(number, []).append(call)
    return found


def _shown(
    account_id: str, account: Account, name: str, agent: Agent, there: Known, uses: Mapping[str, list[str]], now: datetime
) -> Shown:
    state = there.states.get((account_id, name))
    calls = uses.get(agent.number, [])
    groups = {group: settings for group, settings in account.groups.items() if name in settings.agents}
    left = {group: there.standings.left_alone(agent.number, one, now) for group, one in groups.items()}
    alone = {group: because for group, because in left.items() if because is not None}
    why: Why | None = None
    if state is not None and not state.available:
        why = "off"
    elif len(calls) >= agent.lines:
        why = "engaged"
    elif off_hours(agent, account, now):
        why = "hours"
    elif alone:
        why = next(iter(alone.values()))
    return Shown(
        account_id,
        name,
        agent,
        list(groups),
        why,
        list(alone) if why in ("wrap_up", "paused") else [],
        calls[-1] if why == "engaged" else None,
        state,
        there.standings.freed.get(agent.number),
    )
