"""The caller hangs up in every step: what still runs, what does not, and how the record ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import ASHA, BYE, RAVI, WAIT, Hall, codes, entry, eventually, menu, say, visited

from exoflow.sim import AgentScript, Phone
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
TELL = {"passthru": {"url": "crm:/passthru", "timeout": 2}, "ok": "bye", "redirect": "bye"}


def hung_up(hall: Hall, when: Callable[[Phone], bool], **options: Any) -> Any:
    """The record of a call whose caller hung up as soon as `when` was true."""
    phone = hall.call(**options)
    assert phone.wait_until(when, WAIT)
    phone.hangup()
    return hall.ended(phone)


def by_caller(state: Any) -> bool:
    left = entry(state, "caller.left")
    assert (left.evidence["cause"], left.evidence["q850"]) == ("NORMAL_CLEARING", 16)
    return (state.ended_by, state.caller_left, state.cause, state.q850) == ("caller", True, "NORMAL_CLEARING", 16)


def test_in_a_greeting(hall: Start) -> None:
    h = hall({"hello": say("Welcome to Acme, how nice of you to call.", "tell"), "tell": TELL, "bye": BYE})
    state = hung_up(h, lambda p: bool(p.heard))
    assert by_caller(state)
    assert entry(state, "caller.left").step == "hello"
    assert len(h.crm.to("/passthru")) == 1  # it needs no caller
    assert visited(state) == ["hello", "tell", "bye"]
    assert "hangup.after" in codes(state)
    assert (state.outcome, state.reason) == ("abandoned", "caller.left")


@pytest.mark.parametrize("heard", [1, 2])
def test_in_a_menu_there_is_no_way_on(hall: Start, heard: int) -> None:
    h = hall({"hello": say("Welcome.", "ask"), "ask": menu({"1": "tell"}, "tell"), "tell": TELL, "bye": BYE})
    state = hung_up(h, lambda p: len(p.heard) == heard)
    assert by_caller(state)
    assert h.crm.requests == h.crm.deliveries
    assert (state.outcome, state.reason, state.digits) == ("abandoned", "caller.left", "")
    assert h.crm.wait_for_deliveries(1)[0].event["type"] == "call.ended"


def test_while_a_menu_waits_for_a_key(hall: Start) -> None:
    h = hall({"ask": menu({"1": "bye"}, timeout=60), "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    phone.after(20, phone.hangup)  # the prompt is over
    state = h.ended(phone)
    assert phone.heard[0].seconds < 10
    assert by_caller(state)
    assert state.outcome == "abandoned"


def test_before_anything_was_answered(hall: Start) -> None:
    h = hall({"tell": TELL | {"ok": "hello"}, "hello": say("Hi."), "bye": BYE})
    h.crm.script("/passthru", Reply(200, delay=0.3))
    phone = h.call()
    eventually(lambda: h.crm.to("/passthru"))
    phone.hangup("ORIGINATOR_CANCEL")
    state = h.ended(phone)
    assert phone.answered_at is None
    assert state.answered_at is None
    assert (state.outcome, state.cause, state.ended_by) == ("abandoned", "ORIGINATOR_CANCEL", "caller")
    assert len(h.crm.to("/passthru")) == 1
    assert phone.texts == []


def test_while_the_crm_is_asked_it_is_asked_once(hall: Start) -> None:
    """A passthru that is under way when the caller leaves ends as itself, and its branch is taken."""
    steps = {"hello": say("Hi.", "first"), "first": TELL | {"ok": "second"}, "second": TELL, "bye": BYE}
    h = hall(steps)
    h.crm.script("/passthru", Reply(200, delay=0.6), Reply(200))
    phone = h.call()
    eventually(lambda: h.crm.to("/passthru"))
    assert phone.wait_until(lambda p: len(p.heard) == 2, WAIT)  # the hold tone
    phone.hangup()
    state = h.ended(phone)
    assert visited(state) == ["hello", "first", "second", "bye"]
    assert len(h.crm.to("/passthru")) == 2
    assert [one.code for one in state.journey if one.step == "first"].count("crm.200") == 1
    assert state.ended_by == "caller"


def connect(**how: Any) -> dict[str, Any]:
    return {
        "agents": {"connect": {"numbers": [ASHA, RAVI], **how}, "answered": "tell", "unanswered": "missed"},
        "tell": TELL,
        "missed": {"passthru": {"url": "crm:/missed"}, "ok": "bye", "redirect": "bye"},
        "bye": BYE,
    }


def test_while_an_agent_is_rung(hall: Start) -> None:
    h = hall(connect(), agents={ASHA: AgentScript.silent()})
    state = hung_up(h, lambda p: ("rings", "09876543210") in p.agents)
    assert by_caller(state)
    (leg,) = state.legs  # the second is not rung any more
    assert leg.outcome == "caller_gone"
    assert leg.alerting_at is not None
    assert leg.released_at is not None
    assert h.switch.rung == ["09876543210"]
    assert h.switch.channels == {}
    assert len(h.crm.to("/missed")) == 1
    assert h.crm.to("/missed")[0].get("DialCallStatus") == "canceled"
    assert h.crm.to("/passthru") == []
    assert state.outcome == "missed"
    assert h.crm.wait_for_deliveries(1)[0].event["type"] == "call.missed"


@pytest.mark.parametrize("who", ["caller", "agent"])
@pytest.mark.parametrize("record", ["none", "dual"])
def test_a_passthru_behind_a_talk_fires_once_whoever_ends_it(hall: Start, who: str, record: str) -> None:
    h = hall(connect(record=record), agents={ASHA: AgentScript.answers(1, None if who == "caller" else 4)})
    phone = h.call()
    assert phone.wait_until(lambda p: p.talked_at is not None, WAIT)
    if who == "caller":
        phone.hangup()
    state = h.ended(phone)
    (told,) = h.crm.to("/passthru")
    assert told.get("DialCallStatus") == "completed"
    assert told.get("CallSid") == state.facts.id
    assert told.get("DialWhomNumber") == "09876543210"
    assert h.crm.to("/missed") == []
    assert state.outcome == "answered"
    assert state.ended_by == ("caller" if who == "caller" else "exoflow")
    assert state.legs[0].outcome == "answered"


def test_a_passthru_behind_a_talk_fires_once_though_the_caller_leaves_while_it_is_asked(hall: Start) -> None:
    h = hall(connect(), agents={ASHA: AgentScript.answers(1, 2)})
    h.crm.script("/passthru", Reply(200, delay=0.3))
    phone = h.call()
    eventually(lambda: h.crm.to("/passthru"))
    phone.hangup()
    state = h.ended(phone)
    assert len(h.crm.to("/passthru")) == 1
    assert (state.outcome, state.ended_by) == ("answered", "caller")
    assert codes(state).count("crm.200") == 1


def test_a_passthru_behind_a_talk_that_times_out_fires_once(hall: Start) -> None:
    steps = connect()
    steps["tell"] = {**TELL, "passthru": {"url": "crm:/passthru", "timeout": 0.3}}
    h = hall(steps, agents={ASHA: AgentScript.answers(1, 2)})
    h.crm.script("/passthru", Reply(200, delay=1))
    phone = h.call()
    eventually(lambda: h.crm.to("/passthru"))
    phone.hangup()
    state = h.ended(phone)
    assert len(h.crm.to("/passthru")) == 1
    assert entry(state, "crm.timeout").stage == "E"
    assert state.outcome == "answered"


def test_while_the_crm_names_the_agents_nobody_is_rung(hall: Start) -> None:
    steps = connect()
    steps["agents"]["connect"] = {"url": "crm:/connect"}
    h = hall(steps)
    h.crm.script("/connect", Reply.agents(ASHA))
    h.crm.script("/connect", Reply(200, Reply.agents(ASHA).body, "application/json", delay=0.3))
    phone = h.call()
    eventually(lambda: h.crm.to("/connect"))
    phone.hangup()
    state = h.ended(phone)
    assert h.switch.rung == []
    assert state.legs == []
    assert len(h.crm.to("/missed")) == 1
    assert (state.outcome, state.reason) == ("abandoned", "caller.left")
    # somebody should call back: an agent was wanted
    assert h.crm.wait_for_deliveries(1)[0].event["type"] == "call.missed"


def test_steps_that_go_round_without_a_caller_end(hall: Start) -> None:
    """The menu gives the choice, so the circle is allowed; without a caller nobody chooses."""
    steps = {
        "agents": {"connect": {"numbers": [ASHA]}, "answered": "tell", "unanswered": "tell"},
        "tell": TELL | {"ok": "agents"},
        "bye": BYE,
    }
    h = hall(steps, agents={ASHA: AgentScript.answers(1, None)})
    state = hung_up(h, lambda p: p.talked_at is not None)
    assert len(h.crm.to("/passthru")) == 1
    assert len(state.legs) == 1
    assert state.outcome == "answered"


@pytest.mark.parametrize("when", ["arrived", "ringing"])
def test_at_once(hall: Start, when: str) -> None:
    """Before the first step has begun: the record ends all the same, and steps that need no caller run."""
    h = hall({"hello": say("Hi.", "tell"), "tell": TELL, "bye": BYE})
    phone = h.call()
    h.until(lambda: phone.uuid in h.states if when == "arrived" else phone.ringing_at is not None)
    phone.hangup("ORIGINATOR_CANCEL")
    state = h.ended(phone)
    assert (state.outcome, state.reason, state.ended_by) == ("abandoned", "caller.left", "caller")
    assert state.ended_at is not None
    assert len(h.crm.to("/passthru")) == 1
    eventually(lambda: h.service.server.active == 0)
