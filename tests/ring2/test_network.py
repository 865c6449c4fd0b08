"""The public network that the scenarios are played on must itself behave as the one behind a PRI does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.esl import AppCall, AppServer, Headers, when

from ring2 import agents
from ring2.agents import Behaviour
from ring2.box import ADDED, HERE, PROJECT, SUBSTITUTIONS, VARS, Box
from ring2.network import Exchange

DID = "8030752400"
AGENT = "9876543210"


@dataclass
class Leg:
    """An agent's leg as the box saw it."""

    alerting: bool = False
    early_media: bool = False
    cause: str = ""
    q850: int = 0
    ended_after: float = 0.0
    """seconds from SETUP"""


def dial(fs: Box, number: str, *, seconds: int = 2) -> Leg:
    """Rings an agent from the box as the app does, gives up after `seconds`, and tells what the leg's events said."""
    leg, created, done = Leg(), [], []
    link = fs.connect("CHANNEL_CREATE", "CHANNEL_PROGRESS", "CHANNEL_PROGRESS_MEDIA", "CHANNEL_HANGUP_COMPLETE")

    def on_event(event: Headers) -> None:
        name = event["Event-Name"]
        if name == "CHANNEL_CREATE":
            created.append(when(event))
        elif name == "CHANNEL_PROGRESS":
            leg.alerting = True
        elif name == "CHANNEL_PROGRESS_MEDIA":
            leg.early_media = True
        else:
            leg.cause, leg.q850 = event["Hangup-Cause"], int(event["variable_hangup_cause_q850"])
            leg.ended_after = when(event) - created[0]
            done.append(event)

    link.listeners.append(on_event)
    options = f"ignore_early_media=true,originate_timeout={seconds},origination_caller_id_number=8030752400"
    link.api(f"originate {{{options}}}sofia/gateway/{fs.trunk}/0{number} &park()", deadline=seconds + 5)
    deadline = time.monotonic() + 5
    while not done and time.monotonic() < deadline:
        link.api("status")
    link.close()
    return leg


@pytest.mark.parametrize(
    ("behaviour", "cause", "q850", "alerting", "early_media"),
    [
        (agents.busy(), "USER_BUSY", 17, False, False),
        (agents.rejects("CALL_REJECTED"), "CALL_REJECTED", 21, False, False),
        (agents.unreachable(), "SUBSCRIBER_ABSENT", 20, False, False),
        (agents.network_congested(), "NORMAL_CIRCUIT_CONGESTION", 34, False, False),
        (agents.unknown_number(), "UNALLOCATED_NUMBER", 1, False, False),
        (agents.silent(after=0.5), "NO_ANSWER", 19, True, False),
        (agents.announcement(seconds=0.5), "NO_USER_RESPONSE", 18, False, True),
    ],
)
def test_how_a_leg_ends_reaches_the_box_with_its_q850_cause(
    fs: Box, exchange: Exchange, behaviour: Behaviour, cause: str, q850: int, alerting: bool, early_media: bool
) -> None:
    exchange.agent(AGENT).behave(behaviour)
    leg = dial(fs, AGENT)
    assert (leg.cause, leg.q850, leg.alerting, leg.early_media) == (cause, q850, alerting, early_media)
    [attempt] = exchange.attempts
    assert (attempt.number, attempt.dialled, attempt.cli) == (AGENT, "0" + AGENT, "8030752400")


def test_a_phone_that_nobody_picks_up_is_cancelled_by_the_box(fs: Box, exchange: Exchange) -> None:
    exchange.agent(AGENT).behave(agents.silent())
    leg = dial(fs, AGENT, seconds=2)
    assert (leg.cause, leg.alerting) == ("NO_ANSWER", True)
    # originate_timeout counts the clock's full seconds: up to one less than asked for
    assert 1 <= leg.ended_after < 2.5
    assert exchange.attempts[0].alerting_at is not None


def test_an_agent_behaves_differently_from_call_to_call(fs: Box, exchange: Exchange) -> None:
    agent = exchange.agent(AGENT).behave(agents.busy(), agents.unreachable())
    assert [dial(fs, AGENT).q850 for _ in range(3)] == [17, 20, 20]
    assert agent.attempts == exchange.attempts
    assert dial(fs, "9876543299").q850 == 1


