"""A queue on the real switch: what a caller hears while the agent talks with another, whose turn it is after a death, and
who is called back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from exoflow.calls.model import CallState
from exoflow.sim.crm import Reply
from ring2.agents import Agent, Attempt, Behaviour, answers
from ring2.placing import closed
from ring2.site import QUEUED, Site, Visit, codes, entry, hears, wait_for, when_heard

CALLER, AGENT = 440, 880  # what they say, in Hz
WORDS, MUSIC = 600, 550  # of the tones in site.TONES: 0.6 s, and 2 s again and again
CONFIRMED, HELLO = 750, 950
DESK, CUSTOMER = "9845000005", "9870088888"
WAITS = 3.0  # seconds in the queue: the words, and some of the music
TALK = 2.0
RINGS = 15.0  # seconds; another exoflow is there within some 3
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


def test_who_asks_is_called_back_in_his_turn(site: Site, desk: Agent) -> None:
    customer, first, asked = asks(site, desk, answers(after=1.0, hz=CALLER))
    state = asked.state()
    assert (state.outcome, state.reason) == ("missed", "queue.call_back")
    assert hears(asked.heard(), CONFIRMED)
    assert customer.attempts == []
    first.phone.hangup()
    talk = talks(desk, 2)
    gevent.sleep(TALK)
    [rung] = customer.attempts
    assert (rung.dialled, rung.cli) == (f"0{CUSTOMER}", QUEUED)
    rung.hangup("NORMAL_CLEARING")
    called = talked(site, state)
    assert codes(called)[:2] == ["call.placed", "placed.answered"]
    heard = rung.wait_ended().heard()
    assert when_heard(heard, HELLO) < when_heard(heard, AGENT)
    assert hears(talk.wait_ended().heard(), CALLER)
    assert [request.get("CallFrom") for request in site.crm.to("/may-he")] == [f"0{CUSTOMER}"]


def test_who_rings_when_exoflow_dies_is_rung_once_and_gets_the_agent(site: Site, desk: Agent) -> None:
    customer, first, asked = asks(site, desk, answers(after=RINGS, hz=CALLER))
    state = asked.state()
    first.phone.hangup()
    wait_for(lambda: customer.attempts and customer.attempts[0].alerting_at, 15, "the customer's phone")
    site.kill()
    site.serve()
    talks(desk, 2)
    gevent.sleep(TALK)
    [rung] = customer.attempts
    rung.hangup("NORMAL_CLEARING")
    assert talked(site, state).outcome == "answered"
    assert len(customer.attempts) == 1


def asks(site: Site, desk: Agent, behaviour: Behaviour) -> tuple[Agent, Visit, Visit]:
    """The customer, the call that engages the agent, and the one in which the customer asks to be called back."""
    customer = site.exchange.agent(CUSTOMER).behave(behaviour)
    customer.attempts.clear()
    site.crm.requests.clear()
    site.crm.script("/may-he", Reply(200))
    first = talking(site, desk)
    asked = queued(site, caller=f"0{CUSTOMER}")
    asked.phone.wait_answered().press("2", after=WAITS)
    return customer, first, asked


def talked(site: Site, asked: CallState) -> CallState:
    """The call to who asked, closed; as `exoflow call-backs` tells of it."""
    command = [str(Path(sys.executable).with_name("exoflow")), "call-backs", "--json", "-c", str(site.folder / "exoflow.yaml")]

    def told() -> Any:
        found = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)
        [one] = [one for one in found if one["call"] == asked.facts.id]
        return one["state"] == "talked" and one

    return closed(site, wait_for(told, 20, "the call-back's end")["placed"])


def talking(site: Site, desk: Agent) -> Visit:
    visit = site.call(QUEUED)
    visit.phone.wait_answered()
    talks(desk, 1)
    return visit


def talks(desk: Agent, number: int) -> Attempt:
    """The agent has answered for so many times."""
    wait_for(lambda: len(desk.attempts) >= number and desk.attempts[number - 1].answered_at, 20, f"talk {number}")
    return desk.attempts[number - 1]


def queued(site: Site, caller: str | None = None) -> Visit:
    visit = site.call(QUEUED, caller=caller)
    visit.phone.wait_answered()
    wait_for(lambda: "queue.entered" in written(site, visit), 10, "the queue")
    return visit


def written(site: Site, visit: Visit) -> list[str]:
    state = site.stored(visit.channel)
    return [] if state is None else codes(state)
