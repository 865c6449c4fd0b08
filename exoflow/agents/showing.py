"""How agents stand: out of the store for who looks beside the running process, and in the memory that decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.engine import Connection

from exoflow.agents.memory import State, known
from exoflow.agents.staff import Staff
from exoflow.agents.standing import Standings, Why, off_hours
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
    call: str | None  # id of the call that engages him; None also if that is none of ours
    state: State | None  # who switched him last; None: nobody ever did
    freed_at: datetime | None  # when his last talk ended


def everybody(connection: Connection, accounts: Mapping[str, Account], now: datetime) -> list[Shown]:
    """By account, in the order of its file."""
    there, uses = known(connection, now), in_use(connection)
    return [
        _shown(
            account_id, account, name, there.standings, there.states.get((account_id, name)), uses.get(agent.number, []), now
        )
        for account_id, account in accounts.items()
        for name, agent in account.agents.items()
    ]


def one_now(staff: Staff, account_id: str, account: Account, name: str) -> Shown:
    """By what decides whom calls ring; asks neither store nor switch."""
    calls = [claim.call for claim in staff.claims.holders(account.agents[name].number)]
    return _shown(account_id, account, name, staff.standings, staff.switched(account_id, name), calls, staff.clock())


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
    account_id: str,
    account: Account,
    name: str,
    standings: Standings,
    state: State | None,
    calls: Sequence[str],
    now: datetime,
) -> Shown:
    agent = account.agents[name]
    groups = {group: settings for group, settings in account.groups.items() if name in settings.agents}
    left = {group: standings.left_alone(agent.number, one, now) for group, one in groups.items()}
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
        (calls[-1] or None) if why == "engaged" else None,
        state,
        standings.freed.get(agent.number),
    )
