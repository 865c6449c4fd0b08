"""Variable expansion in arguments, as harmful as FreeSWITCH's (switch_channel.c:3986-4290): values are expanded again, and
`${api args}` runs. The harmless functions of `functions.py` give their answer, where the dialplan wrote them; any other, and
each one that stands in a variable's *value*, leaves the mark `<RAN name args>` and is counted as a violation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exoflow.sim.functions import FUNCTIONS

if TYPE_CHECKING:
    from exoflow.sim.session import Session

MAX_DEPTH = 20  # of values that hold further variables; FreeSWITCH stops at 100
_BEGIN = re.compile(r"(\\*)\$\$?\{")
_CALL = re.compile(r"([^ (]*)(?:\((.*)\)| +(.*))\Z", re.DOTALL)
_SLICE = re.compile(r"([^:\[]+)(?:\[(\d+)\])?(?::(-?\d+))?(?::(\d+))?")


def expand(session: Session, text: str, depth: int = 0) -> str:
    """`text` with each `${…}` replaced. One pass eats a backslash before the dollar, so an escape holds only once."""
    if "${" not in text or depth > MAX_DEPTH:
        return text
    parts, at = [], 0
    while found := _BEGIN.search(text, at):
        parts.append(text[at : found.start()])
        end = _closing(text, found.end())
        if end < 0:
            parts.append(text[found.start() :])
            return "".join(parts)
        if found[1]:
            parts.append(text[found.start() + 1 : end + 1])
        else:
            parts.append(_value(session, text[found.end() : end], depth))
        at = end + 1
    parts.append(text[at:])
    return "".join(parts)


def _closing(text: str, at: int) -> int:
    """Where the brace that was opened before `at` is closed; -1 if nowhere."""
    open_braces = 1
    for place in range(at, len(text)):
        open_braces += {"{": 1, "}": -1}.get(text[place], 0)
        if not open_braces:
            return place
    return -1


def _value(session: Session, inner: str, depth: int) -> str:
    # what is inside counts with the braces' depth: only variables' values are deeper
    called = _CALL.match(_outer(inner))
    if called is None:
        return _variable(session, expand(session, inner, depth), depth)
    name, arguments = _split(inner)
    function = FUNCTIONS.get(name)
    if function is None or depth:
        session.switch.complain("api_expansion", f"${{{inner}}} ran as an API command", session)
        return f"<RAN {inner}>"
    return function(session, expand(session, arguments, depth))


def _outer(inner: str) -> str:
    """`inner` without what stands in braces of its own: a space in there makes no function call."""
    kept, open_braces = "", 0
    for char in inner:
        open_braces += {"{": 1}.get(char, 0)
        if not open_braces:
            kept += char
        open_braces -= {"}": 1}.get(char, 0)
    return kept


def _split(inner: str) -> tuple[str, str]:
    """Name and arguments of `name(arguments)` or `name arguments`."""
    at = next(place for place, char in enumerate(inner) if char in " (")
    if inner[at] == " ":
        return inner[:at], inner[at:].lstrip(" ")
    return inner[:at], inner[at + 1 : inner.rindex(")")] if ")" in inner else inner[at + 1 :]


def _variable(session: Session, name: str, depth: int) -> str:
    found = _SLICE.match(name)
    if found is None:
        return ""
    channel = session.channel
    value = channel.variables.get(found[1])
    if value is None:
        value = channel.field(found[1]) if found[1] in channel.FIELDS else session.switch.globals.get(found[1], "")
    if found[2] is not None and value.startswith("ARRAY::"):
        items = value.removeprefix("ARRAY::").split("|:")
        value = items[int(found[2])] if int(found[2]) < len(items) else ""
    value = expand(session, value, depth + 1)
    if found[3] is not None:
        value = value[int(found[3]) :]
        if found[4] is not None and int(found[4]) > 0:
            value = value[: int(found[4])]
    return value
