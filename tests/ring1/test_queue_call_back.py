"""Being called back: what a caller in a queue is offered, that he is called in his turn, and by whom he is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gevent
import pytest
from click.testing import CliRunner
from gevent.event import AsyncResult, Event
from hall import ASHA, BYE, OURS, WAIT, Hall, codes, entry, eventually, say

from exoflow.agents.callbacks import CallBack, since
from exoflow.calls.model import CallState
from exoflow.calls.show import call_sheet
from exoflow.cli import main
from exoflow.config.callbacks import CallBacks as Rules
from exoflow.config.load import load
from exoflow.config.yaml12 import read
from exoflow.flow import calledback
from exoflow.sim import AgentScript, Phone
from exoflow.sim.crm import Reply
from exoflow.store.changes import Change
from exoflow.store.tables import call_backs

ROOT = Path(__file__).parents[2]
Start = Callable[..., Hall]
HIM, OTHER = "+919811100002", "+919811100003"
ALWAYS = {"mon-sun": ["00:00-24:00"]}
# a virtual clock with nobody on it goes on to the longest limit of a call, four hours, at once: a try must be later
AGAIN = {"again_minutes": 600, "keep_hours": 100}
OFFER = {"key": "2", "offer": {"say": "Press two to be called back."}, "confirm": {"say": "We will call you."}}
OFFER |= {"hello": {"say": "This is Acme, you asked for a call."}}


def steps(**queue: Any) -> dict[str, Any]:
    settings = {"say": "All our agents are talking.", "call_back": OFFER, **queue}
    return {
        "agents": {
            "connect": {"group": "one", "queue": settings},
            "answered": "after",
            "unanswered": "sorry",
            "call_back": "asked",
        },
        "after": say("Goodbye."),
        "sorry": say("Nobody is there."),
        "asked": say("Until then."),
        "bye": BYE,
    }


class Desk:
    """Asha, who talks with somebody, and callers."""

    def __init__(self, start: Start, *, rules: dict[str, Any] | None = None, flow: Any = None, **more: Any) -> None:
        people = {ASHA: [AgentScript.answers(1, 120), AgentScript.answers(2, 5)], HIM: AgentScript.answers(3, None)}
        account = {
            "groups": {"one": {"agents": ["asha"]}},
            "call_backs": {"hours": ALWAYS, "ask": "crm:/may-he", **AGAIN, **(rules or {})},
            **more.pop("account", {}),
        }
        self.skew = timedelta()
        self.h = start(flow or steps(), agents=people | more.pop("agents", {}), account=account, **more)
        self.h.crm.script("/may-he", Reply(200))
        self.on_the_switchs_clock()

    def on_the_switchs_clock(self) -> None:
        h = self.h
        h.service.staff.clock = lambda: datetime.fromtimestamp(h.switch.clock.micros() / 1e6, UTC) + self.skew
        eventually(lambda: h.service.call_backs.ready)

    def later(self, **time: float) -> None:
        self.skew += timedelta(**time)
        self.h.service.call_backs.changed.set()

    def talks(self) -> Phone:
        phone = self.h.call()
        assert phone.wait_until(lambda one: one.talked_at is not None, WAIT)
        return phone

    def enters(self, caller: str = HIM, **more: Any) -> Phone:
        before = len(self.h.entries)
        phone = self.h.call(from_number=caller, **more)
        self.h.until(lambda: any(one.code == "queue.entered" for one in self.h.entries[before:]))
        return phone

    def asks(self, caller: str = HIM, **more: Any) -> CallState:
        """He presses the key, and his call is over."""
        phone = self.enters(caller, **more)
        phone.after(6.0, phone.press, "2")
        self.last = phone  # as his telephone was
        return self.h.ended(phone)

    @property
    def wishes(self) -> list[CallBack]:
        """As they are on disk, the oldest first."""
        always = datetime(2000, 1, 1, tzinfo=UTC)
        return list(reversed(self.h.service.store.read(lambda c: since(c, always, None, 100))))

    def until(self, *states: str) -> list[CallBack]:
        eventually(lambda: [one.state for one in self.wishes] == list(states))
        return self.wishes

    def call_to(self, wish: CallBack) -> CallState:
        """The record of the call to him, closed."""
        found: list[CallState | None] = []

        def over() -> bool:
            found[:] = [self.h.service.book.get(wish.placed)]
            return found[0] is not None and found[0].outcome is not None and wish.placed not in self.h.service.book.live

        eventually(over)
        assert found[0] is not None
        return found[0]

    def rung(self, number: str) -> int:
        return self.h.switch.rung.count(f"0{number[3:]}")


@pytest.fixture
def desk(hall: Start) -> Callable[..., Desk]:
    return lambda **more: Desk(hall, **more)


Make = Callable[..., Desk]


# --- the whole way ------------------------------------------------------------------------------------------


def test_who_asks_is_called_in_his_turn_and_talks(desk: Make) -> None:
    d = desk()
    d.talks()
    state = d.asks()
    assert "queue.left" not in codes(state)
    assert (state.outcome, state.reason) == ("missed", "queue.call_back")
    [wish] = d.until("talked")
    called = d.call_to(wish)
    assert codes(called)[:2] == ["call.placed", "placed.answered"]
    assert "queue.served" in codes(called)
    assert (called.outcome, called.facts.caller, called.facts.dialled) == ("answered", HIM, OURS)
    phone = next(one for one in d.h.switch.phones if one.uuid == called.facts.channel)
    assert phone.texts[0] == "This is Acme, you asked for a call."
    assert phone.texts[-1] == "Goodbye."
    assert d.rung(HIM) == 1
    assert wish.call == state.facts.id
    assert called.facts.placed is not None
    assert called.facts.placed.custom_field == state.facts.id
    assert len(d.h.service.staff.claims) == 0
    assert not d.h.service.staff.reserved
    assert d.h.switch.violations == []


def test_what_he_hears_before(desk: Make) -> None:
    d = desk()
    d.talks()
    d.asks()
    texts = [text for text in d.last.texts if "tone" not in text]
    assert texts == ["All our agents are talking.", "Press two to be called back.", "We will call you.", "Until then."]


def test_he_is_asked_for_at_the_hook_in_the_dialect(desk: Make) -> None:
    d = desk()
    d.talks()
    state = d.asks()
    d.until("talked")
    [request] = d.h.crm.to("/may-he")
    sent = {name: request.get(name) for name in ("CallSid", "CallFrom", "CallTo", "From", "To", "Direction")}
    caller, ours = f"0{HIM[3:]}", f"0{OURS[3:]}"
    assert sent == {"CallSid": state.facts.id, "CallFrom": caller, "CallTo": ours, "From": caller, "To": ours} | {
        "Direction": "incoming"
    }


@pytest.mark.parametrize("status", [302, 404])
def test_who_is_not_to_be_called_is_not(desk: Make, status: int) -> None:
    d = desk()
    d.h.crm.script("/may-he", Reply(status))
    d.talks()
    d.asks()
    [wish] = d.until("refused")
    assert str(status) in wish.why
    assert d.rung(HIM) == 0
    assert wish.ended_at is not None


def test_a_hook_that_gives_no_answer_is_asked_again_and_he_is_not_called_before(desk: Make) -> None:
    d = desk()
    d.h.crm.script("/may-he", Reply(500), Reply(200))
    d.talks()
    d.asks()
    eventually(lambda: "500" in d.wishes[0].why)
    [wish] = d.until("waiting")
    assert d.rung(HIM) == 0
    assert wish.next_at - wish.asked_at >= timedelta(minutes=600)
    assert (wish.tries, wish.placed) == (0, "")
    d.later(minutes=600)
    d.until("talked")
    assert d.rung(HIM) == 1


# --- to whom it is not offered --------------------------------------------------------------------------------


def nobody_is_offered(d: Desk, **caller: Any) -> None:
    d.talks()
    phone = d.enters(**caller)
    phone.after(6.0, phone.press, "2")
    state = d.h.ended(phone)
    assert "queue.call_back" not in codes(state)
    assert "queue.served" in codes(state)
    assert not {"Press two to be called back.", "We will call you."} & set(phone.texts)
    assert d.wishes == []


def test_outside_the_hours(desk: Make) -> None:
    now = datetime.now(UTC)
    tomorrow = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(now.weekday() + 2) % 7]  # it may be tomorrow there
    nobody_is_offered(desk(rules={"hours": {tomorrow: ["00:00-24:00"]}, "ask": "crm:/may-he"}))


def test_a_number_that_is_withheld(desk: Make) -> None:
    nobody_is_offered(desk(), withheld=True)


def test_a_number_from_abroad(desk: Make) -> None:
    nobody_is_offered(desk(), caller="+447911123456")


def test_a_number_from_abroad_whose_digits_look_like_an_indian_one(desk: Make) -> None:
    """Only the exchange's type of number tells; a stranger would be called back."""
    nobody_is_offered(desk(), caller="+6591234567")


