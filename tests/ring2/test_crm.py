"""CRMs as they are: down, slow, dripping, redirecting, broken, hostile. The caller is routed on and the journey says why."""

from __future__ import annotations

import gevent
import pytest

from exoflow.sim.crm import Reply
from ring2.agents import answers, busy, silent
from ring2.site import (
    DIRECT,
    DRIPPING,
    MAIN,
    REFUSED,
    WITH_FALLBACK,
    Site,
    Visit,
    agents_json,
    as_json,
    codes,
    entry,
    hears,
    steps,
    text,
    wait_for,
    when_heard,
)

pytestmark = pytest.mark.together

BACKUP = ["+919845000001", "+919845000002"]
HOLD_DB = -40
"""The default hold tone is a soft one, at -24 dB before the line's own scale."""


def by_key_1(site: Site, **lookup: Reply) -> Visit:
    visit = site.call(MAIN, {f"/{name}": reply for name, reply in lookup.items()})
    visit.phone.press("1", after=0.3)
    return visit


def backup_answers(site: Site) -> None:
    """The fallback group's first agent talks half a second."""
    site.exchange.agent(BACKUP[0]).behave(answers(after=0.2, talk=0.5))


# --- passthru ---------------------------------------------------------------------------------


def test_refused_connections(site: Site) -> None:
    site.exchange.agent("9845000004").behave(answers(after=0.2, talk=1.0))
    visit = site.call(REFUSED)
    visit.phone.wait_ended()
    state = visit.state()
    found = [line for line in state.journey if line.code == "crm.refused"]
    assert [line.stage for line in found] == ["D", "D"]
    assert [line.step for line in found] == ["ask", "agents"]
    assert all("127.0.0.1" in line.text for line in found)
    assert "s3cret" not in "".join(line.text + str(line.evidence) for line in state.journey)
    assert "s3cret" not in site.log_text()
    assert (state.outcome, [leg.number for leg in state.legs]) == ("answered", ["+919845000004"])
    assert "connect.fallback" in codes(state)


def test_a_slow_crm_is_cut_and_the_caller_hears_something_meanwhile(site: Site) -> None:
    visit = by_key_1(site, lookup=Reply(200, b"OK", delay=20))
    visit.phone.wait_ended()
    state, heard = visit.state(), visit.heard()
    cut = entry(state, "crm.timeout")
    assert (cut.stage, cut.step) == ("E", "lookup")
    assert cut.evidence["ms"] == pytest.approx(5000, abs=300)
    # our hold tone within 1 s of the key, and on until the answer is given up
    pressed = visit.since_heard(entry(state, "menu.key").at)
    assert when_heard(heard.part(pressed), 650) < 1.0
    waiting = heard.part(pressed + 1, pressed + 4.8)
    assert waiting.tone(650) > -20
    assert waiting.longest_silence() < 0.3
    # the failed branch, at once
    assert when_heard(heard.part(pressed), 850) == pytest.approx(5.3, abs=0.6)
    assert steps(state)[-2:] == ["apology", "bye"]


def test_a_slow_agents_url_has_the_same_deadline(site: Site) -> None:
    visit = site.call(DIRECT, {"/agents": Reply(200, b"9876543210", delay=20)})
    visit.phone.wait_answered(5)
    gevent.sleep(6.5)
    visit.phone.hangup()
    state, heard = visit.state(), visit.heard()
    assert entry(state, "crm.timeout").evidence["ms"] == pytest.approx(5000, abs=300)
    assert when_heard(heard, 425, above=HOLD_DB) < 1.0
    # the next thing heard is voicemail's prompt
    assert when_heard(heard, 950) == pytest.approx(5.3, abs=0.6)
    assert "connect.no_fallback" in codes(state)


def test_a_fast_crm_makes_no_hold_audio(site: Site) -> None:
    visit = by_key_1(site, lookup=Reply(302, b""))
    visit.phone.wait_ended()
    state, heard = visit.state(), visit.heard()
    assert not hears(heard, 650)
    assert hears(heard, 600)
    pressed = visit.since_heard(entry(state, "menu.key").at)
    assert when_heard(heard.part(pressed), 600) < 0.5


def test_body_that_drips_is_cut_at_the_deadline_and_the_status_counts(site: Site) -> None:
    visit = site.call(DRIPPING)
    visit.phone.wait_ended()
    state = visit.state()
    answered = entry(state, "crm.200").evidence
    assert answered["ms"] == pytest.approx(2000, abs=300)
    assert "not the whole answer" in answered["unread"]
    assert steps(state) == ["info", "ask", "bye"]


@pytest.mark.parametrize(
    ("status", "branch", "step", "hz"),
    [
        (302, "redirect", "info", 600),
        (500, "failed", "apology", 850),
        (404, "failed", "apology", 850),
        (204, "failed", "apology", 850),
    ],
)
def test_each_status_has_its_branch(site: Site, status: int, branch: str, step: str, hz: int) -> None:
    visit = by_key_1(site, lookup=Reply(status, b"", headers=[("Location", "http://127.0.0.1:1/elsewhere")]))
    visit.phone.wait_ended()
    state = visit.state()
    assert f"crm.{status}" in codes(state)
    assert entry(state, "passthru.branch").evidence["branch"] == branch
    assert steps(state)[-2:] == [step, "bye"]
    assert hears(visit.heard(), hz)
    # no redirect was followed, nothing was asked twice
    assert len(visit.asked("/lookup")) == 1


