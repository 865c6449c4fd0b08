"""connect: whom is rung, in which order, what each attempt came to, and where the flow goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hall import ASHA, BYE, MEENA, RAVI, Hall, codes, entry, outcomes, say, visited

from exoflow.flow.plan import MAX_ROUNDS
from exoflow.sim import AgentScript
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
ANSWERS = Path(__file__).parents[1] / "dialect" / "answers"
TWO_TRUNKS = {
    "PRI1": {"span": "PRI1", "outbound": {"cli": "8030752400"}},
    "GW": {"gateway": "backup", "outbound": {"dial_prefix": "91"}},
}


def connect(then: str = "bye", **how: Any) -> dict[str, Any]:
    """A flow of one connect: `after` follows a talk, `sorry` none."""
    return {
        "agents": {"connect": how or {"group": "support"}, "answered": "after", "unanswered": "sorry"},
        "after": say("Goodbye."),
        "sorry": say("Nobody is free."),
        "bye": BYE,
    }


# --- whom -------------------------------------------------------------------------------------------


def test_a_group_is_rung_in_its_order_until_somebody_answers(hall: Start) -> None:
    h = hall(connect(), agents={ASHA: AgentScript.busy(), RAVI: AgentScript.answers(2, 6)})
    phone, state = h.run()
    assert h.switch.rung == ["09876543210", "09876543211"]
    assert [(leg.seq, leg.number, leg.agent, leg.trunk) for leg in state.legs] == [
        (1, ASHA, "Asha", "PRI1"),
        (2, RAVI, "Ravi", "PRI1"),
    ]
    assert outcomes(state.legs) == ["busy", "answered"]
    assert state.legs[1].talk_seconds == pytest.approx(6, abs=2)
    assert visited(state) == ["agents", "after", "bye"]
    assert phone.texts == ["Goodbye."]
    assert (state.outcome, state.reason, state.ended_by) == ("answered", "", "exoflow")
    assert h.switch.violations == []


def test_numbers_of_the_step_are_rung_and_known_ones_named(hall: Start) -> None:
    h = hall(
        connect(numbers=[MEENA, "+918040001234", MEENA]), agents={MEENA: AgentScript.busy(), "8040001234": AgentScript.busy()}
    )
    _, state = h.run()
    assert [(leg.number, leg.agent) for leg in state.legs] == [(MEENA, "Meena"), ("+918040001234", None)]
    assert visited(state) == ["agents", "sorry", "bye"]
    assert (state.outcome, state.reason) == ("missed", "leg.busy")


def test_what_is_dialled(hall: Start) -> None:
    h = hall(connect(numbers=[ASHA], ring_seconds=12, talk_seconds=34), agents={ASHA: AgentScript.busy()})
    _, state = h.run()
    (attempt,) = h.switch.attempts
    expected = {
        "origination_uuid": state.legs[0].uuid,
        "ignore_early_media": "true",
        "origination_caller_id_number": "8030752400",
        "execute_on_answer": "sched_hangup +34 ALLOTTED_TIMEOUT",
    }
    assert expected.items() <= attempt.variables.items()
    assert "12" in (attempt.variables.get("originate_timeout"), attempt.variables.get("leg_timeout"))
    (variables,) = [text for text in h.executed("multiset") if "ringback" in text]
    assert "instant_ringback=true" in variables
    assert "ringback=%(400,200,400,450);%(400,2000,400,450)" in variables


def test_a_talk_is_cut_at_its_limit_and_the_flow_goes_on(hall: Start) -> None:
    h = hall(connect(numbers=[ASHA], talk_seconds=10), agents={ASHA: AgentScript.answers(1, None)})
    phone, state = h.run()
    assert state.legs[0].talk_seconds == pytest.approx(10, abs=2)
    assert state.legs[0].cause == "ALLOTTED_TIMEOUT"
    assert phone.texts == ["Goodbye."]


def test_ringing_is_given_up_in_time(hall: Start) -> None:
    h = hall(connect(numbers=[ASHA], ring_seconds=8), agents={ASHA: AgentScript.silent()})
    _, state = h.run()
    assert state.legs[0].total_seconds == pytest.approx(8, abs=2)
    assert outcomes(state.legs) == ["no_answer"]


def test_the_next_agent_is_rung_at_once(hall: Start) -> None:
    """At most 0.3 s of silence between two attempts; the time is exoflow's, and one of them may meet a stall of the machine."""
    numbers = [f"+9198765432{at}" for at in range(10, 17)]
    h = hall(connect(numbers=numbers), agents={number: AgentScript.busy() for number in numbers})
    _, state = h.run()
    gaps = []
    for before, after in pairwise(state.legs):
        assert before.released_at is not None
        assert after.setup_at is not None
        gaps.append((after.setup_at - before.released_at).total_seconds())
    assert len(gaps) == 6
    assert sorted(gaps)[3] < 0.3


