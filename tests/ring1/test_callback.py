"""StatusCallback: the form's fields against the files of tests/dialect/callbacks, and when it is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hall import ASHA, BYE, OURS, Hall, eventually, say

from exoflow.calls.model import CallFacts, CallState, Leg, Placed, Recording
from exoflow.config.model import Account
from exoflow.crm.callback import Callback, fields
from exoflow.crm.callback_body import encoded
from exoflow.sim import AgentScript
from exoflow.sim.crm import Reply, Request

Start = Callable[..., Hall]

CALLBACKS = Path(__file__).parents[1] / "dialect" / "callbacks"
BEGUN = datetime(2026, 1, 5, 4, 30, 0, tzinfo=UTC)  # 10:00:00 in India
BOTH = Callback(events=("terminal", "answered"))
STEPS: dict[str, Any] = {
    "agents": {"connect": {"numbers": [ASHA], "ring_seconds": 5}, "answered": "bye", "unanswered": "bye"},
    "bye": BYE,
}


def after(seconds: float) -> datetime:
    return BEGUN + timedelta(seconds=seconds)


def call(ended: float | None, leg: Leg | None = None, **changes: Any) -> CallState:
    facts = CallFacts("0123456789abcdef0123456789abcdef", "c", BEGUN, "PRI1", "9902", "9999999901", account="acme")
    facts.dialled, facts.caller = "+919999999902", "+919999999901"
    state = CallState(facts, ring_at=BEGUN, answered_at=after(1), wanted_agent=leg is not None, legs=[leg] if leg else [])
    state.ended_at = None if ended is None else after(ended)
    return replace(state, **changes)


def placed(ended: float, leg: Leg | None = None) -> CallState:
    """Placed to 09999999901, and then to 09999999903."""
    state = call(ended, leg)
    state.facts.placed = Placed("+919999999903", 30, 14400, custom_field="order 7")
    return state


def leg(outcome: str, released: float | None = None, answered: float | None = None) -> Leg:
    found = Leg("u", 1, "+919999999903", "PRI1", dialled_at=after(20), outcome=outcome)
    found.answered_at = None if answered is None else after(answered)
    found.released_at = None if released is None else after(released)
    return found


TALKED = leg("answered", 37, 27)
GOOD = [Recording("talk", "/a.wav", 1, "good")]
CASES = {
    "terminal_placed": (placed(38, TALKED), "terminal", replace(BOTH, custom_field="order 7", direction="outbound-api")),
    "terminal_placed_busy": (
        replace(placed(30), answered_at=None, q850=17, ended_by="switch"),
        "terminal",
        Callback(direction="outbound-api"),
    ),
    "terminal_short": (call(38, TALKED, recordings=GOOD), "terminal", Callback()),
    "terminal": (call(38, TALKED, recordings=GOOD), "terminal", BOTH),
    "answered": (call(None, leg("ringing", None, 27)), "answered", BOTH),
    # told late, by another process
    "ringing": (call(38, TALKED, recordings=GOOD), "ringing", BOTH),
    "terminal_busy": (call(30, leg("busy", 25)), "terminal", BOTH),
    "terminal_left_ringing": (call(30, leg("caller_gone", 30), caller_left=True, ended_by="caller"), "terminal", BOTH),
    "terminal_served": (
        call(30),
        "terminal",
        replace(BOTH, custom_field="order 7 & more", direction="outbound-api"),
    ),
}


def wanted(name: str) -> list[tuple[str, ...]]:
    lines = (CALLBACKS / f"{name}.txt").read_text().splitlines()
    return [tuple(line.split("=", 1)) for line in lines if not line.startswith("#")]


def test_each_file_has_a_call() -> None:
    assert {path.stem for path in CALLBACKS.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_fields_are_as_the_dialect_has_them(name: str) -> None:
    state, event, callback = CASES[name]
    account = Account.model_validate({"name": "Acme", "flows": {"main": {"start": "bye", "steps": {"bye": BYE}}}})
    now = after({"ringing": 2, "answered": 27}.get(event, 60))
    url = "https://rec.example/a.mp3"
    told = fields(state, event, callback, now=now, account=account, recording_url=lambda recording: url)
    assert told == wanted(name)


def form(request: Request) -> dict[str, str]:
    assert (request.method, request.headers["content-type"]) == ("POST", "application/x-www-form-urlencoded")
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True))


def test_json_has_legs_as_objects_and_durations_as_integers() -> None:
    kind, body = encoded(wanted("terminal"), "application/json", "msg_1")  # type: ignore[arg-type]
    assert kind == "application/json"
    told = json.loads(body)
    assert told["CallSid"] == "0123456789abcdef0123456789abcdef"
    assert told["ConversationDuration"] == 10
    assert told["Legs"] == [
        {"OnCallDuration": 37, "Status": "completed", "AnsweredBy": "NA"},
        {"OnCallDuration": 10, "Status": "completed", "AnsweredBy": "NA"},
    ]
    assert set(told) == {name.partition("[")[0] for name, _ in wanted("terminal")}


def test_multipart_is_read_by_a_parser_of_another_hand() -> None:
    fields = [("CallSid", "a" * 32), ("CustomField", 'मीना & "co"\r\n--x'), ("Empty", ""), ("Legs[0][Status]", "busy")]
    kind, body = encoded(fields, "multipart/form-data", "msg_1")
    read = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=HTTP)
    parts = [
        (part.get_param("name", header="content-disposition"), part.get_payload(decode=True)) for part in read.iter_parts()
    ]
    assert parts == [(name, value.encode()) for name, value in fields]


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", ""])
def test_what_is_asked_for_is_sent_as_from_exotel(hall: Start, content_type: str) -> None:
    own = {"content_type": content_type} if content_type else {}
    h = hall({"hello": say("Hello."), "bye": BYE}, account=crm(**own))
    h.crm.script("/status", Reply(200))
    _, state = h.run()
    eventually(lambda: h.crm.to("/status"))
    (told,) = h.crm.to("/status")
    kind = told.headers["content-type"].partition(";")[0]
    assert (kind, told.headers["user-agent"]) == (content_type or "application/x-www-form-urlencoded", "Exotel Servers")
    assert state.facts.id.encode() in told.body


def test_ringing_is_told_first(hall: Start) -> None:
    events = ["terminal", "ringing", "answered"]
    h = hall(STEPS, agents={ASHA: AgentScript.answers(2, 5)}, account=crm(events=events))
    h.crm.script("/status", Reply(200))
    h.run()
    eventually(lambda: len(h.crm.to("/status")) == 3)
    told = [(one["EventType"], one["Status"]) for one in map(form, h.crm.to("/status"))]
    assert told == [("ringing", "ringing"), ("answered", "in-progress"), ("terminal", "completed")]


def crm(**callback: Any) -> dict[str, Any]:
    return {"crm": {"allow_private": ["127.0.0.1/32"], "status_callback": {"url": "crm:/status?key=K", **callback}}}


def test_an_answered_call_is_told_twice_in_order(hall: Start) -> None:
    h = hall(STEPS, agents={ASHA: AgentScript.answers(2, 5)}, account=crm(events=["terminal", "answered"]))
    h.crm.script("/status", Reply(200))
    _, state = h.run()
    eventually(lambda: len(h.crm.to("/status")) == 2)
    answered, terminal = map(form, h.crm.to("/status"))
    assert (answered["EventType"], answered["Status"]) == ("answered", "in-progress")
    assert (terminal["EventType"], terminal["Status"]) == ("terminal", "completed")
    assert answered["CallSid"] == terminal["CallSid"] == state.facts.id
    assert 3 <= int(terminal["ConversationDuration"]) <= 7
    assert {request.get("key") for request in h.crm.to("/status")} == {"K"}


def test_without_events_the_end_alone_is_told(hall: Start) -> None:
    h = hall(STEPS, agents={ASHA: AgentScript.busy()}, account=crm())
    h.crm.script("/status", Reply(200))
    h.run()
    eventually(lambda: h.crm.to("/status"))
    (told,) = map(form, h.crm.to("/status"))
    assert (set(told), told["Status"]) == ({"CallSid", "DateUpdated", "Status"}, "busy")


def test_a_number_has_its_own(hall: Start) -> None:
    own = {"number": OURS, "trunk": "PRI1", "flow": "main", "status_callback": {"url": "crm:/own"}}
    h = hall({"hello": say("Hello."), "bye": BYE}, account=crm() | {"numbers": [own]})
    h.crm.script("/own", Reply(200))
    h.run()
    eventually(lambda: h.crm.to("/own"))
    assert h.crm.to("/status") == []


def test_one_that_is_not_taken_is_sent_again(hall: Start) -> None:
    h = hall({"hello": say("Hello."), "bye": BYE}, account=crm())
    h.crm.script("/status", Reply(500), Reply(200))
    _, state = h.run()

    def tried() -> bool:
        return any(one.attempts for one in h.deliveries(state) if one.type == "status.terminal")

    eventually(tried)
    (row,) = [one for one in h.deliveries(state) if one.type == "status.terminal"]
    assert (row.state, row.attempts[0].status, row.attempts[0].url[-7:]) == ("pending", 500, "key=***")
