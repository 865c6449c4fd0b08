"""connect with a whisper and a question to the agent: who hears what, from when there is a talk, and who did not take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import ASHA, BYE, RAVI, Hall, codes, entry, say, visited

from exoflow.sim import AgentScript

Start = Callable[..., Hall]
WHISPER = {"say": "A call for support."}
CONFIRM = {"say": "Press 1 to take it.", "seconds": 10}


def asking(**how: Any) -> dict[str, Any]:
    return {
        "agents": {"connect": {"numbers": [ASHA, RAVI], **how}, "answered": "after", "unanswered": "sorry"},
        "after": say("Goodbye."),
        "sorry": say("Nobody is free."),
        "bye": BYE,
    }


def test_an_agent_takes_the_call_by_a_key(hall: Start) -> None:
    """The caller hears ringing until then; talk and recording begin at the key."""
    agents = {ASHA: AgentScript.accepts(press_after=4, talks=6)}
    h = hall(asking(whisper=WHISPER, confirm=CONFIRM, record="dual"), agents=agents)
    phone, state = h.run()
    (leg,) = state.legs
    (attempt,) = h.switch.attempts
    assert attempt.heard == ["A call for support.", "Press 1 to take it."]
    assert phone.texts == ["Goodbye."]
    assert leg.outcome == "answered"
    assert leg.talk_seconds == pytest.approx(6, abs=1)
    assert leg.alerting_at is not None
    assert leg.answered_at is not None
    assert (leg.answered_at - leg.alerting_at).total_seconds() == pytest.approx(6, abs=1)  # 2 s of ringing, 4 s of listening
    (recording,) = state.recordings
    assert recording.state == "good"
    assert recording.seconds == pytest.approx(6, abs=1)
    assert visited(state) == ["agents", "after", "bye"]
    assert h.switch.violations == []


@pytest.mark.parametrize(
    ("script", "cause", "seconds", "told"),
    [
        (AgentScript.mailbox(), "ALLOTTED_TIMEOUT", 10, "did not do so in time"),
        (AgentScript.mailbox(lasts=3), "NORMAL_CLEARING", 3, "hung up instead"),
        (AgentScript.accepts("2", 1, talks=None), "ALLOTTED_TIMEOUT", 10, "did not do so in time"),
    ],
    ids=["a mailbox", "an agent who hangs up", "a wrong key"],
)
def test_who_does_not_take_it_is_not_talked_to(hall: Start, script: AgentScript, cause: str, seconds: float, told: str) -> None:
    agents = {ASHA: script, RAVI: AgentScript.accepts(talks=3)}
    h = hall(asking(confirm=CONFIRM, record="mono"), agents=agents)
    phone, state = h.run()
    first, second = state.legs
    assert [(leg.number, leg.outcome) for leg in state.legs] == [(ASHA, "not_accepted"), (RAVI, "answered")]
    assert first.cause == cause
    assert first.answered_at is None
    assert first.total_seconds == pytest.approx(2.3 + seconds, abs=2)
    assert told in entry(state, "leg.not_accepted").text
    assert second.talk_seconds == pytest.approx(3, abs=1)
    assert [recording.state for recording in state.recordings] == ["good"]
    assert phone.texts == ["Goodbye."]


def test_nobody_takes_it(hall: Start) -> None:
    h = hall(asking(confirm=CONFIRM), agents={ASHA: AgentScript.mailbox(), RAVI: AgentScript.busy()})
    phone, state = h.run()
    assert [leg.outcome for leg in state.legs] == ["not_accepted", "busy"]
    assert state.outcome == "missed"
    assert phone.texts == ["Nobody is free."]


def test_a_wrong_key_is_no_refusal(hall: Start) -> None:
    agents = {ASHA: AgentScript.accepts("21", 2, talks=4)}
    h = hall(asking(confirm={**CONFIRM, "key": "1"}), agents=agents)
    _, state = h.run()
    assert [leg.outcome for leg in state.legs] == ["answered"]
    assert state.legs[0].talk_seconds == pytest.approx(4, abs=1)


def test_ringing_has_its_own_limit_beside_the_question(hall: Start) -> None:
    agents = {ASHA: AgentScript.silent(), RAVI: AgentScript.accepts(press_after=6, talks=2)}
    h = hall(asking(confirm=CONFIRM, ring_seconds=5), agents=agents)
    _, state = h.run()
    assert [leg.outcome for leg in state.legs] == ["no_answer", "answered"]
    assert state.legs[0].total_seconds == pytest.approx(5, abs=1.5)


def test_a_whisper_alone_needs_no_key(hall: Start) -> None:
    agents = {ASHA: AgentScript.answers(2, 5)}
    h = hall(asking(whisper={"say": "A call for support, of a customer who has waited."}), agents=agents)
    phone, state = h.run()
    (attempt,) = h.switch.attempts
    assert attempt.heard == ["A call for support, of a customer who has waited."]
    whispered = len(attempt.heard[0]) / 14
    assert state.legs[0].talk_seconds == pytest.approx(5 - whispered, abs=1)
    assert phone.texts == ["Goodbye."]


def test_both_hear_the_opening(hall: Start) -> None:
    h = hall(asking(opening={"say": "This call is recorded."}, record="dual"), agents={ASHA: AgentScript.answers(2, 6)})
    phone, state = h.run()
    assert phone.texts == ["This call is recorded.", "Goodbye."]
    assert h.switch.attempts[0].heard == ["This call is recorded."]
    assert [recording.state for recording in state.recordings] == ["good"]
    assert h.switch.violations == []


def test_an_opening_is_not_that_of_the_step_before(hall: Start) -> None:
    steps = asking(opening={"say": "This call is recorded."})
    steps["sorry"] = {"connect": {"numbers": [RAVI]}, "answered": "after", "unanswered": "after"}
    steps["agents"]["connect"]["numbers"] = [ASHA]
    h = hall(steps, agents={ASHA: AgentScript.busy(), RAVI: AgentScript.answers(1, 3)})
    phone, _ = h.run()
    assert phone.texts == ["Goodbye."]


def test_the_talk_limit_counts_from_the_key(hall: Start) -> None:
    h = hall(asking(confirm=CONFIRM, talk_seconds=10), agents={ASHA: AgentScript.accepts(press_after=5, talks=None)})
    _, state = h.run()
    assert state.legs[0].talk_seconds == pytest.approx(10, abs=1)
    assert state.legs[0].cause == "ALLOTTED_TIMEOUT"
    assert state.legs[0].outcome == "answered"


def test_the_caller_leaves_while_an_agent_is_asked(hall: Start) -> None:
    h = hall(asking(confirm=CONFIRM, record="dual"), agents={ASHA: AgentScript.mailbox()})
    phone = h.call()
    h.until(lambda: any(attempt.answered for attempt in h.switch.attempts))
    h.switch.clock.sleep(1)
    phone.hangup()
    state = h.ended(phone)
    assert [leg.outcome for leg in state.legs] == ["caller_gone"]
    assert (state.outcome, state.recordings) == ("missed", [])


def test_agents_hear_their_own_language(hall: Start) -> None:
    words = {"en": "A call.", "hi": "एक कॉल।"}
    steps = {"speak": {"language": {"to": "hi"}, "next": "agents"}, **asking(whisper={"say": words})}
    h = hall(steps, agents={ASHA: AgentScript.answers(1, 4)})
    h.run()
    assert h.switch.attempts[0].heard == ["A call."]


@pytest.mark.parametrize("cdr", [True, False])
@pytest.mark.parametrize("takes", [True, False])
def test_a_socket_lost_while_an_agent_is_asked(hall: Start, cdr: bool, takes: bool) -> None:
    """The switch goes on asking; what came of it is found out, and nobody is rung twice."""
    asha = AgentScript.accepts(press_after=5, talks=4) if takes else AgentScript.mailbox()
    h = hall(asking(confirm=CONFIRM, record="dual"), agents={ASHA: asha, RAVI: AgentScript.accepts(talks=4)})
    h.switch.cdr = h.switch.cdr if cdr else None
    phone = h.call()
    h.until(lambda: any(attempt.answered for attempt in h.switch.attempts))
    h.lose_socket(phone)
    state = h.ended(phone)
    assert state.legs[0].outcome == "answered" if takes else state.legs[0].outcome in ("not_accepted", "no_answer")
    assert len(h.switch.attempts) == len(state.legs) == (1 if takes else 2)
    assert state.legs[-1].talk_seconds == pytest.approx(4, abs=1)
    assert visited(state) == ["agents", "after", "bye"]
    assert [recording.state for recording in state.recordings] == ["good"]
    if cdr and not takes:
        assert state.legs[0].outcome == "not_accepted"


def test_of_two_who_are_asked_at_once_the_first_key_wins(hall: Start) -> None:
    agents = {ASHA: AgentScript.accepts(press_after=6, talks=5), RAVI: AgentScript.accepts(press_after=3, talks=5)}
    h = hall(asking(confirm=CONFIRM, parallel=2), agents=agents)
    _, state = h.run()
    assert [(leg.number, leg.outcome) for leg in state.legs] == [(ASHA, "taken"), (RAVI, "answered")]
    assert state.legs[1].talk_seconds == pytest.approx(5, abs=1)
    assert "leg.taken" in codes(state)
