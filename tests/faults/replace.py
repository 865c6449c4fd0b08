"""A new process every few seconds under load: call by call the same outcome as without.

`python -m faults replace`; by itself with other figures: `python -m faults.replace CALLS A_SECOND RESTART_EVERY [SEED]`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import itertools
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
from support.supervisor import Supervisor

from exoflow.sim import AgentScript, EmbeddedSwitch, Phone
from exoflow.sim.crm import DemoCrm, Reply, Request
from faults import EMBEDDED, Row
from faults.cases import Case, Telephone, cases, differences, fates, rows, steps

SEED = 1
CALLS, A_SECOND, RESTART_EVERY = 2400, 20.0, 10.0  # the promise: 20 calls/s, a restart every 10 s
GUARD_SECONDS = 4.0  # at least, of the dialplan's guard: who is not served by then is in the fallback
DRAIN_SECONDS = 90.0  # the longest call takes some 40 s
OURS = "+918030752400"
LOOKED_UP = Reply(200, b"OK", delay=0.2)
NAME = "a new process every {0:g} s under {1:g} calls/s"


@dataclass
class Report:
    """Figures of one run."""

    fates: dict[str, list[Any]]
    restarts: int = 0
    resumed: int = 0  # times that a call went on in another process
    lookups: int = 0
    left_open: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    exits: list[float] = field(default_factory=list)  # seconds from SIGTERM to the process's end
    gaps: list[float] = field(default_factory=list)  # seconds from SIGTERM to the next process's readiness


class Box:
    """The embedded switch at people's pace, a CRM, and exoflow under a supervisor.

    `cdr`: where the switch writes its CDRs, if not where exoflow looks for them.
    """

    def __init__(self, folder: Path, people: list[Case], *, cdr: Path | None = None, secret: str = "") -> None:
        self.folder = folder
        self.people = {case.caller: case for case in people}
        self.crm = DemoCrm(secret=secret)
        self.crm.script("/agents", self.agents_of)
        self.crm.script("/lookup", LOOKED_UP)
        self.crm.start()
        (folder / "cdr").mkdir(exist_ok=True)
        scripts = {f"+91{one.number}": _script(one) for case in people for one in case.agents}
        channels = {"PRI1": 5000}
        self.switch = EmbeddedSwitch(
            ("127.0.0.1", 1), trunk=channels, recordings=folder / "recordings", cdr=cdr or folder / "cdr", agents=scripts
        )
        self.switch.start()
        self._configure()
        self.supervisor = Supervisor(folder / "exoflow.yaml", log=folder / "exoflow.log").start()
        self.supervisor.wait_ready()
        self.switch.connect_to(self.supervisor.address)
        self.phones: list[Phone] = []

    def agents_of(self, request: Request) -> Reply:
        case = self.people[(request.get("CallFrom") or "")[-10:]]
        return Reply.agents(*(f"+91{one.number}" for one in case.agents), record=True, recording_channels="dual")

    def _configure(self) -> None:
        event = dict(zip(("host", "port"), self.switch.event_socket_address, strict=True)) | {"password": "exoflow"}
        folders = {name: str(self.folder / name) for name in ("recordings", "cdr")}
        main = {
            "switch": {"listen": "127.0.0.1:0", "event_socket": event, **folders},
            "prompts": {"engine": "text", "folder": str(self.folder / "prompts")},
            "trunks": {"PRI1": {"span": "PRI1", "channels": 480, "std_code": "80", "outbound": {"cli": "8030752400"}}},
        }
        account = {
            "name": "Acme",
            "numbers": [{"number": OURS, "trunk": "PRI1", "flow": "main"}],
            "crm": {"allow_private": ["127.0.0.1/32"]},
            "deliveries": {"url": self.crm.url("/deliveries")} | ({"secret": self.crm.secret} if self.crm.secret else {}),
            "flows": {"main": {"start": "welcome", "steps": steps(self.crm.url(""))}},
        }
        (self.folder / "accounts").mkdir()
        (self.folder / "exoflow.yaml").write_text(json.dumps(main))
        (self.folder / "accounts" / "acme.yaml").write_text(json.dumps(account))

    def call(self, case: Case) -> None:
        leaves = {one.number for one in case.agents if one.kind == "left"}
        phone = self.switch.call(OURS, f"+91{case.caller}", keys=list(case.keys), speaks=1.0)
        self.phones.append(phone)
        if leaves:
            gevent.spawn(_leave, phone, leaves)

    @property
    def database(self) -> Path:
        return self.folder / "exoflow.db"

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Until every call has ended and its record is closed and delivered."""
        latest = time.monotonic() + seconds
        for phone in self.phones:
            phone.wait(max(0.0, latest - time.monotonic()))
        open_calls = "SELECT 1 FROM calls WHERE closed_at IS NULL UNION SELECT 1 FROM deliveries WHERE state != 'delivered'"
        while rows(self.database, open_calls) and time.monotonic() < latest:
            gevent.sleep(0.2)

    def stop(self) -> None:
        self.supervisor.stop()
        self.switch.stop()
        self.crm.stop()


