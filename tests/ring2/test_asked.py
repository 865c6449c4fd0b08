"""What is heard while an agent is asked whether he takes the call, by him and by the caller, and what is recorded."""

from __future__ import annotations

from pathlib import Path

import gevent
import pytest
from support.audio import Sound, read_wav, sine, write_wav

from exoflow.calls.model import CallState
from exoflow.sim.crm import Reply
from ring2.agents import Agent, Attempt, announcement, answers, silent
from ring2.site import ASKED, DIRECT, WHISPERED, Site, Visit, agents_json, codes, hears, wait_for, when_heard

CALLER, AGENT = 440, 880  # what they say, in Hz
WHISPER, QUESTION, OPENING = 600, 550, 750  # of the tones in site.TONES; the question has 2 s, the whisper 0.6
NETWORK, MUSIC = 620, 1050
RINGING = 400  # of the two that make the Indian tone; the other is too near to the caller's own
KEY_AFTER = 4.0  # seconds from the agent's answer: behind the whole question
TALK = 3.0


def _bridged(site: Site, channel: str) -> bool:
    return any(one["Event-Name"] == "CHANNEL_BRIDGE" and one.get("Unique-ID") == channel for one in site.box.events)


def _talked(site: Site, did: str, *agents: Agent, talks: Agent, **told: object) -> tuple[Visit, CallState, Attempt]:
    """A call whose caller speaks all the time; it ends TALK seconds after the two hear each other."""
    visit = site.call(did, {"/agents": agents_json(*agents, **told)})
    visit.phone.wait_answered().speak(CALLER)
    wait_for(lambda: talks.attempts and talks.attempts[0].answered_at, 25, "the agent's answer")
    channel = visit.channel
    wait_for(lambda: _bridged(site, channel), 15, "the talk")
    gevent.sleep(TALK)
    visit.phone.hangup()
    state = visit.state()
    attempt = talks.attempts[0].wait_ended()
    return visit, state, attempt


def test_the_agent_alone_is_asked_and_the_talk_begins_at_his_key(site: Site) -> None:
    [agent] = site.agents(answers(after=1.0, listens=KEY_AFTER, presses="1"))
    visit, state, attempt = _talked(site, ASKED, agent, talks=agent)
    [leg] = state.legs
    assert leg.outcome == "answered"
    assert leg.answered_at is not None
    assert attempt.answered_at is not None
    [pressed] = attempt.pressed_at
    assert leg.answered_at.timestamp() == pytest.approx(pressed, abs=0.7)

    # the agent: whisper, then question, and nothing of the caller before his key
    heard = attempt.heard()
    key = pressed - attempt.answered_at
    asked = heard.part(0, key)
    assert hears(asked, WHISPER)
    assert hears(asked, QUESTION)
    assert when_heard(asked, WHISPER) < when_heard(asked, QUESTION)
    assert not hears(asked, CALLER)
    assert hears(heard.part(key + 1), CALLER)

    # the caller: ringing until the key, and nothing of the agent, his whisper or his question
    begun, taken = visit.since_heard(attempt.answered_at), visit.since_heard(pressed)
    meanwhile = visit.heard().part(begun, taken - 0.1)
    assert hears(meanwhile, RINGING)
    assert meanwhile.longest_silence() < 2.3
    assert not any(hears(meanwhile, hz) for hz in (AGENT, WHISPER, QUESTION))
    assert hears(visit.heard().part(taken + 1), AGENT)

    # the recording: both, from the key on
    [recording] = state.recordings
    assert recording.state == "good"
    sound = read_wav(Path(recording.path))
    assert sound.seconds == pytest.approx(leg.talk_seconds, abs=0.5)
    assert sound.seconds < TALK + 1.5
    assert sound.left.tone(CALLER) > -20
    assert sound.right.tone(AGENT) > -20
    for side in (sound.left, sound.right):
        assert not any(hears(side, hz) for hz in (WHISPER, QUESTION, RINGING))


def test_a_mailbox_never_hears_the_caller_and_the_next_agent_is_rung(site: Site) -> None:
    mailbox, agent = site.agents(answers(after=0.5), answers(after=0.5, listens=KEY_AFTER, presses="1"))
    visit, state, attempt = _talked(site, ASKED, mailbox, agent, talks=agent)
    assert [leg.outcome for leg in state.legs] == ["not_accepted", "answered"]
    assert not hears(mailbox.attempts[0].heard(), CALLER)
    assert not hears(visit.heard().part(0, visit.since_heard(attempt.pressed_at[0]) - 0.1), AGENT)
    asked = mailbox.attempts[0]
    assert asked.answered_at is not None
    assert asked.ended_at is not None
    assert asked.ended_at - asked.answered_at == pytest.approx(8.5, abs=1.5)
    assert [recording.state for recording in state.recordings] == ["good"]


