"""What a rush of calls took is given back when it is over."""

from __future__ import annotations

import subprocess
import sys

import pytest

from exoflow.memory import RUSH_CALLS, GivingBack

MUCH_MIB = 60

# what calls leave: blocks of all sizes with some between them that stay, and garbage in cycles
LEFT_BY_A_RUSH = f"""
import gc, random
from pathlib import Path

from exoflow.memory import given_back


def mib():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


class Knot:
    def __init__(self):
        self.itself, self.block = self, bytearray(random.randrange(600, 9000))


before = mib()
gc.disable()
knots, stay = [], []
while mib() - before < {MUCH_MIB}:
    knots.append(Knot())
    stay.append(bytearray(700)) if len(knots) % 50 == 0 else None
del knots
held = mib() - before
given_back()
print(held, mib() - before)
"""


def looked_at(*calls: int) -> int:
    """How often memory is given back, with so many calls at each look."""
    given: list[None] = []
    back = GivingBack(iter(calls).__next__, lambda: given.append(None))
    for _ in calls:
        back.look()
    return len(given)


@pytest.mark.parametrize(
    ("calls", "times"),
    [
        ((0, 0, 0), 0),
        ((RUSH_CALLS - 1, 0, 0), 0),
        ((RUSH_CALLS, 0, 0, 0), 1),
        ((RUSH_CALLS, RUSH_CALLS // 4 + 1), 0),
        ((1000, 600, 300, 250, 250, 100, 60), 2),
        ((100, 0, 100, 0), 2),
    ],
)
def test_memory_is_given_back_once_behind_each_rush(calls: tuple[int, ...], times: int) -> None:
    assert looked_at(*calls) == times


def test_what_is_given_back_is_the_systems_again() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_BY_A_RUSH], capture_output=True, text=True, check=True, timeout=60)
    held, left = map(float, done.stdout.split())
    assert held >= MUCH_MIB
    assert left < held / 4