# --- what the CRM names -----------------------------------------------------------------------------


def from_crm(**more: Any) -> dict[str, Any]:
    return connect(url="crm:/connect", fallback={"group": "backup"}, **more)


def test_plain_numbers_of_the_crm(hall: Start) -> None:
    h = hall(from_crm(), agents={ASHA: AgentScript.busy(), RAVI: AgentScript.busy()})
    h.crm.script("/connect", Reply.plain("09876543211", "+919876543210"))
    _, state = h.run()
    assert [leg.number for leg in state.legs] == [RAVI, ASHA]
    assert h.crm.to("/connect")[0].headers["exotel-version"] == "1.0"
    assert visited(state)[-2:] == ["sorry", "bye"]  # the fallback is for a CRM that names nobody usable


def test_all_that_the_crms_json_says_is_done(hall: Start) -> None:
    h = hall(from_crm(record="none"), agents={ASHA: AgentScript.answers(1, None)})
    told = {"record": True, "recording_channels": "dual", "max_ringing_duration": 7, "max_conversation_duration": 10}
    h.crm.script("/connect", Reply.agents("+919876543210", parallel_ringing={"activate": False}, **told))
    _, state = h.run()
    (attempt,) = h.switch.attempts
    assert attempt.variables["execute_on_answer"] == "sched_hangup +10 ALLOTTED_TIMEOUT"
    assert "7" in (attempt.variables.get("originate_timeout"), attempt.variables.get("leg_timeout"))
    (recording,) = state.recordings
    assert (recording.state, recording.channels) == ("good", 2)
    named = entry(state, "crm.agents")
    assert named.stage == "F"
    assert named.evidence["ignored"] == []


@pytest.mark.parametrize(
    ("step", "told", "channels"),
    [
        ("none", {}, None),
        ("none", {"record": False}, None),
        ("none", {"record": True}, 1),
        ("none", {"record": True, "recording_channels": "single"}, 1),
        ("dual", {"record": False}, None),
        ("dual", {}, 2),
        ("dual", {"recording_channels": "single"}, 1),
        ("none", {"recording_channels": "dual"}, None),
    ],
)
def test_the_crm_and_the_step_decide_on_recording(hall: Start, step: str, told: dict[str, Any], channels: int | None) -> None:
    h = hall(from_crm(record=step))
    h.crm.script("/connect", Reply.agents(ASHA, **told))
    _, state = h.run()
    assert [recording.channels for recording in state.recordings] == ([] if channels is None else [channels])
    assert state.outcome == "answered"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(200, b""), "crm.agents"),
        (Reply.agents(), "crm.agents"),
        (Reply(404, b"no"), "crm.404"),
        (Reply(302, b"", headers=[("Location", "/agents")]), "crm.302"),
        (Reply(500, b"oops"), "crm.500"),
        (Reply(200, b"", delay=1), "crm.timeout"),
        (Reply(200, b"<html><body>Login</body></html>", "text/html"), "crm.bad_answer"),
        (Reply(200, b"09876543210|09876543211"), "crm.bad_answer"),
        (Reply(200, b'{"destination": {"numbers": ["+919876543210"', "application/json"), "crm.bad_answer"),
        (Reply(200, b'{"numbers": ["+919876543210"]}', "application/json"), "crm.bad_answer"),
        (Reply.agents(ASHA, record="yes"), "crm.bad_answer"),
        (Reply.agents(ASHA, max_ringing_duration=61), "crm.bad_answer"),
        (Reply.agents(ASHA, "+12025550123"), "crm.bad_answer"),
        (Reply.agents(ASHA, "100"), "crm.bad_answer"),
    ],
)
def test_a_crm_that_names_nobody_usable_leads_to_the_fallback(hall: Start, reply: Reply, code: str) -> None:
    h = hall(from_crm(timeout=0.3), agents={MEENA: AgentScript.answers(1, 2)})
    h.crm.script("/connect", reply)
    phone, state = h.run()
    assert h.switch.rung == ["09876543212"], "one bad number rejects the whole answer"
    assert entry(state, "connect.fallback").stage == "G"
    assert code in codes(state)
    assert phone.texts[-1] == "Goodbye."


