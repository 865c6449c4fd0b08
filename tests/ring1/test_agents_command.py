"""`exoflow agents` beside a running exoflow: who is free and who not and why, and agents switched on and off by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import gevent
import pytest
from click.testing import CliRunner
from hall import ASHA, BYE, MEENA, RAVI, Hall, eventually

from exoflow.agents import wishes
from exoflow.agents.wishes import Wish, folder_of, leave
from exoflow.calls import rows
from exoflow.cli import main
from exoflow.commands import agents as command
from exoflow.sim import AgentScript
from exoflow.store import tables as t

Start = Callable[..., Hall]
STEPS = {"agents": {"connect": {"group": "support"}, "answered": "bye", "unanswered": "bye"}, "bye": BYE}
GROUPS = {"support": {"agents": ["asha", "ravi"], "wrap_up_seconds": 3600}, "backup": {"agents": ["meena"]}}


def run(site: Hall, *arguments: str, code: int = 0) -> str:
    """In a thread, as another process: the service runs on meanwhile."""

    def invoke() -> Any:
        return CliRunner().invoke(main, ["agents", *arguments, "-c", str(site.folder / "exoflow.yaml")])

    done = gevent.get_hub().threadpool.apply(invoke)
    assert done.exit_code == code, done.output
    return str(done.output)


def states(site: Hall) -> dict[str, str]:
    return {one["agent"]: one["state"] for one in json.loads(run(site, "--json"))}


@pytest.fixture
def site(hall: Start, monkeypatch: pytest.MonkeyPatch) -> Hall:
    monkeypatch.setattr(wishes, "LOOK_SECONDS", 0.01)
    return hall(STEPS, account={"groups": GROUPS})


def rung(site: Hall) -> list[str | None]:
    return [leg.agent for leg in site.run()[1].legs]


def test_everybody_is_free_at_first(site: Hall) -> None:
    assert states(site) == {"asha": "free", "ravi": "free", "meena": "free"}
    told = run(site)
    assert told.splitlines()[0].split() == ["ACCOUNT", "AGENT", "NUMBER", "GROUPS", "NOW", "LAST", "TALK"]
    assert told.splitlines()[1].split() == ["acme", "asha", ASHA, "support", "free"]


def test_who_is_off_is_not_rung_until_he_is_on_again(site: Hall) -> None:
    assert run(site, "off", "asha", "meena") == "asha of acme is off\nmeena of acme is off\n"
    assert states(site) == {"asha": "off", "ravi": "free", "meena": "off"}
    assert rung(site) == ["Ravi"]
    assert "switched off since" in run(site)
    assert "by command" in run(site)
    assert json.loads(run(site, "on", "asha", "--json")) == {
        "switched": [{"account": "acme", "agent": "asha", "available": True}],
        "waiting": [],
    }
    assert rung(site) == ["Asha"]


def test_who_is_rung_or_talks_is_engaged_and_behind_it_left_alone(hall: Start) -> None:
    site = hall(STEPS, account={"groups": GROUPS}, agents={ASHA: AgentScript.answers(1, None)})
    phone = site.call()
    site.until(lambda: phone.talked_at)
    with site.switch.clock.held():
        site.service.store.write(lambda connection: None)
        (asha, *_) = json.loads(run(site, "--json"))
        assert (asha["state"], asha["call"]) == ("engaged", site.states[phone.uuid].facts.id)
        assert site.states[phone.uuid].facts.id[:8] in run(site)
    phone.hangup()
    call = site.ended(phone)
    leg = call.legs[0]
    leg.released_at = datetime.now(UTC) - timedelta(seconds=60)  # by the wall's clock, which the switch's has overtaken
    row = rows.leg_row(call.facts.id, leg)
    site.service.store.write(
        lambda connection: connection.execute(t.legs.update().where(t.legs.c.uuid == leg.uuid).values(row))
    )
    (asha, *_) = json.loads(run(site, "--json"))
    assert (asha["state"], asha["by_groups"]) == ("wrap_up", ["support"])
    assert asha["freed_at"] is not None


def test_who_calls_us_is_engaged(site: Hall) -> None:
    with site.switch.clock.held():
        phone = site.call(from_number="+919876543211")
        site.until(lambda: phone.uuid in site.states)
        site.service.store.write(lambda connection: None)
        assert states(site)["ravi"] == "engaged"
    phone.hangup()


def test_a_wish_waits_until_exoflow_serves(site: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "TAKEN_SECONDS", 0.1)
    site.service.stop()
    assert "asha of acme is off, as soon as `exoflow serve` runs" in run(site, "off", "asha")
    assert json.loads(run(site, "--json", "off", "ravi"))["waiting"] == ["ravi"]
    site.serve()
    eventually(lambda: not list(folder_of(site.service.store.path).iterdir()))
    assert states(site) == {"asha": "off", "ravi": "off", "meena": "free"}


def test_files_that_are_no_wish_are_removed(site: Hall) -> None:
    folder = folder_of(site.service.store.path)
    for at, text in enumerate(
        ("", "no", "[]", '{"account": "acme"}', '{"account": 1, "agent": 2, "available": 3}', "x" * 9999)
    ):
        (folder / f"strange{at}").write_text(text)
    leave(folder, Wish("acme", "nobody", False))
    leave(folder, Wish("nobody", "asha", False))
    eventually(lambda: not list(folder.iterdir()))
    assert states(site) == {"asha": "free", "ravi": "free", "meena": "free"}


def test_a_later_wish_wins(site: Hall) -> None:
    folder = folder_of(site.service.store.path)
    for available in (False, True, False):
        leave(folder, Wish("acme", "asha", available))
    eventually(lambda: not list(folder.iterdir()))
    assert states(site)["asha"] == "off"


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("off",), "agents off NAME"),
        (("away", "asha"), "agents off NAME"),
        (("off", "ashaa"), "did you mean `asha`?"),
        (("--account", "acne"), "did you mean `acme`?"),
    ],
)
def test_mistakes_are_told_with_their_cure(site: Hall, words: tuple[str, ...], cure: str) -> None:
    assert cure in run(site, *words, code=2)


def test_an_agent_of_two_accounts_wants_the_account_named(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wishes, "LOOK_SECONDS", 0.01)
    other = {"numbers": [], "flows": {"main": {"start": "bye", "steps": {"bye": BYE}}}}
    site = hall(STEPS, accounts={"acme": {}, "other": other})
    assert "add `--account acme`" in run(site, "off", "meena", code=2)
    assert run(site, "off", "meena", "--account", "other") == "meena of other is off\n"
    assert {one["account"]: one["state"] for one in json.loads(run(site, "--json")) if one["number"] == MEENA} == {
        "acme": "free",
        "other": "off",
    }
    assert RAVI in run(site, "--account", "other")
