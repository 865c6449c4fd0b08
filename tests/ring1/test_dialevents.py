"""Dial events: what CRMs receive when agents' phones are rung, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hall import ASHA, BYE, MEENA, RAVI, SECRET, Hall, eventually

from exoflow.calls.book import CallBook
from exoflow.calls.lookup import deliveries_of
from exoflow.calls.model import CallFacts, CallState, Leg
from exoflow.config.model import Account
from exoflow.crm import sender
from exoflow.crm.dialect import dial_event
from exoflow.crm.dialevents import dial_tidings
from exoflow.crm.http import CrmClient
from exoflow.crm.outgoing import shown, written
from exoflow.flow import asking
from exoflow.sim import AgentScript
from exoflow.sim.crm import DemoCrm, Reply, Request
from exoflow.store import open_store, outbox

Start = Callable[..., Hall]

EVENTS = Path(__file__).parents[1] / "dialect" / "events"
BEGUN = datetime(2026, 1, 5, 4, 30, 0, tzinfo=UTC)  # 10:00:00 in India
STEPS: dict[str, Any] = {
    "agents": {"connect": {"numbers": [ASHA, RAVI], "ring_seconds": 5}, "answered": "tell", "unanswered": "tell"},
    "tell": {"passthru": {"url": "crm:/passthru"}, "ok": "bye", "redirect": "bye"},
    "bye": BYE,
}
ACCOUNT: dict[str, Any] = {
    "agents": {"asha": {"number": ASHA, "email": "asha@acme.example"}, "ravi": {"number": RAVI}, "meena": {"number": MEENA}},
    "crm": {"allow_private": ["127.0.0.1/32"], "dial_events": {"url": "crm:/dial?key=K"}},
}


def account() -> Account:
    agents = {"a": {"number": "+919999999903", "email": "a@shop.example"}}
    flows = {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}}
    return Account.model_validate({"name": "Acme", "agents": agents, "flows": flows})


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.txt")))
def test_parameters_are_as_the_dialect_has_them(name: str) -> None:
    lines = [line for line in (EVENTS / f"{name}.txt").read_text().splitlines() if not line.startswith("#")]
    wanted = [tuple(line.split("=", 1)) for line in lines]
    has = dict(wanted)
    withheld = not has["CallFrom"]
    facts = CallFacts("0123456789abcdef0123456789abcdef", "c", BEGUN, "PRI1", "9902", "", "+919999999902", account="acme")
    facts.caller, facts.caller_withheld = (None, True) if withheld else ("+919999999901", False)
    leg = Leg("u", 2, "+91" + has["DialWhomNumber"][1:], "PRI1", None if withheld else "a")
    now = datetime.fromisoformat(has["CurrentTime"]).replace(tzinfo=ZoneInfo("Asia/Kolkata"))
    assert dial_event(CallState(facts), leg, has["Status"], now=now, account=account()) == wanted


def told(h: Hall, path: str = "/dial") -> list[tuple[str | None, str | None]]:
    return [(one.get("Status"), one.get("DialWhomNumber")) for one in h.crm.to(path)]


def test_each_phone_is_told_of_when_it_rings_and_when_it_is_free(hall: Start) -> None:
    h = hall(STEPS, agents={ASHA: AgentScript.busy(), RAVI: AgentScript.answers(2, 5)}, account=ACCOUNT)
    h.crm.script("/dial", Reply(200))
    _, call = h.run()
    wanted = [("busy", "09876543210"), ("free", "09876543210"), ("busy", "09876543211"), ("free", "09876543211")]
    assert told(h) == wanted
    events = h.crm.to("/dial")
    assert [event.method for event in events] == ["GET"] * 4
    assert {event.get("key") for event in events} == {"K"}
    assert [event.get("AgentEmail") for event in events] == ["asha@acme.example"] * 2 + [""] * 2
    assert {event.get("CallSid") for event in events} == {call.facts.id}
    eventually(lambda: all(one.state == "delivered" for one in h.deliveries(call)))
    assert [one.type for one in h.deliveries(call)] == ["dial.busy", "dial.free"] * 2 + ["call.ended"]


def test_they_come_before_the_passthru_and_the_end(hall: Start) -> None:
    h = hall(STEPS, agents={ASHA: AgentScript.answers(2, 5)}, account=ACCOUNT)
    h.crm.script("/dial", Reply(200, delay=0.3))
    h.run()
    h.crm.wait_for_deliveries(1)
    assert [one.path for one in h.crm.requests] == ["/dial", "/dial", "/passthru", "/deliveries"]


def test_the_crms_answer_names_another_address_for_them(hall: Start) -> None:
    steps = STEPS | {
        "agents": {"connect": {"url": "crm:/connect", "ring_seconds": 5}, "answered": "tell", "unanswered": "tell"}
    }
    h = hall(steps, agents={ASHA: AgentScript.answers(2, 5)}, account=ACCOUNT)
    h.crm.script("/dial", Reply(200))
    h.crm.script("/popup", Reply(200))
    h.crm.script("/connect", Reply.agents(ASHA, dial_passthru_event_url=h.crm.url("/popup?token=T")))
    _, call = h.run()
    eventually(lambda: all(one.state == "delivered" for one in h.deliveries(call)))
    assert told(h) == told(h, "/popup") == [("busy", "09876543210"), ("free", "09876543210")]
    assert {event.get("token") for event in h.crm.to("/popup")} == {"T"}


def test_they_do_not_wait_for_deliveries_that_nobody_takes(hall: Start) -> None:
    events = {"url": "crm:/deliveries", "secret": SECRET, "events": ["call.started", "call.answered", "call.ended"]}
    h = hall(STEPS, agents={ASHA: AgentScript.answers(2, 5)}, account=ACCOUNT | {"deliveries": events})
    h.crm.script("/dial", Reply(200))
    h.crm.script("/deliveries", Reply(500))
    _, call = h.run()
    eventually(lambda: len(h.crm.to("/dial")) == 2)
    wanted = {"call.started": "pending", "dial.busy": "delivered", "dial.free": "delivered"}
    eventually(lambda: {one.type: one.state for one in h.deliveries(call) if one.type in wanted} == wanted)
    assert [one.type for one in h.deliveries(call)][-1] == "call.ended"


def test_nobody_is_told_unless_the_account_wants_it(hall: Start) -> None:
    h = hall(STEPS, agents={ASHA: AgentScript.answers(2, 5)})
    _, call = h.run()
    assert [one.type for one in h.deliveries(call)] == ["call.ended"]


def test_a_pop_up_that_nobody_takes_is_not_sent_behind_the_passthru(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "EVENTS_SECONDS", 0.3)
    monkeypatch.setattr(sender, "DIAL_SCHEDULE", (0.0, 3.0))
    passed: list[float] = []

    def dial(request: Request) -> Reply:
        return Reply(503)

    def passthru(request: Request) -> Reply:
        passed.append(request.at)
        return Reply(200)

    h = hall(STEPS, agents={ASHA: AgentScript.answers(2, 5)}, account=ACCOUNT)
    h.crm.script("/dial", dial)
    h.crm.script("/passthru", passthru)
    _, call = h.run()

    def over() -> bool:
        return [one.state for one in h.deliveries(call)][-1] == "delivered"

    eventually(over, 60)
    busy, free, ended = h.deliveries(call)
    assert (busy.type, busy.state) == ("dial.busy", "dead")
    assert "given up, for" in busy.problem  # a passthru came first, or the phone is free again: whichever was quicker
    assert (free.type, ended.type) == ("dial.free", "call.ended")
    assert not [one for one in h.crm.to("/dial") if one.get("Status") == "busy" and one.at > passed[0]]


class Told:
    """A call with one phone that rings, an address that takes nothing, and a clock of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.crm = DemoCrm()
        self.crm.start()
        self.crm.script("/dial", Reply(503))
        crm = {"allow_private": ["127.0.0.1/32"], "dial_events": {"url": self.crm.url("/dial")}}
        flows = {"main": {"start": "bye", "steps": {"bye": BYE}}}
        account = Account.model_validate({"name": "Acme", "crm": crm, "flows": flows})
        self.store = open_store(f"sqlite:///{folder}/calls.db")
        self.now = BEGUN
        self.client = CrmClient()
        self.sender = sender.Sender(self.store, self.client, lambda name: account, clock=lambda: self.now, jitter=lambda: 0.0)
        book = CallBook(self.store, clock=lambda: self.now)
        book.tidings = dial_tidings
        self.call = book.open(CallFacts("a" * 32, "c", BEGUN, "PRI1", "9902", "", account="acme"), account)
        self.leg = Leg("u", 1, "+919999999903", "PRI1")
        self.call.add_leg(self.leg)

    def released(self) -> None:
        self.leg.outcome, self.leg.released_at = "busy", self.now
        self.call.update_leg(self.leg)
        self.call.on_disk()

    def rows(self) -> list[tuple[str, str, int]]:
        found = self.store.read(lambda c: deliveries_of(c, self.call.id))
        return [(one.type, one.state, len(one.attempts)) for one in found]

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.sender.drain()

    def close(self) -> None:
        self.sender.stop(1)
        self.client.close()
        self.store.close()
        self.crm.stop()