def test_what_cannot_be_kept_is_not_promised(desk: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    d = desk()
    monkeypatch.setattr(calledback, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(type(d.h.service.call_backs), "keep", lambda self, wish: AsyncResult())
    d.talks()
    phone = d.enters()
    phone.after(6.0, phone.press, "2")
    state = d.h.ended(phone)
    assert [code for code in codes(state) if code.startswith("queue.")] == [
        "queue.entered",
        "queue.no_call_back",
        "queue.served",
    ]
    assert "We will call you." not in phone.texts
    assert d.h.service.call_backs.open == {}


# --- his turn -------------------------------------------------------------------------------------------------


def in_line(d: Desk, waiting: int) -> None:
    """The clock stands until so many have a place."""
    d.h.noted("queue.call_back")
    d.h.until(lambda: any(one.code == "caller.left" or one.step == "bye" for one in d.h.entries))
    with d.h.switch.clock.held():
        eventually(lambda: d.h.service.staff.queues.waiting(("acme", "one")) == waiting)


def test_he_is_as_old_as_he_was_when_he_waited(desk: Make) -> None:
    """Who came behind him, and waits, is served behind him."""
    d = desk()
    d.talks()
    him, other = d.enters(HIM), d.enters(OTHER)
    him.after(6.0, him.press, "2")
    in_line(d, 2)
    state = d.h.ended(other)
    [wish] = d.until("talked")
    called = d.call_to(wish)
    talk, after = called.talk_leg, state.talk_leg
    assert talk is not None
    assert after is not None
    assert talk.released_at is not None
    assert after.answered_at is not None
    assert talk.released_at <= after.answered_at


def test_who_waits_longer_goes_first(desk: Make) -> None:
    d = desk()
    d.talks()
    other, him = d.enters(OTHER), d.enters(HIM)
    him.after(6.0, him.press, "2")
    in_line(d, 2)
    state = d.h.ended(other)
    [wish] = d.until("talked")
    talk, called = state.talk_leg, d.call_to(wish)
    assert talk is not None
    assert talk.released_at is not None
    assert called.answered_at is not None
    assert talk.released_at <= called.answered_at


def test_nobody_else_gets_the_agent_while_he_is_rung(desk: Make) -> None:
    d = desk(agents={HIM: AgentScript.answers(20, None)})
    d.talks()
    d.asks()
    d.h.noted("call.placed")
    other = d.enters(OTHER)
    state = d.h.ended(other)
    [wish] = d.until("talked")
    called = d.call_to(wish)
    assert "queue.served" in codes(state)
    assert called.talk_leg is not None
    assert state.talk_leg is not None
    assert called.talk_leg.released_at is not None
    assert state.talk_leg.answered_at is not None
    assert called.talk_leg.released_at <= state.talk_leg.answered_at


# --- what else may come of it ---------------------------------------------------------------------------------


def test_who_does_not_answer_twice_is_given_up(desk: Make) -> None:
    d = desk(agents={HIM: AgentScript.silent()})
    d.talks()
    d.asks()
    eventually(lambda: d.wishes[0].tries == 1)
    [wish] = d.until("waiting")
    assert wish.why == "placed.no_answer"
    assert len(d.h.service.staff.claims) == 0  # the agent is for others meanwhile
    d.later(minutes=600)
    [wish] = d.until("given_up")
    assert (wish.tries, d.rung(HIM)) == (2, 2)
    assert "placed.no_answer" in wish.why


def test_a_wish_that_is_too_old_ends(desk: Make) -> None:
    d = desk()
    d.h.crm.script("/may-he", Reply(500))
    d.talks()
    d.asks()
    eventually(lambda: "500" in d.wishes[0].why)
    d.later(hours=100)
    d.until("expired")
    assert d.rung(HIM) == 0


def test_who_asks_twice_has_one_place_and_the_older(desk: Make) -> None:
    d = desk(agents={ASHA: [AgentScript.answers(1, 120), AgentScript.answers(1, 120), AgentScript.answers(2, 5)]})
    d.h.crm.script("/may-he", Reply(500), Reply(200))
    d.talks()
    d.asks()
    eventually(lambda: "500" in d.wishes[0].why)
    [before] = d.wishes
    d.talks()
    assert "queue.call_back" in codes(d.asks())
    [wish] = d.wishes
    assert (wish.id, wish.since) == (before.id, before.since)
    d.later(minutes=600)
    d.until("talked")
    assert d.rung(HIM) == 1


def test_who_calls_himself_and_talks_is_not_called(desk: Make) -> None:
    d = desk()
    d.h.crm.script("/may-he", Reply(500), Reply(200))
    d.talks()
    d.asks()
    eventually(lambda: "500" in d.wishes[0].why)
    assert d.h.run(from_number=HIM)[1].outcome == "answered"
    d.until("called_in")
    d.later(minutes=600)
    assert d.rung(HIM) == 0


def test_a_line_without_a_channel_is_no_try(desk: Make) -> None:
    d = desk(agents={HIM: [AgentScript.without_channel(), AgentScript.answers(3, None)]})
    d.talks()
    d.asks()
    eventually(lambda: len(d.h.switch.attempts) == 2)  # she, and he without a channel
    d.later(minutes=1)
    [wish] = d.until("talked")
    assert wish.tries == 0


def test_language_and_refused_recording_go_with_him(desk: Make) -> None:
    flow = steps()
    flow["agents"]["connect"]["record"] = "dual"
    ask = {"consent": {"say": "May we record?", "attempts": 1, "timeout": 2}, "agreed": "agents", "refused": "agents"}
    spoken = OFFER | {"hello": {"say": {"en": "Hello.", "hi": "Namaste."}}}
    flow["agents"]["connect"]["queue"]["call_back"] = spoken
    flow = {"speak": {"language": {"to": "hi"}, "next": "ask"}, "ask": ask, **flow}
    d = desk(flow=flow)
    d.talks()
    d.asks()
    [wish] = d.until("talked")
    called = d.call_to(wish)
    assert entry(called, "language.chosen").evidence["language"] == "hi"
    phone = next(one for one in d.h.switch.phones if one.uuid == called.facts.channel)
    assert phone.texts[0] == "Namaste."
    assert called.recordings == []
    assert "recording.declined" in codes(called)


# --- deaths ---------------------------------------------------------------------------------------------------


def reborn(d: Desk) -> None:
    d.h.service.stop()
    d.h.serve()
    d.on_the_switchs_clock()


def test_a_death_before_he_is_called(desk: Make) -> None:
    d = desk()
    d.h.crm.script("/may-he", Reply(500), Reply(200))
    d.talks()
    d.asks()
    eventually(lambda: "500" in d.wishes[0].why)
    reborn(d)
    d.later(minutes=600)
    d.until("talked")
    assert d.rung(HIM) == 1


def test_a_death_before_his_call_has_a_record(desk: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    d = desk()
    begun, never = Event(), Event()
    monkeypatch.setattr(d.h.service._calling_back, "_place", lambda *_, **__: begun.set() or never.wait())
    d.talks()
    d.asks()
    assert begun.wait(WAIT)
    assert [one.state for one in d.wishes] == ["dialling"]
    reborn(d)
    d.later(minutes=2)
    eventually(lambda: d.later(minutes=1) or d.wishes[0].state == "talked")
    assert d.rung(HIM) == 1


def test_a_death_while_he_is_rung(desk: Make) -> None:
    """He answers the next process, which has no agent for him yet: he is the first in the queue."""
    people = {ASHA: [AgentScript.answers(1, 40), AgentScript.answers(2, 5)], HIM: AgentScript.answers(20, None)}
    d = desk(agents=people, speed=5.0)
    d.talks()
    state = d.asks()
    d.h.noted("call.placed", 60)
    eventually(lambda: d.rung(HIM) == 1)
    reborn(d)
    [wish] = d.until("talked")
    called = d.call_to(wish)
    assert codes(called)[:2] == ["call.placed", "placed.answered"]
    assert state.facts.id == wish.call
    assert d.rung(HIM) == 1


def test_a_death_while_he_rings_and_does_not_answer(desk: Make) -> None:
    d = desk(agents={HIM: AgentScript.silent()}, rules={"tries": 1})
    d.talks()
    d.asks()
    eventually(lambda: d.rung(HIM) == 1)
    reborn(d)
    d.until("given_up")
    assert d.rung(HIM) == 1


def test_a_socket_that_is_lost_while_he_is_told_so(desk: Make) -> None:
    d = desk()
    d.talks()
    phone = d.enters()
    phone.after(6.0, phone.press, "2")
    d.h.noted("queue.call_back")
    d.h.lose_socket(phone)
    state = d.h.ended(phone)
    assert codes(state).count("queue.call_back") == 1
    assert phone.texts[-1] == "Until then."
    d.until("talked")
    assert d.rung(HIM) == 1


def test_a_wish_is_the_same_behind_the_spill() -> None:
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    wish = CallBack("w1", "acme", HIM, OURS, "PRI1", "main", "agents", "one", "hi", False, "c1", at, at, at, ended_at=at)
    line = Change([(call_backs, [asdict(wish)])]).line()
    assert Change.read(line).rows == [(call_backs, [asdict(wish)])]


# --- to people ------------------------------------------------------------------------------------------------


def listed(d: Desk, *arguments: str) -> str:
    """In a thread, as another process."""

    def invoke() -> Any:
        return CliRunner().invoke(main, ["call-backs", *arguments, "-c", str(d.h.folder / "exoflow.yaml")])

    done = gevent.get_hub().threadpool.apply(invoke)
    assert done.exit_code == 0, done.output
    return str(done.output)


def test_the_command_lists_them(desk: Make) -> None:
    d = desk()
    assert "Nobody waits to be called back" in listed(d)
    assert json.loads(listed(d, "--json")) == []
    d.h.crm.script("/may-he", Reply(404))
    d.talks()
    state = d.asks()
    d.until("refused")
    head, line = listed(d, "--account", "acme").splitlines()
    assert head.split() == ["ASKED", "ACCOUNT", "CALLER", "GROUP", "PLACE", "OF", "TRIES", "NOW", "WHY"]
    assert f"acme     {HIM}  one" in line
    assert line.endswith("the do-not-call hook answered 404: he is not to be called")
    [one] = json.loads(listed(d, "--json"))
    assert (one["state"], one["call"], one["caller"], one["tries"]) == ("refused", state.facts.id, HIM, 0)


def test_how_the_call_to_him_is_shown(desk: Make) -> None:
    d = desk()
    d.talks()
    d.asks()
    [wish] = d.until("talked")
    called = d.call_to(wish)
    assert f"placed as a call-back as {OURS} on PRI1" in call_sheet(called, UTC)
    assert entry(called, "call.placed").text.startswith(f"Called back: {HIM} is rung over PRI1")


def test_the_page_s_example_is_right(hall: Start, tmp_path: Path) -> None:
    _, written = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/queue.md").read_text(), re.S)
    (tmp_path / "page.yaml").write_text(written)
    page = read(tmp_path / "page.yaml").value
    h = hall({"bye": BYE}, account=page)
    rules = h.config.accounts["acme"].call_backs
    assert rules is not None
    # what the page says is what there is unless it is said
    assert rules == Rules(hours=rules.hours, ask=rules.ask)
    assert {finding.code for finding in load(h.folder / "exoflow.yaml", {}).findings} <= {"W603", "W707"}