def test_a_whisper_is_heard_by_the_agent_and_the_opening_by_both(site: Site) -> None:
    [agent] = site.agents(answers(after=1.0))
    visit, state, attempt = _talked(site, WHISPERED, agent, talks=agent)
    [leg] = state.legs
    assert leg.outcome == "answered"
    assert leg.answered_at is not None
    assert attempt.answered_at is not None
    begun = leg.answered_at.timestamp() - attempt.answered_at
    assert begun == pytest.approx(2.0, abs=1.0)
    heard = attempt.heard()
    assert hears(heard.part(0, begun), QUESTION)
    assert not hears(heard.part(0, begun - 0.3), CALLER)
    assert hears(heard.part(begun), OPENING)
    assert hears(heard.part(begun), CALLER)
    whole = visit.heard()
    assert not hears(whole, QUESTION)
    assert hears(whole.part(visit.since_heard(leg.answered_at)), OPENING)
    assert hears(whole.part(visit.since_heard(leg.answered_at)), AGENT)
    assert [recording.state for recording in state.recordings] == ["good"]


def test_several_ring_at_once_and_the_first_to_answer_talks(site: Site) -> None:
    first, second, third = site.agents(silent(), answers(after=1.5), silent())
    told = {"parallel_ringing": {"activate": True, "max_parallel_attempts": 3}}
    visit, state, attempt = _talked(site, WHISPERED, first, second, third, talks=second, **told)
    assert [leg.outcome for leg in state.legs] == ["taken", "answered", "taken"]
    rung = [agent.attempts[0] for agent in (first, second, third)]
    assert max(one.at for one in rung) - min(one.at for one in rung) < 0.5
    assert [len(agent.attempts) for agent in (first, second, third)] == [1, 1, 1]
    assert attempt.answered_at is not None
    for one in (rung[0], rung[2]):
        assert one.ended_at is not None
        assert one.ended_at < attempt.answered_at + 4
    assert codes(state).count("leg.taken") == 2
    assert hears(visit.heard(), AGENT)


def _network_speaks(attempt: Attempt) -> None:
    """An in-band tone for 2.5 s, and then the answer."""
    attempt.announce(NETWORK)
    attempt.pause(2.5)
    attempt.call.command(f"api uuid_break {attempt.uuid} all")
    answers(after=0)(attempt)


def test_the_network_is_heard_where_the_crm_wants_the_operators_tone(site: Site) -> None:
    announced, agent = site.agents(announcement(hz=NETWORK), _network_speaks)
    told = {"music_on_hold": {"type": "operator_tone"}}
    visit, state, attempt = _talked(site, DIRECT, announced, agent, talks=agent, **told)
    assert [leg.outcome for leg in state.legs] == ["unreachable", "answered"]
    assert attempt.answered_at is not None
    begun = visit.since_heard(attempt.answered_at)
    before = visit.heard().part(0, begun)
    assert hears(before, NETWORK)
    assert not hears(before, AGENT)
    assert hears(visit.heard().part(begun), AGENT)
    assert hears(attempt.heard(), CALLER)
    [recording] = state.recordings
    assert recording.state == "good"


def test_the_crms_own_music_and_words(site: Site, tmp_path: Path) -> None:
    write_wav(tmp_path / "jingle.wav", Sound([sine(MUSIC, 1.0)], 8000))
    site.crm.script("/jingle.wav", Reply(200, (tmp_path / "jingle.wav").read_bytes(), "audio/wav"))
    told = {
        "music_on_hold": {"type": "custom_tone", "value": site.crm.url("/jingle.wav")},
        "start_call_playback": {"playback_to": "callee", "type": "text", "value": "A call for the support of Acme."},
    }
    [agent] = site.agents(answers(after=2.0, hz=None))
    visit, state, attempt = _talked(site, DIRECT, agent, talks=agent, **told)
    [leg] = state.legs
    assert leg.answered_at is not None
    assert attempt.answered_at is not None
    meanwhile = visit.heard().part(visit.since_heard(attempt.at) + 0.5, visit.since_heard(leg.answered_at) - 0.2)
    assert max(meanwhile.tone_blocks(MUSIC)) > -20
    assert not hears(meanwhile, RINGING)
    words = attempt.heard().part(0, leg.answered_at.timestamp() - attempt.answered_at - 0.3)
    assert words.seconds > 1
    assert words.level() > -40
    assert not hears(words, CALLER)
