"""agent: an agent calls, and is rung from then on or no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import ASHA, BYE, OURS, RAVI, Hall, codes, entry, eventually, menu, say, visited

from exoflow.errors import StoreError

Start = Callable[..., Hall]
STEPS: dict[str, Any] = {
    "choose": menu({"1": "take", "0": "rest"}),
    "take": {"agent": {"state": "on"}, "done": "taken", "unknown": "stranger"},
    "rest": {"agent": {"state": "off"}, "done": "rested", "unknown": "stranger"},
    "taken": say("You will be called."),
    "rested": say("You will not be called."),
    "stranger": say("Please call from your own phone."),
    "bye": BYE,
}
SALES = {"agents": {"connect": {"group": "support"}, "answered": "bye", "unanswered": "bye"}, "bye": BYE}
CALLED = "+918030752401"


@pytest.fixture
def site(hall: Start) -> Hall:
    flows = {"main": {"start": "choose", "steps": STEPS}, "sales": {"start": "agents", "steps": SALES}}
    numbers = [{"number": OURS, "trunk": "PRI1", "flow": "main"}, {"number": CALLED, "trunk": "PRI1", "flow": "sales"}]
    return hall(STEPS, account={"flows": flows, "numbers": numbers})


def rung(site: Hall) -> list[str | None]:
    return [leg.agent for leg in site.run(to=CALLED)[1].legs]


def test_an_agent_takes_calls_no_more_and_again(site: Hall) -> None:
    assert rung(site) == ["Asha"]
    phone, state = site.run(from_number=ASHA, keys="0")
    assert phone.texts[-1] == "You will not be called."
    assert entry(state, "agent.off").evidence == {"agent": "asha", "number": ASHA}
    assert rung(site) == ["Ravi"]
    phone, state = site.run(from_number=ASHA, keys="1")
    assert phone.texts[-1] == "You will be called."
    assert (state.outcome, visited(state)) == ("served", ["choose", "take", "taken", "bye"])
    assert rung(site) == ["Asha"]


def test_it_counts_over_a_restart(site: Hall) -> None:
    site.run(from_number=ASHA, keys="0")
    site.service.stop()
    site.serve()
    assert rung(site) == ["Ravi"]


@pytest.mark.parametrize("caller", [{"from_number": "+919811100009"}, {"from_number": ASHA, "withheld": True}])
def test_others_are_told_so(site: Hall, caller: dict[str, Any]) -> None:
    phone, state = site.run(keys="0", **caller)
    assert phone.texts[-1] == "Please call from your own phone."
    assert "agent.unknown" in codes(state)
    assert rung(site) == ["Asha"]


def test_who_hangs_up_behind_his_key_is_switched_all_the_same(site: Hall) -> None:
    phone = site.call(from_number=RAVI, keys="0")
    site.noted("menu.key")
    phone.hangup()
    site.ended(phone)
    eventually(lambda: not site.service.staff.state("acme", "ravi").available)


def test_without_the_store_it_counts_until_a_restart(site: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> None:
        raise StoreError("a test")

    with monkeypatch.context() as patch:
        patch.setattr(site.service.staff._memory, "switched", closed)
        _, state = site.run(from_number=ASHA, keys="0")
    assert codes(state).count("store.slow") == 1
    assert rung(site) == ["Ravi"]
