"""A recording that one process began and another one judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from dying import kill
from hall import ASHA, BYE, Hall

from exoflow.esl.codec import Event
from exoflow.esl.session import CallSession
from exoflow.sim import AgentScript

Start = Callable[..., Hall]


def test_a_recording_that_a_dead_process_had_begun_is_judged_by_its_file(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It died before the store knew that it had: the next one begins a recording that there is, and hears of no beginning."""
    steps = {"agents": {"connect": {"numbers": [ASHA], "record": "dual"}, "answered": "bye", "unanswered": "bye"}, "bye": BYE}
    h = hall(steps, agents={ASHA: AgentScript.answers(1, 5)})
    real = CallSession.execute

    def execute(session: CallSession, application: str, *arguments: Any, **options: Any) -> Event:
        event = real(session, application, *arguments, **options)
        if application == "record_session" and len(h.executed("record_session")) == 1:
            kill(h)
            gevent.sleep(60)  # a killed process does nothing any more
        return event

    monkeypatch.setattr(CallSession, "execute", execute)
    _, state = h.run()
    assert len(h.executed("record_session")) == 2
    assert [(one.kind, one.state) for one in state.recordings] == [("talk", "good")], state.recordings


def test_a_recording_whose_call_is_lost_between_its_talk_and_its_end_is_judged_by_its_whole_file(
    hall: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch records on, and writes no length into the file, until somebody stops it."""
    steps = {
        "agents": {"connect": {"numbers": [ASHA], "record": "dual"}, "answered": "more", "unanswered": "bye"},
        "more": {"pause": {"seconds": 5}, "next": "bye"},
        "bye": BYE,
    }
    h = hall(steps, agents={ASHA: AgentScript.answers(1, 5)})
    real = CallSession.execute
    lost: list[str] = []

    def execute(session: CallSession, application: str, *arguments: Any, **options: Any) -> Event:
        if application == "stop_record_session" and not lost:
            lost.append(application)
            session.sock.shutdown(2)
            session.closed.wait(5)
        return real(session, application, *arguments, **options)

    monkeypatch.setattr(CallSession, "execute", execute)
    _, state = h.run()
    assert "call.resumed" in h.codes(state)
    assert [(one.kind, one.state, one.problem) for one in state.recordings] == [("talk", "good", "")]
    assert state.recordings[0].seconds == pytest.approx(state.legs[0].talk_seconds, abs=1)
