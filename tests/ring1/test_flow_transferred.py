"""An agent's SIP phone redirects its calls, or transfers the caller: the caller stays, and the record says what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import ASHA, BYE, RAVI, Hall, codes, entry, outcomes, say, visited

from exoflow.sim import AgentScript

Start = Callable[..., Hall]
SIP = {"GW": {"gateway": "GW", "std_code": "80", "outbound": {"cli": "8030752400"}}}
OUR_OWN = ["frontdesk", "exoflow_lease", "exoflow_announcement", "exoflow_fallback", "8030752400", "+0088299123456"]


def flow(**how: Any) -> dict[str, Any]:
    return {
        "agents": {"connect": {"group": "support", **how}, "answered": "after", "unanswered": "sorry"},
        "after": say("Goodbye."),
        "sorry": say("Nobody is free."),
        "bye": BYE,
    }


def sip(hall: Start, agents: dict[str, AgentScript], **how: Any) -> Hall:
    """The account's line is a SIP trunk."""
    numbers = [{"number": "+918030752400", "trunk": "GW", "flow": "main"}]
    return hall(flow(**how), agents=agents, trunks=SIP, account={"numbers": numbers})


@pytest.mark.parametrize("to", OUR_OWN)
def test_a_phone_that_redirects_is_not_reached_and_the_next_agent_is_rung(hall: Start, to: str) -> None:
    h = sip(hall, {ASHA: AgentScript.redirected(to), RAVI: AgentScript.answers(2, 5)})
    phone, state = h.run()
    assert h.switch.rung == ["09876543210", "09876543211"]
    assert outcomes(state.legs) == ["unreachable", "answered"]
    redirected = entry(state, "leg.unreachable")
    assert "call forwarding" in redirected.text
    assert (state.legs[0].cause, state.legs[0].q850) == ("REDIRECTION_TO_NEW_DESTINATION", 23)
    assert visited(state) == ["agents", "after", "bye"]
    assert (phone.cause, state.outcome, state.ended_by) == ("NORMAL_CLEARING", "answered", "exoflow")
    assert h.switch.violations == []


def test_a_redirect_is_known_without_the_event_socket(hall: Start) -> None:
    """By the caller's leg alone, which the switch tells it, too (switch_channel.c:3430)."""
    numbers = [{"number": "+918030752400", "trunk": "GW", "flow": "main"}]
    agents = {ASHA: AgentScript.redirected("frontdesk"), RAVI: AgentScript.answers(2, 5)}
    h = hall(flow(), agents=agents, trunks=SIP, account={"numbers": numbers}, lines=False)
    _, state = h.run()
    assert (state.legs[0].outcome, state.legs[0].cause) == ("unreachable", "REDIRECTION_TO_NEW_DESTINATION")


def test_a_transfer_that_the_profile_refuses_leaves_the_talk_alone(hall: Start) -> None:
    h = sip(hall, {ASHA: AgentScript.transferring("frontdesk", talks=3.0)})
    h.switch.transfers_disabled = True
    phone = h.call()
    h.noted("leg.dialled")
    phone.after(20.0, phone.hangup)
    state = h.ended(phone)
    assert outcomes(state.legs) == ["answered"]
    assert state.legs[0].talk_seconds > 10
    assert state.ended_by == "caller"


@pytest.mark.parametrize("record", ["none", "dual"])
def test_a_transfer_to_a_number_is_done_over_our_own_trunk(hall: Start, record: str) -> None:
    h = sip(hall, {ASHA: AgentScript.transferring("09876543211", talks=4.0), RAVI: AgentScript.answers(2, 6)}, record=record)
    phone, state = h.run()
    assert h.switch.rung == ["09876543210", "09876543211"]
    assert [(leg.agent, leg.outcome) for leg in state.legs] == [("Asha", "answered"), ("Ravi", "answered")]
    assert [round(leg.talk_seconds) for leg in state.legs] == [pytest.approx(4, abs=2), pytest.approx(6, abs=2)]
    moved = entry(state, "connect.transferred")
    assert (moved.evidence["number"], moved.evidence["leg"]) == (RAVI, state.legs[0].uuid)
    assert visited(state) == ["agents", "after", "bye"]
    assert (phone.cause, state.outcome, state.ended_by) == ("NORMAL_CLEARING", "answered", "exoflow")
    assert "caller.left" not in codes(state)
    if record == "dual":
        assert [(one.state, round(one.seconds or 0)) for one in state.recordings] == [
            ("good", pytest.approx(leg.talk_seconds, abs=1.5)) for leg in state.legs
        ]
    assert h.switch.violations == []


