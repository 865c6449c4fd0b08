"""Agents who are busy, away or unreachable; lines that are full; talks that end; disks that cannot be written."""

from __future__ import annotations

import gevent
import pytest
from support.audio import read_wav

from exoflow.sim.crm import Reply
from ring2.agents import announcement, answers, busy, network_congested, rejects, silent, unknown_number, unreachable
from ring2.site import DIRECT, FULL_DISK, MUSIC, Site, agents_json, codes, entry, hears, steps, wait_for

together = pytest.mark.together


@together
def test_nobody_can_be_reached_and_a_message_is_taken(site: Site) -> None:
    everybody = site.agents(
        busy(), unreachable(), announcement(1.0), rejects("CALL_REJECTED"), network_congested(), unknown_number()
    )
    visit = site.call(DIRECT, {"/agents": agents_json(*everybody)})
    visit.phone.wait_answered().speak(440)
    wait_for(lambda: (state := site.stored(visit.channel)) and state.recordings, 30, "the message's row")
    gevent.sleep(2.5)
    visit.phone.press("#")
    visit.phone.wait_ended()
    state = visit.state()
    assert [(leg.outcome, leg.q850) for leg in state.legs] == [
        ("busy", 17),
        ("unreachable", 20),
        ("unreachable", 18),
        ("rejected", 21),
        ("trunk", 34),
        ("bad_number", 1),
    ]
    assert [bool(leg.alerting_at) for leg in state.legs] == [False] * 6
    assert "announcement" in state.legs[2].meaning
    assert state.legs[2].early_media_at is not None
    assert "free towards the agent" in state.legs[4].meaning
    # the announcement, which the caller would have paid for, was not heard
    assert not hears(visit.heard(), 620)
    [message] = state.recordings
    sound = read_wav(message.path)
    assert (message.kind, message.state) == ("voicemail", "good")
    assert sound.tone(440) > -20
    assert sound.seconds == pytest.approx(2.2, abs=0.7)
    # `#` ends it: the flow goes on, with the caller still there
    assert (state.outcome, state.ended_by, steps(state)) == ("voicemail", "exoflow", ["agents", "message", "after", "bye"])
    [after] = visit.asked("/after")
    assert (after["DialCallStatus"], after["CallType"]) == ("failed", "voicemail")


@together
def test_nobody_answers_and_no_message_is_left(site: Site) -> None:
    asha, ravi = site.agents(busy(), busy())
    visit = site.call(DIRECT, {"/agents": agents_json(asha, ravi)})
    wait_for(lambda: (state := site.stored(visit.channel)) and codes(state).count("leg.busy") == 2, 10, "both busy")
    visit.phone.hangup()
    state = visit.state()
    assert (state.outcome, state.reason, state.recordings) == ("missed", "leg.busy", [])
    assert len(visit.asked("/after")) == 1
    delivery = visit.delivery()
    assert delivery["type"] == "call.missed"
    assert "busy" in delivery["data"]["reason_text"]


@together
def test_the_ringback_is_heard_without_a_gap_over_many_attempts(site: Site) -> None:
    """With music, silence is easy to hear: from the first attempt to the talk at most 0.3 s."""

    def slow_network(attempt: object) -> None:
        attempt.pause(1.5)  # type: ignore[attr-defined]
        rejects("SUBSCRIBER_ABSENT")(attempt)  # type: ignore[arg-type]

    everybody = site.agents(busy(), slow_network, silent(1.5), announcement(1.0), busy(), answers(after=1.0, talk=1.0))
    visit = site.call(MUSIC, {"/agents": agents_json(*everybody)})
    visit.phone.wait_ended()
    begun = visit.since_heard(everybody[0].attempts[0].at)
    talk = visit.since_heard(everybody[-1].attempts[0].answered_at)
    ringing = visit.heard().part(begun, talk)
    assert ringing.longest_silence() <= 0.3
    assert ringing.tone(550) > -15
    assert visit.state().outcome == "answered"


@together
def test_the_talk_limit_cuts_the_talk_and_the_flow_goes_on(site: Site) -> None:
    [asha] = site.agents(answers(after=0.2))
    visit = site.call(DIRECT, {"/agents": agents_json(asha, max_conversation_duration=3)})
    visit.phone.wait_ended()
    state = visit.state()
    [leg] = state.legs
    assert (leg.outcome, leg.cause) == ("answered", "ALLOTTED_TIMEOUT")
    # FreeSWITCH's scheduler counts whole seconds
    assert 1.9 <= leg.talk_seconds <= 3.5
    assert asha.attempts[0].ended.is_set()
    assert (state.outcome, state.ended_by, steps(state)) == ("answered", "exoflow", ["agents", "after", "bye"])
    assert "time allowed" in entry(state, "leg.talked").text
    assert len(visit.asked("/after")) == 1