def test_the_crm_is_asked_after_each_attempt_that_failed(hall: Start) -> None:
    """And gets the digits the first time only. The rest of a list would be rung without its word."""
    steps = {"ask": {"gather": {"say": "Your number?", "digits": 3}, "next": "agents"}, **from_crm()}
    h = hall(steps, agents={ASHA: AgentScript.busy(), MEENA: AgentScript.rejects(1), RAVI: AgentScript.answers(1, 3)})
    h.crm.script(
        "/connect",
        Reply.agents(ASHA, MEENA, fetch_after_attempt=True),
        Reply.agents(MEENA, fetch_after_attempt=True),
        Reply.agents(RAVI, MEENA),
    )
    _, state = h.run(keys=["123"])
    assert [(leg.number, leg.outcome) for leg in state.legs] == [(ASHA, "busy"), (MEENA, "rejected"), (RAVI, "answered")]
    asked = h.crm.to("/connect")
    assert [request.get("digits") for request in asked] == ['"123"', None, None]
    assert [request.get("DialWhomNumber") for request in asked] == ["", "09876543210", "09876543212"]
    assert codes(state).count("crm.agents") == 3
    # nothing had come of it when it was asked first
    assert [request.get("CallType") for request in asked] == ["call-attempt", "incomplete", "incomplete"]
    assert [request.get("DialCallStatus") for request in asked] == [None, "busy", "busy"]
    assert [request.get("Insights[DialCallStatus]") for request in asked] == [None, "busy", "busy"]


@pytest.mark.parametrize("leaves", [False, True])
def test_a_connect_that_reached_no_agent_is_told_as_such_after_it_alone(hall: Start, leaves: bool) -> None:
    """Also when the caller leaves later: that is no hangup on the ringing."""
    steps = {
        "agents": {"connect": {"url": "crm:/connect"}, "answered": "tell", "unanswered": "sorry"},
        "sorry": say("No agent is free. Please hold the line while you listen to this.", "tell"),
        "tell": {"passthru": {"url": "crm:/tell"}, "ok": "again", "redirect": "again"},
        "again": {"connect": {"url": "crm:/connect"}, "answered": "bye", "unanswered": "bye"},
        "bye": BYE,
    }
    h = hall(steps)
    h.crm.script("/connect", Reply.agents())
    phone = h.call()
    if leaves:
        assert phone.wait_until(lambda phone: bool(phone.texts), 10)
        phone.hangup()
    h.ended(phone)
    first, told = h.crm.to("/connect")[0], h.crm.to("/tell")[0]
    assert (first.get("CallType"), first.get("DialCallStatus")) == ("call-attempt", None)
    assert (told.get("CallType"), told.get("DialCallStatus")) == ("incomplete", "no-answer")


