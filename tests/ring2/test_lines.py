"""Channels in use as a real FreeSWITCH tells of them: callers' and agents' legs, from events and from its list."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import gevent
from pydantic import SecretStr
from support.esl import AppCall, AppServer

from exoflow.config.model import EventSocket, Trunk
from exoflow.lines.lines import Lines
from exoflow.telephony.dialstring import Endpoint, leg_string
from ring2 import agents
from ring2.box import Box
from ring2.network import Exchange

DID = "8030752400"
AGENT = "+919876543210"


def eventually(true: Callable[[], object], seconds: float = 5.0) -> None:
    with gevent.Timeout(seconds, TimeoutError("it did not come true")):
        while not true():
            gevent.sleep(0.01)


def lines_of(fs: Box) -> Lines:
    where = EventSocket(host=fs.event_socket.host, port=fs.event_socket.port, password=SecretStr(fs.password))
    lines = Lines(where, lambda: {"first": Trunk(gateway=fs.trunk, channels=2)})
    lines.start()
    return lines


def test_a_call_and_its_agents_leg_take_two_channels(fs: Box, exchange: Exchange) -> None:
    exchange.agent(AGENT).script = [agents.answers(talk=3)]
    leg = leg_string(
        endpoint=Endpoint("gateway", fs.trunk),
        e164=AGENT,
        leg_uuid=str(uuid.uuid4()),
        cli=None,
        ring_seconds=20,
        talk_seconds=30,
    )

    def answer(app: AppCall) -> None:
        app.take()
        app.execute("answer")
        app.pause(0.5)
        app.execute("bridge", leg, deadline=20)
        app.pause(0.5)
        app.start("hangup", "NORMAL_CLEARING")

    lines = lines_of(fs)
    try:
        with AppServer(answer, port=fs.exoflow_hosts.port):
            phone = exchange.call(DID)
            eventually(lambda: lines.busy("first") == 1)
            eventually(lambda: lines.busy("first") == 2)
            late = lines_of(fs)  # knows both from the list
            try:
                eventually(lambda: late.busy("first") == 2)
                for each in (lines, late):
                    eventually(lambda each=each: each.busy("first") == 1)  # type: ignore[misc]
                seconds = lines.all_busy_seconds["first"]
                assert 2.0 < seconds < 6.0
                phone.wait_ended()
                for each in (lines, late):
                    eventually(lambda each=each: each.busy("first") == 0)  # type: ignore[misc]
            finally:
                late.stop()
        assert lines.all_busy_seconds["first"] == seconds
    finally:
        lines.stop()
