"""A call arrives: whose it is, who calls, what it meets before anything answers, and the calls nobody can take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import ASHA, BYE, CALLER, OURS, RAVI, Hall, codes, entry, eventually, menu, say

from exoflow.sim import AgentScript
from exoflow.telephony.numbers import national

Start = Callable[..., Hall]
FLOW = {"hello": say("Hi."), "bye": BYE}


def number(number: str, **more: Any) -> dict[str, Any]:
    return {"number": number, "trunk": "PRI1", "flow": "main", **more}


# --- whose ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", range(2, 11))
def test_the_exchange_sends_only_the_numbers_end(hall: Start, digits: int) -> None:
    h = hall(FLOW)
    _, state = h.run(to=OURS[-digits:])
    assert (state.facts.dialled, state.facts.dialled_raw) == (OURS, OURS[-digits:])
    assert state.outcome == "served"


def test_all_lengths_of_dnis_as_an_engineer_writes_them(hall: Start) -> None:
    dnis = ["24", "240", "2400", "24001", "240012", "2400123", "24001234", "240012345", "2400123456"]
    ours = [f"+9180307524{at:02d}" for at in range(len(dnis))]
    h = hall(FLOW, account={"numbers": [number(n, dnis=d) for n, d in zip(ours, dnis, strict=True)]})
    for phone, expected in [(h.call(to=digits), n) for n, digits in zip(ours, dnis, strict=True)]:
        assert h.ended(phone).facts.dialled == expected


@pytest.mark.parametrize("dialled", ["+918030752400", "08030752400", "8030752400", "918030752400", "30752400"])
def test_full_numbers_in_any_form(hall: Start, dialled: str) -> None:
    h = hall(FLOW)
    _, state = h.run(to=dialled)
    assert state.facts.dialled == OURS


@pytest.mark.parametrize("form", ["{};npdi", "{};rn=+91803075;npdi", "{};phone-context=+91", "{}@10.0.0.1", "+{};user=x"])
def test_a_called_number_may_have_parameters_behind_it(hall: Start, form: str) -> None:
    h = hall(FLOW)
    _, state = h.run(to=form.format(OURS.removeprefix("+")))
    assert (state.facts.dialled, state.facts.dialled_raw) == (OURS, OURS.removeprefix("+"))
    assert state.outcome == "served"


@pytest.mark.parametrize("to", ["+91-80-3075-2400", "(080)3075-2400", "91.80.30752400;npdi"])
def test_a_called_number_may_have_separators(hall: Start, to: str) -> None:
    h = hall(FLOW)
    _, state = h.run(to=to)
    assert (state.facts.dialled, state.facts.dialled_raw.isdigit(), state.outcome) == (OURS, True, "served")


@pytest.mark.parametrize(
    ("to", "dialled"),
    [
        ("8030752400;phone-context=+91", OURS),
        ("30752400;isub=1;Phone-Context=+9180", OURS),
        ("8030752400;phone-context=exchange.example", OURS),
        ("8030752400;phone-context=+65", None),  # the number of somebody in Singapore
    ],
)
def test_a_called_numbers_context_is_heeded(hall: Start, to: str, dialled: str | None) -> None:
    h = hall(FLOW)
    _, state = h.run(to=to)
    assert state.facts.dialled == dialled
    assert (state.outcome, state.reason) == (("served", "") if dialled else ("refused", "number.unknown"))


@pytest.mark.parametrize(
    ("caller", "parameters", "e164"),
    [
        ("98123456", "phone-context=+65", "+6598123456"),
        ("98123456", "isub=1;phone-context=+65;x=y", "+6598123456"),
        ("9811100001", "phone-context=+91", "+919811100001"),
        ("30752400", "phone-context=+91", "+918030752400"),  # the area is the trunk's
        ("30752400", "phone-context=+9144", "+914430752400"),
        ("9811100001", "phone-context=exchange.example", "+919811100001"),
        ("9811100001", "npdi;cpc=ordinary", "+919811100001"),
        ("98123", "phone-context=+65", None),
    ],
)
def test_a_callers_number_with_its_context(hall: Start, caller: str, parameters: str, e164: str | None) -> None:
    """mod_sofia takes parameters off the caller's number and keeps them in sip_name_params (sofia.c:10937)."""
    h = hall(FLOW)
    _, state = h.run(from_number=caller, variables={"sip_name_params": parameters})
    assert state.facts.caller == e164


def test_parameters_of_a_tel_address_are_the_addresss_own(hall: Start) -> None:
    """mod_sofia leaves them in sip_req_params and sip_from_params (sofia.c:150)."""
    h = hall(FLOW)
    abroad = {"sip_from_params": "phone-context=+65"}
    _, state = h.run(from_number="98123456", variables=abroad)
    assert state.facts.caller == "+6598123456"
    _, state = h.run(from_number="9811100001", variables={**abroad, "sip_P-Asserted-Identity": "9811100001"})
    assert state.facts.caller == "+919811100001"
    _, state = h.run(to="8030752400", variables={"sip_req_params": "isub=1;phone-context=+65"})
    assert (state.facts.dialled_raw, state.reason) == ("658030752400", "number.unknown")


