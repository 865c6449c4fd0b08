"""What the journey says of a process that died at the very end of a call: not that its caller had left, if he had not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from dying import kill
from hall import BYE, WAIT, Hall, codes, entry, eventually, say

from exoflow.calls import lost, net
from exoflow.calls.model import CallState
from exoflow.esl.session import CallSession
from exoflow.sim.crm import Reply, Request

Start = Callable[..., Hall]
TELL = {"passthru": {"url": "crm:/tell", "timeout": 2}, "ok": "bye", "redirect": "bye"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(net, "SCAN_SECONDS", 0.05)
    monkeypatch.setattr(net, "RETURN_SECONDS", 0.1)


def closed(h: Hall) -> CallState:
    eventually(lambda: not h.service.book.live and (found := h.service.book.recent(5)) and found[0].outcome)
    (state,) = h.service.book.recent(5)
    return state


def test_exoflow_hangs_up_and_dies(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    h = hall({"hello": say("Good morning."), "bye": BYE})
    real = CallSession.hang_up

    def hang_up(session: CallSession, cause: str, *arguments: Any) -> None:
        kill(h)
        real(session, cause, *arguments)
        gevent.sleep(60)  # a killed process does nothing any more

    monkeypatch.setattr(CallSession, "hang_up", hang_up)
    assert h.call().wait(WAIT)
    state = closed(h)
    assert (state.outcome, state.ended_by, state.caller_left) == ("served", "exoflow", False)
    assert codes(state).count("greeting.played") == 1
    assert "caller" not in entry(state, "call.resumed").text
    assert "left" not in entry(state, "hangup.after").text
    assert "exoflow had hung up" in entry(state, "call.resumed").text


def test_exoflow_dies_in_the_steps_behind_a_caller_who_has_left(hall: Start) -> None:
    h = hall({"hello": say("Good morning, how nice of you to call.", "tell"), "tell": TELL, "bye": BYE})

    def answer(request: Request) -> Reply:
        h.service.store.write(lambda connection: None)
        gevent.spawn(kill, h)
        return Reply(200, delay=0.5)

    h.crm.script("/tell", answer, Reply(200))
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    phone.hangup()
    state = closed(h)
    assert len(h.crm.to("/tell")) == 2
    assert "while no exoflow had him" not in entry(state, "call.resumed").text
    assert "exoflow died behind the call's end" in entry(state, "call.resumed").text


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("died", "died or was replaced"),
        ("lease", "its lease on the call ran out"),
    ],
)
def test_a_call_that_comes_back_says_what_became_of_the_process_before(hall: Start, end: str, said: str) -> None:
    h = hall({"hello": say("Good morning, how nice of you to call.", "bye"), "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    assert phone.session is not None
    real = phone.session.channel.set
    # whatever the dialplan sets
    phone.session.channel.set = lambda name, value: real(name, end if name == "exo_end" else value)  # type: ignore[method-assign]
    h.lose_socket(phone)
    assert phone.wait(WAIT)
    assert said in entry(closed(h), "call.resumed").text


def test_whom_the_fallback_served_is_missed_because_of_it(hall: Start) -> None:
    h = hall({"tell": TELL, "bye": BYE})

    def answer(request: Request) -> Reply:
        gevent.spawn(h.service.stop)
        return Reply(200, delay=0.5)

    h.crm.script("/tell", answer, Reply(200))
    assert h.call().wait(WAIT)
    h.serve()
    state = closed(h)
    assert entry(state, "door.fallback")
    assert (state.outcome, state.reason) == ("missed", "door.fallback")
