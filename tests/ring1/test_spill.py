"""The spill: durable before anybody is told, applied once in effect, damaged tails passed over, bounded."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.monkey import get_original
from hall import WAIT, eventually
from spilling import ACCOUNT, FLOW, Start, book_of, facts, file_of, fill, lines_of, mend, spilled_call
from support.disks import small_disk

from exoflow.calls import call as call_module
from exoflow.calls.lookup import deliveries_of
from exoflow.store import open_store, tables
from exoflow.store import spill as spill_module
from exoflow.store import sqlite as store_module
from exoflow.store.spill import Spill
from exoflow.store.sqlite import Store
from exoflow.store.writer import Writer


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(store_module, "SPILL_SECONDS", 0.05)
    monkeypatch.setattr(call_module, "CLOSE_COMMIT_SECONDS", 0.3)


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    folder = tmp_path / "spill"
    folder.mkdir()
    return folder


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/calls.db"


@pytest.fixture
def full(url: str, spill: Path) -> Iterator[Store]:
    """A store that takes nothing more, with its spill."""
    store = open_store(url, spill=spill)
    fill(store)
    yield store
    store.close()


# --- calls -------------------------------------------------------------------------------------------


def test_calls_go_into_the_spill_and_from_there_into_the_store(full: Store, spill: Path) -> None:
    book = book_of(full)
    calls = [spilled_call(book, number) for number in range(20)]
    # what was spilled is counted, and the count is spilled, too
    eventually(lambda: full.health().waiting == 0 and full.health().spilled == file_of(spill).stat().st_size)
    health = full.health()
    assert (health.spill, health.dropped) == ("", {})
    assert book.recent(50) == []
    mend(full)
    assert file_of(spill).stat().st_size == 0
    for call in calls:
        assert book.get(call.id) == call.state
        (delivery,) = full.read(lambda c, call=call: deliveries_of(c, call.id))
        assert delivery.state == "pending"


def test_nothing_is_sent_from_the_spill_and_all_of_it_after(hall: Start, spill: Path) -> None:
    h = hall(FLOW, speed=None, main={"spill": str(spill)})
    fill(h.service.store)
    phones = []
    for _ in range(5):
        phones.append(h.call(keys="1"))
        assert phones[-1].wait(WAIT)
        assert "Hi." in phones[-1].texts
    eventually(lambda: not h.service.book.live)
    assert h.crm.deliveries == []
    assert len(lines_of(file_of(spill))) >= 5
    mend(h.service.store)
    h.crm.wait_for_deliveries(5)
    received = sorted(request.event["data"]["call"] for request in h.crm.deliveries)
    assert received == sorted(h.states[phone.uuid].facts.id for phone in phones)


def test_a_call_that_spilled_in_the_middle_ends_in_the_store(full: Store) -> None:
    """The order: what is newer is never overwritten by what was spilled before."""
    book = book_of(full)
    call = book.open(facts(1), ACCOUNT)
    call.digits("1")
    eventually(lambda: full.health().spilled > 0)
    mend(full)
    call.digits("2")
    call.close("served")
    eventually(lambda: not book.live)
    found = book.get(call.id)
    assert found is not None
    assert (found.digits, found.outcome) == ("2", "served")


def test_what_is_spilled_while_the_spill_is_applied_is_applied_too(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long spill takes longer to apply than a store may be slow: what comes meanwhile is spilled behind it, in order."""
    gate, reading = get_original("threading", "Event")(), get_original("threading", "Event")()
    apply = Writer._apply

    def slowly(writer: Writer, spill: Spill, batch: Any) -> None:
        reading.set()
        gate.wait(WAIT)
        apply(writer, spill, batch)

    book = book_of(full)
    first, going_on = spilled_call(book, 1), book.open(facts(2), ACCOUNT)
    going_on.digits("1")
    monkeypatch.setattr(Writer, "_apply", slowly)
    raw: Any = full._writing._connection
    raw.exec_driver_sql("PRAGMA query_only = 0").close()
    raw.rollback()
    eventually(reading.is_set)
    second = spilled_call(book, 3)
    going_on.digits("2")
    eventually(lambda: full.health().waiting == 0)
    assert full.trouble is not None
    gate.set()
    eventually(lambda: not full.behind)
    assert {state.facts.id for state in book.recent(9)} == {first.id, going_on.id, second.id}
    assert full.read(lambda c: c.exec_driver_sql("SELECT digits FROM calls WHERE channel = 'channel-2'").scalar()) == "2"
    going_on.digits("3")
    going_on.close("served")
    found = book.get(going_on.id)
    assert found is not None
    assert found.digits == "3"


