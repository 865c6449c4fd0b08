"""The dial string on a real FreeSWITCH: one leg with our uuid and caller id, and both limits at work."""

from __future__ import annotations

import uuid

import gevent
import pytest

from exoflow.telephony.dialstring import Endpoint, leg_string
from ring2.agents import answers, silent
from ring2.box import Box
from ring2.network import Exchange

AGENT = "9876543210"


def _leg(fs: Box, **limits: int) -> tuple[str, str]:
    """A new leg's uuid and what dials it."""
    leg = str(uuid.uuid4())
    values = {"ring_seconds": 20, "talk_seconds": 60} | limits
    return leg, leg_string(
        endpoint=Endpoint("gateway", fs.trunk),
        e164=f"+91{AGENT}",
        leg_uuid=leg,
        cli="8030752400",
        extra={"exo_call": "ab12"},
        **values,
    )


def test_the_leg_has_our_uuid_caller_id_and_variables(fs: Box, exchange: Exchange) -> None:
    agent = exchange.agent(AGENT)
    agent.behave(answers(after=0, talk=0.5))
    leg, dial = _leg(fs)
    assert fs.api(f"originate {dial} &park").startswith(f"+OK {leg}")
    attempt = agent.attempts[0].wait_ended()
    assert (attempt.dialled, attempt.cli) == (f"0{AGENT}", "8030752400")
    cdr = fs.cdr(leg)
    assert cdr["variables"]["exo_call"] == "ab12"
    assert len(agent.attempts) == 1


def test_the_talk_ends_at_its_limit(fs: Box, exchange: Exchange) -> None:
    agent = exchange.agent(AGENT)
    agent.behave(answers(after=0))
    leg, dial = _leg(fs, talk_seconds=2)
    fs.api(f"originate {dial} &park")
    agent.attempts[0].wait_ended(6)
    variables = fs.cdr(leg)["variables"]
    assert variables["hangup_cause"] == "ALLOTTED_TIMEOUT"
    assert int(variables["billmsec"]) == pytest.approx(2000, abs=1100)  # the scheduler works in whole seconds


def test_ringing_ends_at_its_limit(fs: Box, exchange: Exchange) -> None:
    agent = exchange.agent(AGENT)
    agent.behave(silent())
    leg, dial = _leg(fs, ring_seconds=2)
    before = gevent.get_hub().loop.now()
    assert fs.api(f"originate {dial} &park").startswith("-ERR NO_ANSWER")
    assert gevent.get_hub().loop.now() - before < 4
    assert fs.cdr(leg)["variables"]["hangup_cause"] == "NO_ANSWER"
