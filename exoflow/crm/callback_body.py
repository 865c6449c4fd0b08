"""A status callback's fields as the body that was asked for: a url-encoded form, a multipart form, or one JSON object.

In JSON `Legs` is a list of objects and durations are integers, as the vendor's sample of `StatusCallback` has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args
from urllib.parse import urlencode

ContentType = Literal["application/x-www-form-urlencoded", "multipart/form-data", "application/json"]

URLENCODED: ContentType = "application/x-www-form-urlencoded"
MULTIPART: ContentType = "multipart/form-data"
JSON: ContentType = "application/json"
CONTENT_TYPES: tuple[str, ...] = get_args(ContentType)

Fields = Sequence[tuple[str, str]]

_LEG = re.compile(r"Legs\[([0-9]{1,2})\]\[([A-Za-z]+)\]")
_INTEGERS = ("ConversationDuration", "OnCallDuration")


def encoded(fields: Fields, content_type: str, name: str) -> tuple[str, bytes]:
    """The header `Content-Type` and the body. `name` is the row's own, which no value has: it divides the parts."""
    if content_type == JSON:
        return JSON, json.dumps(_nested(fields), ensure_ascii=False).encode("utf-8", "replace")
    if content_type == MULTIPART:
        boundary = f"----{name}"
        parts = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields
        )
        return f"{MULTIPART}; boundary={boundary}", f"{parts}--{boundary}--\r\n".encode("utf-8", "replace")
    return URLENCODED, urlencode(fields, errors="replace").encode()


def _nested(fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, text in fields:
        leg = _LEG.fullmatch(key)
        if leg is None:
            found[key] = _value(key, text)
            continue
        legs = found.setdefault("Legs", [])
        while len(legs) <= int(leg[1]):
            legs.append({})
        legs[int(leg[1])][leg[2]] = _value(leg[2], text)
    return found


def _value(key: str, text: str) -> str | int:
    return int(text) if key in _INTEGERS and text.isdigit() else text