@pytest.mark.parametrize(
    "last", [Reply.agents(), Reply(500, b"oops"), Reply.agents(RAVI, record="yes")], ids=["nobody", "failed", "invalid"]
)
def test_a_crm_that_is_asked_again_and_names_nobody(hall: Start, last: Reply) -> None:
    h = hall(connect(url="crm:/connect"), agents={ASHA: AgentScript.busy()})
    h.crm.script("/connect", Reply.agents(ASHA, fetch_after_attempt=True), last)
    _, state = h.run()
    assert [leg.number for leg in state.legs] == [ASHA]
    assert visited(state) == ["agents", "sorry", "bye"]
    assert state.outcome == "missed"


def test_asked_again_the_fallback_is_rung_when_the_crm_fails(hall: Start) -> None:
    h = hall(from_crm(record="dual"), agents={ASHA: AgentScript.busy(), MEENA: AgentScript.answers(1, 3)})
    h.crm.script("/connect", Reply.agents(ASHA, fetch_after_attempt=True, record=True), Reply(500, b"oops"))
    _, state = h.run()
    assert [(leg.number, leg.outcome) for leg in state.legs] == [(ASHA, "busy"), (MEENA, "answered")]
    assert [(one.state, one.channels) for one in state.recordings] == [("good", 2)]


def test_a_crm_that_is_asked_in_circles_is_asked_so_many_times(hall: Start) -> None:
    h = hall(connect(url="crm:/connect"), agents={ASHA: AgentScript.busy()})
    h.crm.script("/connect", Reply.agents(ASHA, fetch_after_attempt=True))
    _, state = h.run()
    assert len(state.legs) == len(h.crm.to("/connect")) == MAX_ROUNDS
    assert entry(state, "connect.often").stage == "F"
    assert (state.outcome, state.reason) == ("missed", "leg.busy")


def test_the_agents_see_the_number_that_the_crm_wants_on_its_own_line_only(hall: Start) -> None:
    agents = {ASHA: [AgentScript.without_channel(), AgentScript.answers(1, 3)]}
    h = hall(connect(url="crm:/connect"), agents=agents, trunks=TWO_TRUNKS)
    ours = next(iter(h.config.accounts.values())).numbers[0].number
    h.crm.script("/connect", Reply.agents(ASHA, outgoing_phone_number=ours))
    _, state = h.run()
    seen = [attempt.variables.get("origination_caller_id_number") for attempt in h.switch.attempts]
    assert [leg.trunk for leg in state.legs] == ["PRI1", "GW"]
    assert seen == [ours.removeprefix("+91"), None]


def test_the_crm_names_the_trunk_and_parameters_for_it(hall: Start) -> None:
    h = hall(connect(url="crm:/connect"), agents={ASHA: AgentScript.answers(1, 3)}, trunks=TWO_TRUNKS)
    h.crm.script("/connect", Reply.agents(ASHA, destination={"numbers": [ASHA], "trunk": "GW"}, custom_params="a=1&b=x%40y"))
    _, state = h.run()
    (attempt,) = h.switch.attempts
    assert (attempt.trunk, state.legs[0].trunk) == ("backup", "GW")
    assert {name: text for name, text in attempt.variables.items() if name.startswith("sip_h_")} == {
        "sip_h_X-a": "1",
        "sip_h_X-b": "x@y",
    }
    assert h.switch.violations == []


def test_a_strangers_number_is_not_shown_and_rejects_the_whole_answer(hall: Start) -> None:
    h = hall(from_crm(), agents={MEENA: AgentScript.answers(1, 3)})
    h.crm.script("/connect", Reply.agents(ASHA, outgoing_phone_number="+919999999999"))
    _, state = h.run()
    assert h.switch.rung == ["09876543212"]
    told = entry(state, "crm.bad_answer")
    assert told.evidence["key"] == "outgoing_phone_number"
    assert "no number of this account" in told.text