def test_a_diversion_is_kept(hall: Start) -> None:
    h = hall(FLOW, account={"numbers": [number(OURS, diverted_from="+918040001234")]})
    _, state = h.run()
    assert state.facts.diverted_from == "+918040001234"
    _, state = h.run(rdnis="+919900000000")
    assert state.facts.diverted_from == "+919900000000"
    assert entry(state, "call.arrived").evidence["diverted_from"] == "+919900000000"


def test_nobodys_number(hall: Start) -> None:
    h = hall(FLOW)
    phone, state = h.run(to="+918030759999")
    assert phone.cause == "UNALLOCATED_NUMBER"
    assert phone.answered_at is None
    assert phone.ringing_at is None
    assert phone.texts == []
    assert (state.outcome, state.reason, state.q850, state.ended_by) == ("refused", "number.unknown", 1, "exoflow")
    told = entry(state, "number.unknown")
    assert told.stage == "B"
    assert "`numbers`" in told.text
    assert state.facts.account is None
    assert h.crm.deliveries == []  # it is nobody's call


def test_two_accounts_numbers_that_end_alike(hall: Start) -> None:
    accounts = {"acme": {}, "other": {"numbers": [number("+914430752400")]}}
    h = hall(FLOW, accounts=accounts)
    phone, state = h.run(to="2400")
    assert phone.cause == "UNALLOCATED_NUMBER"
    told = entry(state, "number.ambiguous")
    assert told.stage == "B"
    assert "+914430752400 of other" in told.text
    assert "`dnis`" in told.text
    assert (state.outcome, state.reason) == ("refused", "number.ambiguous")
    _, state = h.run(to="4430752400")
    assert state.facts.account == "other"


# --- who ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{"withheld": True}, {"from_number": ""}, {"from_number": "anonymous"}, {"from_number": "Restricted"}]
)
def test_a_withheld_caller_is_served_like_any_other(hall: Start, given: dict[str, Any]) -> None:
    steps = {"tell": {"passthru": {"url": "crm:/passthru"}, "ok": "bye", "redirect": "bye"}, "bye": BYE}
    h = hall(steps)
    _, state = h.run(**given)
    assert (state.facts.caller, state.facts.caller_withheld, state.facts.caller_raw) == (None, True, "")
    assert entry(state, "caller.withheld").stage == "B"
    assert h.crm.to("/passthru")[0].get("From") == ""
    data = h.crm.wait_for_deliveries(1)[0].event["data"]
    assert (data["caller"], data["caller_withheld"]) == (None, True)
    assert CALLER[3:] not in str(data)
    assert state.outcome == "served"


@pytest.mark.parametrize("raw", ["12", "999", "98111000011111111111", "abc", "9811100001x1"])
def test_an_unreadable_caller_is_served_and_told_raw(hall: Start, raw: str) -> None:
    h = hall(FLOW)
    _, state = h.run(from_number=raw)
    assert (state.facts.caller, state.facts.caller_withheld) == (None, False)
    told = entry(state, "caller.unreadable")
    assert told.stage == "B"
    assert repr(raw) in told.text
    assert state.outcome == "served"


@pytest.mark.parametrize(
    ("digits", "ton", "e164", "shown"),
    [
        ("6591234567", 1, "+6591234567", "international"),
        ("9811100001", 2, CALLER, "national"),
        ("30752401", 4, "+918030752401", "subscriber"),
        ("9811100001", 0, CALLER, "unknown"),
        ("9811100001", 7, CALLER, None),  # reserved
        ("9811100001", 255, CALLER, None),  # SIP tells none
        ("0919811100001", 0, CALLER, "unknown"),
    ],
)
def test_the_callers_type_of_number_decides_how_it_is_read(
    hall: Start, digits: str, ton: int, e164: str, shown: str | None
) -> None:
    steps = {"tell": {"passthru": {"url": "crm:/passthru"}, "ok": "bye", "redirect": "bye"}, "bye": BYE}
    h = hall(steps)
    _, state = h.run(from_number=digits, caller_ton=ton)
    assert (state.facts.caller, state.facts.caller_raw) == (e164, digits)
    assert entry(state, "call.arrived").evidence.get("caller_ton") == shown
    assert h.crm.to("/passthru")[0].get("From") == national(e164)


@pytest.mark.parametrize(
    ("number", "digits", "ton"),
    [
        ("+919811100001", "9811100001", "national"),
        ("+6591234567", "6591234567", "international"),
        ("9811100001", "9811100001", "unknown"),
    ],
)
def test_the_embedded_switch_sends_a_number_as_an_exchange_does(hall: Start, number: str, digits: str, ton: str) -> None:
    h = hall(FLOW)
    _, state = h.run(from_number=number)
    assert (state.facts.caller_raw, entry(state, "call.arrived").evidence["caller_ton"]) == (digits, ton)


