"""The last net under whole calls: exoflow is away, the fallback serves, the switch itself dies."""

from __future__ import annotations

import wave
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from gevent.event import Event
from hall import ASHA, BYE, WAIT, Hall, codes, entry, eventually, menu, say

from exoflow.calls import lost, net
from exoflow.calls.model import CLOCKS_APART, CallState, in_order
from exoflow.sim import AgentScript, EmbeddedSwitch

Start = Callable[..., Hall]
TALK = {
    "team": {"connect": {"group": "support", "record": "dual"}, "answered": "bye", "unanswered": "bye"},
    "bye": BYE,
}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(net, "SCAN_SECONDS", 0.05)
    monkeypatch.setattr(net, "RETURN_SECONDS", 0.1)
    monkeypatch.setattr(net, "ARRIVAL_SECONDS", 0.5)


def only_record(hall: Hall) -> CallState:
    """The one record there is, closed, and its one delivery at the CRM."""
    book = hall.service.book
    eventually(lambda: not book.live and (found := book.recent(10)) and all(state.outcome for state in found))
    (state,) = book.recent(10)
    eventually(lambda: len(hall.crm.deliveries) == 1)
    assert hall.crm.deliveries[0].event["data"]["call"] == state.facts.id
    return state


def cdrs(hall: Hall) -> list[Path]:
    return list((hall.folder / "cdr").glob("*.json"))


def test_every_file_of_a_served_call_is_gone_soon_after_it(hall: Start) -> None:
    h = hall(TALK, agents={ASHA: AgentScript.answers(1, 3)})
    _, state = h.run()
    assert (state.outcome, len(state.legs)) == ("answered", 1)
    eventually(lambda: cdrs(h) == [])
    assert h.service.net is not None
    assert h.service.net.counts["finished"] == h.service.net.counts["recorded"] == 0


def test_the_caller_leaves_a_talk_while_exoflow_is_away(hall: Start) -> None:
    """The talk's length, its recording and its end are known all the same, and the CRM hears of them once."""
    h = hall(TALK, agents={ASHA: AgentScript.answers(1, None)})
    phone = h.call()
    assert phone.wait_until(lambda p: p.talked_at is not None, WAIT)
    with h.switch.clock.held():
        phone.after(7, phone.hangup)
        h.service.stop()
    assert phone.wait(WAIT)
    h.serve()
    state = only_record(h)
    assert (state.outcome, state.ended_by, state.caller_left) == ("answered", "caller", True)
    assert state.legs[0].talk_seconds == pytest.approx(7, abs=1)
    assert state.recordings[0].state == "good"
    eventually(lambda: cdrs(h) == [])


def test_a_call_while_exoflow_is_away_is_served_by_the_fallback_and_recorded_by_the_next(hall: Start) -> None:
    h = hall({"hello": say("Hi."), "bye": BYE})
    h.service.stop()
    phone = h.call()
    assert phone.wait(WAIT)
    assert phone.texts[-1].startswith("tone %(330")
    h.serve()
    state = only_record(h)
    assert (state.outcome, state.reason, state.facts.account) == ("missed", "door.fallback", "acme")
    told = entry(state, "door.fallback")
    assert told.evidence["why"] == "refused"
    assert state.answered_at is not None
    assert state.facts.created_at < told.at <= state.answered_at
    assert h.crm.deliveries[0].event["type"] == "call.missed"


def test_a_caller_from_abroad_while_exoflow_is_away(hall: Start) -> None:
    """No CDR has the type of number but by the dialplan's variable."""
    h = hall({"hello": say("Hi."), "bye": BYE})
    h.service.stop()
    phone = h.call(from_number="+6591234567", rdnis="+6598765432")
    assert phone.wait(WAIT)
    h.serve()
    facts = only_record(h).facts
    assert (facts.caller, facts.caller_raw) == ("+6591234567", "6591234567")
    assert facts.diverted_from == "+6598765432"


def test_the_journey_is_told_in_the_order_of_time(hall: Start) -> None:
    """The fallback had a call that was ours: the next process writes its lines later than they happened."""
    h = hall(TALK, agents={ASHA: AgentScript.silent()}, speed=20.0)
    phone = h.call()
    h.noted("leg.dialled")
    h.service.stop()
    assert phone.wait(WAIT)
    h.serve()
    state = only_record(h)
    told = h.crm.deliveries[0].event["data"]["journey"]
    assert "door.fallback" in [line["code"] for line in told]
    assert [line["code"] for line in told] == [one.code for one in in_order(state.journey)]
    times = [one.at for one in in_order(state.journey)]
    assert all(later - earlier > -CLOCKS_APART for earlier, later in pairwise(times))


def test_a_caller_who_leaves_before_the_fallback(hall: Start) -> None:
    h = hall({"hello": say("Hi."), "bye": BYE})
    h.service.stop()
    phone = h.call()
    phone.after(1, phone.hangup)
    assert phone.wait(WAIT)
    h.serve()
    state = only_record(h)
    assert (state.outcome, state.reason, state.caller_left) == ("abandoned", "door.left", True)


def test_without_an_event_socket_the_files_tell_the_end(hall: Start) -> None:
    h = hall({"ask": menu({"1": "bye"}, timeout=60), "bye": BYE}, lines=False)
    phone = h.call()
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    with h.switch.clock.held():
        h.service.stop()
        phone.hangup()
        assert phone.wait(WAIT)
        h.serve()
    assert only_record(h).outcome == "abandoned"


def test_the_switch_dies_in_a_recorded_talk(hall: Start) -> None:
    """No CDR and no event: the end is known when another switch answers, and the sound that was on disk can be played."""
    h = hall(TALK, agents={ASHA: AgentScript.answers(1, None)})
    phone = h.call()
    assert phone.wait_until(lambda p: p.talked_at is not None, WAIT)
    begun, later = h.switch.clock.elapsed(), Event()
    phone.after(60, later.set)
    assert later.wait(WAIT)
    address, seconds = h.switch.event_socket_address, h.switch.clock.elapsed() - begun
    h.switch.kill()
    again = EmbeddedSwitch(("127.0.0.1", 1), event_socket=address, cdr=h.folder / "cdr", recordings=h.folder / "recordings")
    again.start()
    try:
        state = only_record(h)
    finally:
        again.stop()
    assert (state.outcome, state.reason) == ("lost", "switch_lost")
    assert codes(state)[-2:] == ["recording.cut_off", "switch_lost"]
    (recording,) = state.recordings
    with wave.open(recording.path) as sound:
        there = sound.getnframes() / sound.getframerate()
    assert recording.seconds == pytest.approx(there, abs=0.01)
    assert seconds - 3 < there <= seconds + 0.5
    assert h.crm.deliveries[0].event["type"] == "call.ended"