@pytest.mark.parametrize("reply", [Reply(500, b"oops"), Reply(404, b"no"), Reply.agents(MEENA, record="yes")])
def test_the_fallback_url_is_asked_before_the_fallback_is_rung(hall: Start, reply: Reply) -> None:
    h = hall(from_crm(fallback_url="crm:/second"), agents={RAVI: AgentScript.answers(1, 3)})
    h.crm.script("/connect", reply)
    h.crm.script("/second", Reply.agents(RAVI))
    _, state = h.run()
    assert h.switch.rung == ["09876543211"]
    assert h.crm.to("/second")[0].headers["exotel-version"] == "1.0"
    assert entry(state, "crm.fallback_url").stage == "E"


def test_without_a_fallback_nobody_is_rung(hall: Start) -> None:
    h = hall(connect(url="crm:/connect"))
    h.crm.script("/connect", Reply(500))
    phone, state = h.run()
    assert h.switch.rung == []
    assert [c for c in codes(state) if c.startswith("connect.")] == ["connect.no_fallback", "connect.nobody"]
    assert phone.texts == ["Nobody is free."]
    assert (state.outcome, state.reason) == ("missed", "connect.nobody")


def test_an_empty_list_without_fallback_is_nobody(hall: Start) -> None:
    h = hall(connect(url="crm:/connect"))
    h.crm.script("/connect", Reply.agents())
    _, state = h.run()
    assert (state.outcome, state.reason) == ("missed", "connect.nobody")
    assert visited(state) == ["agents", "sorry", "bye"]


def test_nothing_hostile_that_a_crm_sends_reaches_the_switch(hall: Start) -> None:
    """Every attack of the dialect's files, one call each, on one running exoflow."""
    attacks = sorted(ANSWERS.glob("hostile_*.http"))
    assert len(attacks) > 50
    many = {"agents": {"meena": {"number": MEENA, "name": "Meena", "lines": 100}}, "groups": {"backup": {"agents": ["meena"]}}}
    h = hall(from_crm(), agents={MEENA: AgentScript.busy()}, channels={"PRI1": 120}, account=many)
    bodies = [path.read_bytes().partition(b"\r\n\r\n")[2] for path in attacks]
    h.crm.script("/connect", *(Reply(200, body, "application/json") for body in bodies))
    for phone in [h.call() for _ in bodies]:
        state = h.ended(phone)
        assert "crm.bad_answer" in codes(state)
    assert set(h.switch.rung) == {"09876543212"}
    assert len(h.switch.rung) == len(bodies)
    assert h.switch.violations == []
    assert all(re.fullmatch(r"\{[^{}]*\}freetdm/PRI1/A/09876543212", dialled) for dialled in h.executed("bridge"))


# --- what became of each attempt ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "outcome", "q850", "alerting", "meaning"),
    [
        (AgentScript.busy(), "busy", 17, False, "on another call"),
        (AgentScript.rejects(1), "rejected", 21, True, "refused the call"),
        (AgentScript.silent(), "no_answer", 19, True, "rang and nobody answered"),
        (AgentScript(alert_after=None, answer_after=None), "no_answer", 19, False, "never said that the phone rings"),
        (AgentScript.announcement(), "unreachable", 19, False, "announcement"),
        (AgentScript.unreachable(), "unreachable", 20, False, "could not reach the phone"),
        (AgentScript.released("UNALLOCATED_NUMBER"), "bad_number", 1, False, "Correct the agent's number"),
        (AgentScript.released("INVALID_NUMBER_FORMAT"), "bad_number", 28, False, "Correct the agent's number"),
        (AgentScript.released("NORMAL_TEMPORARY_FAILURE"), "trunk", 41, False, "not the agent"),
        (AgentScript.released("NORMAL_CIRCUIT_CONGESTION"), "trunk", 34, False, "The network had no channel free"),
        (AgentScript.without_channel(), "trunk", 34, False, "No free channel on our own trunk"),
        (AgentScript.released("INCOMPATIBLE_DESTINATION"), "protocol", 88, False, "whoever set up the PRI"),
    ],
)
def test_what_an_attempt_came_to(
    hall: Start, script: AgentScript, outcome: str, q850: int, alerting: bool, meaning: str
) -> None:
    h = hall(connect(numbers=[ASHA], ring_seconds=5), agents={ASHA: script})
    phone, state = h.run()
    (leg,) = state.legs
    assert (leg.outcome, leg.alerting_at is not None) == (outcome, alerting)
    assert leg.q850 == q850 or (script.no_channel and leg.q850 == 34)
    assert meaning in leg.meaning
    assert leg.seen is not script.no_channel
    assert leg.dialled_at is not None
    assert leg.answered_at is None
    assert leg.released_at is not None
    told = entry(state, f"leg.{outcome}")
    assert told.stage == "G"
    assert meaning in told.text
    assert told.evidence["q850"] == q850
    assert told.evidence["alerting"] is alerting
    assert visited(state) == ["agents", "sorry", "bye"]
    assert phone.texts == ["Nobody is free."]
    assert (state.outcome, state.reason) == ("missed", f"leg.{outcome}")


