"""A request's parameters, made to fit into an address that servers take (crm/http.py, MAX_URL_CHARS).

What can grow without bounds of ours is left out, and never the request. First `CustomField`: a letter of another script is
nine characters of an address, so that 1,000 of them are too many for every request of a call. It goes whole, for half of an
order's number is another order, and half of JSON is none. Then attempts on agents (`Legs[i]`), the oldest first; those that
stay are counted from 0, as ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from exoflow.crm.dialect import MAX_LEGS
from exoflow.crm.http import MAX_URL_CHARS, with_params

CUSTOM = "CustomField"
LEGS = "Legs"
WORDS = {CUSTOM: "the CustomField", LEGS: "the oldest attempts on agents"}

Parameters = Sequence[tuple[str, str]]

_LEG = re.compile(r"Legs\[([0-9]+)\](.*)", re.DOTALL)


class Fitted(NamedTuple):
    """`left_out`: CUSTOM, LEGS (some or all of them) or nothing; `chars`: of the address that would have been."""

    parameters: Parameters
    left_out: list[str]
    chars: int


def fitted(url: str, parameters: Parameters) -> Fitted:
    """As many of the parameters as fit behind `url`. With an address that is too long by itself none of the above helps: that
    request fails, and says so."""
    chars = len(with_params(url, parameters))
    for left_out, fewer in _fewer(parameters) if chars > MAX_URL_CHARS else ():
        if len(with_params(url, fewer)) <= MAX_URL_CHARS:
            return Fitted(fewer, left_out, chars)
    return Fitted(parameters, [], chars)


def _fewer(parameters: Parameters) -> Iterator[tuple[list[str], Parameters]]:
    rest = [(name, value) for name, value in parameters if name != CUSTOM]
    without = [CUSTOM] if len(rest) < len(parameters) else []
    if without:
        yield without, rest
    for kept in range(MAX_LEGS - 1, -1, -1):
        yield [*without, LEGS], _last_legs(rest, kept)


def _last_legs(parameters: Parameters, kept: int) -> Parameters:
    numbers = [int(leg[1]) for name, _ in parameters if (leg := _LEG.fullmatch(name))]
    first = max(numbers, default=0) + 1 - kept
    found = []
    for name, value in parameters:
        leg = _LEG.fullmatch(name)
        if leg is None:
            found.append((name, value))
        elif int(leg[1]) >= first:
            found.append((f"Legs[{int(leg[1]) - max(0, first)}]{leg[2]}", value))
    return found