def test_a_diversion_from_abroad(hall: Start) -> None:
    h = hall(FLOW)
    _, state = h.run(rdnis="+6591234567")
    assert state.facts.diverted_from == "+6591234567"
    _, state = h.run(rdnis="6591234567", rdnis_ton=1)
    assert state.facts.diverted_from == "+6591234567"
    _, state = h.run(rdnis="40001234", rdnis_ton=4)
    assert state.facts.diverted_from == "+918040001234"


@pytest.mark.parametrize(("digits", "ton"), [("918030752400", 1), ("8030752400", 2), ("30752400", 4), ("2400", 3)])
def test_the_dialled_numbers_type(hall: Start, digits: str, ton: int) -> None:
    h = hall(FLOW)
    _, state = h.run(to=digits, destination_number_ton=ton)
    assert state.facts.dialled == OURS


def test_agents_are_dialled_by_the_spans_own_type_of_number(hall: Start) -> None:
    """FreeSWITCH copies the caller's profile for the leg: the agent's digits would be sent as international ones."""
    steps = {"team": {"connect": {"group": "support"}, "answered": "bye", "unanswered": "bye"}, "bye": BYE}
    h = hall(steps, agents={ASHA: AgentScript.answers(1, 2)})
    _, state = h.run(to="918030752400", from_number="+6591234567", destination_number_ton=1)
    assert state.outcome == "answered"
    assert h.switch.violations == []


# --- unanswered until a step needs the line -------------------------------------------------------------

TELL = {"passthru": {"url": "crm:/passthru"}, "ok": "next", "redirect": "next"}


@pytest.mark.parametrize(
    ("step", "keys"),
    [
        ({"next": say("Hi.")}, ""),
        ({"next": menu({"1": "bye"})}, "1"),
        ({"next": {"voicemail": {"say": "Speak."}, "next": "bye"}}, ""),
        ({"next": {"connect": {"numbers": ["+919876543210"]}, "answered": "bye", "unanswered": "bye"}}, ""),
    ],
)
def test_the_first_step_that_needs_the_line_answers(hall: Start, step: dict[str, Any], keys: str) -> None:
    h = hall({"tell": TELL, **step, "bye": BYE})
    phone, state = h.run(keys=keys)
    assert entry(state, "call.answered").step == "next"
    order = codes(state)
    assert order.index("crm.200") < order.index("call.answered")
    assert phone.ringing_at is not None
    assert phone.answered_at is not None
    assert phone.ringing_at < phone.answered_at
    # both times are in the record and in the delivery
    assert state.ring_at is not None
    assert state.answered_at is not None
    data = h.crm.wait_for_deliveries(1)[0].event["data"]
    assert data["ring_at"] is not None
    assert data["answered_at"] is not None
    assert h.executed("ring_ready") == [""]
    assert h.executed("answer") == [""]


@pytest.mark.parametrize(
    ("cause", "q850"), [("USER_BUSY", 17), ("NORMAL_CLEARING", 16), ("NO_ROUTE_DESTINATION", 3), ("CALL_REJECTED", 21)]
)
def test_an_unanswered_caller_can_be_turned_away_with_a_cause(hall: Start, cause: str, q850: int) -> None:
    h = hall({"tell": TELL, "next": {"hangup": {"cause": cause}}})
    phone, state = h.run()
    assert phone.cause == cause
    assert phone.answered_at is None
    assert phone.ringing_at is not None
    assert (state.answered_at, state.cause, state.q850, state.ended_by) == (None, cause, q850, "exoflow")
    assert entry(state, "hangup").evidence == {"cause": cause}
    assert h.executed("answer") == []
    assert state.outcome == "served"


def test_an_answered_caller_is_hung_up_normally(hall: Start) -> None:
    h = hall(FLOW)
    phone, state = h.run()
    assert phone.cause == "NORMAL_CLEARING"
    assert (state.q850, state.ended_by) == (16, "exoflow")


# --- many at once ----------------------------------------------------------------------------------------


def test_thirty_calls_at_once(hall: Start) -> None:
    steps = {
        "ask": menu({"1": "talk"}),
        "talk": {"connect": {"group": "support"}, "answered": "bye", "unanswered": "bye"},
        "bye": BYE,
    }
    people = {name: {"number": number, "lines": 30} for name, number in (("asha", ASHA), ("ravi", RAVI))}
    account = {"agents": people, "groups": {"support": {"agents": ["asha", "ravi"]}}}
    h = hall(steps, channels={"PRI1": 60}, agents={ASHA: AgentScript.busy()}, account=account)
    phones = [h.call(keys="1") for _ in range(30)]
    states = [h.ended(phone) for phone in phones]
    assert {state.outcome for state in states} == {"answered"}
    assert len({state.facts.id for state in states}) == 30
    assert len({leg.uuid for state in states for leg in state.legs}) == 60
    h.crm.wait_for_deliveries(30)
    eventually(lambda: {d.event["data"]["call"] for d in h.crm.deliveries} == {state.facts.id for state in states})
    assert h.switch.violations == []
