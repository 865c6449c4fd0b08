"""Ten thousand calls while exoflow, its store, its CRM and its sockets meet random seeded trouble.

The checker (`faults.ledger`) holds the switch's CDRs against what the CRM received, after it has found what was planted in a
first part without trouble. Memory and descriptors are those of the last process: it serves a part without trouble, and then
one with all the trouble of which it does not die.

`python -m faults soak`; by itself with other figures: `python -m faults.soak CALLS [SEED]`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import base64
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gevent

from faults import EMBEDDED, Row
from faults.cases import Case, cases
from faults.ledger import Books, Tee, check, received
from faults.planted import PLANTS, found
from faults.replace import Box
from faults.trouble import Trouble

SEED = 3
CALLS, A_SECOND = 10_000, 20.0
QUIET_SHARE = 0.1  # of the calls: first, for the planted violations; and once more, for the base line
DELIVERED_SECONDS = 420.0  # a delivery that was refused twice is sent again after 5 minutes
# until nothing of a call is kept: connections to the CRM are closed by then (crm/connections.py), and memory is given back
IDLE_SECONDS = 75.0
MORE_MEMORY = 1.05  # of the base line
NAME = "a soak under random trouble"


@dataclass(frozen=True)
class Size:
    """Of an idle process."""

    bytes: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Size:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return cls(int(status["VmRSS"].split()[0]) * 1024, len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"]))

    def __str__(self) -> str:
        return f"{self.bytes / 2**20:.1f} MiB, {self.descriptors} descriptors, {self.threads} threads"


class Soak:
    """The box with its tee, and its calls."""

    def __init__(self, folder: Path, people: list[Case], seed: int) -> None:
        self.tee = Tee(folder / "cdr-written", folder / "cdr")
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.box = Box(folder, people, cdr=self.tee.written, secret=secret)
        self.tee.start()
        self.trouble = Trouble(self.box, seed)

    def play(self, people: list[Case], *, trouble: bool = False, deadly: bool = False) -> None:
        """Their calls, to the last delivery."""
        if trouble:
            self.trouble.start(deadly=deadly)
        began = time.monotonic()
        for at, case in enumerate(people):
            gevent.sleep(max(0.0, began + at / A_SECOND - time.monotonic()))
            self.box.call(case)
            if at % 1000 == 999:
                print(f"    {at + 1} of {len(people)} calls", flush=True)
        if trouble:
            self.trouble.stop()
        self.box.supervisor.wait_ready(60)
        self.box.drain(DELIVERED_SECONDS)

    def books(self) -> Books:
        self.tee.pass_on()
        return Books(self.tee.cdrs(), received(self.box.crm.deliveries))

    def size(self) -> Size:
        gevent.sleep(IDLE_SECONDS)
        return Size.of(self.box.supervisor.life.pid)

    def stop(self) -> None:
        self.box.stop()
        self.tee.stop()


def run(count: int = CALLS, seed: int = SEED) -> Iterator[Row]:
    people, quiet = cases(seed, count), round(count * QUIET_SHARE)
    first, second = people[:quiet], people[quiet : 2 * quiet]
    half = 2 * quiet + (count - 2 * quiet) // 2
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(folder, people, seed)
    held = False
    try:
        soak.play(first)
        books = soak.books()
        wrong = [str(one) for one in check(books)]
        seen, overlooked = found(books)
        told = f"{len(seen)} of {len(PLANTS)} found in the books of {quiet} good calls, {len(wrong)} that were not planted"
        yield Row.judged("violations planted for the checker", EMBEDDED, len(overlooked) + len(wrong), told)
        soak.play(people[2 * quiet : half], trouble=True, deadly=True)
        soak.box.supervisor.restart()
        soak.play(second)
        lives, base = len(soak.box.supervisor.lives), soak.size()
        soak.play(people[half:], trouble=True)
        end = soak.size()
        rows = list(_rows(soak, count, seed, lives, base, end))
        held = all(row.result == "held" for row in rows)
        yield from rows
    finally:
        soak.stop()
        if held:
            shutil.rmtree(folder)
        else:
            print(f"    kept: {folder}")


def _rows(soak: Soak, count: int, seed: int, lives: int, base: Size, end: Size) -> Iterator[Row]:
    books = soak.books()
    wrong = [str(one) for one in check(books)]
    there = {cdr["variables"]["uuid"] for cdr in books.cdrs}
    wrong += [f"{phone.uuid}: without a CDR" for phone in soak.box.phones if phone.uuid not in there]
    for line in wrong[:40]:
        print("   ", line)
    kinds = ", ".join(f"{many} x {kind}" for kind, many in sorted(soak.trouble.counts.items()))
    repeats = len(books.received) - len({one.id for one in books.received})
    told = (
        f"seed {seed}, {count} calls, {len(books.cdrs)} CDRs, {len(books.received)} deliveries received, {repeats} again; "
        f"{len(soak.box.supervisor.lives)} processes; {kinds}: {len(wrong)} violations"
    )
    yield Row.judged(NAME, EMBEDDED, len(wrong), told)
    name, told = f"{NAME}: memory and descriptors", f"{base} before, {end} after"
    if len(soak.box.supervisor.lives) != lives:
        yield Row(name, EMBEDDED, "NOT SHOWN", f"exoflow was started again meanwhile: {told}")
    else:
        more = (end.bytes > base.bytes * MORE_MEMORY) + (end.descriptors > base.descriptors) + (end.threads > base.threads)
        yield Row.judged(name, EMBEDDED, more, told)


if __name__ == "__main__":
    for row in run(*map(int, sys.argv[1:])):
        print(row)
