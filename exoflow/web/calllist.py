"""The calls of an account as the Calls API asks for them, from the store's index of account and time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal_column, or_, select, tuple_
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from exoflow.calls import rows
from exoflow.calls.model import CallState
from exoflow.errors import ExoflowError
from exoflow.store import tables as t
from exoflow.web.callquery import Cursor, Query

LOOK_SECONDS = 2.0  # of one look, within the server's REQUEST_SECONDS; a rare caller among a month's million calls takes 1 s
COUNTED = 1000  # calls up to which `Total` is told: to count on would cost more than the page
STEPS = 20_000  # of SQLite's machine between two looks at the clock: some ms


class TooLong(ExoflowError):
    """The look was broken off after LOOK_SECONDS."""

    def __init__(self) -> None:
        super().__init__("the list takes too long; ask for fewer days (DateCreated), or with fewer filters")


@dataclass(frozen=True)
class Page:
    """`total`: calls that meet the filters on all pages; None: more than COUNTED."""

    calls: list[CallState]
    total: int | None
    previous: Cursor | None
    next: Cursor | None


def one(connection: Connection, account: str, sid: str) -> CallState | None:
    """The call, if it is this account's."""
    found = rows.load(connection, t.calls.c.id == sid, t.calls.c.account == account, journey=False)
    return found[0] if found else None


def page(connection: Connection, account: str, query: Query) -> Page:
    """Raises TooLong."""
    if query.none:
        return Page([], 0, None, None)
    with _limited(connection):
        found, more = _places(connection, account, query)
        whole = not more and query.after is None and query.before is None
        total = len(found) if whole else _counted(connection, account, query)
        loaded = {call.facts.id: call for call in _load(connection, [place.sid for place in found])}
    calls = [loaded[place.sid] for place in found]
    behind = more if query.before is None else True
    ahead = more if query.before is not None else query.after is not None
    return Page(
        calls,
        total if total <= COUNTED else None,
        found[0] if found and ahead else None,
        found[-1] if found and behind else None,
    )


def _counted(connection: Connection, account: str, query: Query) -> int:
    some = select(literal_column("1")).select_from(t.calls).where(*_conditions(account, query)).limit(COUNTED + 1).subquery()
    counted: int = connection.execute(select(func.count()).select_from(some)).scalar_one()
    return counted


def _places(connection: Connection, account: str, query: Query) -> tuple[list[Cursor], bool]:
    """Where the page's calls stand, in its order; and are there more in the direction that it was looked for in?"""
    c = t.calls.c
    backwards = query.before is not None
    rising = query.ascending != backwards
    place = query.before or query.after
    conditions: list[ColumnElement[bool]] = []
    if place is not None:
        key, at = tuple_(c.created_at, c.id), tuple_(place.at, place.sid, types=[c.created_at.type, c.id.type])
        conditions = [key > at if rising else key < at]
        # the index is entered at the cursor, and not at the span's end: SQLite takes it for one bound of a side alone
        if rising:
            query = replace(query, since=max(query.since, place.at))
        else:
            query = replace(query, until=min(query.until, place.at + timedelta(microseconds=1)))
    conditions += _conditions(account, query)
    order = (c.created_at, c.id) if rising else (c.created_at.desc(), c.id.desc())
    chosen = select(c.created_at, c.id).where(*conditions).order_by(*order).limit(query.size + 1)
    found = [Cursor(at, sid) for at, sid in connection.execute(chosen)]
    kept = found[: query.size]
    return (kept[::-1] if backwards else kept), len(found) > query.size


def _load(connection: Connection, sids: list[str]) -> list[CallState]:
    return rows.load(connection, t.calls.c.id.in_(sids), journey=False)


def _conditions(account: str, query: Query) -> list[ColumnElement[bool]]:
    c = t.calls.c
    found: list[ColumnElement[bool]] = [c.created_at >= query.since, c.created_at < query.until]
    if query.sids:  # few rows by their ids: the index of the account's month must not be taken instead
        found += [c.id.in_(query.sids), func.coalesce(c.account, "") == account]
    else:
        found.append(c.account == account)
    if query.callers:
        raw = and_(c.caller.is_(None), c.caller_withheld.is_(False), c.caller_raw.in_(query.callers))
        found.append(or_(c.caller.in_(query.callers), raw))
    if query.ours:
        found.append(c.dialled.in_(query.ours))
    if query.called:
        found.append(func.coalesce(func.json_extract(c.placed, "$.to"), c.dialled).in_(query.called))
    if query.placed is not None:
        found.append(c.placed.is_not(None) if query.placed else c.placed.is_(None))
    if query.statuses:
        found.append(_status().in_(query.statuses))
    if query.shortest is not None:
        found.append(_seconds() >= query.shortest)
    if query.longest is not None:
        found.append(_seconds() <= query.longest)
    return found


def _status() -> ColumnElement[str]:
    """`crm.dialect.call_status` of a row; a test holds them equal."""
    c = t.calls.c
    going_on = and_(c.ended_at.is_(None), c.outcome.is_(None))
    return case(
        (and_(going_on, c.answered_at.is_not(None)), "in-progress"),
        (and_(going_on, c.ring_at.is_not(None)), "ringing"),
        (going_on, "queued"),
        (c.answered_at.is_not(None), "completed"),
        (c.q850 == 17, "busy"),
        (c.q850.in_((18, 19)), "no-answer"),
        (or_(c.ended_by == "caller", c.caller_left), "canceled"),
        else_="failed",
    )


def _seconds() -> ColumnElement[float]:
    """From `created_at` to `ended_at`, whole; NULL, and so no filter's, as long as the call goes on."""
    c = t.calls.c
    days: ColumnElement[float] = func.julianday(c.ended_at) - func.julianday(c.created_at)
    return func.round(days * 86400.0)


@contextmanager
def _limited(connection: Connection) -> Iterator[None]:
    raw: Any = connection.connection.dbapi_connection
    until = time.monotonic() + LOOK_SECONDS
    raw.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    try:
        yield
    except OperationalError as error:
        if str(error.orig) == "interrupted":
            raise TooLong from None
        raise
    finally:
        raw.set_progress_handler(None, 0)
