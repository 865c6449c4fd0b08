"""Whom a group rings first: the orders as pure rules, and as callers meet them, over restarts too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hall import ASHA, BYE, MEENA, RAVI, Hall, codes, entry, eventually

from exoflow.agents.groups import Candidate
from exoflow.agents.order import arranged
from exoflow.agents.staff import Seeker
from exoflow.config.people import Ring
from exoflow.sim import AgentScript

Start = Callable[..., Hall]
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EVERYBODY = {"agents": {"connect": {"group": "team"}, "answered": "bye", "unanswered": "bye"}, "bye": BYE}
STRANGER = "+919873000001"  # of no account's file
ORDER = ["meena", "asha", "ravi"]  # of the group; by number: asha, ravi, meena
BUSY = {number: AgentScript.busy() for number in (ASHA, RAVI, MEENA)}


def numbers(ring: Ring, of: str, marked: str | None = None, freed: dict[str, datetime] | None = None) -> str:
    """The order of agents whose numbers are +910, +911, …"""
    agents = [Candidate(f"+91{digit}", None) for digit in of]
    found = arranged(ring, agents, marked=None if marked is None else f"+91{marked}", freed_at=(freed or {}).get)
    return "".join(one.number[-1] for one in found)


# --- the rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "marked", "order"),
    [
        ("4213", None, "1234"),
        ("4213", "2", "3412"),
        ("4213", "4", "1234"),
        ("421", "3", "412"),  # the marked one is busy: those below him go to the end
        ("4213", "9", "1234"),
        ("4213", "0", "1234"),
        ("1", "1", "1"),
    ],
)
def test_equally_goes_by_number_from_behind_the_marked_one(free: str, marked: str | None, order: str) -> None:
    """facts, exotel-dialect.md section 4.1 [doc]"""
    assert numbers("equally", free, marked) == order


def test_longest_idle_begins_with_those_who_have_not_talked() -> None:
    freed = {"+911": NOW, "+913": NOW - timedelta(hours=1)}
    assert numbers("longest_idle", "41325", freed=freed) == "42531"


def test_in_order_is_the_groups_order() -> None:
    assert numbers("in_order", "4213", marked="2") == "4213"


# --- as callers meet them -----------------------------------------------------------------------------


def team(hall: Start, agents: dict[str, Any], steps: dict[str, Any] = EVERYBODY, **settings: Any) -> Hall:
    h = hall(steps, agents=agents, account={"groups": {"team": {"agents": ORDER, **settings}}})
    on_the_switchs_clock(h)
    return h


def on_the_switchs_clock(h: Hall) -> None:
    """Which runs faster than the wall's."""
    h.service.staff.clock = lambda: datetime.fromtimestamp(h.switch.clock.micros() / 1e6, UTC)


def restart(h: Hall) -> None:
    h.service.stop()
    h.serve()
    on_the_switchs_clock(h)


def rung(h: Hall, **caller: Any) -> list[str | None]:
    """Who was rung for one more call, in order."""
    _, state = h.run(**caller)
    return [leg.agent for leg in state.legs]


def test_calls_go_round_equally_also_over_a_restart(hall: Start) -> None:
    h = team(hall, {}, ring="equally")
    assert [rung(h) for _ in range(4)] == [["Asha"], ["Ravi"], ["Meena"], ["Asha"]]
    restart(h)
    assert [rung(h) for _ in range(2)] == [["Ravi"], ["Meena"]]


def test_equally_goes_on_with_the_next_one_when_nobody_answers(hall: Start) -> None:
    h = team(hall, {ASHA: AgentScript.busy(), MEENA: AgentScript.busy()}, ring="equally")
    assert [rung(h) for _ in range(3)] == [["Asha", "Ravi"], ["Meena", "Asha", "Ravi"], ["Meena", "Asha", "Ravi"]]


def test_each_flow_has_a_mark_of_its_own(hall: Start) -> None:
    flows = {name: {"start": "agents", "steps": EVERYBODY} for name in ("main", "sales")}
    ours = [{"number": f"+91803075240{at}", "trunk": "PRI1", "flow": name} for at, name in enumerate(flows)]
    account = {"groups": {"team": {"agents": ORDER, "ring": "equally"}}, "numbers": ours, "flows": flows}
    h = hall(EVERYBODY, account=account)
    assert [rung(h), rung(h)] == [["Asha"], ["Ravi"]]
    assert [rung(h, to="+918030752401"), rung(h, to="+918030752401")] == [["Asha"], ["Ravi"]]
    assert rung(h) == ["Meena"]


