"""What a flow knows by name: values with a type, kept in the app. The switch never sees or expands them.

They live in the call and in its journey, from which they are read again when the call comes back after a lost socket.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from exoflow.calls.model import CallState, Entry
from exoflow.config.actions import Variable
from exoflow.config.values import Unfit, Value, typed
from exoflow.telephony.numbers import national

SET = "set.done"  # the journey's lines that hold values
MISSING = "set.missing"  # and those of values that were not to be had
AGREED, REFUSED = "consent.agreed", "consent.refused"
CONSENT = {AGREED: True, REFUSED: False}


def recall(values: dict[str, Value], entry: Entry) -> None:
    """What a line of the journey did to them, for a call that comes back."""
    if entry.code == SET:
        values.update(entry.evidence.get("values", {}))
        for name in entry.evidence.get("hidden", ()):  # another process knew it
            values.pop(name, None)
    elif entry.code == MISSING:
        values.pop(entry.evidence.get("variable", ""), None)


def consented(journey: Iterable[Entry]) -> bool | None:
    """What the caller last said about being recorded; None if nobody asked."""
    said = [CONSENT[entry.code] for entry in journey if entry.code in CONSENT]
    return said[-1] if said else None


def json_body(body: bytes) -> Any:
    """A CRM's answer as JSON; None if it is none. Never raises: what is missing in it is told by who looks for it."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def find(variable: Variable, state: CallState, crm_said: Any, digits: str | None = None) -> Value:
    """The value a variable gets now; `digits`: the last ones pressed, if those of the record are stars. Raises Unfit."""
    try:
        return typed(_raw(variable, state, crm_said, digits), variable.type)
    except Unfit:
        if variable.default is None:
            raise
        return typed(variable.default, variable.type)


def _raw(variable: Variable, state: CallState, crm_said: Any, digits: str | None) -> Any:
    facts = state.facts
    match variable.source:
        case "gathered":
            return state.digits if digits is None else digits
        case "caller" | "dialled":
            number = facts.caller if variable.source == "caller" else facts.dialled
            return national(number) if number is not None and variable.type != "text" else number
        case "crm":
            return _at(crm_said, variable.key or "")
    return variable.value


def _at(said: Any, key: str) -> Any:
    """The value under a dotted key: `customer.orders.0.due`."""
    for part in key.split("."):
        if isinstance(said, dict):
            said = said.get(part)
        elif isinstance(said, list) and part.isdecimal() and int(part) < len(said):
            said = said[int(part)]
        else:
            return None
    return said