def test_stages_of_a_leg_are_in_their_order(hall: Start) -> None:
    h = hall(connect(numbers=[ASHA]), agents={ASHA: AgentScript.slow(7, 3, 5)})
    _, state = h.run()
    (leg,) = state.legs
    assert leg.setup_at and leg.alerting_at and leg.answered_at and leg.released_at  # noqa: PT018
    assert leg.setup_at < leg.alerting_at < leg.answered_at < leg.released_at
    assert (leg.alerting_at - leg.setup_at).total_seconds() == pytest.approx(7, abs=1.5)
    assert (leg.answered_at - leg.alerting_at).total_seconds() == pytest.approx(3, abs=1.5)
    assert (leg.q850, leg.cause) == (16, "NORMAL_CLEARING")
    assert "talk ended" in leg.meaning


def test_a_fault_of_the_line_is_tried_again_on_another(hall: Start) -> None:
    agents = {ASHA: [AgentScript.without_channel(), AgentScript.answers(1, 3)]}
    h = hall(connect(numbers=[ASHA]), agents=agents, trunks=TWO_TRUNKS)
    _, state = h.run()
    assert [(leg.trunk, leg.outcome) for leg in state.legs] == [("PRI1", "trunk"), ("GW", "answered")]
    assert [(a.trunk, a.number) for a in h.switch.attempts] == [("PRI1", "09876543210"), ("backup", "919876543210")]


def test_a_busy_agent_is_not_tried_on_another_line(hall: Start) -> None:
    h = hall(connect(numbers=[ASHA]), agents={ASHA: AgentScript.busy()}, trunks=TWO_TRUNKS)
    _, state = h.run()
    assert [leg.trunk for leg in state.legs] == ["PRI1"]


def test_a_span_that_freeswitch_does_not_know(hall: Start) -> None:
    h = hall(connect(numbers=[ASHA]), trunks=TWO_TRUNKS, channels={"PRI1": 30})
    h.switch.set_agents({ASHA: AgentScript.without_channel()})
    _, state = h.run()
    assert [(leg.trunk, leg.outcome) for leg in state.legs] == [("PRI1", "trunk"), ("GW", "trunk")]
    assert "Check the trunk's state" in state.legs[0].meaning


def test_all_agents_busy(hall: Start) -> None:
    h = hall(connect(), agents={ASHA: AgentScript.busy(), RAVI: AgentScript.busy()})
    phone, state = h.run()
    assert outcomes(state.legs) == ["busy", "busy"]
    assert phone.texts == ["Nobody is free."]
    (delivery,) = h.crm.wait_for_deliveries(1)
    assert delivery.signed
    assert delivery.event["type"] == "call.missed"
    assert delivery.event["data"]["reason"] == "leg.busy"
    assert [leg["q850"] for leg in delivery.event["data"]["legs"]] == [17, 17]
