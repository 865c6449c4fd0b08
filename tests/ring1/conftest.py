"""Fixtures of ring 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hall import Hall


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
