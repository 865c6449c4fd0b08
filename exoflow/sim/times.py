"""The dialplan's conditions on the time, as switch_xml_std_datetime_check has them (switch_xml.c:3138).

Of its attributes those that our files use. Without `tod_tz_offset` on the channel the time is this machine's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone

ATTRIBUTES = ("year", "mon", "mday", "wday", "time-of-day")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def met(attributes: Mapping[str, str], micros: int, offset: str) -> bool | None:
    """Is it that time? None if the attributes say nothing of it. `offset`: whole hours ahead of UTC, or empty."""
    wanted = {name: attributes[name] for name in ATTRIBUTES if name in attributes}
    if not wanted:
        return None
    local = _local(micros, offset)
    second = local.hour * 3600 + local.minute * 60 + local.second
    values = {"year": local.year, "mon": local.month, "mday": local.day}
    for name, expression in wanted.items():
        if name == "wday":
            true = _in(expression, local.isoweekday() % 7 + 1, _weekday)
        elif name == "time-of-day":
            true = _in(expression, second, _seconds)
        else:
            true = _in(expression, values[name], int)
        if not true:
            return False
    return True


def _local(micros: int, offset: str) -> datetime:
    at = datetime.fromtimestamp(micros / 1e6, UTC)
    if offset.lstrip("-").isdigit():
        return at.astimezone(timezone(timedelta(hours=int(offset))))
    return at.astimezone()


def _in(expression: str, value: int, read: Callable[[str], int]) -> bool:
    """A list of values and ranges, both ends included; one that ends before it begins goes round."""
    for part in expression.split(","):
        first, dash, last = part.partition("-")
        begins, ends = read(first), read(last if dash else first)
        if begins <= value <= ends if begins <= ends else (value >= begins or value <= ends):
            return True
    return False


def _weekday(text: str) -> int:
    return int(text) if text.isdigit() else _DAYS.index(text[:3].lower()) + 1


def _seconds(text: str) -> int:
    hours, minutes, seconds = (*(int(part) for part in text.split(":")), 0, 0)[:3]
    return hours * 3600 + minutes * 60 + seconds
