"""Every scenario of tests/scenarios on the embedded switch."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenarios.embedded import Embedded
from scenarios.script import Scenario, deeds, journey, overlay, read, read_all
from scenarios.told import Told, differences, unexpected

SCENARIOS = read_all()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    return Embedded(tmp_path_factory.mktemp("scenarios"), SCENARIOS)


@pytest.fixture(scope="module")
def told(stage: Embedded) -> dict[str, Told]:
    with stage:
        return stage.play()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_as_it_is_written(scenario: Scenario, told: dict[str, Told]) -> None:
    assert unexpected(scenario, told[scenario.id]) == []


def test_nothing_was_done_that_harms_a_real_switch(stage: Embedded, told: dict[str, Told]) -> None:
    assert len(told) == len(SCENARIOS)
    assert stage.switch.violations == []


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
