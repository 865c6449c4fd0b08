"""In place of a client where what a call sends is shown and not sent: each request is as good as taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exoflow.crm.http import Answer

TAKEN = 200


class Unsent:
    """Has what `crm.outgoing.Client` asks for, and reaches nothing."""

    def get(self, url: str, params: Any = (), **_: Any) -> Answer:
        return _taken(url)

    def post(self, url: str, body: bytes, **_: Any) -> Answer:
        return _taken(url)


def _taken(url: str) -> Answer:
    headers: Mapping[str, str] = {}
    return Answer(TAKEN, headers, b"", 0, url)
