"""Stores that are locked, full or away under calls: what the tests of a store's faults share."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
from hall import BYE, WAIT, Hall, eventually, menu, say
from sqlalchemy import select

from exoflow.calls.model import CallFacts
from exoflow.config.model import Account
from exoflow.store import tables
from exoflow.store.sqlite import Store

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)


FLOWS = {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}}


ACCOUNT = Account.model_validate({"name": "Acme", "flows": FLOWS, "deliveries": {"url": "https://crm.example/calls"}})


FLOW = {
    "ask": menu({"1": "agents"}),
    "agents": {"connect": {"group": "support"}, "answered": "bye", "unanswered": "bye"},
    "bye": BYE,
}


Start = Callable[..., Hall]


class Stall:
    """The longest time the loop did not come round, in seconds."""

    def __enter__(self) -> Stall:
        self.longest = 0.0
        self._ticker = gevent.spawn(self._tick)
        gevent.sleep(0)
        return self

    def _tick(self) -> None:
        while True:
            before = time.perf_counter()
            gevent.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - before)

    def __exit__(self, *_: Any) -> None:
        self._ticker.kill()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process's write lock; that of another connection is the same to SQLite."""
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        yield
        foreign.rollback()


def limited(store: Store, pages: int | None = None) -> None:
    """SQLite takes its file for full at so many pages (None: at those it has); real SQLITE_FULL on any machine."""
    raw: Any = store._writing._connection
    if pages is None:
        pages = raw.exec_driver_sql("PRAGMA page_count").scalar()
    raw.exec_driver_sql(f"PRAGMA max_page_count = {pages}").close()
    raw.rollback()


def facts(number: int = 0, **changes: Any) -> CallFacts:
    whole = {"id": f"{number:032x}", "channel": f"channel-{number}", "created_at": NOW, "trunk": "PRI1", "dialled_raw": "2400"}
    return CallFacts(**{**whole, "caller_raw": "9876543210", "account": "acme", "flow": "main", **changes})


def ids(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM calls")}


def answered_call(h: Hall) -> Any:
    """A call that goes through menu, agent and talk; its caller hears all of it."""
    phone = h.call(keys="1")
    assert phone.wait(WAIT)
    assert phone.texts[0] == "Which one?"
    return phone


def started(hall: Start) -> tuple[Hall, list[Any]]:
    """A whole exoflow on the virtual clock after its first call, whose delivery has come and is settled."""
    h = hall(FLOW, speed=None)
    phones = [answered_call(h)]
    delivered = select(tables.deliveries.c.id).where(tables.deliveries.c.state == "delivered")
    eventually(lambda: h.service.store.read(lambda c: c.execute(delivered).first()))
    return h, phones


def whole(h: Hall, phones: list[Any]) -> None:
    """Each call has one closed record with its journey and leg, and one delivery, which the CRM has received."""
    eventually(lambda: not h.service.book.live and not h.service.store.behind)
    for phone in phones:
        state = h.service.book.get(h.states[phone.uuid].facts.id)
        assert state is not None
        assert state.outcome == "answered"
        assert state.journey == h.states[phone.uuid].journey
        assert [leg.outcome for leg in state.legs] == ["answered"]
    h.crm.wait_for_deliveries(len(phones))
    received = [request.event["data"]["call"] for request in h.crm.deliveries]
    assert sorted(received) == sorted(h.states[phone.uuid].facts.id for phone in phones)
    assert h.service.store.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"
    assert h.service.store.health().dropped == {}


def served(folder: Path) -> subprocess.CompletedProcess[str]:
    """`exoflow serve` on the store of this folder, which it must refuse."""
    made = Hall.__new__(Hall)
    made.folder = folder
    accounts = {"acme": {"deliveries": {"url": "https://crm.example/x"}}}
    made.write({"hello": say("Hi."), "bye": BYE}, {"PRI1": {"span": "PRI1"}}, ("127.0.0.1", 1), {}, {}, accounts)
    command = [str(Path(sys.executable).with_name("exoflow")), "serve", "-c", str(folder / "exoflow.yaml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
