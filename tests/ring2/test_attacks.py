"""Whatever a caller or a CRM sends, nothing of it becomes a command, a header, an expansion or a second leg.

Told by the machine itself: files that a command would make, the channels that FreeSWITCH made, its CDRs and its log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import gevent
import pytest
from gevent.pool import Pool

from exoflow.sim.crm import Reply
from ring2.agents import Agent, answers
from ring2.sip import Outcome, invite
from ring2.site import UNANSWERED, WITH_FALLBACK, Site, as_json, codes, text, wait_for

BACKUP = "+919845000001"
AT_ONCE = 10
EXECUTED = re.compile(r"EXECUTE \[depth=[0-9]+\] .* [a-z_]+\((.*)\)$")
APART_SECONDS = 0.05
"""The box takes 30 new calls a second (freeswitch-conf); more are a 503."""
REJECTED = 603
"""UNANSWERED's end is CALL_REJECTED when the CRM answers 200: what an attacker reaches is the flow's plain end."""


@pytest.fixture
def marker(site: Site) -> Iterator[Path]:
    """A file that must not appear. No blank in its path: some attacks cannot carry one."""
    path = site.folder / "marker"
    site.box.settle(20)
    yield path
    assert not path.exists(), "a command was run"
    # the switch is as it was: its event socket is there, and no module came or went
    assert site.box.api("module_exists mod_event_socket") == "true"
    assert site.box.api("module_exists mod_loopback") == "false"
    assert not site.box.log_lines(containing="Deleting")


def expansions(marker: Path) -> list[str]:
    """Texts of the facts' section 9 that would run a command if anything expanded them."""
    run = f"system touch {marker}"
    return [
        f"${{{run}}}",
        f"$${{{run}}}",
        f"\\${{{run}}}",
        f"%5C${{{run}}}",
        f"${{system(touch {marker})}}",
        f"${{expand({run})}}",
        f"%[exo_x=${{{run}}}]9876543210",
        f"9876543210${{{run}}}",
    ]


BREAKS = (
    "9876543210\n\nsendmsg\ncall-command: hangup",
    "9876543210\ncall-command: hangup",
    "9876543210\rcall-command: hangup",
    "9876543210\x00call-command: hangup",
    "9876543210%0Acall-command: hangup",
    "98765\u202843210",
    "unload mod_event_socket",
    "reload mod_event_socket 9876543210",
)
LEGS = (
    "9876543210,null/evil",
    "9876543210|null/evil",
    "9876543210:_:loopback/evil",
    "[origination_uuid=evil]9876543210",
    "{ignore_early_media=false}9876543210",
    "<leg_timeout=1>9876543210",
    "9876543210@10.0.0.1",
    "loopback/9876543210",
    "sofia/PRI1/9876543210@127.0.0.1:5060",
    "9876543210' touch",
    "9876543210 XML from-pri",
    "&park()",
    "९८७६५४३२१०",
    "9876543210;ext=5",
)


def created(site: Site) -> list[dict[str, str]]:
    return [event for event in site.box.events if event["Event-Name"] == "CHANNEL_CREATE"]


def numbers(*hostile: str) -> Reply:
    return as_json({"destination": {"numbers": ["9876543210", *hostile]}})


def test_what_a_crm_sends_as_a_number(site: Site, marker: Path) -> None:
    """Each rejects its answer whole: the good number beside it is not rung either, the configured fallback is."""
    site.exchange.agent(BACKUP).behave(answers(after=0.1, talk=0.3))
    rung = site.exchange.agent("9876543210").behave(answers(after=0.1, talk=0.3))
    hostile = [*expansions(marker), *BREAKS, *LEGS]
    replies = [numbers(one) for one in hostile] + [text(one) for one in (*expansions(marker), *LEGS[1:])]

    def play(reply: Reply) -> None:
        visit = site.call(WITH_FALLBACK, {"/agents": reply})
        visit.phone.wait_ended(20)
        state = visit.state()
        assert "crm.bad_answer" in codes(state), reply.body
        assert [(leg.number, leg.outcome) for leg in state.legs] == [(BACKUP, "answered")], reply.body
        assert len(visit.asked("/after")) == 1

    _all(play, replies)
    assert rung.attempts == []
    # a caller and a leg for each, and nothing else
    assert len(created(site)) == 2 * len(replies)
    assert len(site.exchange.agent(BACKUP).attempts) == len(replies)
    _nothing_in_the_log(site, marker)


def test_what_a_crm_sends_beside_the_numbers(site: Site, marker: Path) -> None:
    """Texts of the dialect that this version does not act on, headers and whole bodies: kept as text, in the journey alone."""
    site.exchange.agent(BACKUP).behave(answers(after=0.1, talk=0.3))
    named: list[Agent] = []

    def good() -> dict[str, object]:
        """Of an agent of its own, for all are rung at once."""
        named.extend(site.agents(answers(after=0.1, talk=0.3)))
        return {"destination": {"numbers": ["+91" + named[-1].number]}}

    evil = expansions(marker)[0]
    replies = [
        as_json({**good(), "outgoing_phone_number": evil}),
        as_json({**good(), "music_on_hold": {"type": "operator_tone", "value": evil}}),
        as_json({**good(), "custom_params": {"exo_x\ncall-command": f"hangup\n\n{evil}"}}),
        as_json({**good(), "start_call_playback": {"playback_to": "both", "type": "text", "value": evil}}),
        Reply(200, json.dumps(good()).encode(), "application/json", headers=[("X-Agent", evil)]),
        as_json({**good(), "recording_channels": evil}),
        as_json({**good(), evil: True}),
        Reply(302, b"", headers=[("Location", f"http://127.0.0.1/{quote(evil)}")]),
        Reply(500, evil.encode()),
    ]

    def play(reply: Reply) -> None:
        visit = site.call(WITH_FALLBACK, {"/agents": reply})
        visit.phone.wait_ended(20)
        assert [leg.outcome for leg in visit.state().legs] == ["answered"], reply.body
        # nothing a CRM sends is ever a channel variable
        assert str(marker) not in json.dumps(visit.cdr()), reply.body

    _all(play, replies)
    assert len(created(site)) == 2 * len(replies)
    # the words of a whisper are spoken, and headers nobody's; all else is refused whole
    assert [len(one.attempts) for one in named] == [0, 0, 0, 1, 1, 0, 0]
    _nothing_in_the_log(site, marker)