def test_longest_idle_rings_who_has_been_free_for_longest_also_after_a_restart(hall: Start) -> None:
    h = team(hall, {}, ring="longest_idle")
    assert [rung(h) for _ in range(4)] == [["Meena"], ["Asha"], ["Ravi"], ["Meena"]]
    restart(h)
    assert [rung(h) for _ in range(2)] == [["Asha"], ["Ravi"]]


def test_a_callers_last_agent_is_rung_first_for_some_days(hall: Start) -> None:
    h = team(hall, {MEENA: [AgentScript.busy(), AgentScript.answers(1, 2)], ASHA: AgentScript.busy()}, sticky_days=2)
    assert rung(h) == ["Meena", "Asha", "Ravi"]  # he talked with Ravi
    assert rung(h) == ["Ravi"]
    assert rung(h, from_number="+919811100002") == ["Meena"]
    restart(h)
    assert rung(h) == ["Ravi"]
    h.service.staff.clock = lambda: datetime.now(UTC) + timedelta(days=3)
    assert rung(h) == ["Meena"]


def test_a_last_agent_who_is_engaged_is_passed_over(hall: Start) -> None:
    h = team(hall, {MEENA: [AgentScript.busy(), AgentScript.answers(1, 2)]}, sticky_days=2)
    assert rung(h) == ["Meena", "Asha"]
    h.service.staff.claims.hold(ASHA, "talks")
    assert rung(h) == ["Meena"]


def test_a_sticky_call_is_no_turn_in_an_equal_round(hall: Start) -> None:
    h = team(hall, {}, ring="equally", sticky_days=2)
    assert [rung(h), rung(h)] == [["Asha"], ["Asha"]]
    assert rung(h, from_number="+919811100002") == ["Ravi"]


def test_a_store_that_cannot_be_read_is_done_without(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    h = team(hall, {}, ring="equally", sticky_days=2)
    assert rung(h) == ["Asha"]
    monkeypatch.setattr("exoflow.agents.memory.last_agent", lambda *_: (_ for _ in ()).throw(OSError("a test")))
    with monkeypatch.context() as patch:
        patch.setattr("exoflow.agents.staff.STICKY_SECONDS", 0.0)
        assert rung(h) == ["Ravi"]


# --- who is left alone ----------------------------------------------------------------------------------


def why(h: Hall, **caller: Any) -> dict[str, str]:
    """Who was not rung for one more call, and why."""
    _, state = h.run(**caller)
    told = [one for line in state.journey if line.code == "connect.passed_over" for one in line.evidence["agents"]]
    return {one["agent"]: one["why"] for one in told}


def after(h: Hall, seconds: float) -> None:
    """It is so long after the last attempt on Meena; the switch's own clock leaps while nothing happens."""
    at = h.service.staff.standings.tried[MEENA].at + timedelta(seconds=seconds)
    h.service.staff.clock = lambda: at


def test_behind_a_talk_an_agent_has_time_to_write_it_up(hall: Start) -> None:
    h = team(hall, {}, wrap_up_seconds=60)
    assert why(h) == {}
    after(h, 59)
    assert why(h) == {"Meena": "wrap_up"}
    after(h, 61)
    assert why(h) == {}


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (AgentScript.busy(), "busy"),
        (AgentScript.rejects(1), "rejected"),
        (AgentScript.silent(), "no_answer"),
        (AgentScript.unreachable(), "no_answer"),
    ],
)
def test_who_was_not_reached_is_left_alone_for_a_while(hall: Start, script: AgentScript, kind: str) -> None:
    h = team(hall, {MEENA: script}, pause_seconds={kind: 3600})
    assert why(h) == {}
    after(h, 3000)
    assert why(h) == {"Meena": "paused"}
    restart(h)
    after(h, 3000)
    assert why(h) == {"Meena": "paused"}
    after(h, 3601)
    assert why(h) == {}


def test_nobody_is_left_alone_unless_it_is_configured(hall: Start) -> None:
    h = team(hall, BUSY)
    _, first = h.run()
    _, second = h.run()
    assert [len(state.legs) for state in (first, second)] == [3, 3]
    assert "connect.passed_over" not in codes(second)


def test_faults_of_our_lines_are_no_agents_fault(hall: Start) -> None:
    h = team(hall, {MEENA: AgentScript.without_channel()}, pause_seconds={"busy": 60, "no_answer": 60, "rejected": 60})
    assert why(h) == {}
    assert why(h) == {}


