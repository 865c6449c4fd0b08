"""Random flows and callers on FreeSWITCH: true of each what is true of every call, and told as the embedded switch tells it."""

from __future__ import annotations

from pathlib import Path

from scenarios import chance
from scenarios.embedded import Embedded
from scenarios.freeswitch import OnFreeSwitch
from scenarios.rings import compared

from ring2.box import Box
from ring2.network import Exchange

COUNT = 50


def test_both_switches_tell_the_same(switches: tuple[Box, Exchange], tmp_path: Path) -> None:
    box, exchange = switches
    scenarios = chance.calls(COUNT)
    with Embedded(tmp_path / "embedded", scenarios) as stage:
        embedded = stage.play()
    with OnFreeSwitch(tmp_path / "freeswitch", scenarios, box, exchange) as stage:
        told = stage.play()
    exchange.reset()
    box.settle(20)
    wrong = {one.id: found for one in scenarios if (found := chance.wrong(one, told[one.id]))}
    assert wrong == {}
    different = compared(embedded, told).different
    shown = [f"{different[one.id]}\n{one.as_yaml()}" for one in scenarios if one.id in different]
    assert not different, f"{len(different)} of {COUNT} calls:\n" + "\n".join(shown[:5])
