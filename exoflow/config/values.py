"""Values with a type, as a `set` step takes them: one door for what a CRM or a caller says and for a file's constants."""

from __future__ import annotations

import re
from typing import Any

from exoflow.characters import one_line

Value = str | int

MAX_VARIABLE_CHARS = 200  # of one value; a spoken or sent value is never longer
MAX_INTEGER = 10**15  # what a CRM's database and a caller can mean; beyond it digits are the type
_INTEGER = re.compile(r"[+-]?[0-9]{1,16}\Z")
_DIGITS = re.compile(r"[0-9*#]{1,64}\Z")


class Unfit(Exception):
    """There is no value, or none of the variable's type; the message is for the journey."""


def typed(raw: Any, wanted: str) -> Value:
    """`raw` as text, integer or digits. Raises Unfit."""
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise Unfit("is no single value" if raw is not None else "is not there")
    text = str(int(raw)) if isinstance(raw, float) and raw.is_integer() else str(raw)
    text = one_line(text).strip()
    if not text:
        raise Unfit("is empty")
    if len(text) > MAX_VARIABLE_CHARS:
        raise Unfit(f"has more than {MAX_VARIABLE_CHARS} characters")
    if wanted == "integer":
        if _INTEGER.match(text) is None or abs(int(text)) > MAX_INTEGER:
            raise Unfit(f"is no whole number: {text[:40]!r}")
        return int(text)
    if wanted == "digits" and _DIGITS.match(text) is None:
        raise Unfit(f"has other characters than digits: {text[:40]!r}")
    return text