def _script(telephone: Telephone) -> AgentScript:
    if telephone.kind == "answers":
        return AgentScript.answers(telephone.after, telephone.talks)
    if telephone.kind == "busy":
        return AgentScript.busy()
    return AgentScript.rejects(telephone.after) if telephone.kind == "rejects" else AgentScript.silent()


def _leave(phone: Phone, agents: set[str]) -> None:
    """Hangs up a second after one of these begins to ring."""
    if phone.wait_until(lambda p: any(what == "rings" and who[-10:] in agents for what, who in p.agents), DRAIN_SECONDS):
        phone.after(1.0, phone.hangup)


def play(people: list[Case], a_second: float, every: float | None, folder: Path) -> Report:
    """All calls, with a new process `every` so many seconds."""
    box = Box(folder, people)
    report = Report({})
    replacing = gevent.spawn(_replace, box.supervisor, every, report) if every else None
    began = time.monotonic()
    try:
        for at, case in enumerate(people):
            gevent.sleep(max(0.0, began + at / a_second - time.monotonic()))
            box.call(case)
        if replacing is not None:
            replacing.kill()
            box.supervisor.wait_ready()
        box.drain()
        report.fates = fates(box.database)
        report.left_open = sum(count for (count,) in rows(box.database, "SELECT count(*) FROM calls WHERE closed_at IS NULL"))
        report.resumed = rows(box.database, "SELECT count(*) FROM entries WHERE code = 'call.resumed'")[0][0]
        report.lookups = len(box.crm.to("/lookup"))
        report.causes = Counter(phone.cause for phone in box.phones)
    finally:
        box.stop()
    return report


def _replace(supervisor: Supervisor, every: float, report: Report) -> None:
    for number in itertools.count(1):
        gevent.sleep(every)
        told = time.monotonic()
        old = supervisor.life
        new = supervisor.restart()
        assert old.ended_at is not None
        assert new.ready_at is not None
        report.restarts = number
        report.exits.append(old.ended_at - told)
        report.gaps.append(new.ready_at - told)


def compare(count: int, a_second: float, every: float, seed: int = SEED) -> tuple[list[str], str, bool]:
    """The calls whose fate differs, the counts in words, and whether the machine was quick enough to show anything."""
    people = cases(seed, count)
    folder = Path(tempfile.mkdtemp(prefix="replace-"))
    (folder / "plain").mkdir()
    (folder / "replaced").mkdir()
    plain = play(people, a_second, None, folder / "plain")
    replaced = play(people, a_second, every, folder / "replaced")
    different = list(differences(plain.fates, replaced.fates))
    missing = [case.caller for case in people if case.caller not in replaced.fates]
    different += [f"{caller}: without a record" for caller in missing]
    told = (
        f"seed {seed}, {count} calls, {replaced.restarts} restarts, {replaced.resumed} returns of calls: "
        f"{len(different)} with another fate, {replaced.left_open} left open; exit at most {max(replaced.exits):.2f} s, "
        f"SIGTERM to readiness at most {max(replaced.gaps):.2f} s; {replaced.lookups} look-ups asked for {plain.lookups}"
    )
    if not different:
        shutil.rmtree(folder)
    else:
        print(f"    kept: {folder}; callers heard {dict(plain.causes)} without, {dict(replaced.causes)} with")
    return different, told, max(replaced.gaps) < GUARD_SECONDS


def run() -> Iterator[Row]:
    different, told, shown = compare(CALLS, A_SECOND, RESTART_EVERY)
    for line in different[:20]:
        print("   ", line)
    name = NAME.format(RESTART_EVERY, A_SECOND)
    if different and not shown:
        yield Row(name, EMBEDDED, "NOT SHOWN", f"the machine was too busy for a start within the guard's time: {told}")
    else:
        yield Row.judged(name, EMBEDDED, len(different), told)


if __name__ == "__main__":
    figures = [float(word) for word in sys.argv[1:]]
    lines, counts, _ = compare(int(figures[0]), figures[1], figures[2], int(figures[3]) if figures[3:] else SEED)
    print("\n".join(lines[:40]))
    print(counts)
