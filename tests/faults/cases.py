"""Callers by a seed, whose calls go the same way however often exoflow is replaced meanwhile; and what became of each.

They act on what they hear and not on the time, so that a second more or less changes nothing.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

RING_SECONDS = 6
AgentKind = Literal["answers", "busy", "rejects", "silent", "left"]


@dataclass(frozen=True)
class Telephone:
    """An agent's. `left`: the caller hangs up a second after it begins to ring."""

    number: str  # ten digits
    kind: AgentKind
    after: float  # seconds of ringing
    talks: float


@dataclass(frozen=True)
class Case:
    """One call. `keys` are its answers, question by question; empty is silence."""

    caller: str  # ten digits
    keys: tuple[str, ...]
    agents: tuple[Telephone, ...]


def cases(seed: int, count: int) -> list[Case]:
    chance = random.Random(seed)
    return [_case(chance, number) for number in range(count)]


def _case(chance: random.Random, number: int) -> Case:
    wrong: tuple[str, ...] = tuple(chance.choices(["9", "", "1"], [2, 1, 12]))
    first = (*wrong, chance.choice("1123")) if wrong != ("1",) else ("1",)
    rating = chance.choice(["4", "42#", "", "7#"])
    kinds: list[AgentKind] = ["answers", "answers", "answers", "busy", "rejects", "silent", "left"]
    agents = tuple(
        Telephone(f"987{at}0{number:05d}", chance.choice(kinds), chance.uniform(1, 3), chance.uniform(2, 5))
        for at in range(chance.randint(1, 2))
    )
    return Case(f"98110{number:05d}", (*first, rating), agents)


def steps(crm: str) -> dict[str, Any]:
    """The flow that they meet; `crm` is where its addresses begin."""
    return {
        "welcome": {"greeting": {"say": "Welcome to Acme."}, "next": "choose"},
        "choose": {
            "menu": {"say": "Dial 1 for support, 2 to leave a message, 3 to rate us.", "attempts": 3, "timeout": 2},
            "keys": {1: "lookup", 2: "message", 3: "rate"},
            "otherwise": "message",
        },
        "lookup": {"passthru": {"url": f"{crm}/lookup"}, "ok": "agents", "redirect": "bye", "failed": "bye"},
        "agents": {
            "connect": {"url": f"{crm}/agents", "record": "dual", "ring_seconds": RING_SECONDS, "talk_seconds": 60},
            "answered": "rate",
            "unanswered": "message",
        },
        "message": {"voicemail": {"say": "Speak.", "max_seconds": 5, "silence_seconds": 2}, "next": "bye"},
        "rate": {"gather": {"say": "Rate us.", "digits": 2, "timeout": 3, "end_key": "#"}, "next": "bye"},
        "bye": {"hangup": {}},
    }


@dataclass(frozen=True)
class Fate:
    """What became of a call: all that its business would notice."""

    outcome: str
    digits: str
    legs: tuple[tuple[str, str], ...]  # agents' numbers and how each attempt ended
    recordings: tuple[tuple[str, str], ...]  # kind and state
    deliveries: tuple[str, ...]


def fates(database: Path) -> dict[str, list[Fate]]:
    """By the callers' last ten digits, whole calls only; more than one of a caller is a violation."""
    found: dict[str, list[Fate]] = {}
    for call, caller, outcome, digits in rows(
        database, "SELECT id, caller_raw, outcome, digits FROM calls WHERE closed_at > 0"
    ):
        legs = rows(database, "SELECT number, outcome FROM legs WHERE call_id = ? ORDER BY seq", call)
        recordings = rows(database, "SELECT kind, state FROM recordings WHERE call_id = ? ORDER BY seq", call)
        deliveries = rows(database, "SELECT type FROM deliveries WHERE call_id = ? AND state = 'delivered' ORDER BY seq", call)
        fate = Fate(outcome, digits, tuple(legs), tuple(recordings), tuple(one for (one,) in deliveries))
        found.setdefault(caller[-10:], []).append(fate)
    return found


def rows(database: Path, query: str, *arguments: Any) -> list[Any]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return connection.execute(query, arguments).fetchall()
    finally:
        connection.close()


def differences(plain: Mapping[str, list[Fate]], replaced: Mapping[str, list[Fate]]) -> Iterator[str]:
    """Calls whose fate is not the same, one line each."""
    for caller in sorted({*plain, *replaced}):
        one, other = plain.get(caller, []), replaced.get(caller, [])
        if one != other or len(other) != 1:
            yield f"{caller}: {one} without, {other} with"
