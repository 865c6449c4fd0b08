"""Two hundred callers at once for twenty agents on a real FreeSWITCH, under an exoflow that dies: no phone ever rings twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from faults.killed import Killed

from ring2.agents import Attempt
from ring2.box import Box
from ring2.freeswitch import fill
from ring2.network import Exchange
from ring2.site import wait_for

CALLERS, AGENTS = 200, 20
NUMBER = "8030752490"
NUMBERS = [f"98730{at:05d}" for at in range(AGENTS)]
RING, TALK = 0.5, 1.5  # seconds
SETUPS = 400  # a second that the box may take for this test: all come at once
# seconds without an app, after which FreeSWITCH would ring the agents by itself, and knows nothing of claims: on a machine with
# everything on it, phones too, a start may take as long as that
GUARD = 60
ENOUGH = 240.0  # seconds for all of them; an idle machine takes some 30


class Phones:
    """What happens at the agents' telephones. A phone has a call from its ringing until just before it lays down itself."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.rung: Counter[str] = Counter()
        self.twice: list[str] = []

    def play(self, attempt: Attempt) -> None:
        number = attempt.number
        self.calls[number] += 1
        self.rung[number] += 1
        if self.calls[number] > 1:
            self.twice.append(number)
        try:
            attempt.ring()
            attempt.pause(RING)
            attempt.answer(None)
            attempt.pause(TALK)
        finally:
            self.calls[number] -= 1
        attempt.hangup("NORMAL_CLEARING")


class Racing(Killed):
    """A site with twenty agents."""

    def _write_configuration(self) -> None:
        super()._write_configuration()
        people = [f'  a{at}: {{number: "+91{number}"}}' for at, number in enumerate(NUMBERS)]
        few = ", ".join(f'"+91{number}"' for number in NUMBERS[:5])
        values = {"AGENTS": "\n".join(people), "NAMES": ", ".join(f"a{at}" for at in range(AGENTS)), "FEW": few}
        fill(Path(__file__).with_name("race.yaml"), self.folder / "accounts" / "race.yaml", values)


@pytest.fixture
def site(switches: tuple[Box, Exchange], fs: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Racing]:
    box = switches[0]
    running = Racing(*switches, tmp_path_factory.mktemp("race") / "exoflow")
    box.set_vars({"exoflow_guard_seconds": GUARD})
    box.api(f"fsctl sps {SETUPS}")
    box.api(f"global_setvar exoflow_max_in_{box.trunk}={2 * CALLERS}")
    try:
        running.start()
        yield running
    finally:
        running.stop()
        box.set_vars({"exoflow_guard_seconds": 5})
        box.api("fsctl sps 60")
        box.api(f"global_setvar exoflow_max_in_{box.trunk}=")
        box.api("reloadxml")


def test_no_phone_rings_twice_though_exoflow_is_killed(site: Racing) -> None:
    phones = Phones()
    for number in NUMBERS:
        site.exchange.agent(number).behave(phones.play)
    visits = [site.call(NUMBER) for _ in range(CALLERS)]
    wait_for(lambda: sum(phones.rung.values()) >= 2 * AGENTS, ENOUGH, "agents who are rung")
    site.kill()
    with gevent.Timeout(ENOUGH, TimeoutError("not all calls have ended")):
        for visit in visits:
            visit.phone.wait_ended(ENOUGH)
    assert phones.twice == []
    assert sorted(phones.rung) == NUMBERS
    states = [visit.state(30) for visit in visits]
    assert Counter(state.outcome for state in states) == {"answered": CALLERS}
    assert sum(phones.rung.values()) == CALLERS
