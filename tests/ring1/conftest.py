"""Fixtures of ring 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hall import Hall

from exoflow.sim.apps import recording


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Callable[..., Hall]]:
    """Starts a whole exoflow; arguments are those of Hall.start."""
    made: list[Hall] = []

    def start(*arguments: Any, **options: Any) -> Hall:
        made.append(Hall(tmp_path))
        return made[0].start(*arguments, **options)

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def another_call_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another call makes each folder a moment before the embedded switch does."""
    real = recording._mkdir

    def mkdir(path: Path) -> None:
        if path.parent.exists() and not path.exists():
            real(path)
        real(path)

    monkeypatch.setattr(recording, "_mkdir", mkdir)
