"""A new exoflow every few seconds, under load, on FreeSWITCH: call by call the same outcome as without."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
from faults.cases import Case, Telephone, cases, differences, fates, rows, steps
from support.supervisor import Supervisor

from exoflow.sim.crm import DemoCrm, Reply, Request
from ring2.agents import Attempt, Behaviour, answers, busy, silent
from ring2.box import Box
from ring2.network import Exchange, ExchangeCall

LONG = os.environ.get("EXOFLOW_LONG") == "1"
SEED = 7
CALLS, A_SECOND, RESTART_EVERY = (600, 5.0, 10.0) if LONG else (60, 4.0, 4.0)
DRAIN_SECONDS = 90.0
GUARD_SECONDS = (
    4.0  # at least, of the dialplan's guard: a machine that needs longer for a start has its callers in the fallback
)
DID = "8030752400"
FIRST_KEY_SECONDS = 2.5  # after the answer: within the prompt or after it, both count


class Place:
    """exoflow under a supervisor where FreeSWITCH looks for it, and the CRM."""

    def __init__(self, box: Box, exchange: Exchange, folder: Path, people: list[Case]) -> None:
        self.box, self.exchange, self.folder = box, exchange, folder
        self.people = {case.caller: case for case in people}
        self.crm = DemoCrm()
        self.crm.script("/agents", self._agents)
        self.crm.script("/lookup", Reply(200, b"OK", delay=0.2))
        self.crm.start()
        self.calls: list[ExchangeCall] = []
        self._configure()
        where = (box.exoflow_hosts.host, box.exoflow_hosts.port)
        self.supervisor = Supervisor(folder / "exoflow.yaml", log=folder / "exoflow.log", listen=where).start()
        self.supervisor.wait_ready(60)

    def _agents(self, request: Request) -> Reply:
        case = self.people[(request.get("CallFrom") or "")[-10:]]
        return Reply.agents(*(f"+91{one.number}" for one in case.agents), record=True, recording_channels="dual")

    def _configure(self) -> None:
        box = self.box
        main = {
            "switch": {
                "listen": str(box.exoflow_hosts),
                "event_socket": {"port": box.event_port, "password": box.password},
                "recordings": str(box.recordings),
                "cdr": str(box.cdr_folder),
            },
            "prompts": {"engine": "espeak-ng", "folder": str(self.folder / "prompts")},
            "trunks": {"PRI1": {"gateway": box.trunk, "std_code": "80", "outbound": {"cli": DID}}},
        }
        account = {
            "name": "Acme",
            "numbers": [{"number": f"+91{DID}", "trunk": "PRI1", "flow": "main"}],
            "crm": {"allow_private": ["127.0.0.1/32"]},
            "deliveries": {"url": self.crm.url("/deliveries")},
            "flows": {"main": {"start": "welcome", "steps": steps(self.crm.url(""))}},
        }
        (self.folder / "accounts").mkdir(parents=True)
        (self.folder / "exoflow.yaml").write_text(json.dumps(main))
        (self.folder / "accounts" / "acme.yaml").write_text(json.dumps(account))

    def call(self, case: Case) -> None:
        """Dials, with the agents' telephones set up."""
        call = self.exchange.call(DID, f"0{case.caller}")
        self.calls.append(call)
        for one in case.agents:
            self.exchange.agent(one.number).behave(_behaviour(one, call))
        gevent.spawn(_types, call, case.keys)

    def drain(self) -> None:
        latest = time.monotonic() + DRAIN_SECONDS
        for call in self.calls:
            call.wait_ended(max(0.1, latest - time.monotonic()))
        left = "SELECT 1 FROM calls WHERE closed_at IS NULL UNION SELECT 1 FROM deliveries WHERE state != 'delivered'"
        while rows(self.folder / "exoflow.db", left) and time.monotonic() < latest:
            gevent.sleep(0.2)

    def stop(self) -> None:
        self.supervisor.stop()
        self.crm.stop()


def _behaviour(telephone: Telephone, caller: ExchangeCall) -> Behaviour:
    if telephone.kind == "answers":
        return answers(after=telephone.after, talk=telephone.talks)
    if telephone.kind == "busy":
        return busy()
    if telephone.kind == "silent":
        return silent()

    def play(attempt: Attempt) -> None:
        attempt.ring()
        if telephone.kind == "rejects":
            attempt.pause(telephone.after)
            attempt.hangup("CALL_REJECTED")
        attempt.pause(1.0)
        caller.hangup()
        attempt.pause(DRAIN_SECONDS)  # until the network takes the ringing back

    return play


def _types(call: ExchangeCall, keys: tuple[str, ...]) -> None:
    """Answers the menu's first question; the others are passed by in silence, which no restart can shift."""
    call.wait_answered(30)
    gevent.sleep(FIRST_KEY_SECONDS)
    if call.ended_at is None and keys[0]:
        call.press(keys[0])


def told(box: Box, exchange: Exchange, folder: Path, people: list[Case], every: float | None) -> tuple[dict[str, Any], float]:
    """What became of the calls, and the longest time from SIGTERM to the next process's readiness."""
    place = Place(box, exchange, folder, people)
    restarts: list[tuple[float, float]] = []  # seconds from SIGTERM to the end, and to the next one's readiness
    replacing = gevent.spawn(_replace, place.supervisor, every, restarts) if every else None
    try:
        began = time.monotonic()
        for at, case in enumerate(people):
            gevent.sleep(max(0.0, began + at / A_SECOND - time.monotonic()))
            place.call(case)
        if replacing is not None:
            replacing.kill()
            place.supervisor.wait_ready()
        place.drain()
        found = fates(folder / "exoflow.db")
        resumed = rows(folder / "exoflow.db", "SELECT count(*) FROM entries WHERE code = 'call.resumed'")[0][0]
        longest = ", SIGTERM to the end and to readiness: " + ", ".join(f"{end:.2f} {ready:.2f}" for end, ready in restarts)
        print(f"\n{len(people)} calls, {len(restarts)} restarts, {resumed} returns of calls{longest}")
    finally:
        place.stop()
    return found, max((ready for _, ready in restarts), default=0.0)


def _replace(supervisor: Supervisor, every: float, took: list[tuple[float, float]]) -> None:
    while True:
        gevent.sleep(every)
        at, old = time.monotonic(), supervisor.life
        ready = supervisor.restart().ready_at
        assert ready is not None
        assert old.ended_at is not None
        took.append((old.ended_at - at, ready - at))


def test_the_same_calls_with_and_without_restarts(fs: Box, exchange: Exchange, tmp_path: Path) -> None:
    people = cases(SEED, CALLS)
    limit = f"exoflow_max_in_{fs.trunk}"
    fs.api(f"global_setvar {limit}={CALLS}")
    try:
        plain, _ = told(fs, exchange, tmp_path / "plain", people, None)
        exchange.reset()
        fs.settle(20)
        replaced, longest = told(fs, exchange, tmp_path / "replaced", people, RESTART_EVERY)
    finally:
        fs.api(f"global_setvar {limit}=")
    if longest > GUARD_SECONDS:
        pytest.skip(f"this machine is too busy: a start took {longest:.1f} s")
    assert set(plain) == {case.caller for case in people}
    assert list(differences(plain, replaced)) == []
