"""Calls that end while no exoflow has them, on a real FreeSWITCH: the CDR files close their records, each once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from sqlalchemy import create_engine

from exoflow.calls.model import CallState
from exoflow.sim.apps.recording import CUT
from ring2.agents import answers, busy
from ring2.box import Box
from ring2.network import Exchange
from ring2.site import DIRECT, MAIN, PATHS, START_SECONDS, Site, Visit, agents_json, codes, entry, wait_for

BACK1, BACK2 = "9845000001", "9845000002"  # of the account's group `backup`


class Netted(Site):
    """A site whose exoflow reads the CDR files, and comes and goes."""

    def start(self) -> None:
        self.crm.start()
        self._dripping.__enter__()
        for path in PATHS:
            self.crm.script(path, self._reply)
        self._write_configuration()
        self.serve()
        self._engine = create_engine(f"sqlite:///{self.folder / 'exoflow.db'}")

    def serve(self) -> None:
        """Returns when it accepts calls."""
        exoflow = Path(sys.executable).with_name("exoflow")
        had = self.log_text().count("waits for calls") if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(exoflow), "serve", "-v", "-c", str(self.folder / "exoflow.yaml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        wait_for(lambda: self.log_text().count("waits for calls") > had, START_SECONDS, "exoflow")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def files(self, visit: Visit) -> list[str]:
        """The CDR files that are left of a call and its agents' legs."""
        state = self.stored(visit.channel)
        uuids = [visit.channel, *(leg.uuid for leg in state.legs)] if state is not None else [visit.channel]
        return [uuid for uuid in uuids if (self.box.cdr_folder / f"{uuid}.cdr.json").exists()]

    def _write_configuration(self) -> None:
        super()._write_configuration()
        main, acme = self.folder / "exoflow.yaml", self.folder / "accounts" / "acme.yaml"
        keys = f"  cdr: {self.box.cdr_folder}\n  fallback: {self.box.conf / 'dialplan' / 'fallback'}\n"
        main.write_text(main.read_text().replace("  recordings:", f"{keys}  recordings:"))
        acme.write_text(acme.read_text() + "fallback: {group: backup, record: dual}\n")


@pytest.fixture(scope="module")
def netted(switches: tuple[Box, Exchange], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Netted]:
    running = Netted(*switches, tmp_path_factory.mktemp("netted") / "exoflow")
    try:
        running.start()
        yield running
    finally:
        running.stop()
        own = running.box.conf / "dialplan" / "fallback" / "exoflow.xml"
        own.unlink(missing_ok=True)
        running.box.api("reloadxml")


@pytest.fixture
def site(netted: Netted, fs: Box) -> Netted:
    return netted


def seconds_apart(state: CallState, at: float | None) -> float:
    assert state.ended_at is not None
    assert at is not None
    return abs(state.ended_at.timestamp() - at)


def only(netted: Netted, visit: Visit) -> CallState:
    """The call's record; it is the only one of its channel, has one delivery, and none of its files is left."""
    state = visit.state()
    visit.delivery()
    wait_for(lambda: not netted.files(visit), 10, "the removal of the CDR files")
    with netted._engine.connect() as connection:
        count = (
            f"SELECT (SELECT count(*) FROM calls WHERE channel = '{visit.channel}'), count(*) FROM deliveries WHERE call_id = "
        )
        assert tuple(connection.exec_driver_sql(count + f"'{state.facts.id}'").one()) == (1, 1)
    return state


# --- exoflow is away ------------------------------------------------------------------------------


def test_the_caller_leaves_while_exoflow_is_dead(site: Netted) -> None:
    visit = site.call(MAIN)
    visit.phone.wait_answered()
    gevent.sleep(1)
    site.kill()
    visit.phone.hangup(after=1.3)
    site.serve()
    state = only(site, visit)
    assert (state.outcome, state.reason, state.ended_by, state.q850) == ("abandoned", "caller.left", "caller", 16)
    assert seconds_apart(state, visit.phone.ended_at) < 0.2


def test_the_caller_ends_a_recorded_talk_while_exoflow_is_dead(site: Netted) -> None:
    """Talk and recording are known by the agent's CDR, and the flow's step behind the talk is done."""
    (agent,) = site.agents(answers(after=0.5))
    visit = site.call(DIRECT, {"/agents": agents_json(agent)})
    wait_for(lambda: agent.attempts and agent.attempts[0].answered_at, 10, "the agent")
    gevent.sleep(1)
    site.kill()
    visit.phone.hangup(after=5)
    attempt = agent.attempts[0].wait_ended()
    site.serve()
    state = only(site, visit)
    assert (state.outcome, state.ended_by) == ("answered", "caller")
    assert attempt.answered_at is not None
    assert attempt.ended_at is not None
    assert state.legs[0].talk_seconds == pytest.approx(attempt.ended_at - attempt.answered_at, abs=0.3)
    assert [(one.state, one.channels) for one in state.recordings] == [("good", 2)]
    assert len(visit.asked("/after")) == 1


def test_the_fallback_serves_and_the_next_exoflow_records_it(site: Netted, exchange: Exchange) -> None:
    exchange.agent(BACK1).behave(busy())
    exchange.agent(BACK2).behave(answers(after=0.3, talk=2))
    site.kill()
    visit = site.call(MAIN)
    visit.phone.wait_ended(30)
    site.serve()
    state = only(site, visit)
    assert (state.outcome, state.facts.account, state.facts.caller_raw) == ("answered", "acme", visit.caller)
    assert entry(state, "door.fallback").evidence["why"] == "refused"
    assert [(leg.agent, leg.outcome) for leg in state.legs] == [("back1", "busy"), ("back2", "answered")]
    assert state.legs[1].talk_seconds == pytest.approx(2, abs=0.3)
    assert [(one.state, one.channels) for one in state.recordings] == [("good", 2)]
    assert visit.delivery()["type"] == "call.ended"


