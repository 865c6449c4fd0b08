"""connect with several phones that ring at once: who talks, what became of the others, and whom a death leaves ringing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import ASHA, BYE, MEENA, RAVI, WAIT, Hall, codes, entry, say, visited

from exoflow.sim import AgentScript
from exoflow.sim.agents import Handset
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
ALL = [ASHA, RAVI, MEENA]
TWO_TRUNKS = {"PRI1": {"span": "PRI1"}, "PRI2": {"span": "PRI2"}}


def at_once(**how: Any) -> dict[str, Any]:
    return {
        "agents": {"connect": {"numbers": ALL, "parallel": 3, **how}, "answered": "after", "unanswered": "sorry"},
        "after": say("Goodbye."),
        "sorry": say("Nobody is free."),
        "bye": BYE,
    }


def test_the_first_to_answer_talks_and_the_others_stop_to_ring(hall: Start) -> None:
    agents = {ASHA: AgentScript.answers(9, 5), RAVI: AgentScript.answers(3, 5), MEENA: AgentScript.busy()}
    h = hall(at_once(record="dual"), agents=agents)
    phone, state = h.run()
    assert [(leg.number, leg.outcome) for leg in state.legs] == [(ASHA, "taken"), (RAVI, "answered"), (MEENA, "busy")]
    assert len(h.executed("bridge")) == 1
    assert {attempt.uuid for attempt in h.switch.attempts} == {leg.uuid for leg in state.legs}
    assert [leg.cause for leg in state.legs] == ["LOSE_RACE", "NORMAL_CLEARING", "USER_BUSY"]
    talk, lost = state.legs[1], state.legs[0]
    assert talk.answered_at is not None
    assert lost.answered_at is None
    assert lost.released_at is not None
    assert abs((lost.released_at - talk.answered_at).total_seconds()) < 1
    told = [code for code in codes(state) if code.startswith("leg.")]
    assert told == ["leg.dialled"] * 3 + ["leg.taken", "leg.talked", "leg.busy"]
    assert [one.state for one in state.recordings] == ["good"]
    assert visited(state) == ["agents", "after", "bye"]
    assert phone.texts == ["Goodbye."]
    assert h.switch.violations == []


@pytest.mark.parametrize("away", [False, True])
def test_two_who_answer_in_the_same_moment(hall: Start, away: bool) -> None:
    """One of them talks; the other's CONNECT came too late."""
    handsets: list[Handset] = []
    h = hall(at_once(), agents=dict.fromkeys(ALL, AgentScript.by_hand(handsets.append)))
    phone = h.call()
    h.until(lambda: len(handsets) == 3)
    if away:
        h.lose_socket(phone)
    for handset in handsets:
        handset.answer()
    assert phone.wait_until(lambda p: p.talked_at is not None, WAIT)
    h.switch.clock.sleep(5)
    for handset in handsets:
        handset.release("NORMAL_CLEARING")
    state = h.ended(phone)
    assert sum(attempt.answered for attempt in h.switch.attempts) > 1
    assert sorted(leg.outcome for leg in state.legs) == ["answered", "taken", "taken"]
    assert [leg.outcome for leg in state.legs if leg.answered_at is not None] == ["answered"]
    assert state.talk_leg is not None
    assert state.talk_leg.talk_seconds == pytest.approx(5, abs=1)
    assert phone.texts == ["Goodbye."]


def test_they_ring_in_turns_of_so_many(hall: Start) -> None:
    agents = {ASHA: AgentScript.silent(), RAVI: AgentScript.busy(), MEENA: AgentScript.answers(1, 3)}
    h = hall(at_once(parallel=2, ring_seconds=8), agents=agents)
    _, state = h.run()
    assert [(leg.number, leg.outcome) for leg in state.legs] == [(ASHA, "no_answer"), (RAVI, "busy"), (MEENA, "answered")]
    assert len(h.executed("bridge")) == 2
    assert state.legs[0].total_seconds == pytest.approx(8, abs=2)
    assert state.legs[1].total_seconds < 3
    assert h.switch.violations == []


def test_nobody_answers(hall: Start) -> None:
    agents = {ASHA: AgentScript.silent(), RAVI: AgentScript.rejects(1), MEENA: AgentScript.unreachable()}
    h = hall(at_once(ring_seconds=8), agents=agents)
    _, state = h.run()
    assert [leg.outcome for leg in state.legs] == ["no_answer", "rejected", "unreachable"]
    assert (state.outcome, state.reason) == ("missed", "leg.unreachable")
    assert visited(state) == ["agents", "sorry", "bye"]


