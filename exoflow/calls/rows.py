"""A call's record between memory and the store: rows made of it, and it made of rows again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, select
from sqlalchemy.engine import Connection

from exoflow.calls.model import CalledBack, CallFacts, CallState, Entry, Leg, Placed, Recording
from exoflow.store import tables as t
from exoflow.store.changes import Row

_FACTS = tuple(f.name for f in fields(CallFacts))
_LISTS = ("legs", "recordings", "journey")
_STATE = tuple(f.name for f in fields(CallState) if f.name not in ("facts", *_LISTS))
_LEG = tuple(f.name for f in fields(Leg) if f.metadata.get("kept", True))
_RECORDING = tuple(f.name for f in fields(Recording))
_ENTRY = tuple(f.name for f in fields(Entry))


def call_row(state: CallState, closed_at: datetime | None) -> Row:
    row = {name: _sound(getattr(state.facts, name)) for name in _FACTS}
    row["placed"] = None if state.facts.placed is None else asdict(state.facts.placed)
    row.update({name: _sound(getattr(state, name)) for name in _STATE})
    row["closed_at"] = closed_at
    return row


def leg_row(call_id: str, leg: Leg) -> Row:
    return {"call_id": call_id, **{name: _sound(getattr(leg, name)) for name in _LEG}}


def recording_row(call_id: str, seq: int, recording: Recording) -> Row:
    return {"call_id": call_id, "seq": seq, **{name: _sound(getattr(recording, name)) for name in _RECORDING}}


def entry_row(call_id: str, entry: Entry) -> Row:
    return {"call_id": call_id, **{name: _sound(getattr(entry, name)) for name in _ENTRY}}


def _sound(value: Any) -> Any:
    """Half a surrogate pair, as a hostile header may carry, would make the whole record unwritable."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode()
    return value


def load(
    connection: Connection,
    *conditions: ColumnElement[bool],
    limit: int | None = None,
    newest_first: bool = False,
    journey: bool = True,
) -> list[CallState]:
    """The calls that meet the conditions, by their time: whole, or without their `journey`."""
    order = (t.calls.c.created_at.desc(), t.calls.c.id) if newest_first else (t.calls.c.created_at, t.calls.c.id)
    found = connection.execute(select(t.calls).where(*conditions).order_by(*order).limit(limit)).mappings().all()
    states = {row["id"]: _state(row) for row in found}
    for part in _chunks(list(states)):
        for row in _of_calls(connection, t.legs, part):
            states[row["call_id"]].legs.append(Leg(**{name: row[name] for name in _LEG}))
        for row in _of_calls(connection, t.recordings, part):
            states[row["call_id"]].recordings.append(Recording(**{name: row[name] for name in _RECORDING}))
        for row in _of_calls(connection, t.entries, part) if journey else ():
            states[row["call_id"]].journey.append(Entry(**{name: row[name] for name in _ENTRY}))
    return list(states.values())


def _state(row: Any) -> CallState:
    facts = CallFacts(**{name: row[name] for name in _FACTS})
    if row["placed"] is not None:
        facts.placed = _placed(row["placed"])
    return CallState(facts, **{name: row[name] for name in _STATE})


def _placed(kept: Mapping[str, Any]) -> Placed:
    back = kept.get("call_back")
    return Placed(**{**kept, "events": tuple(kept["events"]), "call_back": None if back is None else CalledBack(**back)})


def _of_calls(connection: Connection, table: Table, ids: Sequence[str]) -> Any:
    chosen = select(table).where(table.c.call_id.in_(ids)).order_by(table.c.call_id, table.c.seq)
    return connection.execute(chosen).mappings()


def _chunks(ids: list[str], size: int = 200) -> list[list[str]]:
    return [ids[i : i + size] for i in range(0, len(ids), size)]