@pytest.mark.parametrize("who_ends", ["agent", "caller"])
def test_caller_and_agent_hear_each_other(fs: Box, exchange: Exchange, who_ends: str) -> None:
    """The agent's network takes 1 s to alert; the caller sends 440 Hz, the agent 880 Hz."""
    exchange.agent(AGENT).behave(agents.answers(alerts_after=1, after=0.5, talk=1.5 if who_ends == "agent" else None))

    def app(call: AppCall) -> None:
        call.take()
        call.execute("answer")
        ringback = "%(400,200,400,450);%(400,2000,400,450)"
        call.execute("multiset", f"^^|instant_ringback=true|transfer_ringback={ringback}|continue_on_fail=true")
        call.start("bridge", f"{{ignore_early_media=true,originate_timeout=10}}sofia/gateway/{fs.trunk}/0{AGENT}")
        # an app that finishes hangs up; queued behind the bridge
        call.start("hangup", "NORMAL_CLEARING")

    with AppServer(app, port=fs.exoflow_hosts.port):
        call = exchange.call(DID).speak(440, after=0)
        if who_ends == "caller":
            call.hangup(after=3.5)
        call.wait_ended()
    [attempt] = exchange.attempts
    attempt.wait_ended()
    assert (call.cause, attempt.cause) == ("NORMAL_CLEARING", "NORMAL_CLEARING")
    assert attempt.alerting_at is not None
    assert attempt.answered_at is not None
    assert attempt.alerting_at - attempt.at == pytest.approx(1, abs=0.3)
    assert attempt.answered_at - attempt.alerting_at == pytest.approx(0.5, abs=0.3)

    assert call.heard_since is not None
    talk_starts = attempt.answered_at - call.heard_since
    heard = call.heard()
    before, talk = heard.part(0, talk_starts - 0.3), heard.part(talk_starts + 0.3, talk_starts + 1.2)
    assert max(before.tone_blocks(400)) > -30
    assert max(before.tone_blocks(880)) < -50
    assert talk.tone(880) > -20
    assert talk.tone(880) - talk.tone(440) > 30
    agent_heard = attempt.heard().part(0.3, 1.2)
    assert agent_heard.tone(440) > -20
    assert agent_heard.tone(440) - agent_heard.tone(880) > 30

    # both legs left a CDR, and the agent's is the leg that the exchange saw
    caller_cdr = fs.cdr(fs.uuid_of(call.uuid))
    agent_cdr = fs.cdr(fs.uuid_of(attempt.sip_call_id))
    assert agent_cdr["variables"]["originator"] == caller_cdr["variables"]["uuid"]


def test_keys_arrive_as_they_were_pressed(fs: Box, exchange: Exchange) -> None:
    collected = []

    def app(call: AppCall) -> None:
        call.take()
        call.execute("answer")
        done = call.execute(
            "play_and_get_digits", "4 4 1 5000 none silence_stream://250 silence_stream://250 exo_keys [0-9*#]{4} 2000"
        )
        collected.append(done.get("variable_exo_keys"))
        call.start("hangup", "NORMAL_CLEARING")

    with AppServer(app, port=fs.exoflow_hosts.port):
        call = exchange.call(DID).press("4", after=0.5).press("*1", after=1.0).press("#", after=1.8)
        call.wait_ended()
    assert collected == ["4*1#"]


def test_a_key_that_nobody_collects_is_told_by_an_event(fs: Box, exchange: Exchange) -> None:
    """Between two applications the switch eats keys; the event is all that is left of them."""
    told: list[str] = []

    def app(call: AppCall) -> None:
        call.listeners.append(lambda event: told.append(event["DTMF-Digit"]) if event["Event-Name"] == "DTMF" else None)
        call.take()
        call.execute("answer")
        call.pause(1)
        call.execute("play_and_get_digits", "1 1 1 1000 none silence_stream://100 silence_stream://100 exo_key [0-9]")
        call.start("hangup", "NORMAL_CLEARING")

    with AppServer(app, port=fs.exoflow_hosts.port):
        call = exchange.call(DID).press("5", after=0.3).wait_ended()
        assert told == ["5"]
    assert "exo_key" not in fs.cdr(fs.uuid_of(call.uuid))["variables"]


def test_a_caller_who_gives_up_before_the_answer(fs: Box, exchange: Exchange) -> None:
    def app(call: AppCall) -> None:
        call.take()
        call.execute("ring_ready")

    with AppServer(app, port=fs.exoflow_hosts.port) as server:
        call = exchange.call(DID).wait_ringing()
        call.hangup()
        assert server.calls[0].wait_hangup()["Hangup-Cause"] == "ORIGINATOR_CANCEL"
    assert call.ringing_at is not None
    assert call.answered_at is None


# --- what ring 2 changes, and what it must not ------------------------------------------------


def test_each_substitution_is_listed_in_the_documentation() -> None:
    listed = (PROJECT / "docs" / "freeswitch-conf.md").read_text().partition("## What ring 2 changes")[2]
    for name, (old, new) in SUBSTITUTIONS.items():
        assert name in listed
        assert old in listed
        assert new in listed
    for name in (*VARS, *ADDED):
        assert f"`{name}`" in listed


def test_nothing_else_is_changed(fs: Box) -> None:
    """Every file of the project is there as it is in the project, but for the listed substitutions."""
    changed = {*SUBSTITUTIONS, "vars.xml"}
    for source, target in ((PROJECT / "freeswitch-conf", fs.conf), (PROJECT / "dialplan", fs.conf / "dialplan")):
        for path in (path for path in source.rglob("*") if path.is_file()):
            name = str(path.relative_to(source))
            if name not in changed:
                assert (target / name).read_bytes() == path.read_bytes(), name
    names = {line.split('data="')[1].split("=")[0] for line in set_lines(fs.conf) ^ set_lines(PROJECT / "freeswitch-conf")}
    assert names == set(VARS)


def set_lines(conf: Path) -> set[str]:
    return {line for line in (conf / "vars.xml").read_text().splitlines() if 'cmd="set"' in line}


def test_it_is_the_projects_trunk_profile_that_listens_on_loopback_only(fs: Box) -> None:
    assert (HERE / "sofia.conf.xml").is_file()
    assert f"sip:mod_sofia@127.0.0.1:{fs.sip_port}" in fs.api("sofia status")
