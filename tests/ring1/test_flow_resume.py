"""A call whose app died goes on where it was: at any moment, the caller, the CRM and the agents see one undisturbed call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dying import Death, How, Moment
from hall import ASHA, BYE, MEENA, RAVI, Hall, codes, eventually, menu, say

from exoflow.calls.model import CallState
from exoflow.sim import AgentScript, Phone
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]

# every applet that takes time, one behind the other
STEPS: dict[str, Any] = {
    "hello": {"greeting": [{"say": "Good morning."}, {"say": "Welcome to Acme."}], "next": "ask"},
    "ask": menu({"1": "code"}, wrong_key={"say": "There is no such choice."}),
    "code": {"gather": {"say": "Your order number?", "digits": 4, "timeout": 3, "variable": "order"}, "next": "agree"},
    "agree": {"consent": {"say": "Press 1 if we may record."}, "agreed": "told", "refused": "bye"},
    "told": {"say_value": {"variable": "order", "as": "digits"}, "next": "wait"},
    "wait": {"pause": {"seconds": 4, "sound": {"say": "One moment."}}, "next": "lookup"},
    "lookup": {"passthru": {"url": "crm:/lookup"}, "ok": "due", "redirect": "bye"},
    "due": {"set": {"variables": {"due": {"from": "crm", "key": "due", "type": "integer"}}}, "next": "say_due"},
    "say_due": {"say_value": {"variable": "due", "as": "number", "before": {"say": "You owe."}}, "next": "agents"},
    "agents": {
        "connect": {"url": "crm:/agents", "record": "dual", "ring_seconds": 20},
        "answered": "message",
        "unanswered": "bye",
    },
    "message": {"voicemail": {"say": "Please leave a message.", "silence_seconds": 2}, "next": "last"},
    "last": say("Goodbye."),
    "bye": BYE,
}
AGENTS = {ASHA: AgentScript.busy(), RAVI: AgentScript.rejects(2.0), MEENA: AgentScript.answers(3.0, talks=20.0)}
KEYS = ["7", "1", "4711", "1"]
TAKING_TIME = [
    "play_and_get_digits",
    "play_and_get_digits",
    "play_and_get_digits",
    "play_and_get_digits",
    "playback",
    "playback",
    "playback",
    "playback",
    "bridge",
    "bridge",
    "bridge",
    "playback",
    "playback",
    "record",
    "playback",
]
BESIDE = {"call.resumed", "socket.lost"}


@dataclass
class Seen:
    """What a call was to all that had to do with it."""

    heard: list[str]
    keys: str
    agents: list[tuple[str, str]]
    asked: list[str]
    journey: list[str]
    record: dict[str, Any]
    applications: list[str]
    resumed: list[str]


def run(h: Hall, patch: pytest.MonkeyPatch, how: How, number: int, moment: Moment, hangs_up_after: float | None = None) -> Seen:
    """Plays the call; something dies at a moment, and so many seconds after it the caller hangs up."""
    h.crm.script("/lookup", Reply(200, b'{"due": 250}', "application/json"))
    h.crm.script("/agents", Reply.agents(ASHA, RAVI, MEENA))
    phone: Phone

    def then() -> None:
        if hangs_up_after is not None:
            phone.after(hangs_up_after, phone.hangup)

    death = Death(h, patch, how, number, moment, then)
    phone = h.call(keys=KEYS)
    state = closed(h, phone)
    assert death.struck == (number > 0)
    assert h.switch.violations == []
    resumed = [one.text for one in state.journey if one.code == "call.resumed"]
    return Seen(
        heard=[text for text in phone.texts if text != "silence"],
        keys="".join(phone.pressed),
        agents=phone.agents,
        asked=[request.path for request in h.crm.requests if request not in h.crm.deliveries],
        journey=sorted(code for code in codes(state) if code not in BESIDE),
        record={
            "outcome": (state.outcome, state.reason, state.digits, state.ended_by),
            "legs": [(leg.number, leg.outcome, leg.cause, leg.seen, round(leg.talk_seconds)) for leg in state.legs],
            "recordings": [(one.kind, one.channels, one.state, round(one.seconds or 0)) for one in state.recordings],
            "deliveries": len(h.deliveries(state)),
        },
        applications=death.applications,
        resumed=resumed,
    )


def closed(h: Hall, phone: Phone) -> CallState:
    """The call's record out of the store, also when another exoflow has closed it than the one that opened it."""
    call = h.ended(phone).facts.id

    def state() -> CallState:
        found = h.service.book.get(call)
        assert found is not None
        return found

    eventually(lambda: state().outcome and call not in h.service.book.live)
    return state()


def open_hall(folder: Path) -> Hall:
    folder.mkdir(exist_ok=True)
    h = Hall(folder).start(STEPS, agents=AGENTS, switch={"cdr": str(folder / "cdr")})
    h.switch.cdr = folder / "cdr"
    return h


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    h = open_hall(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        seen = run(h, patch, "socket", 0, "in")
    h.stop()
    return seen


@pytest.fixture
def own_hall(tmp_path: Path) -> Iterator[Hall]:
    h = open_hall(tmp_path)
    yield h
    h.stop()


def test_the_undisturbed_call(undisturbed: Seen) -> None:
    assert undisturbed.applications == TAKING_TIME
    assert undisturbed.record["outcome"][0] == "answered"
    assert [leg[1] for leg in undisturbed.record["legs"]] == ["busy", "rejected", "answered"]
    assert [one[:3] for one in undisturbed.record["recordings"]] == [("talk", 2, "good"), ("voicemail", 1, "good")]


@pytest.mark.parametrize("how", ["socket", "kill", "kill with a slow store"])
@pytest.mark.parametrize("moment", ["before", "in", "after"])
@pytest.mark.parametrize("number", range(1, len(TAKING_TIME) + 1))
def test_whatever_dies_the_call_is_the_same(
    own_hall: Hall, undisturbed: Seen, monkeypatch: pytest.MonkeyPatch, how: How, moment: Moment, number: int
) -> None:
    seen = run(own_hall, monkeypatch, how, number, moment)
    assert len(seen.resumed) == 1
    for what in ("heard", "keys", "agents", "asked", "journey", "record"):
        assert getattr(seen, what) == getattr(undisturbed, what), (what, seen.resumed)


@pytest.mark.parametrize("number", range(1, len(TAKING_TIME) + 1))
def test_a_caller_who_leaves_while_nobody_is_there_has_the_record_of_one_who_left_an_attentive_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """He hangs up 0.3 s into each application, with exoflow there and with exoflow killed as it began."""
    seen = []
    for how in ("nothing", "kill"):
        h = open_hall(tmp_path / how)
        with monkeypatch.context() as patch:
            seen.append(run(h, patch, how, number, "in", hangs_up_after=0.3))
        h.stop()
    attentive, away = seen
    assert attentive.resumed == []
    assert len(away.resumed) == 1
    for what in ("heard", "agents", "asked", "journey", "record"):
        assert getattr(away, what) == getattr(attentive, what), (what, away.resumed)
