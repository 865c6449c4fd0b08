"""The store is locked for 10 s, its disk full, its file cut short, and exoflow killed on a full disk, while calls come in.

`python -m faults store`. What is judged: what callers heard, what the CRM received, and what the tables hold in the end.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import gevent
from support.ports import free_port
from support.supervisor import Supervisor

from exoflow.sim import EmbeddedSwitch, Phone
from exoflow.sim.crm import DemoCrm
from faults import EMBEDDED, Row

OURS = "+918030752400"
A_SECOND = 5.0  # calls; each lasts some 3 s
BEFORE, FAULT, AFTER = 3.0, 12.0, 3.0  # seconds of calls before, during and after the fault
DISK = "8m"  # of the store: a tmpfs of its own; the spill is on the folder's file system
DRAIN_SECONDS = 60.0
HEARD_SECONDS = 2.0  # from a call's arrival to its prompt
KILLED_HEARD_SECONDS = 5.0  # of calls that arrive while there is no process: the dialplan's guard is at 5 s
FLOW = {
    "ask": {"menu": {"say": "Yes?", "attempts": 2, "timeout": 3}, "keys": {"1": "thanks"}, "otherwise": "bye"},
    "thanks": {"greeting": {"say": "Thanks."}, "next": "bye"},
    "bye": {"hangup": {}},
}


@dataclass
class Seen:
    """What one experiment counted."""

    calls: int = 0
    answered: int = 0  # callers who heard the flow to its end
    slowest: float = 0.0  # seconds to the first prompt
    bound: float = HEARD_SECONDS
    records: Counter[int] = field(default_factory=Counter)  # records by how many a call has
    whole: int = 0  # closed records with outcome, journey and one delivery
    received: int = 0
    again: int = 0  # deliveries that came more than once, under the same id
    meanwhile: int = 0  # deliveries that came while nothing could be written
    unready: int = 0  # answers of /readyz other than 200 during the fault
    ready: int = 0
    sound: str = ""

    @property
    def lost(self) -> int:
        return self.calls - self.received

    def violations(self) -> int:
        late = int(self.slowest > self.bound)
        told = int(not self.unready) + int(not self.ready)
        return self.lost + (self.calls - self.answered) + (self.calls - self.whole) + late + told + int(self.sound != "ok")

    def told(self) -> str:
        return (
            f"{self.calls} calls, {self.answered} heard all, first prompt within {self.slowest:.2f} s; {self.whole} records"
            f" whole; deliveries lost: {self.lost}, sent again under their id: {self.again}, sent while nothing was durable:"
            f" {self.meanwhile}; /readyz not ready {self.unready} times during the fault; integrity {self.sound}"
        )


class World:
    """The embedded switch, a CRM, and `exoflow serve` with its store on a disk of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.disk = self.folder / "disk"
        for name in ("disk", "spill", "cdr", "recordings", "accounts"):
            (self.folder / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(self.disk)], check=True, capture_output=True)
        self.database = self.disk / "exoflow.db"
        self.crm = DemoCrm()
        self.crm.start()
        self.switch = EmbeddedSwitch(
            ("127.0.0.1", 1), trunk={"PRI1": 400}, recordings=self.folder / "recordings", cdr=self.folder / "cdr"
        )
        self.switch.start()
        self.web = free_port()
        self._configure()
        self.supervisor = Supervisor(self.folder / "exoflow.yaml", log=self.folder / "exoflow.log").start()
        self.supervisor.wait_ready()
        self.switch.connect_to(self.supervisor.address)
        self.phones: dict[str, Phone] = {}  # by the caller's ten digits
        self.first: dict[str, float] = {}  # seconds to the first prompt

    def _configure(self) -> None:
        host, port = self.switch.event_socket_address
        event = {"host": host, "port": port, "password": "exoflow"}
        main = {
            "switch": {
                "listen": "127.0.0.1:0",
                "event_socket": event,
                "recordings": str(self.folder / "recordings"),
                "cdr": str(self.folder / "cdr"),
            },
            "store": f"sqlite:///{self.database}",
            "spill": str(self.folder / "spill"),
            "web": {"listen": f"127.0.0.1:{self.web}"},
            "prompts": {"engine": "text", "folder": str(self.folder / "prompts")},
            "trunks": {"PRI1": {"span": "PRI1", "channels": 400, "std_code": "80", "outbound": {"cli": "8030752400"}}},
        }
        account = {
            "name": "Acme",
            "numbers": [{"number": OURS, "trunk": "PRI1", "flow": "main"}],
            "crm": {"allow_private": ["127.0.0.1/32"]},
            "deliveries": {"url": self.crm.url("/deliveries")},
            "flows": {"main": {"start": "ask", "steps": FLOW}},
        }
        (self.folder / "exoflow.yaml").write_text(json.dumps(main))
        (self.folder / "accounts" / "acme.yaml").write_text(json.dumps(account))

    def calls_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            caller = f"98110{len(self.phones):05d}"
            began = time.monotonic()
            self.phones[caller] = phone = self.switch.call(OURS, f"+91{caller}", keys=["1"])
            gevent.spawn(self._listen, caller, phone, began)
            gevent.sleep(1 / A_SECOND)

    def _listen(self, caller: str, phone: Phone, began: float) -> None:
        if phone.wait_until(lambda p: "Yes?" in p.texts, DRAIN_SECONDS):
            self.first[caller] = time.monotonic() - began

    def readiness(self) -> int:
        """The status of /readyz; 0: no answer."""
        connection = HTTPConnection("127.0.0.1", self.web, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    def received(self) -> Counter[str]:
        """Deliveries by the caller's ten digits."""
        return Counter(request.event["data"]["caller"][-10:] for request in self.crm.deliveries)

    def drain(self) -> None:
        latest = time.monotonic() + DRAIN_SECONDS
        for phone in self.phones.values():
            phone.wait(max(0.0, latest - time.monotonic()))
        with suppress(sqlite3.Error):
            while time.monotonic() < latest and (
                len(self.received()) < len(self.phones)
                or self.rows(
                    "SELECT 1 FROM deliveries WHERE state != 'delivered' UNION SELECT 1 FROM calls WHERE closed_at IS NULL"
                )
            ):
                gevent.sleep(0.2)

    def stop(self) -> None:
        self.supervisor.stop()
        self.switch.stop()
        self.crm.stop()
        subprocess.run(["umount", "-l", str(self.disk)], check=False)


# --- the faults: each ends when its block does -------------------------------------------------------


@contextmanager
def locked(world: World) -> Iterator[None]:
    """By another process's transaction."""
    with closing(sqlite3.connect(world.database, isolation_level=None, timeout=10)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        yield
        foreign.rollback()


@contextmanager
def full(world: World) -> Iterator[None]:
    """Not a page is left on the store's disk."""
    ballast = world.disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass
    yield
    ballast.unlink()


@contextmanager
def cut_short(world: World) -> Iterator[None]:
    """Half of the file is gone; in the end a backup from just before is put in its place, as the message asks for."""
    backup = world.disk / "backup.db"
    with closing(sqlite3.connect(world.database)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(world.database, world.database.stat().st_size // 2)
    yield
    backup.rename(world.database)


@contextmanager
def full_and_killed(world: World) -> Iterator[None]:
    """The process dies while what it knows is in the spill; the next one starts on the full disk."""
    with full(world):
        gevent.spawn_later(FAULT * 0.6, world.supervisor.kill)
        yield


def play(fault: Callable[[World], object]) -> Seen:
    world, seen = World(), Seen(bound=KILLED_HEARD_SECONDS if fault is full_and_killed else HEARD_SECONDS)
    try:
        world.calls_for(BEFORE)
        gevent.sleep(1.5)  # what was under way when the fault begins is on disk, and sent
        with fault(world):  # type: ignore[attr-defined]
            gevent.sleep(0.5)
            had = sum(world.received().values())
            calling = gevent.spawn(world.calls_for, FAULT)
            while not calling.ready():
                seen.unready += world.readiness() == 503
                gevent.sleep(0.5)
            seen.meanwhile = sum(world.received().values()) - had
        world.calls_for(AFTER)
        world.drain()
        seen.ready = int(world.readiness() == 200)
        _count(world, seen)
    finally:
        world.stop()
    if seen.violations():
        print(f"    kept: {world.folder}")
    else:
        shutil.rmtree(world.folder, ignore_errors=True)
    return seen


def _count(world: World, seen: Seen) -> None:
    received = world.received()
    seen.calls = len(world.phones)
    seen.answered = sum("Thanks." in phone.texts for phone in world.phones.values())
    seen.slowest = max(world.first.values(), default=DRAIN_SECONDS)
    seen.received = len(set(received) & set(world.phones))
    by_id = Counter(request.headers["webhook-id"] for request in world.crm.deliveries)
    seen.again = sum(by_id.values()) - len(by_id)
    records = world.rows(
        "SELECT substr(caller_raw, -10), outcome = 'served' AND closed_at IS NOT NULL"
        " AND EXISTS (SELECT 1 FROM entries e WHERE e.call_id = c.id AND code = 'menu.key')"
        " AND (SELECT count(*) FROM deliveries d WHERE d.call_id = c.id) = 1 FROM calls c"
    )
    seen.records = Counter(Counter(caller for caller, _ in records).values())
    seen.whole = sum(1 for _, whole in records if whole) - sum((many - 1) * n for many, n in seen.records.items())
    seen.sound = str(world.rows("PRAGMA integrity_check")[0][0])


FAULTS: dict[str, Callable[[World], object]] = {
    "the store locked by another process for 12 s": locked,
    "the store's disk full for 12 s": full,
    "the store's file cut to half while open, a backup put back after 12 s": cut_short,
    "the store's disk full for 12 s and exoflow killed meanwhile": full_and_killed,
}


def run() -> Iterator[Row]:
    for name, fault in FAULTS.items():
        try:
            seen = play(fault)
        except subprocess.CalledProcessError as error:
            yield Row(name, EMBEDDED, "NOT SHOWN", f"no disk may be mounted here: {error.stderr.decode().strip()}")
            continue
        yield Row.judged(name, EMBEDDED, seen.violations(), seen.told())
