"""Violations planted into good books: the checker (`faults.ledger`) must find each, or it has shown nothing.

`python -m faults` does so with the books of each experiment that is checked; ring 1 does with those of a few calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from faults.ledger import ENDS, Books, Received, check

Data = dict[str, Any]
Spoil = Callable[[Books, Received], Books]


def found(books: Books) -> tuple[list[str], list[str]]:
    """Names of the planted violations that were found, and of those that were overlooked. The books themselves are good."""
    one = _talk(books)
    seen: list[str] = []
    overlooked: list[str] = []
    for name, (code, spoil) in PLANTS.items():
        codes = {violation.code for violation in check(spoil(books, one))}
        (seen if code in codes else overlooked).append(name)
    return seen, overlooked


def _talk(books: Books) -> Received:
    """A call's end with a talk: all of them can be planted there. Raises ValueError where there is none."""
    for one in books.received:
        if one.event["type"] in ENDS and one.event["data"]["talk_seconds"] > 0:
            return one
    raise ValueError("no call with a talk in these books")


def _without(books: Books, one: Received) -> Books:
    return replace(books, received=tuple(other for other in books.received if other.id != one.id))


def _with(books: Books, *more: Received) -> Books:
    return replace(books, received=(*books.received, *more))


def _edited(change: Callable[[Data], object]) -> Spoil:
    """The delivery says something else, each time that it came."""

    def spoil(books: Books, one: Received) -> Books:
        event = one.event
        change(event["data"])
        return _with(_without(books, one), replace(one, body=json.dumps(event).encode()))

    return spoil


def _double(books: Books, one: Received) -> Books:
    return _with(books, replace(one, id=f"{one.id}-2", at=one.at + 1))


def _altered(books: Books, one: Received) -> Books:
    return _with(books, replace(one, body=one.body + b" ", at=one.at + 1))


def _ghost(books: Books, one: Received) -> Books:
    call = one.event["data"]["call"]
    return replace(books, cdrs=tuple(cdr for cdr in books.cdrs if cdr["variables"].get("exo_call") != call))


def _early(books: Books, one: Received) -> Books:
    return _with(_without(books, one), replace(one, at=datetime.fromisoformat(one.event["data"]["ended_at"]).timestamp() - 30))


def _unsigned(books: Books, one: Received) -> Books:
    return _with(_without(books, one), replace(one, signed=False))


def _missed(books: Books, one: Received) -> Books:
    event = one.event
    event["type"] = "call.missed"
    event["data"]["outcome"] = "missed"
    return _with(_without(books, one), replace(one, body=json.dumps(event).encode()))


def _talked(data: Data) -> Data:
    return next(leg for leg in data["legs"] if leg["talk_seconds"])


def _never_rung(data: Data) -> None:
    data["legs"].append({**_talked(data), "leg": "never-dialled", "number": "+919800000000", "talk_seconds": 0.0})


def _later(data: Data) -> None:
    data["ended_at"] = (datetime.fromisoformat(data["ended_at"]) + timedelta(seconds=5)).isoformat()


def _longer(data: Data) -> None:
    data["talk_seconds"] += 3
    _talked(data)["talk_seconds"] += 3


PLANTS: dict[str, tuple[str, Spoil]] = {
    # what is planted: (the code that it must be found by, how)
    "a lost row": ("lost", _without),
    "a double end": ("twice", _double),
    "a repeat with other bytes": ("altered", _altered),
    "a call that never was": ("ghost_call", _ghost),
    "a ghost claim: an agent who was never rung": ("ghost_leg", _edited(_never_rung)),
    "an agent who was rung and is not told of": ("hidden_leg", _edited(lambda data: data["legs"].remove(_talked(data)))),
    "another agent's number": ("number", _edited(lambda data: _talked(data).update(number="+919800000000"))),
    "a talk that is told as longer": ("talk", _edited(_longer)),
    "a talk that is told as missed": ("outcome", _missed),
    "an end at another time": ("end", _edited(_later)),
    "an end that is told before it came": ("early", _early),
    "another caller": ("caller", _edited(lambda data: data.update(caller="+919800000000"))),
    "a delivery that somebody else signed": ("unsigned", _unsigned),
}
