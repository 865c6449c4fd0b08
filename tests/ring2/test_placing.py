"""Calls that an account places: FreeSWITCH rings the first number, then the second, or a flow takes the call."""

from __future__ import annotations

import pytest
from support.audio import read_wav

from ring2.agents import answers, busy, silent
from ring2.placing import asked, closed, place
from ring2.site import LOUD, MAIN, Site, codes, entry, when_heard

pytestmark = pytest.mark.together


def test_two_phones_are_rung_one_after_the_other_and_talk_and_are_recorded(site: Site) -> None:
    first, second = site.agents(answers(after=1, hz=600), answers(after=1, talk=4, hz=900))
    sid = place(site, From=f"0{first.number}", To=f"+91{second.number}", Record="true", RecordingChannels="dual")
    state = closed(site, sid)
    assert state.outcome == "answered"
    told = [code for code in codes(state) if code in ("call.placed", "placed.answered", "leg.dialled", "leg.talked")]
    assert told == ["call.placed", "placed.answered", "leg.dialled", "leg.talked"]
    # one after the other, and both see the number that was asked for
    [rung], [then] = first.attempts, second.attempts
    assert rung.answered_at is not None
    assert rung.answered_at < then.at
    assert (rung.cli, then.cli) == (MAIN, MAIN)
    assert (rung.dialled, then.dialled) == (f"0{first.number}", f"0{second.number}")
    # each hears the other, the first ringing before
    assert when_heard(rung.heard(), 900, above=LOUD) > 0.5
    assert when_heard(then.heard(), 600, above=LOUD) < 3
    assert state.answered_at is not None
    assert state.answered_at.timestamp() == pytest.approx(rung.answered_at, abs=2)
    [recording] = state.recordings
    sound = read_wav(site.recordings / recording.path)
    assert (recording.state, recording.channels) == ("good", 2)
    assert sound.seconds == pytest.approx(state.legs[0].talk_seconds, abs=1.5)
    shown = asked(site, f"Calls/{sid}.json?details=true")["Call"]
    assert (shown["Status"], shown["Direction"], shown["From"]) == ("completed", "outbound-api", f"0{first.number}")
    assert (shown["To"], shown["PhoneNumberSid"], shown["Details"]["Leg2Status"]) == (
        f"0{second.number}",
        f"0{MAIN}",
        "completed",
    )


def test_a_busy_phone_and_one_that_nobody_answers_are_told_apart(site: Site) -> None:
    engaged, unanswered, second = site.agents(busy(), silent(), answers())
    sids = [place(site, From=f"0{one.number}", To=f"0{second.number}", TimeOut="5") for one in (engaged, unanswered)]
    states = [closed(site, sid) for sid in sids]
    assert [state.outcome for state in states] == ["missed", "missed"]
    assert [state.reason for state in states] == ["placed.busy", "placed.no_answer"]
    shown = [asked(site, f"Calls/{sid}.json")["Call"]["Status"] for sid in sids]
    assert shown == ["busy", "no-answer"]
    assert [state.q850 for state in states] == [17, 19]
    assert states[1].ring_at is not None
    assert second.attempts == []
    for state in states:
        [told] = [one for one in site.crm.deliveries if one.event["data"]["call"] == state.facts.id]
        assert told.event["type"] == "call.missed"
        assert told.event["data"]["direction"] == "outbound-api"


def test_a_flow_takes_the_call_of_who_was_rung_as_of_who_called(site: Site) -> None:
    [customer] = site.agents(answers(hz=None))
    sid = place(
        site, From=f"0{customer.number}", Url="http://my.exotel.com/acme/exoml/start_voice/unanswered", CustomField="o 7&x=1"
    )
    state = closed(site, sid)
    # the flow asks the CRM, which says 200, and hangs up with 21
    assert codes(state)[:2] == ["call.placed", "placed.answered"]
    assert (state.outcome, state.ended_by) == ("served", "exoflow")
    [request] = [one for one in site.crm.to("/lookup") if one.get("CallSid") == sid]
    sent = dict(request.params)
    assert (sent["CallFrom"], sent["CallTo"], sent["Direction"]) == (f"0{customer.number}", f"0{MAIN}", "outbound-dial")
    assert sent["CustomField"] == "o 7&x=1"
    assert entry(state, "placed.answered").at == state.answered_at


def test_a_call_has_its_time_and_no_more(site: Site) -> None:
    [customer] = site.agents(answers(hz=None))
    sid = place(site, From=f"0{customer.number}", Url="flow://x/main", TimeLimit="3")
    state = closed(site, sid)
    assert (state.cause, state.ended_by) == ("ALLOTTED_TIMEOUT", "switch")
    assert state.answered_at is not None
    assert state.ended_at is not None
    assert 2 < (state.ended_at - state.answered_at).total_seconds() < 12
