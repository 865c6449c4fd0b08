"""Agents' SIP phones that send calls elsewhere: by 302, and by REFER where the profile lets them.

The box of these tests is one of their own, without `disable-transfer`: what an engineer's own sofia.conf may be like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from support.audio import read_wav

from ring2.agents import Attempt, Behaviour, answers
from ring2.box import Box
from ring2.freeswitch import replace_once
from ring2.network import Exchange
from ring2.site import DIRECT, Site, codes, entry, steps, text

PARAM = '<param name="disable-transfer" value="true"/>'


@pytest.fixture(scope="module")
def open_site(freeswitch: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """exoflow and two switches, of which the box lets SIP phones transfer."""
    folder = tmp_path_factory.mktemp("transfers")
    exchange = Exchange(freeswitch, folder / "exchange")
    box = Box(freeswitch, folder / "box", exchange_sip_port=exchange.sip_port)
    replace_once(box.conf / "autoload_configs" / "sofia.conf.xml", PARAM, "")
    running = Site(box, exchange, folder / "exoflow")
    try:
        exchange.start()
        box.start()
        exchange.wait_ready()
        box.wait_ready()
        box.listen()
        exchange.listen(box.sip_port)
        running.start()
        yield running
        running.close()
    finally:
        gevent.joinall([gevent.spawn(box.stop), gevent.spawn(exchange.stop)])


def redirects(to: str) -> Behaviour:
    """302."""

    def play(attempt: Attempt) -> None:
        attempt.call.execute("redirect", to)
        attempt.call.wait_hangup()

    return play


def refers(site: Site, to: str, after: float = 2.0) -> Behaviour:
    """Answers, and transfers the caller."""

    def play(attempt: Attempt) -> None:
        attempt.ring()
        attempt.answer(880)
        attempt.pause(after)
        site.exchange.connect().api(f"uuid_deflect {attempt.uuid} {to}")
        attempt.pause(6)
        attempt.hangup("NORMAL_CLEARING")

    return play


def listed(*numbers: str) -> str:
    return ",".join(f"+91{number}" for number in numbers)


@pytest.mark.parametrize("to", ["frontdesk", "exoflow_announcement", "exoflow_lease", "8030752400"])
def test_a_redirect_to_an_address_of_ours_is_not_followed(site: Site, to: str) -> None:
    first, second = site.agents(redirects(f"sip:{to}@127.0.0.1"), answers(talk=1.5))
    visit = site.call(DIRECT, {"/agents": text(listed(first.number, second.number))})
    visit.phone.wait_ended(20)
    state = visit.state()
    assert [leg.outcome for leg in state.legs] == ["unreachable", "answered"]
    assert "call forwarding" in entry(state, "leg.unreachable").text
    assert steps(state) == ["agents", "after", "bye"]
    assert (len(first.attempts), len(second.attempts), state.ended_by) == (1, 1, "exoflow")


def test_a_redirect_to_another_host_sends_it_no_call(site: Site) -> None:
    first, second = site.agents(redirects(f"sip:0088299123456@127.0.0.2:{site.exchange.sip_port}"), answers(talk=1.5))
    visit = site.call(DIRECT, {"/agents": text(listed(first.number, second.number))})
    visit.phone.wait_ended(20)
    assert [leg.outcome for leg in visit.state().legs] == ["unreachable", "answered"]
    created = [event for event in site.box.events if event["Event-Name"] == "CHANNEL_CREATE"]
    assert not [event for event in created if "0088299123456" in event["Channel-Name"]]


def test_where_the_profile_refuses_transfers_the_talk_goes_on(site: Site) -> None:
    [agent] = site.agents(refers(site, f"sip:frontdesk@127.0.0.1:{site.box.sip_port}"))
    visit = site.call(DIRECT, {"/agents": text(listed(agent.number))})
    visit.phone.wait_ended(30)
    state = visit.state()
    [leg] = state.legs
    assert leg.talk_seconds > 6
    assert steps(state) == ["agents", "after", "bye"]
    assert [one.state for one in state.recordings] == ["good"]


@pytest.mark.parametrize("to", [lambda site, other: other.number, lambda site, other: f"+91{other.number};npdi"])
def test_a_blind_transfer_is_dialled_over_our_own_trunk(open_site: Site, to: Callable) -> None:
    site = open_site
    [other] = site.agents(answers(talk=2, hz=660))
    address = f"<sip:{to(site, other)}@127.0.0.1:{site.box.sip_port}>"
    [agent] = site.agents(refers(site, address))
    visit = site.call(DIRECT, {"/agents": text(listed(agent.number))})
    visit.phone.wait_ended(30)
    state = visit.state()
    assert [(leg.number, leg.outcome) for leg in state.legs] == [
        (f"+91{agent.number}", "answered"),
        (f"+91{other.number}", "answered"),
    ]
    assert entry(state, "connect.transferred").evidence["number"] == f"+91{other.number}"
    assert steps(state) == ["agents", "after", "bye"]
    assert (visit.phone.cause, state.outcome, state.ended_by) == ("NORMAL_CLEARING", "answered", "exoflow")
    assert [one.state for one in state.recordings] == ["good", "good"]
    for recording, leg in zip(state.recordings, state.legs, strict=True):
        assert read_wav(recording.path).seconds == pytest.approx(leg.talk_seconds, abs=1)


@pytest.mark.parametrize("to", ["frontdesk", "exoflow_lease", "exoflow_fallback", "0088299123456"])
def test_a_blind_transfer_elsewhere_leads_back_to_the_agent(open_site: Site, to: str) -> None:
    site = open_site
    [agent] = site.agents(answers())
    agent.behave(refers(site, f"sip:{to}@127.0.0.1:{site.box.sip_port}"), answers(talk=2))
    visit = site.call(DIRECT, {"/agents": text(listed(agent.number))})
    visit.phone.wait_ended(30)
    state = visit.state()
    assert [leg.outcome for leg in state.legs] == ["answered", "answered"]
    assert len(agent.attempts) == 2
    assert "connect.transfer_refused" in codes(state)
    assert "caller.left" not in codes(state)
    assert steps(state) == ["agents", "after", "bye"]
    assert [one.state for one in state.recordings] == ["good", "good"]


def test_the_callers_side_cannot_send_the_agent_elsewhere(open_site: Site) -> None:
    site = open_site
    [agent] = site.agents(answers())
    visit = site.call(DIRECT, {"/agents": text(listed(agent.number))})
    visit.phone.wait_answered()
    while not agent.attempts or agent.attempts[0].answered_at is None:
        gevent.sleep(0.05)
    gevent.sleep(1)
    site.exchange.connect().api(f"uuid_deflect {visit.phone.uuid} sip:{DIRECT}@127.0.0.1:{site.box.sip_port}")
    agent.attempts[0].wait_ended(10)
    visit.phone.wait_ended(20)
    state = visit.state()
    assert [leg.outcome for leg in state.legs] == ["answered"]
    assert steps(state) == ["agents", "after", "bye"]


def test_what_an_attended_transfer_has_freeswitch_dial_is_ended_before_it_is_answered(open_site: Site) -> None:
    """Replaces names no call that FreeSWITCH has, so it dials the address past every dialplan (sofia.c:9420).

    The phone, which is a FreeSWITCH here, hangs up when it hears 403 of its transfer; the caller stays.
    """
    site = open_site
    abroad = site.exchange.agent("0088299123456").behave(answers(after=1.5, talk=5))
    address = f"sip:0088299123456@127.0.0.1:{site.exchange.sip_port}?Replaces=abc%3Bto-tag%3Dx%3Bfrom-tag%3Dy"
    [agent] = site.agents(refers(site, address))
    visit = site.call(DIRECT, {"/agents": text(listed(agent.number))})
    visit.phone.wait_ended(30)
    state = visit.state()
    assert [leg.outcome for leg in state.legs] == ["answered"]
    assert [attempt.answered_at for attempt in abroad.attempts] in ([], [None])
    assert "disable-transfer" in site.log_text()
    assert [one.state for one in state.recordings] == ["good"]
    assert steps(state) == ["agents", "after", "bye"]
