"""Calls that an account places: two numbers, and a number and a flow, on the embedded switch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from hall import OURS, WAIT, codes, entry, eventually, menu, outcomes, say
from placedcalls import API, BASIC, BYE, FIRST, SECOND, PlacingHall

from exoflow.calls.call import Call
from exoflow.calls.show import call_list, call_sheet
from exoflow.flow import placing
from exoflow.flow.whisper import INDIAN_RINGBACK
from exoflow.linesound import wav
from exoflow.sim import AgentScript
from exoflow.sim.crm import Reply

TALKS = {FIRST: AgentScript.answers(2.0, None), SECOND: AgentScript.answers(3.0, 7.0)}
# keeps the first telephone ringing as long as a test looks at it
RINGS = {FIRST: AgentScript.silent()}


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[PlacingHall]:
    made = PlacingHall(tmp_path)
    yield made
    assert not made.switch.violations, made.switch.violations
    made.stop()


# --- two numbers ------------------------------------------------------------------------------------------


def test_two_numbers_talk(hall: PlacingHall) -> None:
    hall.opened(agents=TALKS)
    answer = hall.place(CustomField="order 12", Record="true", RecordingChannels="dual")
    assert (answer["Status"], answer["Direction"], answer["From"]) == ("queued", "outbound-api", f"0{FIRST[3:]}")
    state = hall.closed(answer["Sid"])
    assert state.outcome == "answered"
    assert outcomes(state.legs) == ["answered"]
    assert state.legs[0].number == SECOND
    assert 6 < state.legs[0].talk_seconds < 8
    assert codes(state)[:3] == ["call.placed", "placed.answered", "leg.dialled"]
    # both see the number of ours that was asked for
    assert [one.variables["origination_caller_id_number"] for one in hall.switch.attempts] == [OURS.removeprefix("+91")] * 2
    assert hall.switch.rung == [f"0{FIRST[3:]}", f"0{SECOND[3:]}"]
    assert [one.state for one in state.recordings] == ["good"]
    assert entry(state, "call.placed").evidence["custom_field"] == "order 12"
    assert state.facts.placed is not None
    assert (state.facts.placed.to, state.facts.placed.events) == (SECOND, ())


def test_what_the_crm_reads_of_it_and_is_told(hall: PlacingHall) -> None:
    hall.opened(agents=TALKS)
    sid = hall.place(CustomField="order 12")["Sid"]
    state = hall.closed(sid)
    shown = hall.asked(f"Calls/{sid}.json?details=true")[1]["Call"]
    assert (shown["From"], shown["To"], shown["PhoneNumberSid"]) == (f"0{FIRST[3:]}", f"0{SECOND[3:]}", f"0{OURS[3:]}")
    assert (shown["Status"], shown["Direction"]) == ("completed", "outbound-api")
    assert (shown["Details"]["Leg1Status"], shown["Details"]["Leg2Status"]) == ("completed", "completed")
    [told] = hall.deliveries(state)
    eventually(lambda: hall.crm.deliveries)
    data = hall.crm.deliveries[0].event["data"]
    assert (told.type, data["direction"], data["outcome"]) == ("call.ended", "outbound-api", "answered")
    assert data["placed"] == {"to": SECOND, "custom_field": "order 12"}


def test_how_it_is_shown_to_people(hall: PlacingHall) -> None:
    hall.opened(agents=TALKS)
    state = hall.closed(hall.place()["Sid"])
    sheet = call_sheet(state, UTC)
    assert f"from           {FIRST}\n" in sheet
    assert f"{SECOND}; placed by the account as {OURS} on PRI1" in sheet
    assert SECOND in call_list([state], lambda account: UTC)


def test_the_status_callback_that_came_with_the_call_hears_of_it(hall: PlacingHall) -> None:
    hall.opened(agents=TALKS, account={"crm": {"allow_private": ["127.0.0.1/32"], "status_callback": {"url": "crm:/account"}}})
    hall.crm.script("/own", Reply(200))
    events = {"StatusCallbackEvents": "terminal,ringing,answered", "StatusCallbackContentType": "application/json"}
    sid = hall.place(StatusCallback=hall.crm.url("/own"), CustomField="order 12", **events)["Sid"]
    hall.closed(sid)
    eventually(lambda: len(hall.crm.to("/own")) == 3)
    forms = [json.loads(one.body) for one in hall.crm.to("/own")]
    assert [(one["EventType"], one["Status"]) for one in forms] == [
        ("ringing", "ringing"),
        ("answered", "in-progress"),
        ("terminal", "completed"),
    ]
    assert [len(one["Legs"]) for one in forms] == [1, 2, 2]
    for form in forms:
        assert (form["CallSid"], form["CustomField"], form["Direction"]) == (sid, "order 12", "outbound-api")
        assert (form["From"], form["To"], form["PhoneNumberSid"]) == (f"0{FIRST[3:]}", f"0{SECOND[3:]}", f"0{OURS[3:]}")
    assert hall.crm.to("/account") == []


def test_lists_find_it_by_direction_and_by_either_number(hall: PlacingHall) -> None:
    hall.opened(agents=TALKS)
    _, came = hall.run()
    sid = hall.place()["Sid"]
    hall.closed(sid)

    def found(query: str) -> list[str]:
        return [one["Sid"] for one in hall.asked(f"Calls.json?{query}")[1]["Calls"]]

    assert set(found("")) == {came.facts.id, sid}
    assert found("Direction=outbound-api") == [sid]
    assert found("Direction=inbound") == [came.facts.id]
    assert found("Direction=outbound-dial") == []
    assert found(f"To={SECOND[1:]}") == [sid]
    assert found(f"To={OURS[1:]}") == [came.facts.id]
    assert set(found(f"PhoneNumber={OURS[1:]}")) == {came.facts.id, sid}


def test_a_first_phone_that_redirects_is_not_reached(hall: PlacingHall) -> None:
    """FreeSWITCH would place the call anew, to whatever address the phone names (sofia.c:6990)."""
    numbers = [{"number": OURS, "trunk": "GW", "flow": "main"}]
    trunks = {"GW": {"gateway": "GW", "outbound": {"cli": OURS.removeprefix("+91")}}}
    hall.opened(agents={FIRST: AgentScript.redirected("0088299123456")}, trunks=trunks, account={"numbers": numbers})
    state = hall.closed(hall.place()["Sid"])
    assert (state.outcome, state.reason, state.q850) == ("missed", "placed.unreachable", 23)
    assert len(hall.switch.attempts) == 1


@pytest.mark.parametrize(
    ("script", "reason", "status"),
    [
        (AgentScript.busy(), "placed.busy", "busy"),
        (AgentScript.silent(), "placed.no_answer", "no-answer"),
        (AgentScript.unreachable(), "placed.unreachable", "failed"),
        (AgentScript.announcement(), "placed.unreachable", "no-answer"),
        (AgentScript.without_channel(), "placed.trunk", "failed"),
        (AgentScript.released("UNALLOCATED_NUMBER"), "placed.bad_number", "failed"),
    ],
)
def test_who_does_not_answer(hall: PlacingHall, script: AgentScript, reason: str, status: str) -> None:
    hall.opened(agents={FIRST: script})
    sid = hall.place()["Sid"]
    state = hall.closed(sid)
    assert (state.outcome, state.reason, state.legs) == ("missed", reason, [])
    assert hall.asked(f"Calls/{sid}.json")[1]["Call"]["Status"] == status
    assert len(hall.switch.attempts) == 1
    assert [told.type for told in hall.deliveries(state)] == ["call.missed"]
    assert not hall.service._placing._ringing


def test_a_telephone_that_another_call_of_ours_is_on_is_not_rung(hall: PlacingHall) -> None:
    hall.opened(agents={FIRST: AgentScript.answers(1.0, None), SECOND: AgentScript.silent()}, speed=1.0)
    hall.place()
    eventually(lambda: hall.switch.attempts)
    state = hall.closed(hall.place()["Sid"])
    assert (state.outcome, state.reason, state.q850) == ("missed", "placed.engaged", 17)
    assert hall.switch.rung.count(f"0{FIRST[3:]}") == 1


def test_the_first_hangs_up_while_the_second_rings(hall: PlacingHall) -> None:
    hall.opened(agents={FIRST: AgentScript.answers(1.0, 4.0), SECOND: AgentScript.silent()})
    state = hall.closed(hall.place()["Sid"])
    assert (state.outcome, state.ended_by, outcomes(state.legs)) == ("missed", "caller", ["caller_gone"])


def test_the_second_does_not_answer(hall: PlacingHall) -> None:
    hall.opened(agents={FIRST: AgentScript.answers(1.0, None), SECOND: AgentScript.silent()})
    state = hall.closed(hall.place(TimeOut="7")["Sid"])
    assert (state.outcome, outcomes(state.legs), state.ended_by) == ("missed", ["no_answer"], "exoflow")
    assert hall.switch.attempts[1].variables["leg_timeout"] == "7"


def test_the_first_hears_what_the_crm_wants_while_the_second_rings(hall: PlacingHall) -> None:
    hall.opened(agents=TALKS)
    hall.crm.script("/wait.wav", Reply(200, wav(bytes(16_000)), "audio/wav"))
    assert hall.closed(hall.place(WaitUrl=hall.crm.url("/wait.wav"))["Sid"]).outcome == "answered"
    hall.crm.script("/wait.wav", Reply(404))
    unplayable = hall.closed(hall.place(WaitUrl=hall.crm.url("/gone.wav"))["Sid"])
    assert unplayable.outcome == "answered"
    assert "crm.unplayable" in codes(unplayable)
    heard, usual = (
        dict(pair.split("=", 1) for pair in text.removeprefix("^^~").split("~"))["ringback"]
        for text in hall.executed("multiset")
        if "transfer_ringback" in text
    )
    assert heard.endswith(".wav")
    assert usual == INDIAN_RINGBACK


def test_a_form_that_is_not_whole(hall: PlacingHall) -> None:
    hall.opened()
    head = f"POST /v1/Accounts/acme/Calls/connect.json HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {BASIC}\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nFrom=1"
    with gevent.Timeout(WAIT), socket.create_connection(hall.web) as sock:
        sock.sendall(head.encode())
        sock.shutdown(socket.SHUT_WR)
        assert b"400 Bad Request" in sock.recv(65536)
    assert hall.service.book.recent() == []


# --- a flow -----------------------------------------------------------------------------------------------


def test_a_flow_takes_who_was_rung(hall: PlacingHall) -> None:
    steps = {
        "ask": menu({"1": "tell"}, otherwise="bye"),
        "tell": {"passthru": {"url": "crm:/tell"}, "ok": "bye", "redirect": "bye", "failed": "bye"},
        "bye": BYE,
    }
    hall.opened(steps, agents={FIRST: AgentScript.answers(1.0, None)})
    sid = hall.place(Url="http://my.exotel.in/exoml/start/main", CustomField="a&b=c d")["Sid"]
    phone = hall.phone(sid)
    hall.until(phone.asked.is_set)
    phone.press("1")
    state = hall.closed(sid)
    assert (state.outcome, state.facts.flow) == ("served", "main")
    assert codes(state)[:3] == ["call.placed", "placed.answered", "menu.key"]
    [request] = hall.crm.to("/tell")
    assert (request.get("CallFrom"), request.get("CallTo")) == (f"0{FIRST[3:]}", f"0{OURS[3:]}")
    assert (request.get("Direction"), request.get("CustomField"), request.get("CallStatus")) == (
        "outbound-dial",
        "a&b=c d",
        "in-progress",
    )


def test_a_custom_field_that_is_too_long_for_an_address_is_left_out_and_the_request_is_made(hall: PlacingHall) -> None:
    """1,000 letters of Devanagari are 9,000 characters of an address; no request of the call may fail for it."""
    further = {"ok": "beside", "redirect": "bye", "failed": "bye"}
    steps = {
        "tell": {"passthru": {"url": "crm:/tell?key=k"}, **further},
        "beside": {"passthru": {"url": "crm:/beside", "wait": False}, "next": "bye"},
        "bye": BYE,
    }
    hall.opened(steps, agents={FIRST: AgentScript.answers(1.0, None)})
    hall.crm.script("/tell", Reply(200))
    hall.crm.script("/beside", Reply(200))
    field = "क" * 1000
    state = hall.closed(hall.place(Url="http://my.exotel.in/exoml/start/main", CustomField=field)["Sid"])
    assert codes(state).count("crm.200") == 2
    left_out = entry(state, "crm.left_out")  # once, though two requests went without it
    assert (left_out.step, left_out.evidence["left_out"]) == ("tell", ["CustomField"])
    assert left_out.evidence["chars"] > 9000
    for path in ("/tell", "/beside"):
        [request] = hall.crm.to(path)
        assert (request.get("CallSid"), request.get("CustomField")) == (state.facts.id, None)
    eventually(lambda: hall.crm.deliveries)
    data = hall.crm.deliveries[-1].event["data"]
    assert data["placed"]["custom_field"] == field  # whole where there is room


def test_the_number_that_a_passthru_sends_as_flow_id_names_the_flow(hall: PlacingHall) -> None:
    steps = {"tell": {"passthru": {"url": "crm:/tell"}, "ok": "bye", "redirect": "bye", "failed": "bye"}, "bye": BYE}
    hall.opened(steps, agents={FIRST: AgentScript.answers(1.0, None)})
    hall.run()
    number = hall.crm.to("/tell")[0].get("flow_id")
    state = hall.closed(hall.place(Url=f"http://my.exotel.com/acme/exoml/start_voice/{number}")["Sid"])
    assert (state.facts.flow, state.outcome) == ("main", "served")


def test_a_call_has_its_time_and_no_more(hall: PlacingHall) -> None:
    steps = {"wait": {"pause": {"seconds": 60}, "next": "bye"}, "bye": BYE}
    # by the wall's clock, for the limit is of a real call
    hall.opened(steps, agents={FIRST: AgentScript.answers(0.1, None)}, speed=1.0)
    state = hall.closed(hall.place(Url="main", TimeLimit="1")["Sid"])
    assert (state.cause, state.ended_by) == ("ALLOTTED_TIMEOUT", "switch")


# --- what is kept -------------------------------------------------------------------------------------------


def test_the_record_is_on_disk_before_anybody_is_rung(hall: PlacingHall, monkeypatch: pytest.MonkeyPatch) -> None:
    hall.opened(agents=TALKS)
    known: list[Any] = []
    original = placing.Placing._ring

    def ring(self: Any, call: Any, *arguments: Any) -> None:
        known.extend(hall.service.store.read(lambda c: c.exec_driver_sql("SELECT id, placed FROM calls").all()))
        original(self, call, *arguments)

    monkeypatch.setattr(placing.Placing, "_ring", ring)
    sid = hall.place(StatusCallback="https://crm.example/cb", **{"StatusCallbackEvents[0]": "answered"})["Sid"]
    hall.closed(sid)
    [(kept, asked)] = known
    assert kept == sid
    wanted = {"to": SECOND, "status_callback": "https://crm.example/cb", "events": ["answered"], "limit": 14400}
    assert wanted.items() <= json.loads(asked).items()


def test_another_process_goes_on_with_a_call_that_rings(hall: PlacingHall) -> None:
    first = AgentScript(answer_after=None, talk_seconds=None)
    hall.opened(agents={FIRST: first, SECOND: AgentScript.answers(1.0, 3.0)})
    sid = hall.place(TimeOut="60")["Sid"]
    phone = hall.phone(sid)
    hall.service.stop()
    hall.serve()
    assert phone.session is not None
    state = hall.closed(sid)
    # it rang to its end meanwhile: by its CDR
    assert (state.outcome, state.reason, state.q850) == ("missed", "placed.no_answer", 19)


def test_another_process_takes_the_call_that_is_answered(hall: PlacingHall) -> None:
    hall.opened(agents={FIRST: AgentScript.answers(5.0, None), SECOND: AgentScript.answers(1.0, 3.0)}, speed=5.0)
    sid = hall.place()["Sid"]
    hall.service.stop()
    hall.serve()
    state = hall.closed(sid)
    assert (state.outcome, outcomes(state.legs)) == ("answered", ["answered"])
    assert codes(state)[:3] == ["call.placed", "placed.answered", "leg.dialled"]


def test_a_talk_that_another_process_ends(hall: PlacingHall) -> None:
    hall.opened(agents={FIRST: AgentScript.answers(1.0, None), SECOND: AgentScript.answers(1.0, 20.0)})
    sid = hall.place(Record="true")["Sid"]
    phone = hall.phone(sid)
    hall.until(lambda: any(what == "talks" for what, _ in phone.agents))
    hall.service.stop()
    hall.serve()
    state = hall.closed(sid)
    assert (state.outcome, outcomes(state.legs)) == ("answered", ["answered"])
    assert 19 < state.legs[0].talk_seconds < 21


def test_a_dead_exoflow_leaves_who_was_rung_the_announcement_and_not_the_agents(hall: PlacingHall) -> None:
    hall.opened(agents={FIRST: AgentScript.answers(1.0, None)})
    sid = hall.place(Url="main")["Sid"]
    phone = hall.phone(sid)
    hall.service.stop()
    assert phone.wait(10)
    assert phone.session is not None
    assert phone.session.channel.variables["exo_fallback"] == "refused"
    assert len(hall.switch.attempts) == 1
    hall.serve()
    state = hall.closed(sid)
    assert "door.fallback" in codes(state)


# --- what is not placed -----------------------------------------------------------------------------------


def refused(hall: PlacingHall, **form: str) -> tuple[int, str]:
    fields = {"From": FIRST, "To": SECOND, "CallerId": OURS, **form}
    status, answer = hall.asked("Calls/connect.json", fields)
    return status, answer["RestException"]["Message"]


def test_so_many_a_minute(hall: PlacingHall) -> None:
    hall.opened(agents=RINGS, api={**API, "calls_a_minute": 2})
    assert refused(hall, CallerId="+918030752499")[0] == 403  # which costs nothing
    for _ in range(2):
        hall.place()
    assert refused(hall) == (429, "more than 2 in a minute; wait and try again")
    assert len(hall.service.book.live) <= 2


def test_an_account_that_may_not(hall: PlacingHall) -> None:
    hall.opened(api={**API, "place_calls": False})
    assert refused(hall)[0] == 403
    assert hall.service.book.recent() == []


def test_no_channel_for_both(hall: PlacingHall) -> None:
    hall.opened(
        agents=RINGS,
        trunks={"PRI1": {"span": "PRI1", "std_code": "80", "channels": 3, "outbound": {"cli": "8030752400"}}},
        api={**API, "calls_a_minute": 100},
        speed=1.0,
    )
    hall.place()
    assert refused(hall) == (503, "nobody was rung: trunk PRI1 has no channel free")
    hall.place(Url="main", To="")
    status, why = refused(hall, Url="main", To="")
    assert (status, why) == (503, "nobody was rung: trunk PRI1 has no channel free")


def test_the_trunks_limit_is_kept(hall: PlacingHall) -> None:
    hall.opened(agents=RINGS, most_calls=1, speed=1.0)
    hall.place()
    status, why = refused(hall)
    assert (status, why) == (503, "nobody was rung: the trunk has 1 calls, its limit (exoflow_max_in)")


def test_a_box_that_is_emptied_places_nothing(hall: PlacingHall) -> None:
    hall.opened()
    hall.switch.globals["exoflow_drain"] = "true"
    assert refused(hall)[0] == 503


def test_an_answered_call_is_not_turned_away_by_a_drain_that_began_meanwhile(hall: PlacingHall) -> None:
    hall.opened(agents=TALKS)
    sid = hall.place()["Sid"]
    hall.switch.globals["exoflow_drain"] = "true"
    assert hall.closed(sid).outcome == "answered"


def test_without_an_event_socket_nobody_is_rung(hall: PlacingHall) -> None:
    hall.opened(lines=False)
    status, why = refused(hall)
    assert (status, why) == (503, "nobody was rung: FreeSWITCH cannot be told to dial just now; /readyz tells why")
    assert hall.service.book.recent() == []


def test_a_store_that_cannot_be_written_places_nothing(hall: PlacingHall, monkeypatch: pytest.MonkeyPatch) -> None:
    hall.opened()
    monkeypatch.setattr(Call, "on_disk", lambda self, seconds=0.5: False)
    status, why = refused(hall)
    assert status == 503
    assert "the store cannot keep" in why
    monkeypatch.undo()
    eventually(lambda: not hall.service.book.live)
    [state] = hall.service.book.recent()
    assert (state.outcome, state.reason) == ("refused", "call.placed")
    assert hall.switch.attempts == []


def test_a_full_process_places_nothing(hall: PlacingHall) -> None:
    hall.opened(agents=RINGS, switch={"max_calls": 1}, speed=1.0)
    hall.place()
    assert refused(hall) == (503, "nobody was rung: exoflow has as many calls as it may have (switch.max_calls)")


def test_many_at_once_never_take_more_channels_than_there_are(hall: PlacingHall) -> None:
    hall.opened(
        agents=RINGS,
        trunks={"PRI1": {"span": "PRI1", "std_code": "80", "channels": 8, "outbound": {"cli": "8030752400"}}},
        api={**API, "calls_a_minute": 100},
        speed=1.0,
    )
    jobs = [gevent.spawn(hall.asked, "Calls/connect.json", {"From": FIRST, "To": SECOND, "CallerId": OURS}) for _ in range(12)]
    answers = [job.get() for job in jobs]
    assert sorted(status for status, _ in answers) == [200] * 4 + [503] * 8
    assert len(hall.switch.attempts) <= 4


def test_the_accounts_own_flows_are_left_as_they_are(hall: PlacingHall) -> None:
    hall.opened({"hello": say("Hello."), "bye": BYE}, agents=TALKS)
    hall.closed(hall.place()["Sid"])
    assert list(hall.service.config.accounts["acme"].flows) == ["main"]
