"""What accounts are told of their calls: each kind, in its order, once, whatever dies meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hall import ASHA, BYE, RAVI, SECRET, Hall, eventually, say

from exoflow.calls.book import CallBook
from exoflow.calls.lookup import deliveries_of
from exoflow.calls.model import CallFacts, CallState
from exoflow.calls.tidings import webhook_id
from exoflow.config.model import Account
from exoflow.sim import AgentScript
from exoflow.store import open_store

Start = Callable[..., Hall]

ALL = ["call.started", "call.answered", "call.ended", "call.missed", "recording.ready", "recording.failed"]
AGENTS: dict[str, Any] = {
    "agents": {
        "connect": {"numbers": [ASHA, RAVI], "record": "dual", "ring_seconds": 5},
        "answered": "bye",
        "unanswered": "bye",
    },
    "bye": BYE,
}


def wanting(*events: str) -> dict[str, Any]:
    return {"deliveries": {"url": "crm:/deliveries", "secret": SECRET, "events": list(events)}}


def told(h: Hall, call: CallState) -> list[dict[str, Any]]:
    """As the CRM got them, when all are there."""
    made = h.deliveries(call)
    eventually(lambda: all(one.state == "delivered" for one in h.deliveries(call)))
    got = [one for one in h.crm.deliveries if one.event["data"]["call"] == call.facts.id]
    assert all(one.signed for one in got)
    assert [one.headers["webhook-id"] for one in got] == [one.webhook_id for one in made]
    return [one.event for one in got]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def test_a_talk_is_told_from_its_start_to_its_end_in_order(hall: Start) -> None:
    h = hall(AGENTS, agents={ASHA: AgentScript.busy(), RAVI: AgentScript.answers(2, 5)}, account=wanting(*ALL))
    _, call = h.run()
    started, answered, ready, ended = events = told(h, call)
    assert kinds(events) == ["call.started", "call.answered", "recording.ready", "call.ended"]
    assert [event["data"]["seq"] for event in events] == [1, 2, 3, 4]
    assert (started["data"]["outcome"], started["data"]["ended_at"], started["data"]["legs"]) == (None, None, [])
    assert started["data"]["ring_at"] is not None
    assert answered["data"]["leg"] == call.legs[1].uuid
    assert answered["data"]["legs"][1]["answered_at"] is not None
    assert answered["data"]["legs"][1]["released_at"] is None
    assert ready["data"]["recording"]["file"] == call.recordings[0].path
    assert ready["data"]["recording"]["state"] == "good"
    assert (ended["data"]["outcome"], ended["data"]["talk_seconds"]) == ("answered", pytest.approx(5, abs=1))


def test_an_account_that_says_nothing_is_told_of_ends_only(hall: Start) -> None:
    h = hall(AGENTS, agents={ASHA: AgentScript.answers(2, 5)})
    _, call = h.run()
    assert kinds(told(h, call)) == ["call.ended"]


@pytest.mark.parametrize(
    ("wanted", "got"),
    [(["call.missed"], ["call.missed"]), (["call.ended"], []), (["call.started", "call.answered"], ["call.started"])],
)
def test_what_an_account_does_not_want_it_is_not_told(hall: Start, wanted: list[str], got: list[str]) -> None:
    h = hall(AGENTS, agents={ASHA: AgentScript.busy(), RAVI: AgentScript.busy()}, account=wanting(*wanted))
    _, call = h.run()
    assert kinds(told(h, call)) == got


def test_a_recording_that_cannot_be_written_is_told(hall: Start) -> None:
    h = hall(AGENTS, agents={ASHA: AgentScript.answers(2, 5)}, account=wanting("recording.ready", "recording.failed"))
    (h.folder / "recordings").write_text("")
    _, call = h.run()
    (failed,) = told(h, call)
    assert failed["type"] == "recording.failed"
    assert failed["data"]["recording"]["problem"] == call.recordings[0].problem
    assert failed["data"]["recording"]["url"] is None


def test_a_call_that_is_turned_away_has_not_started(hall: Start) -> None:
    h = hall({"hello": say("Hello."), "bye": BYE}, account=wanting(*ALL))
    _, call = h.run(to="+918030752499")
    assert h.deliveries(call) == []


def test_a_call_that_comes_back_is_told_of_nothing_twice(hall: Start) -> None:
    h = hall(AGENTS, agents={ASHA: AgentScript.answers(2, 8)}, account=wanting(*ALL))
    phone = h.call()
    h.until(lambda: any(leg.answered_at for state in h.states.values() for leg in state.legs))
    eventually(lambda: len(h.crm.deliveries) >= 2)
    h.service.stop()
    h.serve()
    call = h.ended(phone)
    events = told(h, call)
    assert kinds(events) == ["call.started", "call.answered", "recording.ready", "call.ended"]
    assert [event["data"]["seq"] for event in events] == [1, 2, 3, 4]


def test_ids_are_made_of_what_is_told() -> None:
    assert webhook_id("a" * 32, "call.ended") == webhook_id("a" * 32, "call.missed")  # a call ends once
    different = {webhook_id(call, kind, about) for call in "ab" for kind in ("call.started", "call.ended") for about in "xy"}
    assert len(different) == 8


def test_a_body_says_which_leg_and_stays_below_the_limit(hall: Start) -> None:
    h = hall(AGENTS, agents={ASHA: AgentScript.answers(2, 5)}, account=wanting(*ALL))
    _, call = h.run()
    assert all(len(json.dumps(event)) < 20_000 for event in told(h, call))


@pytest.mark.parametrize(
    ("progress", "kinds"), [({"flow": "main", "step": "hello"}, ["call.started", "call.ended"]), ({}, ["call.ended"])]
)
def test_a_start_that_a_killed_process_had_no_time_to_tell_is_told(
    tmp_path: Path, progress: dict[str, Any], kinds: list[str]
) -> None:
    """That it rang was not on disk yet; a call that no flow had has not started."""
    where = {"url": "https://crm.example/calls", "events": ALL}
    flows = {"main": {"start": "bye", "steps": {"bye": BYE}}}
    account = Account.model_validate({"name": "Acme", "deliveries": where, "flows": flows})
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    book = CallBook(store, accounts=lambda name: account)
    facts = CallFacts("a" * 32, "channel", datetime.now(UTC), "PRI1", "2400", "1", account="acme")
    before = book.open(facts, None)  # tells nothing
    before.state.progress = progress
    before.changed(whole=True)
    assert before.on_disk()
    back = CallBook(store, accounts=lambda name: account).resume("channel")
    assert back is not None
    assert back.close("served")
    assert [one.type for one in store.read(lambda c: deliveries_of(c, facts.id))] == kinds
    store.close()