def test_of_numbers_that_are_no_agents_nothing_is_remembered(hall: Start) -> None:
    """A CRM may name any, and so many that those of the groups would be forgotten."""
    steps = {
        "agents": {"connect": {"numbers": [STRANGER, MEENA]}, "answered": "bye", "unanswered": "bye"},
        "bye": BYE,
    }
    h = team(hall, {STRANGER: AgentScript.busy()}, steps)
    assert rung(h) == [None, "Meena"]
    assert list(h.service.staff.standings.tried) == list(h.service.staff.standings.freed) == [MEENA]
    restart(h)
    assert list(h.service.staff.standings.tried) == list(h.service.staff.standings.freed) == [MEENA]


def test_outside_of_their_hours_groups_do_not_ring_agents_but_a_step_that_names_them_does(hall: Start) -> None:
    today = datetime.now(UTC).astimezone().strftime("%a").lower()
    week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    away = {day: ["00:00-24:00"] for day in week if week.index(day) == (week.index(today) + 3) % 7}
    people = {"meena": {"number": MEENA, "name": "Meena", "hours": away}, "asha": {"number": ASHA, "name": "Asha"}}
    steps = {
        "agents": {"connect": {"group": "team"}, "answered": "then", "unanswered": "then"},
        "then": {"connect": {"numbers": [MEENA]}, "answered": "bye", "unanswered": "bye"},
        "bye": BYE,
    }
    h = hall(steps, account={"agents": people, "groups": {"team": {"agents": ["meena", "asha"]}}})
    _, state = h.run()
    assert [leg.agent for leg in state.legs] == ["Asha", "Meena"]
    assert entry(state, "connect.passed_over").text == "Not rung: Meena (not within his hours)"


def test_who_is_off_is_not_rung_whoever_names_him_and_stays_off(hall: Start) -> None:
    steps = {"agents": {"connect": {"numbers": [MEENA]}, "answered": "bye", "unanswered": "more"}} | {
        "more": {"connect": {"group": "team"}, "answered": "bye", "unanswered": "bye"},
        "bye": BYE,
    }
    h = team(hall, {}, steps)
    for name in ("asha", "meena"):
        h.service.staff.switch("acme", name, False, "a test").get(timeout=10)
    assert rung(h) == ["Ravi"]
    restart(h)
    assert why(h) == {"Meena": "off", "Asha": "off"}
    h.service.staff.switch("acme", "meena", True, "a test")
    assert rung(h) == ["Meena"]


def test_nobody_who_is_to_be_rung_is_a_reason_of_its_own(hall: Start) -> None:
    h = team(hall, {})
    for name in ORDER:
        h.service.staff.switch("acme", name, False, "a test")
    _, state = h.run()
    assert (state.outcome, state.reason, state.legs) == ("missed", "connect.away", [])


# --- how a group stands -----------------------------------------------------------------------------------


def test_a_group_is_busy_when_everybody_who_can_be_reached_talks(hall: Start) -> None:
    h = team(hall, BUSY, pause_seconds={"busy": 3600}, wrap_up_seconds=60)
    staff, account = h.service.staff, h.config.accounts["acme"]
    seeker = Seeker("acme", account, "main", "call", "team")
    people = [Candidate(number, None) for number in (ASHA, RAVI, MEENA)]
    assert staff.busyness(seeker, people) == (3, 0, None)
    assert not staff.busyness(seeker, people).all_talking
    staff.switch("acme", "asha", False, "a test")
    staff.claims.hold(RAVI, "talks")
    assert (staff.busyness(seeker, people).reachable, staff.busyness(seeker, people).all_talking) == (2, False)
    at = staff.clock()
    staff.standings.ended(MEENA, "answered", at)
    assert staff.busyness(seeker, people) == (2, 2, at)  # she writes up what was said
    assert staff.busyness(seeker, people).all_talking
    staff.standings.ended(MEENA, "busy", at)
    assert staff.busyness(seeker, people).reachable == 1
    staff.switch("acme", "ravi", False, "a test")
    assert not staff.busyness(seeker, people).all_talking  # with nobody there is nothing to wait for


# --- at once ------------------------------------------------------------------------------------------------


def test_a_group_may_ring_all_its_free_agents_at_once(hall: Start) -> None:
    h = team(hall, {RAVI: AgentScript.answers(1, 5), ASHA: AgentScript.answers(3, 5)}, ring="all_at_once")
    h.service.staff.claims.hold(MEENA, "talks")
    _, state = h.run()
    assert [(leg.agent, leg.outcome) for leg in state.legs] == [("Asha", "taken"), ("Ravi", "answered")]
    (dialled,) = h.executed("bridge")
    assert all(number in dialled for number in ("9876543210", "9876543211"))
    h.service.staff.claims.release("talks")
    eventually(lambda: not len(h.service.staff.claims))