def test_the_caller_leaves_while_they_ring(hall: Start) -> None:
    h = hall(at_once(), agents={ASHA: AgentScript.silent(), RAVI: AgentScript.silent(), MEENA: AgentScript.busy()})
    phone = h.call()
    h.until(lambda: len(h.switch.attempts) == 3)
    h.switch.clock.sleep(3)
    phone.hangup()
    state = h.ended(phone)
    assert [leg.outcome for leg in state.legs] == ["caller_gone", "caller_gone", "busy"]
    assert state.ended_by == "caller"


def test_only_those_whom_our_line_could_not_reach_are_rung_over_another(hall: Start) -> None:
    agents = {
        ASHA: [AgentScript.without_channel(), AgentScript.answers(1, 3)],
        RAVI: AgentScript.busy(),
        MEENA: [AgentScript.released("NORMAL_TEMPORARY_FAILURE"), AgentScript.silent()],
    }
    h = hall(at_once(), agents=agents, trunks=TWO_TRUNKS)
    _, state = h.run()
    assert [(leg.number, leg.trunk, leg.outcome) for leg in state.legs] == [
        (ASHA, "PRI1", "trunk"),
        (RAVI, "PRI1", "busy"),
        (MEENA, "PRI1", "trunk"),
        (ASHA, "PRI2", "answered"),
        (MEENA, "PRI2", "taken"),
    ]


def test_the_crm_decides_how_many(hall: Start) -> None:
    steps = at_once()
    steps["agents"]["connect"] = {"url": "crm:/connect"}
    h = hall(steps, agents={ASHA: AgentScript.silent(), RAVI: AgentScript.answers(2, 3), MEENA: AgentScript.silent()})
    h.crm.script("/connect", Reply.agents(*ALL, parallel_ringing={"activate": True, "max_parallel_attempts": 2}))
    _, state = h.run()
    assert [(leg.number, leg.outcome) for leg in state.legs] == [(ASHA, "taken"), (RAVI, "answered")]


def test_without_the_event_socket_the_callers_leg_tells_of_each(hall: Start) -> None:
    agents = {ASHA: AgentScript.answers(9, 5), RAVI: AgentScript.answers(3, 5), MEENA: AgentScript.busy()}
    h = hall(at_once(), agents=agents, lines=False)
    _, state = h.run()
    assert [leg.outcome for leg in state.legs] == ["taken", "answered", "busy"]
    assert state.legs[1].talk_seconds == pytest.approx(5, abs=2)
    assert entry(state, "lines.down").stage == "G"


@pytest.mark.parametrize("cdr", [True, False])
def test_a_socket_lost_while_they_ring(hall: Start, cdr: bool) -> None:
    """The switch goes on; what became of each is found out, and nobody is rung twice."""
    agents = {ASHA: AgentScript.answers(9, 5), RAVI: AgentScript.answers(4, 5), MEENA: AgentScript.busy()}
    h = hall(at_once(), agents=agents)
    h.switch.cdr = h.switch.cdr if cdr else None
    phone = h.call()
    h.until(lambda: len(h.switch.attempts) == 3)
    h.lose_socket(phone)
    state = h.ended(phone)
    assert [(leg.number, leg.outcome) for leg in state.legs] == [(ASHA, "taken"), (RAVI, "answered"), (MEENA, "busy")]
    assert len(h.switch.attempts) == 3
    assert state.legs[1].talk_seconds == pytest.approx(5, abs=2)
    assert visited(state) == ["agents", "after", "bye"]


@pytest.mark.parametrize("talks", ALL)
def test_the_crm_hears_of_whom_the_caller_talked_with(hall: Start, talks: str) -> None:
    steps = at_once(record="none")
    steps["after"] = {"passthru": {"url": "crm:/after"}, "ok": "bye", "redirect": "bye"}
    agents = {number: AgentScript.answers(2, 3) if number == talks else AgentScript.silent() for number in ALL}
    h = hall(steps, agents=agents)
    h.run()
    (after,) = h.crm.to("/after")
    assert after.get("DialWhomNumber") == "0" + talks.removeprefix("+91")
    assert (after.get("CallType"), after.get("DialCallStatus")) == ("completed", "completed")


def test_the_crm_hears_that_the_caller_left_though_the_last_phone_was_busy(hall: Start) -> None:
    steps = at_once()
    steps["sorry"] = {"passthru": {"url": "crm:/after"}, "ok": "bye", "redirect": "bye"}
    h = hall(steps, agents={ASHA: AgentScript.silent(), RAVI: AgentScript.silent(), MEENA: AgentScript.busy()})
    phone = h.call()
    h.until(lambda: len(h.switch.attempts) == 3)
    h.switch.clock.sleep(3)
    phone.hangup()
    h.ended(phone)
    (after,) = h.crm.to("/after")
    assert (after.get("CallType"), after.get("DialCallStatus")) == ("client-hangup", "canceled")
