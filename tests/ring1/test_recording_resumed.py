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