def test_a_fallback_that_reaches_nobody_is_a_missed_call(site: Netted, exchange: Exchange) -> None:
    for number in (BACK1, BACK2):
        exchange.agent(number).behave(busy())
    site.kill()
    visit = site.call(MAIN)
    visit.phone.wait_ended(30)
    site.serve()
    state = only(site, visit)
    assert (state.outcome, state.reason, len(state.legs)) == ("missed", "door.fallback", 2)
    assert visit.delivery()["type"] == "call.missed"


def test_the_caller_leaves_before_the_fallback(site: Netted) -> None:
    site.kill()
    visit = site.call(MAIN)
    site.box.uuid_of(visit.phone.uuid)
    gevent.sleep(0.5)
    visit.phone.hangup()
    site.serve()
    state = only(site, visit)
    assert (state.outcome, state.reason, state.caller_left, state.answered_at) == ("abandoned", "door.left", True, None)


# --- exoflow is there, and never gets the call ------------------------------------------------------


def refused(site: Netted, variable: str, value: str, off: str, **more: Any) -> Visit:
    site.box.api(f"global_setvar {variable}={value}")
    try:
        visit = site.call(MAIN, **more)
        visit.phone.wait_ended()
    finally:
        site.box.api(f"global_setvar {variable}={off}")
    return visit


@pytest.mark.parametrize("why", ["limit", "drain"])
def test_a_call_refused_at_the_door(site: Netted, why: str) -> None:
    limit = (f"exoflow_max_in_{site.box.trunk}", "0", "")
    visit = refused(site, *(limit if why == "limit" else ("exoflow_drain", "true", "false")))
    started = time.monotonic()
    state = only(site, visit)
    assert time.monotonic() - started < 5
    q850 = {"limit": 17, "drain": 41}[why]
    assert (state.outcome, state.reason, state.q850, visit.phone.q850) == ("refused", f"door.{why}", q850, q850)
    assert codes(state) == ["call.arrived", f"door.{why}"]
    assert visit.delivery()["type"] == "call.missed"
    assert visit.delivery()["data"]["caller"] == f"+91{visit.caller[1:]}"


def test_a_refused_callers_withheld_number_goes_to_nobody(site: Netted) -> None:
    visit = refused(site, "exoflow_drain", "true", "false", withheld=True)
    state = only(site, visit)
    assert (state.facts.caller, state.facts.caller_raw, state.facts.caller_withheld) == (None, "", True)


# --- FreeSWITCH itself dies -------------------------------------------------------------------------


@pytest.fixture
def own_box(freeswitch: Path, switches: tuple[Box, Exchange], tmp_path: Path) -> Iterator[Box]:
    """A box that may be killed; the exchange's calls go to it meanwhile."""
    exchange = switches[1]
    box = Box(freeswitch, tmp_path / "box", exchange_sip_port=exchange.sip_port)
    usual = exchange.box_sip_port
    box.start()
    try:
        box.wait_ready()
        box.listen()
        exchange.box_sip_port = box.sip_port
        yield box
    finally:
        exchange.box_sip_port = usual
        exchange.reset()
        box.stop()


def kill(box: Box) -> None:
    assert box._process is not None
    os.kill(box._process.pid, signal.SIGKILL)
    box._process.wait()


def begun(agent: Any) -> Callable[[], bool]:
    return lambda: bool(agent.attempts and agent.attempts[0].answered_at)


def test_freeswitch_is_killed_in_a_recorded_talk(own_box: Box, exchange: Exchange, tmp_path: Path) -> None:
    site = Netted(own_box, exchange, tmp_path / "exoflow")
    try:
        site.start()
        (agent,) = site.agents(answers(after=0.3))
        visit = site.call(DIRECT, {"/agents": agents_json(agent)})
        channel = visit.channel
        wait_for(begun(agent), 10, "the agent")
        gevent.sleep(8)
        kill(own_box)
        talked = time.time() - (agent.attempts[0].answered_at or 0)
        (file,) = site.recordings.rglob("*.wav")
        cut = file.read_bytes()
        own_box.start()
        own_box.wait_ready()
        state = wait_for(lambda: (one := site.stored(channel)) and one.outcome and one, 30, "the record's end")
        assert (state.outcome, state.reason) == ("lost", "switch_lost")
        assert "started again" in state.journey[-1].text
        (recording,) = state.recordings
        with wave.open(recording.path) as sound:
            assert (sound.getnchannels(), sound.getframerate()) == (2, 8000)
            there = sound.getnframes() / sound.getframerate()
            loudest = max(abs(value) for value in memoryview(sound.readframes(sound.getnframes())).cast("h"))
        # as it was left; the lengths are written when the file is closed
        at = cut.index(b"data") + 4
        assert (int.from_bytes(cut[4:8], "little"), int.from_bytes(cut[at : at + 4], "little")) == CUT
        assert file.read_bytes()[at + 4 :] == cut[at + 4 :], "no sound was touched"
        print(f"\ntalked {talked:.1f} s before the kill, {there:.1f} s of it are in the file")
        assert recording.seconds == pytest.approx(there, abs=0.01)
        assert talked - 3 < there <= talked + 0.5
        assert loudest > 1000
        sent = wait_for(lambda: [one for one in site.crm.deliveries if one.event["data"]["call"] == state.facts.id], 10)
        assert [one.event["type"] for one in sent] == ["call.ended"]
    finally:
        site.stop()
