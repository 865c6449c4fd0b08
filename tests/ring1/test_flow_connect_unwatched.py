"""connect while the event socket is away, all the time or for a moment: what is told of the agents' legs all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gevent.event import Event
from hall import ASHA, BYE, WAIT, Hall, entry, eventually, say, visited

from exoflow.lines.lines import Lines
from exoflow.sim import AgentScript
from exoflow.sim.agents import Handset

Start = Callable[..., Hall]


def connect(**how: Any) -> dict[str, Any]:
    """A flow of one connect: `after` follows a talk, `sorry` none."""
    return {
        "agents": {"connect": how, "answered": "after", "unanswered": "sorry"},
        "after": say("Goodbye."),
        "sorry": say("Nobody is free."),
        "bye": BYE,
    }


@pytest.mark.parametrize(
    ("script", "outcome", "q850", "end"),
    [
        (AgentScript.busy(), "busy", 17, "sorry"),
        (AgentScript.silent(), "no_answer", 19, "sorry"),
        (AgentScript.without_channel(), "trunk", 34, "sorry"),
        (AgentScript.answers(1, 6), "answered", 16, "after"),
    ],
)
def test_without_the_event_socket_the_callers_leg_tells(
    hall: Start, script: AgentScript, outcome: str, q850: int, end: str
) -> None:
    h = hall(connect(numbers=[ASHA], ring_seconds=5), agents={ASHA: script}, lines=False)
    _, state = h.run()
    (leg,) = state.legs
    assert (leg.outcome, leg.q850, leg.seen) == (outcome, q850, False)
    assert visited(state) == ["agents", end, "bye"]
    unseen = entry(state, "lines.down")
    assert unseen.stage == "G"
    assert "event socket" in unseen.text
    if outcome == "answered":
        assert leg.talk_seconds == pytest.approx(6, abs=2)
        assert state.outcome == "answered"


def test_the_event_socket_lost_during_a_talk(hall: Start) -> None:
    h = hall(connect(numbers=[ASHA]), agents={ASHA: AgentScript.answers(1, 20)})
    phone = h.call()
    assert phone.wait_until(lambda p: p.talked_at is not None, WAIT)
    for listener in list(h.switch.bus.listeners):
        if getattr(listener, "session", True) is None:
            listener.close()
    state = h.ended(phone)
    (leg,) = state.legs
    assert leg.outcome == "answered"
    assert leg.alerting_at is not None
    assert leg.talk_seconds == pytest.approx(20, abs=5)
    assert visited(state) == ["agents", "after", "bye"]


class Cut:
    """The event socket, cut from `at_once` until `back`; the switch's clock is `still` meanwhile."""

    def __init__(self, h: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
        self.h, self.still = h, False
        self._may_return, connect = Event(), Lines._try

        def _try(lines: Lines) -> None:
            self._may_return.wait()
            connect(lines)

        monkeypatch.setattr(Lines, "_try", _try)
        h.switch.clock.watch(lambda: int(self.still))

    def at_once(self) -> None:
        self.still = True
        for listener in list(self.h.switch.bus.listeners):
            if getattr(listener, "session", True) is None:
                listener.close()
        eventually(lambda: not self.h.service.lines.up)

    def back(self) -> None:
        self._may_return.set()
        eventually(lambda: self.h.service.lines.up)
        self.still = False


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("cause", "outcome", "q850"), [("CALL_REJECTED", "rejected", 21), ("", "answered", 16)])
def test_the_event_socket_lost_while_it_rings_and_back_before_the_end(
    hall: Start, monkeypatch: pytest.MonkeyPatch, known: bool, cause: str, outcome: str, q850: int
) -> None:
    """What was told to nobody meanwhile is in the leg's end: `known`, its setup was heard before."""
    handsets: list[Handset] = []
    h = hall(connect(numbers=[ASHA], ring_seconds=30), agents={ASHA: AgentScript.by_hand(handsets.append)})
    cut = Cut(h, monkeypatch)
    if not known:
        cut.at_once()
        cut.still = False
    phone = h.call()
    h.until(lambda: handsets)
    cut.still = True
    if known:
        cut.at_once()
    (handset,) = handsets
    if outcome == "answered":
        handset.answer()
        assert phone.wait_until(lambda p: p.talked_at is not None, WAIT)
    cut.back()
    handset.release(cause or "NORMAL_CLEARING")
    (leg,) = h.ended(phone).legs
    assert (leg.outcome, leg.q850) == (outcome, q850)
    assert leg.setup_at is not None
    assert leg.alerting_at is not None
    assert (leg.answered_at is not None) == (outcome == "answered")
    entry(h.ended(phone), "lines.down")
