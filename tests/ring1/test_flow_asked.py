"""connect with a whisper and a question to the agent: who hears what, from when there is a talk, and who did not take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import ASHA, BYE, RAVI, Hall, codes, entry, say, visited

from exoflow.config.load import load
from exoflow.flow.whisper import INDIAN_RINGBACK
from exoflow.linesound import wav
from exoflow.sim import AgentScript
from exoflow.sim.crm import Reply

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
    speak = {"language": {"to": "hi"}, "next": "agents"}
    h = hall(
        {"speak": speak, **asking(whisper={"say": words}, opening={"say": words})}, agents={ASHA: AgentScript.answers(1, 4)}
    )
    phone, _ = h.run()
    assert h.switch.attempts[0].heard == ["A call.", "A call."]
    assert phone.texts[0] == words["hi"]


def test_a_text_for_agents_need_not_be_in_the_callers_languages(hall: Start) -> None:
    words = {"en": "A call."}
    more = {"whisper": {"say": words}, "confirm": {"say": words}, "opening": {"say": words}}
    h = hall({"speak": {"language": {"to": "hi"}, "next": "agents"}, **asking(**more)})
    found = [finding for finding in load(h.folder / "exoflow.yaml", {}).findings if finding.code == "W606"]
    lines = (h.folder / "accounts" / "acme.yaml").read_text().splitlines()
    told = {lines[one.line - 1][one.col - 1 :].partition(":")[0].strip('"') for one in found}
    assert told == {"opening", "greeting"}


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


# --- what the CRM's answer names ----------------------------------------------------------------------


def _from_crm(**how: Any) -> dict[str, Any]:
    steps = asking(url="crm:/connect", **how)
    del steps["agents"]["connect"]["numbers"]
    return steps


def _named(h: Hall, **keys: Any) -> None:
    h.crm.script("/hello.wav", Reply(200, wav(b"\1\0" * 16000), "audio/wav"))
    h.crm.script("/gone.wav", Reply(404, b"no"))
    h.crm.script("/connect", Reply.agents(ASHA, **keys))


def test_the_crm_names_a_text_for_the_agent(hall: Start) -> None:
    h = hall(_from_crm(), agents={ASHA: AgentScript.answers(1, 8)})
    _named(h, start_call_playback={"playback_to": "callee", "type": "text", "value": "Order 17 of Mister Rao"})
    phone, state = h.run()
    (attempt,) = h.switch.attempts
    assert attempt.heard == ["Order 17 of Mister Rao"]
    assert state.legs[0].outcome == "answered"
    assert phone.texts == ["Goodbye."]
    assert entry(state, "crm.agents").evidence["ignored"] == []


def test_the_crms_text_goes_before_the_steps_and_the_key_is_asked_for_all_the_same(hall: Start) -> None:
    h = hall(_from_crm(whisper=WHISPER, confirm=CONFIRM), agents={ASHA: AgentScript.accepts(talks=4)})
    _named(h, start_call_playback={"playback_to": "callee", "type": "text", "value": "Order 17"})
    _, state = h.run()
    assert h.switch.attempts[0].heard == ["Order 17", "Press 1 to take it."]
    assert state.legs[0].talk_seconds == pytest.approx(4, abs=1)


def test_the_crm_names_audio_for_both_and_music_for_the_caller(hall: Start) -> None:
    h = hall(_from_crm(), agents={ASHA: AgentScript.answers(1, 6)})
    hello = h.crm.url("/hello.wav")
    playback = {"playback_to": "both", "type": "audio_url", "value": hello}
    _named(h, start_call_playback=playback, music_on_hold={"type": "custom_tone", "value": hello})
    phone, _ = h.run()
    (prepared,) = [text for text in h.executed("multiset") if "ringback" in text]
    variables = dict(pair.split("=", 1) for pair in prepared.removeprefix("^^~").split("~"))
    assert variables["ringback"] == variables["transfer_ringback"]
    assert variables["ringback"].endswith(".wav")
    assert variables["execute_on_pre_bridge_opening"] == f"playback {variables['ringback']}"
    assert len(phone.texts) == 2
    assert h.switch.attempts[0].heard == phone.texts[:1]
    assert len(h.crm.to("/hello.wav")) == 1


@pytest.mark.parametrize("kind", ["audio_url", "text"])
def test_what_cannot_be_played_is_left_out_and_agents_are_rung(hall: Start, kind: str) -> None:
    steps = {"ask": {"gather": {"say": "Your secret?", "digits": 4, "secret": True}, "next": "agents"}, **_from_crm()}
    h = hall(steps, agents={ASHA: AgentScript.answers(1, 4)})
    value = h.crm.url("/gone.wav") if kind == "audio_url" else "The secret is 4711"
    _named(h, start_call_playback={"playback_to": "callee", "type": kind, "value": value})
    _, state = h.run(keys=["4711"])
    assert h.switch.attempts[0].heard == []
    assert state.legs[0].outcome == "answered"
    assert "left out" in entry(state, "crm.unplayable").text


def test_the_tone_of_the_agents_network_is_let_through_and_is_no_answer(hall: Start) -> None:
    agents = {ASHA: AgentScript.announcement()}
    h = hall(_from_crm(ring_seconds=6), agents=agents)
    _named(h, music_on_hold={"type": "operator_tone"})
    _, state = h.run()
    (attempt,) = h.switch.attempts
    assert attempt.variables["bridge_early_media"] == "true"
    assert state.legs[0].outcome == "unreachable"
    assert h.switch.violations == []


def test_the_usual_tone_goes_before_the_steps_own(hall: Start) -> None:
    h = hall(_from_crm(ringback={"say": "We are looking for somebody."}), agents={ASHA: AgentScript.busy()})
    _named(h, music_on_hold={"type": "default_tone"})
    h.run()
    (prepared,) = [text for text in h.executed("multiset") if "ringback" in text]
    assert f"~ringback={INDIAN_RINGBACK}~" in prepared
