"""Two hundred callers at once for twenty agents: no phone ever rings twice, also over a death; counted where the phones are."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from dying import kill
from hall import Hall, codes, eventually

from exoflow.sim import AgentScript
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
CALLERS, AGENTS, SEED = 200, 20, 5
NUMBERS = [f"+9198760{at:05d}" for at in range(AGENTS)]
# who finds everybody engaged waits a moment and tries again, until he has talked
STEPS: dict[str, Any] = {
    "named": {"connect": {"url": "crm:/agents"}, "answered": "bye", "unanswered": "moment"},
    "moment": {"pause": {"seconds": 2}, "next": "team"},
    "team": {"connect": {"group": "team", "ring_seconds": 5}, "answered": "bye", "unanswered": "moment"},
    "bye": {"hangup": {}},
}
# who talk at least. A virtual clock runs away from a slow disk, and then the dialplan's lease takes callers out of the race:
# after a death, when all are looked up at once, many of them
MOST = {False: CALLERS * 3 // 4, True: CALLERS // 4}
ENOUGH = 120.0  # wall seconds for all of them; an idle machine takes some 10


class Phones:
    """What happens at the agents' telephones: how many calls each one has."""

    only = None

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.rung: Counter[str] = Counter()
        self.twice: list[str] = []

    def wants(self, name: str) -> bool:
        return name in ("CHANNEL_CREATE", "CHANNEL_HANGUP_COMPLETE")

    def offer(self, event: Any) -> None:
        if event.get("Call-Direction") != "outbound":
            return
        number = event.get("Caller-Destination-Number")
        if event.name == "CHANNEL_CREATE":
            self.calls[number] += 1
            self.rung[number] += 1
            if self.calls[number] > 1:
                self.twice.append(number)
        else:
            self.calls[number] -= 1

    def close(self) -> None:
        """The switch stops."""


@pytest.mark.parametrize("dies", [False, True], ids=["", "exoflow dies"])
def test_no_phone_rings_twice(hall: Start, dies: bool) -> None:
    chance = random.Random(SEED)
    scripts = [AgentScript.answers(1, 4), AgentScript.answers(2, 2), AgentScript.rejects(1), AgentScript.busy()]
    weights = [5, 5, 1, 1]
    script = {number: chance.choices(scripts, weights, k=60) for number in NUMBERS}
    people = {f"a{at}": {"number": number} for at, number in enumerate(NUMBERS)}
    account = {"agents": people, "groups": {"team": {"agents": list(people), "ring": "equally"}}}
    h = hall(STEPS, agents=script, account=account, channels={"PRI1": 2 * CALLERS + AGENTS}, switch={"max_calls": 2 * CALLERS})
    phones = Phones()
    h.switch.bus.listeners.append(phones)  # type: ignore[arg-type]
    h.crm.script("/agents", lambda request: Reply.agents(*chance.sample(NUMBERS, 3)))
    calls = [h.call(from_number=f"+9198111{at:05d}") for at in range(CALLERS)]
    if dies:
        h.until(lambda: sum(phones.rung.values()) >= 2 * AGENTS, ENOUGH)
        kill(h)
    for phone in calls:
        assert phone.wait(ENOUGH), f"the call does not end; {codes(h.states[phone.uuid])}"
    assert phones.twice == []
    assert len(phones.rung) == AGENTS
    assert sum(phone.talked_at is not None for phone in calls) >= MOST[dies]
    eventually(lambda: not len(h.service.staff.claims), ENOUGH)
    assert +phones.calls == Counter()
