"""A queue on the real switch: what a caller hears while the agent talks with another, and whose turn it is after a death."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from ring2.agents import Agent, Attempt, answers
from ring2.site import QUEUED, Site, Visit, codes, entry, hears, wait_for, when_heard

CALLER, AGENT = 440, 880  # what they say, in Hz
WORDS, MUSIC = 600, 550  # of the tones in site.TONES: 0.6 s, and 2 s again and again
DESK = "9845000005"
WAITS = 3.0  # seconds in the queue: the words, and some of the music
TALK = 2.0
LEASE = 20.0  # seconds; so long music may play on for who lost his app


@pytest.fixture
def desk(site: Site) -> Iterator[Agent]:
    """The one agent of the group, who talks until the caller hangs up."""
    agent = site.exchange.agent(DESK).behave(answers(after=0.5))
    agent.attempts.clear()
    yield agent
    for phone in site.exchange.calls:
        if phone.ended_at is None:
            phone.hangup()


def test_a_second_caller_hears_words_and_music_and_then_the_agent(site: Site, desk: Agent) -> None:
    first = talking(site, desk)
    second = queued(site)
    second.phone.wait_answered().speak(CALLER)
    gevent.sleep(WAITS)
    first.phone.hangup()
    talk = talks(desk, 2)
    gevent.sleep(TALK)
    second.phone.hangup()
    state = second.state()
    assert [code for code in codes(state) if code.startswith(("queue.", "leg."))] == [
        "queue.entered",
        "queue.served",
        "leg.dialled",
        "leg.talked",
    ]
    assert entry(state, "queue.entered").evidence["position"] == 1
    assert state.outcome == "answered"
    assert desk.attempts[0].wait_ended().ended_at is not None
    assert (desk.attempts[0].ended_at or 0) <= talk.at + 0.2

    heard = second.heard()
    waited = heard.part(0, second.since_heard(talk.at))
    assert when_heard(waited, WORDS) < when_heard(waited, MUSIC)
    assert waited.part(when_heard(waited, WORDS)).longest_silence() < 1.0
    assert not hears(waited, AGENT)
    assert hears(heard, AGENT)
    assert hears(talk.wait_ended().heard(), CALLER)


def test_a_kill_leaves_the_order_of_those_who_wait(site: Site, desk: Agent) -> None:
    first = talking(site, desk)
    second, third = queued(site), queued(site)
    gevent.sleep(WAITS)
    site.kill()
    site.serve()
    for visit in (second, third):
        wait_for(lambda visit=visit: "call.resumed" in written(site, visit), LEASE + 20, "the caller's return")
    assert len(desk.attempts) == 1
    first.phone.hangup()
    talks(desk, 2)
    wait_for(lambda: "leg.dialled" in written(site, second), 10, "the older one's turn")
    assert "leg.dialled" not in written(site, third)
    second.phone.hangup()
    talks(desk, 3)
    third.phone.hangup()
    for visit in (second, third):
        state = visit.state()
        assert [code for code in codes(state) if code.startswith(("queue.", "leg.", "call.r"))] == [
            "queue.entered",
            "call.resumed",
            "queue.served",
            "leg.dialled",
            "leg.talked",
        ]
    assert len(desk.attempts) == 3


def talking(site: Site, desk: Agent) -> Visit:
    visit = site.call(QUEUED)
    visit.phone.wait_answered()
    talks(desk, 1)
    return visit


def talks(desk: Agent, number: int) -> Attempt:
    """The agent has answered for so many times."""
    wait_for(lambda: len(desk.attempts) >= number and desk.attempts[number - 1].answered_at, 20, f"talk {number}")
    return desk.attempts[number - 1]


def queued(site: Site) -> Visit:
    visit = site.call(QUEUED)
    visit.phone.wait_answered()
    wait_for(lambda: "queue.entered" in written(site, visit), 10, "the queue")
    return visit


def written(site: Site, visit: Visit) -> list[str]:
    state = site.stored(visit.channel)
    return [] if state is None else codes(state)
