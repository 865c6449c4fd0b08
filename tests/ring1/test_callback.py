"""StatusCallback: the form's fields against the files of tests/dialect/callbacks, and when it is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hall import ASHA, BYE, OURS, Hall, eventually, say

from exoflow.calls.model import CallFacts, CallState, Leg, Placed, Recording
from exoflow.config.model import Account
from exoflow.crm.callback import Callback, fields
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
    now = after(27 if event == "answered" else 60)
    url = "https://rec.example/a.mp3"
    told = fields(state, event, callback, now=now, account=account, recording_url=lambda recording: url)
    assert told == wanted(name)


def form(request: Request) -> dict[str, str]:
    assert (request.method, request.headers["content-type"]) == ("POST", "application/x-www-form-urlencoded")
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True))


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