@pytest.mark.parametrize("to", ["frontdesk", "exoflow_lease", "exoflow_fallback", "102", "0088299123456", "+14155552671", "19"])
def test_a_transfer_to_what_may_not_be_rung_is_refused_and_the_agent_rung_again(hall: Start, to: str) -> None:
    h = sip(hall, {ASHA: [AgentScript.transferring(to, talks=4.0), AgentScript.answers(2, 5)]})
    phone, state = h.run()
    assert h.switch.rung == ["09876543210", "09876543210"]
    assert [(leg.agent, leg.outcome) for leg in state.legs] == [("Asha", "answered"), ("Asha", "answered")]
    assert entry(state, "connect.transfer_refused").evidence["leg"] == state.legs[0].uuid
    assert visited(state) == ["agents", "after", "bye"]
    assert (phone.cause, state.outcome) == ("NORMAL_CLEARING", "answered")


def test_a_number_that_is_not_reached_leads_back_to_the_agent(hall: Start) -> None:
    scripts = {ASHA: [AgentScript.transferring("9876543211"), AgentScript.answers(2, 5)], RAVI: AgentScript.busy()}
    h = sip(hall, scripts)
    _, state = h.run()
    assert [(leg.agent, leg.outcome) for leg in state.legs] == [
        ("Asha", "answered"),
        ("Ravi", "busy"),
        ("Asha", "answered"),
    ]
    assert visited(state) == ["agents", "after", "bye"]


def test_nobody_takes_a_transferred_caller(hall: Start) -> None:
    h = sip(hall, {ASHA: [AgentScript.transferring("9876543211"), AgentScript.busy()], RAVI: AgentScript.busy()})
    _, state = h.run()
    assert outcomes(state.legs) == ["answered", "busy", "busy"]
    assert visited(state) == ["agents", "sorry", "bye"]
    assert state.outcome == "answered"


def test_phones_that_always_transfer_do_not_keep_a_caller_for_ever(hall: Start) -> None:
    h = sip(hall, {ASHA: AgentScript.transferring("frontdesk", talks=2.0)})
    _, state = h.run()
    assert len(state.legs) == 6
    assert visited(state) == ["agents", "after", "bye"]


def test_a_transfer_by_a_phone_that_is_asked_is_no_transfer_of_the_next_talk(hall: Start) -> None:
    """It ends the attempt, and the next agent is rung."""
    asked = {"whisper": {"say": "A caller."}, "confirm": {"say": "Press 1.", "seconds": 8}}
    early = AgentScript.transferring("9876543212", talks=1.0)
    h = sip(hall, {ASHA: early, RAVI: AgentScript.accepts("1", talks=4)}, **asked)
    _, state = h.run()
    assert [(leg.agent, leg.outcome) for leg in state.legs] == [("Asha", "not_accepted"), ("Ravi", "answered")]
    assert "connect.transferred" not in codes(state)
    assert visited(state) == ["agents", "after", "bye"]


def test_a_later_step_knows_nothing_of_an_earlier_transfer(hall: Start) -> None:
    steps = {
        "agents": {"connect": {"group": "support"}, "answered": "more", "unanswered": "bye"},
        "more": {"connect": {"numbers": [RAVI]}, "answered": "bye", "unanswered": "bye"},
        "bye": BYE,
    }
    numbers = [{"number": "+918030752400", "trunk": "GW", "flow": "main"}]
    scripts = {ASHA: [AgentScript.transferring("frontdesk"), AgentScript.answers(1, 3)], RAVI: AgentScript.answers(1, 3)}
    h = hall(steps, agents=scripts, trunks=SIP, account={"numbers": numbers})
    _, state = h.run()
    assert [leg.agent for leg in state.legs] == ["Asha", "Asha", "Ravi"]
    assert codes(state).count("connect.transfer_refused") == 1


def test_what_a_phones_attended_transfer_has_the_switch_dial_is_ended_and_the_talk_goes_on(hall: Start) -> None:
    h = sip(hall, {ASHA: AgentScript.transferring("0088299123456?Replaces=abc", talks=3.0)})
    phone = h.call()
    h.noted("leg.dialled")
    phone.after(20.0, phone.hangup)
    state = h.ended(phone)
    assert (outcomes(state.legs), state.ended_by) == (["answered"], "caller")
    assert state.legs[0].talk_seconds > 10
    assert h.switch.violations == [], "it was not ended before it was answered"