def test_an_unset_failed_branch_is_the_redirect_branch(site: Site) -> None:
    [asha] = site.agents(answers(after=0.2, talk=0.5))
    visit = site.call(DIRECT, {"/agents": agents_json(asha), "/after": Reply(503, b"later")})
    visit.phone.wait_ended()
    [branch] = [line for line in visit.state().journey if line.code == "passthru.branch"]
    assert (branch.evidence["branch"], branch.evidence["because"]) == ("redirect", "crm.503")


# --- who is to be rung ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "key"),
    [
        (text("<html><body>Fatal error</body></html>", content_type="text/html"), "body"),
        (text("{not json"), "numbers.0"),
        (text("\x00\xff"), "numbers.0"),
        (Reply(200, b"\xff\xfe9876543210"), "body"),
        (as_json({"destination": {"numbers": ["9876543210"]}, "recrod": True}), "recrod"),
        (as_json({"destination": {"numbers": ["9876543210", "112"]}}), "destination.numbers.1"),
        (as_json({"destination": {"numbers": {"first": "9876543210"}}}), "destination.numbers"),
        (as_json({"destination": {"numbers": ["+14155550100"]}}), "destination.numbers.0"),
        (as_json({"destination": {"numbers": ["9876543210"]}, "max_ringing_duration": 600}), "max_ringing_duration"),
        (as_json([["9876543210"]]), ""),
    ],
)
def test_nonsense_is_rejected_whole_and_the_fallback_is_rung(site: Site, reply: Reply, key: str) -> None:
    backup_answers(site)
    visit = site.call(WITH_FALLBACK, {"/agents": reply})
    visit.phone.wait_ended()
    state = visit.state()
    bad = entry(state, "crm.bad_answer")
    assert bad.stage == "F"
    assert key in bad.evidence["key"]
    assert [leg.number for leg in state.legs] == BACKUP[:1]
    assert state.outcome == "answered"
    assert len(visit.asked("/after")) == 1


def test_an_endless_answer_is_not_read(site: Site) -> None:
    backup_answers(site)
    visit = site.call(WITH_FALLBACK, {"/agents": text("9" * 100_000)})
    visit.phone.wait_ended()
    state = visit.state()
    assert entry(state, "crm.body").stage == "E"
    assert [leg.number for leg in state.legs] == BACKUP[:1]


def test_plain_numbers_in_their_order(site: Site) -> None:
    asha, ravi = site.agents(busy(), answers(after=0.2, talk=0.6))
    visit = site.call(DIRECT, {"/agents": text(f"0{asha.number},+91{ravi.number}")})
    visit.phone.wait_ended()
    state = visit.state()
    assert [(leg.number, leg.outcome) for leg in state.legs] == [
        ("+91" + asha.number, "busy"),
        ("+91" + ravi.number, "answered"),
    ]
    assert (state.outcome, state.recordings[0].channels) == ("answered", 2)


def test_an_empty_list_rings_the_fallback_in_order(site: Site) -> None:
    site.exchange.agent(BACKUP[0]).behave(answers(after=0.2, talk=0.5))
    visit = site.call(WITH_FALLBACK, {"/agents": agents_json()})
    visit.phone.wait_ended()
    state = visit.state()
    assert "connect.fallback" in codes(state)
    assert [(leg.number, leg.agent) for leg in state.legs] == [(BACKUP[0], "back1")]


def test_an_empty_list_without_fallback_is_nobody(site: Site) -> None:
    visit = site.call(DIRECT, {"/agents": text("")})
    wait_for(lambda: (state := site.stored(visit.channel)) and "connect.nobody" in codes(state), 5, "nobody")
    visit.phone.hangup()
    state = visit.state()
    assert (state.legs, state.wanted_agent) == ([], True)
    assert visit.asked("/after")[0]["DialCallStatus"] in ("no-answer", "canceled")


def test_the_crm_may_forbid_the_recording(site: Site) -> None:
    [asha] = site.agents(answers(after=0.2, talk=0.6))
    visit = site.call(DIRECT, {"/agents": agents_json(asha, record=False)})
    visit.phone.wait_ended()
    state = visit.state()
    assert (state.outcome, state.recordings) == ("answered", [])
    assert not list((site.recordings / "acme").rglob(f"{state.facts.id}*"))


def test_the_crms_ring_limit_holds(site: Site) -> None:
    asha, ravi = site.agents(silent(), answers(after=0.2, talk=0.5))
    visit = site.call(DIRECT, {"/agents": agents_json(asha, ravi, max_ringing_duration=2)})
    visit.phone.wait_ended()
    slow, _ = visit.state().legs
    assert slow.outcome == "no_answer"
    # whole seconds of the clock: 1 to 2
    assert 0.9 <= slow.total_seconds <= 2.4