def test_what_a_caller_sends(site: Site, marker: Path) -> None:
    """As number, name, asserted identity and Diversion, in SIP's own escapes where it needs them."""
    invitations: list[dict[str, object]] = []
    for evil in (*expansions(marker), *BREAKS, *LEGS):
        escaped = quote(evil, safe="")
        shown = evil.replace("\\", "\\\\").replace('"', "").replace("\n", " ").replace("\r", " ").replace("\x00", "")
        diversion = {"Diversion": f"<sip:{escaped}@127.0.0.1>;reason=unconditional"}
        invitations += [
            {"user": escaped},
            {"name": shown, "headers": diversion},
            {"headers": {"P-Asserted-Identity": f'"{shown}" <sip:{escaped}@127.0.0.1>'}},
            # the channel's name from one, the number from the other
            {"user": f"%24%7Bx%7D{escaped}", "name": "${x}", "headers": {"P-Asserted-Identity": "<sip:9812345678@127.0.0.1>"}},
        ]
    outcomes: list[Outcome] = []

    def play(more: dict[str, object]) -> None:
        outcomes.append(invite(site.box.sip_port, UNANSWERED, **more))  # type: ignore[arg-type]

    _all(play, invitations)
    # through the flow to its end, or turned away by the dialplan
    assert [one.answer for one in outcomes if one.status != REJECTED] == []
    turned_away = 0
    for one in outcomes:
        channel = site.box.uuid_of(one.call_id)
        if site.box.cdr(channel)["variables"].get("exo_refused") == "caller":
            turned_away += 1
            assert site.stored(channel) is None
            continue
        state = wait_for(lambda channel=channel: (found := site.stored(channel)) and found.outcome and found, 10, "record")  # type: ignore[misc]
        assert (state.outcome, state.cause) == ("served", "CALL_REJECTED")
        asked = [request for request in site.crm.to("/lookup") if request.get("CallSid") == state.facts.id]
        [request] = asked
        for name in ("CallFrom", "From", "ForwardedFrom"):
            value = request.get(name) or ""
            assert value == "null" or set(value) <= set("0123456789*#+"), (name, value)
        # the variables of ours hold digits, ids and codes, whatever came
        variables = site.box.cdr(channel)["variables"]
        assert all(
            "$" not in str(value) and "touch" not in str(value) for key, value in variables.items() if key.startswith("exo_")
        )
    assert len(created(site)) == len(outcomes)
    assert "event-socket frame" not in site.log_text()
    assert 0 < turned_away < len(outcomes) * 0.6
    _nothing_in_the_log(site, marker)


def test_what_a_caller_dials(site: Site, marker: Path) -> None:
    dialled = [quote(evil, safe="") for evil in (*expansions(marker), *BREAKS, *LEGS)]
    found: dict[str, int] = {}

    def play(to: str) -> None:
        found[to] = invite(site.box.sip_port, to).status

    _all(play, dialled)
    # nothing is answered, rung or routed: it is no number
    assert set(found.values()) <= {400, 403, 404, 484}, found
    assert all(event["Call-Direction"] == "inbound" for event in created(site))
    _nothing_in_the_log(site, marker)


def test_calls_go_on_as_before(site: Site) -> None:
    """After all that: the same process of exoflow, and a call from end to end."""
    [asha] = site.agents(answers(after=0.1, talk=0.5))
    visit = site.call(WITH_FALLBACK, {"/agents": text(asha.number)})
    visit.phone.wait_ended()
    assert visit.state().outcome == "answered"
    assert "Traceback" not in site.log_text()
    assert site.log_text().count("waiting for calls") == 1


def _all(play: object, cases: list) -> None:  # type: ignore[type-arg]
    """Plays all cases, AT_ONCE at a time; the first failure is raised."""
    pool = Pool(AT_ONCE)
    played = []
    for case in cases:
        played.append(pool.spawn(play, case))
        gevent.sleep(APART_SECONDS)
    gevent.joinall(played, timeout=100, raise_error=True)
    assert all(one.ready() for one in played)


def _nothing_in_the_log(site: Site, marker: Path) -> None:
    """No application had it as an argument, no command was refused or looked up, nothing was killed by it."""
    for line in site.box.log_lines():
        # the channel's name, which is the caller's, stands before the application
        executed = EXECUTED.search(line)
        assert executed is None or str(marker) not in executed[1], line
        assert "Invalid Application" not in line, line
        assert "-ERR" not in line, line