def test_a_commit_that_hangs_does_not_keep_calls_from_being_durable(url: str, spill: Path) -> None:
    store = open_store(url, spill=spill)
    gate = get_original("threading", "Event")()
    store.post(lambda connection: gate.wait(WAIT))
    eventually(lambda: store.trouble)
    book = book_of(store)
    call = spilled_call(book, 1)
    assert store.health().spilled > 0
    gate.set()
    eventually(lambda: not store.behind)
    assert book.get(call.id) == call.state
    store.close()


def test_what_hung_on_its_way_to_the_store_and_failed_is_not_lost_behind_what_was_spilled(url: str, spill: Path) -> None:
    store = open_store(url, spill=spill)
    book = book_of(store)
    gate = get_original("threading", "Event")()

    def hang(connection: Any) -> None:
        gate.wait(WAIT)
        connection.exec_driver_sql("PRAGMA query_only = 1").close()  # what follows in this transaction fails

    store.post(hang)
    call = book.open(facts(1), ACCOUNT)
    call.note("C", "menu.key", "hangs")
    eventually(lambda: store.trouble)
    call.note("C", "menu.key", "spilled")
    eventually(lambda: store.health().spilled > 0)
    gate.set()
    eventually(lambda: store.trouble is not None and store.trouble.kind == "readonly")
    call.close("served")
    mend(store)
    eventually(lambda: not book.live)
    assert book.get(call.id) == call.state
    store.close()


