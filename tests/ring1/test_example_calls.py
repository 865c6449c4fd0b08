"""The scenarios of examples/ take every branch of their flows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from scenarios.embedded import Embedded
from scenarios.script import EXAMPLES, examples
from scenarios.told import Told

from exoflow.config.load import load

NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/scenarios.yaml"))
SCENARIOS = examples()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    with Embedded(tmp_path_factory.mktemp("examples"), SCENARIOS) as stage:
        return stage.play()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_found_good(name: str) -> None:
    """But for what an installation brings: the event socket's password, the secret of the deliveries, rendered prompts."""
    assert {finding.code for finding in load(EXAMPLES / name / "exoflow.yaml", {}).findings} <= {"W705", "W313", "W603"}


@pytest.mark.parametrize("name", NAMES)
def test_every_branch_is_taken(name: str, told: dict[str, Told]) -> None:
    config = load(EXAMPLES / name / "exoflow.yaml", {}).config
    assert config is not None
    [account] = config.accounts.values()
    taken = {ways for one in SCENARIOS if one.file == name for ways in _ways(told[one.id])}
    every = {
        (step_name, target)
        for flow in account.flows.values()
        for step_name, step in flow.steps.items()
        for target in step.branches().values()
    }
    assert sorted(every - taken) == []


def _ways(told: Told) -> list[tuple[str, str]]:
    steps = [step for step, code in told.journey if step and not code.startswith("recording.")]
    return [(one, other) for one, other in pairwise(steps) if one != other]


def test_examples_are_there() -> None:
    assert {Path(name).name for name in NAMES} >= {"clinic", "school", "shop", "helpdesk", "bank"}
