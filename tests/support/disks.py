"""A small disk for a test: a tmpfs of its own, where mounting is allowed; elsewhere the test is skipped and says so."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(at: Path, *, kib: int) -> Iterator[Path]:
    """Mounted at `at` for the block."""
    at.mkdir(exist_ok=True)
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(at)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no `mount` here: a real full disk cannot be made")
    if made.returncode:
        pytest.skip(f"no disk may be mounted here ({made.stderr.decode().strip()}): a real full disk cannot be made")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)
