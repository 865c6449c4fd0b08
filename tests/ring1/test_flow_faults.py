"""exoflow, its socket or the switch fails in the middle of a call: never dead air, and the record always ends, once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hall import ASHA, BYE, WAIT, Hall, codes, entry, eventually, menu, say, visited

from exoflow.calls import lost, net
from exoflow.errors import UnsafeText
from exoflow.esl.session import CallSession
from exoflow.flow.applets.greeting import Greeting
from exoflow.sim import AgentScript, Phone
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
FLOW = {"ask": menu({"1": "hello"}), "hello": say("Hi.", "last"), "last": say("Goodbye."), "bye": BYE}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that never come back are looked for at once."""
    monkeypatch.setattr(lost, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(lost, "GONE_SECONDS", 0.1)
    monkeypatch.setattr(net, "SCAN_SECONDS", 0.05)
    monkeypatch.setattr(net, "RETURN_SECONDS", 0.1)


def the_record(hall: Hall) -> Any:
    """The one record of the one call, closed; and its one delivery."""
    book = hall.service.book
    eventually(lambda: not book.live and (found := book.recent(10)) and all(state.outcome for state in found))
    (state,) = book.recent(10)
    hall.crm.wait_for_deliveries(1)
    assert len(hall.deliveries(state)) == 1
    assert {d.event["data"]["call"] for d in hall.crm.deliveries} == {state.facts.id}
    return state


# --- a fault of our own ------------------------------------------------------------------------------


@pytest.mark.parametrize(("held", "fallback"), [(0.2, "deaths"), (0.0, "refused")])
def test_a_step_that_always_crashes_ends_in_the_dialplans_announcement(
    hall: Start, monkeypatch: pytest.MonkeyPatch, held: float, fallback: str
) -> None:
    """How long the app had the call decides what the dialplan takes its end for (40-died.xml)."""

    def crash(here: Any, *_: Any) -> str:
        h.switch.clock.sleep(held)
        raise KeyError("something nobody thought of")

    monkeypatch.setattr(Greeting, "run", crash)
    h = hall(FLOW)
    phone = h.call(keys="1")
    assert phone.wait(WAIT)
    assert phone.texts[0] == "Which one?"
    assert phone.texts[-1].startswith("tone %(330")  # the fallback's
    state = the_record(h)
    crashes = [one for one in state.journey if one.code == "step.crashed"]
    assert {(one.stage, one.step) for one in crashes} == {("C", "hello")}
    assert "KeyError: 'something nobody thought of'" in crashes[0].text
    assert codes(state).count("call.resumed") == len(crashes)  # the last time by the call's CDR, when the caller had gone
    if held:
        assert h.executed("set")[-1] == f"exo_fallback={fallback}"
        assert len(crashes) == 3
    else:  # on a machine that stalls for 0.1 s a crash at once is a death, too
        assert h.executed("set")[-1] in (f"exo_fallback={fallback}", "exo_fallback=deaths")
        assert len(crashes) >= 3
    assert (state.outcome, entry(state, "door.fallback").evidence["why"]) == ("missed", h.executed("set")[-1][13:])
    assert h.service.server.active == 0
    assert h.switch.violations == []


def test_a_step_that_crashes_once_is_done_again(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    real, crashed = Greeting.run, []

    def crash(self: Greeting, here: Any, step: Any) -> str:
        if not crashed:
            crashed.append(1)
            raise RuntimeError("once")
        return real(self, here, step)

    monkeypatch.setattr(Greeting, "run", crash)
    h = hall(FLOW)
    phone = h.call(keys="1")
    assert phone.wait(WAIT)
    state = the_record(h)
    assert [text for text in phone.texts if text != "silence"] == ["Which one?", "Hi.", "Goodbye."]
    assert codes(state).count("call.arrived") == codes(state).count("step.crashed") == codes(state).count("call.resumed") == 1
    assert state.outcome == "served"
    assert state.digits == "1"


def test_a_crash_before_the_channel_was_marked_makes_no_second_record(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    real, crashed = CallSession.execute, []

    def crash(self: CallSession, application: str, argument: str = "", **options: Any) -> Any:
        if argument.startswith("exo_call=") and not crashed:
            crashed.append(1)
            raise RuntimeError("at the very beginning")
        return real(self, application, argument, **options)

    monkeypatch.setattr(CallSession, "execute", crash)
    h = hall(FLOW)
    phone = h.call(keys="1")
    assert phone.wait(WAIT)
    state = the_record(h)
    assert codes(state).count("call.arrived") == 1
    assert state.outcome == "served"
    assert phone.texts[-1] == "Goodbye."


def test_what_the_switch_refuses_routes_the_caller_on(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> str:
        raise UnsafeText("sound", "not an absolute path", "x")

    monkeypatch.setattr(Greeting, "run", refused)
    h = hall({"hello": say("Hi.", "ask"), "ask": menu({"1": "bye"}), "bye": BYE})
    _, state = h.run(keys="1")
    assert entry(state, "step.failed").step == "hello"
    assert visited(state) == ["hello", "ask", "bye"]
    assert state.digits == "1"


# --- the socket ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"Content-Length: -5\nContent-Type: text/event-plain\n\n",
        b"Content-Length: 99999999999\nContent-Type: text/event-plain\n\n",
        b"Content-Length: ten\nContent-Type: text/event-plain\n\n",
        b"Content-Type: command/reply\nReply-Text: +OK to nothing\n\n",
        b"\x00\xff\xfe" * 100 + b"\n\n",
        b"x" * 2_000_000,
    ],
    ids=["http", "negative", "huge", "no number", "reply to nothing", "binary", "endless"],
)
def test_malformed_frames_in_the_middle_of_a_call(hall: Start, garbage: bytes) -> None:
    h = hall(FLOW)
    phone = h.call(keys=["", "1"])
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    assert phone.session is not None
    phone.session.listeners[0]._send(garbage)
    assert phone.wait(WAIT)
    state = the_record(h)
    # either the frame is passed over, or the socket is given up and the call comes back to its step
    assert phone.texts[-1] == "Goodbye."
    assert state.outcome == "served"
    if "call.resumed" in codes(state):
        lost = entry(state, "socket.lost")
        assert lost.step == "ask"
        assert "not an event-socket frame" in lost.text or "lost" in lost.text
    assert codes(state).count("call.arrived") == 1


def cut(phone: Phone) -> None:
    assert phone.session is not None
    for listener in list(phone.session.listeners):
        listener.close()


def test_a_socket_lost_while_agents_ring(hall: Start) -> None:
    steps = {
        "agents": {"connect": {"numbers": [ASHA]}, "answered": "last", "unanswered": "bye"},
        "last": say("Goodbye."),
        "bye": BYE,
    }
    h = hall(steps, agents={ASHA: AgentScript.answers(8, 5)})
    phone = h.call()
    assert phone.wait_until(lambda p: ("rings", "09876543210") in p.agents, WAIT)
    cut(phone)
    assert phone.wait(WAIT)
    state = the_record(h)
    assert "socket.lost" in codes(state)
    assert phone.texts[-1] == "Goodbye."
    assert state.outcome == "answered"


def test_a_socket_lost_while_the_crm_is_asked_has_one_greenlet_go_on(hall: Start) -> None:
    tell = {"passthru": {"url": "crm:/passthru"}, "ok": "last", "redirect": "bye"}
    h = hall({"hello": say("Hi.", "tell"), "tell": tell, "last": {**tell, "ok": "bye"}, "bye": BYE})
    h.crm.script("/passthru", Reply(200, delay=0.5), Reply(200, delay=0.2))
    phone = h.call()
    eventually(lambda: h.crm.to("/passthru"))
    cut(phone)
    assert phone.wait(WAIT)
    state = the_record(h)
    assert codes(state).count("hangup") == 1
    assert state.ended_by == "exoflow"
    assert state.outcome == "served"


def test_a_stopped_exoflow_hands_its_calls_to_the_next(hall: Start) -> None:
    h = hall({"ask": menu({"1": "last"}, timeout=30), "last": say("Goodbye."), "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    with h.switch.clock.held():  # nobody owes a command while exoflow is away
        h.service.stop()
        h.serve()
    h.noted("call.resumed")
    assert phone.wait_until(lambda p: p.texts.count("Which one?") == 2, WAIT)
    phone.press("1")
    assert phone.wait(WAIT)
    state = the_record(h)
    assert entry(state, "call.resumed").step == "ask"
    assert phone.texts[-1] == "Goodbye."
    assert state.outcome == "served"
    assert state.answered_at is not None
    assert codes(state).count("call.answered") == 1


def test_a_call_that_ended_while_exoflow_was_away_is_closed_by_the_next(hall: Start) -> None:
    h = hall({"ask": menu({"1": "bye"}, timeout=60), "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    with h.switch.clock.held():
        h.service.stop()
        phone.hangup()
        assert phone.wait(WAIT)
        h.serve()
    state = the_record(h)
    assert (state.outcome, state.reason, state.ended_by) == ("abandoned", "caller.left", "caller")


# --- too many -------------------------------------------------------------------------------------------


def test_calls_above_the_limit_are_told_so(hall: Start, caplog: pytest.LogCaptureFixture) -> None:
    h = hall(FLOW, switch={"max_calls": 1})
    first = h.call()
    assert first.wait_until(lambda p: p.asked.is_set(), WAIT)
    with caplog.at_level(logging.WARNING):
        second = h.call()
        assert second.wait(WAIT)
    assert second.cause == "USER_BUSY"
    assert second.answered_at is None
    assert "switch.max_calls" in caplog.text
    refused = h.ended(second)
    assert (refused.outcome, refused.reason, refused.q850, refused.ended_by) == ("refused", "calls.limit", 17, "exoflow")
    assert h.crm.wait_for_deliveries(1)[0].event["type"] == "call.missed"
    first.press("1")
    assert h.ended(first).outcome == "served"
    third = h.call(keys="1")
    assert h.ended(third).outcome == "served"


def test_calls_above_the_trunks_channels_never_reach_exoflow(hall: Start) -> None:
    h = hall(FLOW, most_calls=1)
    first = h.call()
    assert first.wait_until(lambda p: p.asked.is_set(), WAIT)
    second = h.call()
    assert second.wait(WAIT)
    assert second.cause == "USER_BUSY"
    assert h.service.server.refused == 0
    first.hangup()
    assert h.ended(first).outcome == "abandoned"
    refused = h.ended(second)
    assert (refused.outcome, refused.reason, refused.q850, refused.ended_by) == ("refused", "door.limit", 17, "exoflow")
