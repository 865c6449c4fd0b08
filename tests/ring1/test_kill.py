"""`exoflow serve` is killed with SIGKILL between a call's end and the CRM's 2xx, and started again: no call is lost.

The switch and the CRM live in this process, so they outlive every exoflow, as they do in the field.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hall import BYE, CALLER, OURS, WAIT, Hall, eventually, menu, new_store, say
from support.ports import free_port

from exoflow.sim import EmbeddedSwitch, Phone
from exoflow.sim.crm import Reply, Request

SEED = 20261123
EXOFLOW = Path(sys.executable).with_name("exoflow")
FLOW = {"hello": say("Hi.", "ask"), "ask": menu({"1": "bye"}, timeout=1, attempts=1), "bye": BYE}
MANY = 4  # deliveries of one account that are under way at once (crm/sender.py)


class World:
    """Switch, CRM and store; and the exoflow that runs at the moment."""

    def __init__(self, folder: Path) -> None:
        self.hall = Hall(folder)
        self.crm = self.hall.crm
        self.port = free_port()
        self.switch = EmbeddedSwitch(
            ("127.0.0.1", self.port), speed=20.0, recordings=folder / "recordings", cdr=folder / "cdr", channels=60
        )
        self.switch.start()
        trunks = {"PRI1": {"span": "PRI1"}}
        listen = {"listen": f"127.0.0.1:{self.port}"}
        self.hall.write(FLOW, trunks, self.switch.event_socket_address, listen, {})
        self.database = folder / "exoflow.db"
        shutil.copy(new_store(), self.database)
        self.log = (folder / "exoflow.log").open("w")
        self.process: subprocess.Popen[str] | None = None
        self.held = Event()  # set: the CRM answers
        self.held.set()
        self.answering: Callable[[], None] = lambda: None
        self.crm.script("/deliveries", self._answer)

    def _answer(self, request: Request) -> Reply:
        """Held requests are answered once released, the dead process's too; nobody hears that."""
        self.held.wait()
        self.answering()
        return Reply(204)

    # --- the process ---

    def start(self) -> None:
        command = [str(EXOFLOW), "serve", "-c", str(self.hall.folder / "exoflow.yaml")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "waits for calls" in line, (self.hall.folder / "exoflow.log").read_text()

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, "it ended by itself"
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.held.set()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.switch.stop()
        self.crm.stop()
        self.log.close()

    # --- calls ---

    def call(self, keys: str = "1") -> Phone:
        return self.switch.call(OURS, CALLER, keys=keys)

    def ended_call(self) -> Phone:
        phone = self.call()
        assert phone.wait(WAIT)
        return phone

    def rows(self, query: str) -> list[Any]:
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.stop()


# --- the phases: each brings a call to its moment; the kill follows at once ------------------------------


def before_the_close_is_committed(world: World, moments: random.Random) -> None:
    """The channel is down; its row is not closed yet, or just so."""
    phone = world.call(keys="")
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    gevent.sleep(moments.uniform(0.02, 0.1))
    phone.hangup()
    assert phone.wait(WAIT)
    gevent.sleep(moments.uniform(0, 0.004))


def committed_and_not_sent(world: World, moments: random.Random) -> None:
    """The CRM holds as many requests as one account may have under way, so the next row can only wait."""
    world.held.clear()
    had = len(world.crm.deliveries)
    phones = [world.call() for _ in range(MANY)]
    assert all(phone.wait(WAIT) for phone in phones)
    assert len(world.crm.wait_for_deliveries(had + MANY)) >= had + MANY
    phone = world.ended_call()
    waiting = f"SELECT 1 FROM deliveries d JOIN calls c ON c.id = d.call_id WHERE c.channel = '{phone.uuid}'"
    eventually(lambda: world.rows(waiting))
    gevent.sleep(moments.uniform(0, 0.02))


def held_by_the_crm(world: World, moments: random.Random) -> None:
    world.held.clear()
    had = len(world.crm.deliveries)
    world.ended_call()
    assert len(world.crm.wait_for_deliveries(had + 1)) > had
    gevent.sleep(moments.uniform(0, 0.05))


def answered_and_not_marked(world: World, moments: random.Random) -> None:
    """The 2xx is on its way, or has come, and is not in the store yet."""
    answering = Event()
    world.answering = answering.set
    world.ended_call()
    assert answering.wait(WAIT)
    gevent.sleep(moments.uniform(0, 0.006))


def at_any_moment(world: World, moments: random.Random) -> None:
    """Calls in all their stages."""
    for _ in range(6):
        world.call(keys=moments.choice(["1", ""]))
        gevent.sleep(moments.uniform(0, 0.06))


KILLS = {
    before_the_close_is_committed: 5,
    committed_and_not_sent: 5,
    held_by_the_crm: 5,
    answered_and_not_marked: 5,
    at_any_moment: 4,
}


def test_kill_9_between_a_calls_end_and_the_crms_2xx_loses_nothing(world: World) -> None:
    moments = random.Random(SEED)
    order = [phase for phase, kills in KILLS.items() for _ in range(kills)]
    moments.shuffle(order)
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for phase in order:
        world.start()
        calls, received = len(world.switch.phones), len(world.crm.deliveries)
        phase(world, moments)
        world.kill()
        counts = found[phase.__name__]
        counts["kills"] += 1
        counts["calls"] += len(world.switch.phones) - calls
        counts["received"] += len(world.crm.deliveries) - received
        for (state,) in world.rows("SELECT state FROM deliveries WHERE state IN ('pending', 'leased')"):
            counts[state] += 1
        counts["unclosed"] += world.rows("SELECT count(*) FROM calls WHERE closed_at IS NULL")[0][0]
        world.answering = lambda: None
        world.held.set()
    world.start()
    eventually(lambda: all(phone.wait(0) for phone in world.switch.phones), 20)
    eventually(lambda: world.rows("SELECT count(*), count(closed_at) FROM calls") == [(len(world.switch.phones),) * 2], 20)
    eventually(lambda: not list((world.hall.folder / "cdr").glob("*.json")), 20)
    eventually(lambda: world.rows("SELECT count(*) FROM deliveries WHERE state != 'delivered'") == [(0,)], 20)
    _print(found, world)
    _judge(world)


def _judge(world: World) -> None:
    records = world.rows("SELECT channel, id, outcome FROM calls")
    # each call has one record, also one that no exoflow ever had, and that has one end
    assert {channel for channel, _, _ in records} == {phone.uuid for phone in world.switch.phones}
    assert "lost" not in {outcome for _, _, outcome in records}
    assert len({channel for channel, _, _ in records}) == len(records)
    assert all(outcome for _, _, outcome in records)
    # and one delivery, received at least once, always under the same id and with the same bytes
    stored = dict(world.rows("SELECT call_id, webhook_id FROM deliveries"))
    assert len(stored) == world.rows("SELECT count(*) FROM deliveries")[0][0]
    ids: defaultdict[str, set[str]] = defaultdict(set)
    bodies: defaultdict[str, set[bytes]] = defaultdict(set)
    for request in world.crm.deliveries:
        assert request.signed
        call = json.loads(request.body)["data"]["call"]
        ids[call].add(request.headers["webhook-id"])
        bodies[call].add(request.body)
    assert set(ids) == {call for _, call, _ in records}
    assert {call: {stored[call]} for call in ids} == ids
    assert all(len(same) == 1 for same in bodies.values())
    assert world.rows("PRAGMA integrity_check") == [("ok",)]


def _print(found: dict[str, Counter[str]], world: World) -> None:
    columns = ("kills", "calls", "received", "unclosed", "pending", "leased")
    print(f"\nseed {SEED}; what the store held right after each kill, summed up")
    print(f"{'phase':32}" + "".join(f"{column:>10}" for column in columns))
    for phase in KILLS:
        print(f"{phase.__name__:32}" + "".join(f"{found[phase.__name__][column]:>10}" for column in columns))
    repeats = len(world.crm.deliveries) - len({request.headers["webhook-id"] for request in world.crm.deliveries})
    outcomes = Counter(outcome for (outcome,) in world.rows("SELECT outcome FROM calls"))
    print(
        f"in the end: {len(world.switch.phones)} calls, {dict(outcomes)}; {repeats} deliveries came again, under the same ids"
    )
