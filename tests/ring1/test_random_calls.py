"""A thousand random flows and callers, many at once, in one exoflow: what is true of every call is true of each."""

from __future__ import annotations

from pathlib import Path

from scenarios import chance
from scenarios.embedded import Embedded

COUNT = 1000


def test_whatever_happens_a_call_has_one_record_with_one_end(tmp_path: Path) -> None:
    scenarios = chance.calls(COUNT)
    with Embedded(tmp_path, scenarios) as stage:
        told = stage.play()
    assert len(told) == COUNT
    assert stage.switch.violations == []
    wrong = [one for one in scenarios if chance.wrong(one, told[one.id])]
    shown = [f"{chance.wrong(one, told[one.id])}\n{told[one.id].journey}\n{one.as_yaml()}" for one in wrong[:3]]
    assert not wrong, f"{len(wrong)} of {COUNT} calls:\n" + "\n".join(shown)
