"""Holds the bodies of deliveries against the models that docs/schemas/ is made of."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from exoflow.calls.schemas import MODELS


def check(body: str | bytes) -> None:
    """It is as its kind's schema says, and has no key that the schema does not have."""
    told = json.loads(body)
    model = MODELS[told["type"]].model_validate(told)
    unknown = list(_unknown(told, model.model_dump(exclude_unset=True)))
    assert not unknown, f"{told['type']} has keys that docs/schemas does not: {unknown}"


def check_store(path: Path) -> None:
    """All signed deliveries of a store; not rows that a test has made up, which are empty."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        for kind, body in connection.execute("SELECT type, body FROM deliveries").fetchall():
            if kind in MODELS and body != "{}":
                check(body)


def _unknown(told: Any, known: Any, at: str = "") -> Iterator[str]:
    if isinstance(told, dict):
        for key, value in told.items():
            if key not in known:
                yield f"{at}{key}"
            else:
                yield from _unknown(value, known[key], f"{at}{key}.")
    elif isinstance(told, list):
        for index, value in enumerate(told):
            yield from _unknown(value, known[index], f"{at}{index}.")