@pytest.fixture
def ringing(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path)
    yield made
    made.close()


def test_it_is_sent_again_as_long_as_the_phone_rings(ringing: Told) -> None:
    for seconds in (0, 1, 4):
        ringing.pass_seconds(seconds)
    assert ringing.rows() == [("dial.busy", "pending", 3)]
    ringing.pass_seconds(10)
    assert ringing.rows() == [("dial.busy", "dead", 4)]


def test_it_is_given_up_when_the_phone_is_free_again(ringing: Told) -> None:
    ringing.pass_seconds(0)
    ringing.released()
    assert ringing.rows() == [("dial.busy", "pending", 1), ("dial.free", "pending", 0)]
    ringing.pass_seconds(1)
    assert ringing.rows() == [("dial.busy", "dead", 2), ("dial.free", "pending", 1)]


def test_it_is_given_up_when_a_passthru_comes_first(ringing: Told) -> None:
    ringing.pass_seconds(0)
    ringing.released()
    ringing.store.write(lambda c: outbox.overtake(c, ringing.call.id, "dial.busy", "overtaken"))
    ringing.pass_seconds(60)
    assert ringing.rows() == [("dial.busy", "dead", 1), ("dial.free", "pending", 1)]


def test_a_call_that_comes_back_tells_of_each_phone_once(hall: Start) -> None:
    h = hall(STEPS, agents={ASHA: AgentScript.answers(2, 8)}, account=ACCOUNT)
    h.crm.script("/dial", Reply(200))
    phone = h.call()
    h.until(lambda: any(leg.answered_at for state in h.states.values() for leg in state.legs))
    eventually(lambda: h.crm.to("/dial"))
    h.service.stop()
    h.serve()
    call = h.ended(phone)
    eventually(lambda: all(one.state == "delivered" for one in h.deliveries(call)))
    assert told(h) == [("busy", "09876543210"), ("free", "09876543210")]


def test_a_body_is_shown_without_secrets() -> None:
    body = written([("CallSid", "a")], "https://crm.example/dial?key=secret&shop=7")
    assert shown("dial.busy", body)["url"] == "https://crm.example/dial?key=***&shop=7"
    assert shown("call.ended", '{"url": "https://crm.example/?key=a"}') == {"url": "https://crm.example/?key=a"}
