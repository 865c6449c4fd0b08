"""What a rush of calls took is given back when it is over."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hall import BYE, Hall

from exoflow.calls import cdrfolder
from exoflow.calls.wav import is_recording, repair
from exoflow.memory import BEHIND_LOOKS, RUSH_CALLS, GivingBack

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
given_back(calls=0)
print(held, mib() - before)
"""


def looked_at(*calls: int) -> int:
    """How often memory is given back, with so many calls at each look."""
    given: list[None] = []
    back = GivingBack(iter(calls).__next__, lambda _: given.append(None))
    for _ in calls:
        back.look()
    return len(given)


@pytest.mark.parametrize(
    ("calls", "times"),
    [
        ((0, 0, 0), 0),
        ((RUSH_CALLS - 1, 1, 1), 0),
        ((RUSH_CALLS - 1, 1, 0, 0), 1),
        ((RUSH_CALLS, 0, 0, 0), 1),
        ((RUSH_CALLS, RUSH_CALLS // 4 + 1), 0),
        ((1000, 600, 300, 250, 250, 100, 60), 2),
        ((1000, 250, 60, 10, 9, 0, 0), 4),
        ((100, 0, 100, 0), 2),
        ((100, *[0] * BEHIND_LOOKS), 1),
        ((100, *[0] * (BEHIND_LOOKS + 1), *[0] * BEHIND_LOOKS), 2),
    ],
)
def test_memory_is_given_back_once_behind_each_rush(calls: tuple[int, ...], times: int) -> None:
    assert looked_at(*calls) == times


def test_what_is_given_back_is_the_systems_again() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_BY_A_RUSH], capture_output=True, text=True, check=True, timeout=60)
    held, left = map(float, done.stdout.split())
    assert held >= MUCH_MIB
    assert left < held / 4


@pytest.fixture
def interned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What exoflow has interned by way of `Path`; the embedded switch may, for it is no part of the process that serves."""
    names: list[str] = []
    real = sys.intern

    def intern(name: str) -> str:
        frame = sys._getframe(1)
        while frame.f_code.co_filename == pathlib.__file__ and frame.f_back is not None:
            frame = frame.f_back
        if "exoflow/sim" not in frame.f_code.co_filename:
            names.append(name)
        return real(name)

    monkeypatch.setattr(sys, "intern", intern)
    return names


def test_a_call_interns_no_names(hall: Callable[..., Hall], interned: list[str], tmp_path: Path) -> None:
    """Neither its prompts' nor its recording's: once the process has begun, none at all."""
    message = {"say": "Leave a message.", "max_seconds": 5, "silence_seconds": 2}
    here = hall({"message": {"voicemail": message, "next": "bye"}, "bye": BYE})
    here.run(speaks=60.0)
    assert "exoflow.yaml" in interned
    interned.clear()
    phone, state = here.run(speaks=60.0)
    assert phone.texts[0] == "Leave a message."
    (recording,) = state.recordings
    assert recording.state == "good"
    assert repair(recording.path) == pytest.approx(5, abs=1)
    assert not is_recording(tmp_path / "elsewhere", recording.path)
    assert set(interned) <= {"elsewhere"}


def test_a_cdr_files_name_is_not_interned(tmp_path: Path, interned: list[str]) -> None:
    uuid = "5b1d7c9e-0000-4000-8000-0123456789ab"
    (tmp_path / "other.cdr.json").write_text("{}")
    assert "other.cdr.json" in interned
    os.rename(f"{tmp_path}/other.cdr.json", f"{tmp_path}/{uuid}.cdr.json")
    assert cdrfolder.listed(tmp_path) == ([uuid], "")
    assert cdrfolder.there(tmp_path, uuid)
    assert [one.uuid for one in cdrfolder.read(tmp_path, [uuid])] == [uuid]
    cdrfolder.put_aside(tmp_path, [uuid])
    assert cdrfolder.remove(tmp_path, [uuid]) == []
    assert not [name for name in interned if uuid in name]
