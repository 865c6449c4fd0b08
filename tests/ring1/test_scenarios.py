"""Every scenario of tests/scenarios on the embedded switch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scenarios.embedded import Embedded
from scenarios.script import Scenario, deeds, journey, overlay, read, read_all
from scenarios.told import Told, differences, unexpected

from exoflow.config.steps import MODELS
from exoflow.flow.applets import APPLETS, Applet

SCENARIOS = read_all()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    return Embedded(tmp_path_factory.mktemp("scenarios"), SCENARIOS)


class Watched:
    """An applet, and the branches that it took: those of `run` by their first word, and that its caller was gone."""

    def __init__(self, name: str, applet: Applet, taken: set[tuple[str, str]]) -> None:
        self._name, self._applet, self._taken = name, applet, taken
        self.needs_caller = applet.needs_caller

    def run(self, here: Any, step: Any) -> Any:
        branch = self._applet.run(here, step)
        self._taken.add((self._name, branch.partition(".")[0] if isinstance(branch, str) else "elsewhere"))
        return branch

    def gone(self, here: Any, step: Any) -> Any:
        self._taken.add((self._name, "gone"))
        return self._applet.gone(here, step)


@pytest.fixture(scope="module")
def taken() -> Iterator[set[tuple[str, str]]]:
    """Applets and branches of all scenarios, once they are `told`."""
    found: set[tuple[str, str]] = set()
    with pytest.MonkeyPatch.context() as patch:
        for name, applet in list(APPLETS.items()):
            patch.setitem(APPLETS, name, Watched(name, applet, found))
        yield found


@pytest.fixture(scope="module")
def told(stage: Embedded, taken: set[tuple[str, str]]) -> dict[str, Told]:
    with stage:
        return stage.play()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_as_it_is_written(scenario: Scenario, told: dict[str, Told]) -> None:
    assert unexpected(scenario, told[scenario.id]) == []


def test_nothing_was_done_that_harms_a_real_switch(stage: Embedded, told: dict[str, Told]) -> None:
    assert len(told) == len(SCENARIOS)
    assert stage.switch.violations == []


def test_every_applet_takes_every_branch(told: dict[str, Told], taken: set[tuple[str, str]]) -> None:
    every = {(step.applet, branch) for step in MODELS.values() for branch in step.BRANCHES}
    every |= {("menu", "keys"), ("switch", "cases")} | {(name, "elsewhere") for name in ("back", "hangup", "transfer")}
    every |= {(name, "gone") for name, applet in APPLETS.items() if applet.needs_caller}
    assert sorted(every - taken) == []


# --- the writing itself -----------------------------------------------------------------------


def test_a_scenario_is_laid_over_what_the_file_has_in_common(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        """
common:
  steps: {ask: {menu: {say: A?, attempts: 2}, keys: {"1": bye}, otherwise: bye}, bye: {hangup: {}}}
  agents: {asha: busy}
scenarios:
  - name: <key> for <cause>
    each: [{key: "1", cause: A}, {key: "2", cause: B}]
    steps: {ask: {menu: {attempts: 1}}}
    does: {asked 2 + 0.5: "press <key>"}
    agents: {ravi: {released: <cause>}}
"""
    )
    one, two = read(tmp_path / "a.yaml")
    assert (one.name, two.name) == ("1 for A", "2 for B")
    assert two.steps["ask"]["menu"] == {"say": "A?", "attempts": 1}
    assert two.agents == {"asha": "busy", "ravi": {"released": "B"}}
    [deed] = two.deeds
    assert (deed.moment, deed.count, deed.after, deed.what) == ("asked", 2, 0.5, "press 2")


@pytest.mark.parametrize("written", [{"sometimes": "hang up"}, {"asked": "sing"}, {"asked +1": "hang up"}])
def test_what_a_caller_cannot_do_is_refused(written: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"no (moment|deed)"):
        deeds(written)


def test_a_journey_is_written_by_steps() -> None:
    assert journey(["call.arrived", {"ask": "a.b c.d"}, {"bye": "hangup"}]) == [
        ("", "call.arrived"),
        ("ask", "a.b"),
        ("ask", "c.d"),
        ("bye", "hangup"),
    ]
    assert overlay({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}


def test_differences_are_shown_line_by_line() -> None:
    one = Told(outcome="answered", journey=[("ask", "menu.key"), ("bye", "hangup")])
    other = Told(outcome="missed", journey=[("ask", "menu.key"), ("bye", "hangup")])
    assert differences(one, one) == []
    assert differences(one, other) == ["embedded only:   outcome: answered", "FreeSWITCH only: outcome: missed"]
    turned = Told(outcome="answered", journey=[("bye", "hangup"), ("ask", "menu.key")])
    [order] = differences(one, turned)
    assert order.startswith("in another order")
