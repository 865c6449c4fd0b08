"""The lease on a real FreeSWITCH: a living app keeps its calls for as long as it likes, a frozen one loses them in 20 s."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from support.esl import AppCall, AppServer

from exoflow.errors import ExoflowError
from exoflow.esl.lease import LEASE_SECONDS
from exoflow.esl.server import CallServer
from exoflow.esl.session import CallSession
from exoflow.telephony.dialstring import Endpoint, leg_string
from ring2 import agents
from ring2.box import Box
from ring2.network import Exchange

DID = "8030752400"
AGENT = "+919876543210"
STOOD_STILL = Path(__file__).parents[1] / "ring1" / "stood_still.py"
LONG = LEASE_SECONDS + 6
"""seconds; longer than a lease"""


@pytest.fixture
def frozen(fs: Box, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """An app in a process of its own, whose calls hear music without end; its log is `log`."""
    with (tmp_path / "log").open("w") as log:
        arguments = [sys.executable, str(STOOD_STILL), "4", "0.5", str(fs.exoflow_hosts.port)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


def test_a_frozen_apps_call_goes_to_another_host_and_is_its_own_there(
    fs: Box, exchange: Exchange, frozen: subprocess.Popen[str], tmp_path: Path
) -> None:
    """The lease takes the call away, the guard finds the frozen app mute, another host gets the call. When the frozen one
    wakes it writes nothing to its two old sockets of that call, and does not close them either."""
    ended_by: list[str] = []
    took: list[float] = []

    def other_host(app: AppCall) -> None:
        took.append(time.monotonic())
        app.take()
        app.execute("playback", "tone_stream://%(6000,0,700)", deadline=20)
        # idle in park: that is where a socket closed by others would end it
        app.pause(1.0)
        ended_by.append("us")
        app.start("hangup", "NORMAL_CLEARING")

    with AppServer(other_host, port=fs.other_hosts.port) as server:
        phone = exchange.call(DID).wait_answered()
        gevent.sleep(0.5)
        frozen.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        with gevent.Timeout(LEASE_SECONDS + 10):
            while not took:
                gevent.sleep(0.05)
        assert took[0] - stopped < LEASE_SECONDS + 6, "the lease, and the guard of the round behind it"
        gevent.sleep(1.0)
        frozen.send_signal(signal.SIGCONT)
        phone.wait_ended(20)
        assert ended_by == ["us"]
        assert (phone.cause, len(server.calls)) == ("NORMAL_CLEARING", 1)
    assert phone.heard().tone(700) > -25
    log = [row["app_name"] for row in fs.cdr(fs.uuid_of(phone.uuid))["app_log"]["applications"]]
    assert log.count("socket") == 3
    assert log[-3:] == ["sched_cancel", "playback", "hangup"], "what ran behind the third was the other host's"
    assert "stood still for" in (tmp_path / "log").read_text()


def test_a_living_app_keeps_its_calls_in_a_prompt_and_in_a_bridge(fs: Box, exchange: Exchange) -> None:
    exchange.agent(AGENT).script = [agents.answers(talk=LONG)]
    sessions: list[CallSession] = []
    failed: list[ExoflowError] = []

    def prompt(session: CallSession) -> None:
        session.execute("playback", f"tone_stream://%({LONG * 1000},0,500)", deadline=LONG + 10)

    def bridge(session: CallSession) -> None:
        dialled = leg_string(
            endpoint=Endpoint("gateway", fs.trunk),
            e164=AGENT,
            leg_uuid=str(uuid.uuid4()),
            cli=None,
            ring_seconds=20,
            talk_seconds=LONG + 30,
        )
        session.execute("bridge", dialled, deadline=LONG + 60)
        assert fs.api(f"sched_del {session.uuid}") == "+OK Deleted: 1", "armed again by the switch"

    def answer(session: CallSession) -> None:
        sessions.append(session)
        try:
            session.execute("answer", deadline=5)
            (prompt, bridge)[len(sessions) - 1](session)
            session.hang_up("NORMAL_CLEARING")
        except ExoflowError as error:
            failed.append(error)

    server = CallServer((fs.exoflow_hosts.host, fs.exoflow_hosts.port), answer, max_calls=10)
    server.start()
    try:
        first = exchange.call(DID).wait_answered()
        second = exchange.call(DID).wait_answered()
        for phone in (first, second):
            phone.wait_ended(LONG + 20)
        assert failed == []
        assert len(sessions) == 2
        for phone in (first, second):
            assert phone.ended_at is not None
            assert phone.answered_at is not None
            assert phone.cause == "NORMAL_CLEARING"
            assert phone.ended_at - phone.answered_at > LONG - 1
        assert server.heart.leases.renewed >= 3
        assert server.heart.leases.refused == 0
    finally:
        server.stop(1)
