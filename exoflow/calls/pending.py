"""What has changed of a call in memory and is not yet in the store."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from exoflow.calls.model import Entry, Leg, Recording

MAX_TEXT = 500  # characters of one text or evidence value


@dataclass(slots=True)
class Pending:
    """Rows to be written, by their keys; the newest state of each."""

    call: bool = False
    entries: dict[int, Entry] = field(default_factory=dict)
    legs: dict[str, Leg] = field(default_factory=dict)
    recordings: dict[int, Recording] = field(default_factory=dict)
    deliveries: dict[int, dict[str, Any]] = field(default_factory=dict)
    closing: bool = False  # does what is being written close the call?

    def __bool__(self) -> bool:
        return bool(self.call or self.entries or self.legs or self.recordings or self.deliveries)

    def take_back(self, older: Pending) -> None:
        self.call = self.call or older.call
        self.entries = {**older.entries, **self.entries}
        self.legs = {**older.legs, **self.legs}
        self.recordings = {**older.recordings, **self.recordings}
        self.deliveries = {**older.deliveries, **self.deliveries}


def plain(value: Any) -> Any:
    """Evidence as JSON takes it, and of bounded length."""
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in list(value.items())[:50]}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value[:50]]
    return str(value)[:MAX_TEXT]
