"""Calls that are placed on a box that is full or emptied, and while exoflow dies."""

from __future__ import annotations

import json

import requests

from exoflow.calls import cdr
from exoflow.calls.cdr import CallEnd
from ring2.agents import answers, silent
from ring2.placing import closed, place
from ring2.site import MAIN, Site, hears, wait_for


def test_a_full_trunk_and_a_box_that_is_emptied_place_nothing(site: Site) -> None:
    first, second = site.agents(answers(), answers())
    form = {"CallerId": f"0{MAIN}", "From": f"0{first.number}", "To": f"0{second.number}"}
    url = f"http://127.0.0.1:{site.web_port}/v1/Accounts/acme/Calls/connect.json"
    for variable, value, before in (("exoflow_drain", "true", "false"), (f"exoflow_max_in_{site.box.trunk}", "0", "")):
        site.box.api(f"global_setvar {variable}={value}")
        try:
            answer = requests.post(url, data=form, auth=("kacme", "sesame"), timeout=10)
        finally:
            site.box.api(f"global_setvar {variable}={before}")
        assert answer.status_code == 503
        assert "nobody was rung" in answer.json()["RestException"]["Message"]
    assert first.attempts == []


def test_kill_while_the_first_phone_rings_and_it_is_answered_all_the_same(site: Site) -> None:
    first, second = site.agents(answers(after=12, hz=600), answers(after=1, talk=2, hz=900))
    sid = place(site, From=f"0{first.number}", To=f"0{second.number}")
    wait_for(lambda: first.attempts, 10, "the first phone")
    site.kill()
    site.serve()
    state = closed(site, sid)
    assert state.outcome == "answered"
    assert len(first.attempts) == len(second.attempts) == 1


def test_kill_while_the_first_phone_rings_and_it_is_not_answered(site: Site) -> None:
    first, second = site.agents(silent(), answers())
    sid = place(site, From=f"0{first.number}", To=f"0{second.number}", TimeOut="5")
    wait_for(lambda: first.attempts, 10, "the first phone")
    site.kill()
    site.serve()
    state = closed(site, sid)
    # this site reads no CDR files: how it ended is then unknown
    assert (state.outcome, state.reason) == ("lost", "app_restart")
    assert second.attempts == []
    # by them it would be
    end = cdr.parse(json.dumps(site.box.cdr(state.facts.channel)))
    assert isinstance(end, CallEnd)
    assert (end.placed, end.call_id, end.q850, end.answered_at) == (True, sid, 19, None)


def test_who_answers_while_no_exoflow_is_there_hears_the_announcement_and_rings_nobody(site: Site) -> None:
    [first] = site.agents(answers(after=5, hz=None))
    before = len(site.exchange.attempts)
    sid = place(site, From=f"0{first.number}", Url="main")
    wait_for(lambda: first.attempts, 10, "the first phone")
    site.kill()
    try:
        [rung] = first.attempts
        rung.wait_ended(30)
        # the tones that every network plays for "cannot be completed"
        assert hears(rung.heard(), 1400)
    finally:
        site.serve()
    state = closed(site, sid)
    assert (state.outcome, state.legs) == ("lost", [])
    assert site.exchange.attempts[before:] == [rung]