@pytest.mark.parametrize("seed", [3, 20261123])
def test_whatever_ails_the_store_no_call_loses_anything(
    url: str, spill: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks, read-only times, hanging commits, a file that is moved away and back, and restarts, under calls."""
    monkeypatch.setattr(store_module, "REOPEN_SECONDS", 0.05)
    monkeypatch.setattr(store_module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(spill_module, "READ_BYTES", 4096)
    ailing = Ailing(url, spill, random.Random(seed))
    end = time.monotonic() + 4
    while time.monotonic() < end:
        ailing.spell()
    gevent.joinall(ailing.callers, raise_error=True)
    store, book = ailing.store, ailing.book
    eventually(lambda: not store.behind and not book.live)
    assert len(ailing.closed) > 50
    for state in ailing.closed:
        assert book.get(state.facts.id) == state
    deliveries = store.read(lambda c: c.exec_driver_sql("SELECT count(*), count(DISTINCT call_id) FROM deliveries").one())
    assert tuple(deliveries) == (len(ailing.closed), len(ailing.closed))
    assert (store.health().dropped, store.health().unusable) == ({}, 0)
    store.close()


class Ailing:
    """A store and its book, ailing now and then, under calls."""

    def __init__(self, url: str, spill: Path, chance: random.Random) -> None:
        self.url, self.folder, self.chance = url, spill, chance
        self.closed: list[Any] = []
        self.callers: list[gevent.Greenlet] = []
        self.started = 0
        self._open()

    def _open(self) -> None:
        self.store = open_store(self.url, spill=self.folder)
        self.book = book_of(self.store)

    def spell(self) -> None:
        """One fault, and calls meanwhile."""
        fault = self.chance.choice((self._well, self._locked, self._read_only, self._moved, self._hanging, self._restarted))
        seconds = self.chance.random() * 0.4
        with fault(seconds):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self.callers.append(gevent.spawn(self._call, self.started))
                self.started += 1
                gevent.sleep(self.chance.random() * 0.02)

    def _call(self, number: int) -> None:
        call = self.book.open(facts(number), ACCOUNT)
        for key in range(self.chance.randrange(6)):
            call.note("C", "menu.key", f"key {key}")
            call.digits(str(key))
            gevent.sleep(self.chance.random() * 0.05)
        call.close("served")
        self.closed.append(call.state)

    @contextmanager
    def _well(self, seconds: float) -> Iterator[None]:
        yield

    @contextmanager
    def _locked(self, seconds: float) -> Iterator[None]:
        with closing(sqlite3.connect(self.store.path, isolation_level=None, timeout=0.2)) as foreign:
            with suppress(sqlite3.Error):
                foreign.execute("BEGIN IMMEDIATE")
            yield
            foreign.rollback()

    @contextmanager
    def _read_only(self, seconds: float) -> Iterator[None]:
        connection: Any = self.store._writing._connection
        raw = None if connection is None else connection.connection.driver_connection
        for value in (1, 0):
            with suppress(sqlite3.Error, AttributeError):
                raw.execute(f"PRAGMA query_only = {value}")
            if value:
                yield

    @contextmanager
    def _moved(self, seconds: float) -> Iterator[None]:
        away = self.store.path.with_name("away.db")
        self.store.path.rename(away)
        yield
        away.rename(self.store.path)

    @contextmanager
    def _hanging(self, seconds: float) -> Iterator[None]:
        self.store.post(lambda connection: get_original("time", "sleep")(seconds))
        yield

    @contextmanager
    def _restarted(self, seconds: float) -> Iterator[None]:
        gevent.joinall(self.callers, raise_error=True)
        self.store.close()
        self._open()
        yield


def test_the_next_start_applies_what_a_dead_process_spilled(url: str, full: Store, spill: Path) -> None:
    call = spilled_call(book_of(full), 1)
    kept = file_of(spill).read_bytes()
    full.close()
    assert file_of(spill).read_bytes().startswith(kept)  # the store still takes nothing when it is closed
    again = open_store(url, spill=spill)
    assert not again.behind
    book = book_of(again)
    assert book.unfinished() == []
    assert book.get(call.id) == call.state
    again.close()


def test_a_spill_that_was_applied_but_not_yet_emptied_is_applied_again_without_effect(
    url: str, full: Store, spill: Path
) -> None:
    """A death between the commit and the emptying; a delivery that was sent meanwhile is not sent again."""
    call = spilled_call(book_of(full), 1)
    kept = file_of(spill).read_bytes()
    mend(full)
    full.write(lambda c: c.execute(tables.deliveries.update().values(state="delivered")))
    full.close()
    file_of(spill).write_bytes(kept)
    again = open_store(url, spill=spill)
    assert book_of(again).get(call.id) == call.state
    (delivery,) = again.read(lambda c: deliveries_of(c, call.id))
    assert delivery.state == "delivered"
    again.close()


def test_what_waits_when_the_process_ends_is_spilled_at_once(
    url: str, full: Store, spill: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = book_of(full)
    eventually(lambda: book.open(facts(1), ACCOUNT) and full.trouble)
    call = book.open(facts(2), ACCOUNT)
    gevent.spawn(call.close, "served")
    gevent.sleep(0)
    full.close()
    full.counts.add("refused", "")  # by somebody who does not know yet
    assert "Traceback" not in capsys.readouterr().err
    again = open_store(url, spill=spill)
    found = book_of(again).get(call.id)
    assert found is not None
    assert found.outcome == "served"
    again.close()


def test_the_spill_is_applied_to_the_file_that_replaces_a_damaged_one(
    tmp_path: Path, url: str, full: Store, spill: Path
) -> None:
    """Its lines need no row of the file they were spilled for."""
    call = book_of(full).open(facts(1), ACCOUNT)
    mend(full)
    assert call.on_disk()
    fill(full)
    call.note("C", "menu.key", "key")
    call.close("served")
    eventually(lambda: not call.book.live)
    full.close()
    for path in tmp_path.glob("calls.db*"):
        path.unlink()
    again = open_store(url, spill=spill)
    found = book_of(again).get(call.id)
    assert found is not None
    assert found.outcome == "served"
    assert again.health().unusable == 0
    again.close()


def test_a_call_that_only_the_spill_knows_is_found_when_it_comes_back(
    url: str, full: Store, spill: Path, tmp_path: Path
) -> None:
    """The process died while the store took nothing, and takes nothing yet."""
    book = book_of(full)
    closed, left = spilled_call(book, 1), book.open(facts(2), ACCOUNT)
    left.note("C", "menu.key", "key")
    assert not left.on_disk()
    eventually(lambda: b"channel-2" in file_of(spill).read_bytes())
    full.close()
    with small_disk(tmp_path / "disk", kib=384) as disk:
        shutil.copy(full.path, disk / "calls.db")
        with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(b"x" * 1024):
                pass
        there = Spill(spill, disk / "calls.db")
        shutil.copy(file_of_store(spill, "calls", full), there.path)
        there.close()
        again = open_store(f"sqlite:///{disk}/calls.db", spill=spill)
        assert again.trouble is not None
        book = book_of(again)
        resumed = book.resume("channel-2")
        assert resumed is not None
        assert resumed.state.facts == left.state.facts
        assert [one.code for one in resumed.state.journey] == ["menu.key"]
        assert book.resume("channel-1") is None
        resumed.note("C", "call.resumed", "back")
        resumed.close("served")
        (disk / "ballast").unlink()
        eventually(lambda: not again.behind and not book.live)
        found = book.get(left.id)
        assert found is not None
        assert [one.code for one in found.journey] == ["menu.key", "call.resumed"]
        assert {state.outcome for state in book.recent(10)} == {"served", "answered"}
        assert closed.id in {state.facts.id for state in book.recent(10)}
        again.close()


def file_of_store(spill: Path, stem: str, store: Store) -> Path:
    one = Spill(spill, store.path)
    one.close()
    assert one.path.name.startswith(stem)
    return one.path


# --- a kill in the middle of spilling ----------------------------------------------------------------

KILLED = """
import sys
from gevent import monkey; monkey.patch_all()
from pathlib import Path
sys.path[:0] = {path!r}
import spilling as t
from exoflow.store import open_store, sqlite
sqlite.SPILL_SECONDS = 0.0
sqlite.RETRY_SECONDS = 0.01
store = open_store({url!r}, spill=Path({spill!r}))
t.fill(store)
book = t.book_of(store)
number = 0
while True:
    call = book.open(t.facts(number), t.ACCOUNT)
    if call.close("served"):
        print(number, flush=True)
    number += 1
"""


def test_a_kill_while_spilling_loses_no_call_that_was_said_to_be_durable(url: str, spill: Path) -> None:
    moments = random.Random(20261123)
    for _ in range(3):
        code = KILLED.format(path=sys.path, url=url, spill=str(spill))
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(moments.randrange(5, 40)):
            durable = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        durable = max([durable, *(int(line) for line in process.stdout.read().splitlines() if line)])
        process.wait()
        store = open_store(url, spill=spill)
        closed = store.read(lambda c: c.exec_driver_sql("SELECT id FROM calls WHERE outcome = 'served'").scalars().all())
        assert {facts(number).id for number in range(durable + 1)} <= set(closed)
        assert store.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM deliveries").scalar()) == len(closed)
        store.close()
