"""Every scenario of tests/scenarios on FreeSWITCH, and the same on the embedded switch: both must tell the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scenarios.embedded import Embedded
from scenarios.freeswitch import OnFreeSwitch
from scenarios.rings import compared, known
from scenarios.script import Scenario, read_all
from scenarios.told import Told, differences, unexpected

from ring2.box import Box
from ring2.network import Exchange

SCENARIOS = read_all()


@pytest.fixture(scope="module")
def told(switches: tuple[Box, Exchange], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Told]]:
    """By FreeSWITCH."""
    box, exchange = switches
    with OnFreeSwitch(tmp_path_factory.mktemp("scenarios"), SCENARIOS, box, exchange) as stage:
        yield stage.play()
    exchange.reset()
    box.settle(20)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    with Embedded(tmp_path_factory.mktemp("embedded"), SCENARIOS) as stage:
        return stage.play()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_as_it_is_written_and_as_the_embedded_switch_tells_it(
    scenario: Scenario, told: dict[str, Told], embedded: dict[str, Told]
) -> None:
    assert unexpected(scenario, told[scenario.id]) == []
    if scenario.id not in known():
        assert differences(embedded[scenario.id], told[scenario.id]) == []


def test_listed_differences_are_still_there(told: dict[str, Told], embedded: dict[str, Told]) -> None:
    found = compared(embedded, told)
    assert found.mended == []
    assert set(known()) <= set(told)