@together
def test_the_agent_hangs_up_first(site: Site) -> None:
    [asha] = site.agents(answers(after=0.2, talk=1.5))
    visit = site.call(DIRECT, {"/agents": agents_json(asha)})
    visit.phone.wait_ended()
    state = visit.state()
    [leg] = state.legs
    assert (leg.outcome, leg.q850, leg.talk_seconds) == ("answered", 16, pytest.approx(1.5, abs=0.2))
    assert (state.ended_by, state.caller_left, visit.phone.cause) == ("exoflow", False, "NORMAL_CLEARING")
    [after] = visit.asked("/after")
    assert after["Legs[0][DisconnectedBy]"] == "Callee"
    assert state.recordings[0].seconds == pytest.approx(1.5, abs=0.3)


@together
@pytest.mark.parametrize("talk", [0.1, 0.4])
def test_a_talk_of_a_moment(site: Site, talk: float) -> None:
    """Shorter than anybody speaks; the record must not say that a recording failed."""
    [asha] = site.agents(answers(after=0.2, talk=talk))
    visit = site.call(DIRECT, {"/agents": agents_json(asha)})
    visit.phone.wait_ended()
    state = visit.state()
    assert (state.outcome, len(visit.asked("/after"))) == ("answered", 1)
    assert [recording.state for recording in state.recordings] == ["good"]


# --- a folder that cannot be written ------------------------------------------------------------


@together
def test_a_talk_that_cannot_be_recorded_goes_on(site: Site) -> None:
    site.exchange.agent("9845000005").behave(answers(after=0.2))
    visit = site.call(FULL_DISK)
    visit.phone.press("1", after=0.3)
    asha = site.exchange.agent("9845000005")
    wait_for(lambda: asha.attempts and asha.attempts[0].answered_at, 10, "the answer")
    gevent.sleep(1.5)
    visit.phone.hangup()
    state = visit.state()
    [recording] = state.recordings
    assert (state.outcome, recording.state) == ("answered", "failed")
    assert state.legs[0].talk_seconds == pytest.approx(1.5, abs=0.3)
    [told] = [line for line in state.journey if line.code.startswith("recording.")]
    assert str(site.recordings) in told.text
    assert "write" in told.text
    assert hears(visit.heard(), 880)
    assert visit.delivery()["data"]["recordings"][0]["problem"]


@together
def test_a_message_that_cannot_be_recorded_is_told(site: Site) -> None:
    visit = site.call(FULL_DISK)
    visit.phone.press("2", after=0.3)
    visit.phone.wait_ended(20)
    state = visit.state()
    [recording] = state.recordings
    assert (recording.kind, recording.state) == ("voicemail", "failed")
    told = next(line for line in state.journey if line.code.startswith("recording."))
    assert str(site.recordings / "fulldisk") in told.text
    assert "switch.recordings" in told.text or "write" in told.text
    assert "voicemail.taken" not in codes(state)


# --- our own lines are full -------------------------------------------------------------------


def test_no_channel_is_free(site: Site) -> None:
    """FreeTDM refuses without a leg when no channel is free; a FreeSWITCH that is full does so on SIP. The flow goes on."""
    asha, ravi = site.agents(answers(), answers())
    named = agents_json(asha, ravi)
    visit = site.call(DIRECT, {"/agents": Reply(200, named.body, "application/json", delay=0.5)})
    wait_for(lambda: visit.requests("/agents"), 5, "the request")
    limit = site.box.api("fsctl max_sessions").split()[-1]
    try:
        site.box.api("fsctl max_sessions 1")
        wait_for(lambda: (state := site.stored(visit.channel)) and codes(state).count("leg.trunk") == 2, 10, "two refusals")
    finally:
        site.box.api(f"fsctl max_sessions {limit}")
    visit.phone.hangup()
    state = visit.state()
    assert [(leg.outcome, leg.setup_at) for leg in state.legs] == [("trunk", None), ("trunk", None)]
    assert (asha.attempts, ravi.attempts) == ([], [])
    assert (state.outcome, len(visit.asked("/after"))) == ("missed", 1)
