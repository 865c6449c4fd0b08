"""Slow and broken stores, with real errors of real files: calls are answered all the while, and nothing is lost by it.

A disk is filled by mounting a small one where that is allowed; elsewhere SQLite itself is given a limit.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

import gevent
import pytest
from ailing import ACCOUNT, FLOW, Stall, Start, answered_call, facts, ids, limited, locked, started, whole
from gevent.monkey import get_original
from hall import WAIT, codes, entry, eventually
from sqlalchemy import select
from support.disks import small_disk

from exoflow.calls import call as call_module
from exoflow.calls import held
from exoflow.calls.book import CallBook
from exoflow.errors import StoreError
from exoflow.store import open_store, tables
from exoflow.store import sqlite as store_module
from exoflow.store.changes import Change


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(store_module, "REOPEN_SECONDS", 0.05)
    monkeypatch.setattr(store_module, "SPILL_SECONDS", 0.2)
    monkeypatch.setattr(call_module, "CLOSE_COMMIT_SECONDS", 0.2)


# --- (a) a lock of 10 seconds ----------------------------------------------------------------------


def test_a_foreign_lock_of_10_seconds_is_heard_by_nobody(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # all constants as in the field
    h, phones = started(hall)
    path = h.service.store.path
    with locked(path), Stall() as stall:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            began = time.monotonic()
            phones.append(answered_call(h))
            took = time.monotonic() - began
            gevent.sleep(0.5)
            assert took < 3
        assert ids(path) == {h.states[phones[0].uuid].facts.id}
        assert len(h.crm.deliveries) == 1  # nothing is sent that is not on disk
        assert h.service.store.trouble is not None
        assert h.service.store.trouble.kind == "locked"
    assert len(phones) > 5
    whole(h, phones)
    assert stall.longest < 0.3  # one try for the lock waits for 1 s
    assert h.service.store.trouble is None


# --- (b) a full disk -------------------------------------------------------------------------------


def test_a_full_database_holds_no_call_up_and_takes_all_of_them_later(hall: Start) -> None:
    h, phones = started(hall)
    limited(h.service.store)
    phones += [answered_call(h) for _ in range(10)]
    h.noted("store.slow")
    assert h.service.store.trouble is not None
    assert h.service.store.trouble.kind == "full"
    assert "Free space" in str(h.service.store.trouble)
    began = time.monotonic()
    phones.append(answered_call(h))
    assert time.monotonic() - began < 1  # a store that is known to be ailing is not waited for
    assert len(h.service.book.live) > 0
    limited(h.service.store, 1_000_000)
    eventually(lambda: not h.service.book.live and not h.service.store.behind)
    assert {h.service.book.get(h.states[phone.uuid].facts.id).outcome for phone in phones} == {"answered"}  # type: ignore[union-attr]
    h.crm.wait_for_deliveries(len(phones))
    assert len({request.event["data"]["call"] for request in h.crm.deliveries}) == len(phones)


def test_a_full_disk_is_borne_and_the_database_stays_sound(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kib=512) as disk:
        store = open_store(f"sqlite:///{disk}/calls.db")
        book = CallBook(store, accounts={"acme": ACCOUNT}.get)
        closed = 0
        while store.trouble is None:
            call = book.open(facts(closed), ACCOUNT)
            call.note("C", "menu.key", "x" * 400)
            call.close("served")
            closed += 1
            assert closed < 1000
        assert store.trouble.kind == "full"
        assert len(book.live) in (1, 2)
        ballast = disk / "calls.db-grown"
        assert not ballast.exists()
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        eventually(lambda: not book.live)
        assert store.trouble is None
        assert len(ids(store.path)) == closed
        assert store.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"
        store.close()


def test_a_start_on_a_full_disk_answers_calls_and_opens_the_store_later(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kib=512) as disk:
        open_store(f"sqlite:///{disk}/calls.db").close()
        with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(b"x" * 4096):
                pass
        store = open_store(f"sqlite:///{disk}/calls.db")
        assert store.trouble is not None
        assert store.trouble.kind == "full"
        book = CallBook(store, accounts={"acme": ACCOUNT}.get)
        assert book.resume("channel-1") is None  # nobody knows; the caller is answered
        assert book.unfinished() == []
        book.open(facts(1), ACCOUNT).close("served")
        (disk / "ballast").unlink()
        eventually(lambda: not book.live)
        assert ids(store.path) == {facts(1).id}
        store.close()


# --- (c) damaged -----------------------------------------------------------------------------------


def test_a_file_cut_short_while_open_is_seen_and_not_written_to(hall: Start) -> None:
    h, phones = started(hall)
    path = h.service.store.path
    h.service.store.write(lambda c: None)
    backup = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        source.backup(target)
    os.truncate(path, 5000)
    phones += [answered_call(h) for _ in range(3)]
    assert h.service.store.trouble is not None
    eventually(lambda: "damaged" in str(h.service.store.trouble))
    phones.append(answered_call(h))
    assert path.stat().st_size == 5000
    assert len(h.crm.deliveries) == 1
    backup.rename(path)  # as the message says
    whole(h, phones)


def test_pages_overwritten_while_open_end_in_one_trouble_with_its_cure(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    book = CallBook(store, accounts={"acme": ACCOUNT}.get)
    for number in range(200):
        book.open(facts(number), ACCOUNT).note("C", "menu.key", "x" * 300)
    store.write(lambda c: None)
    with closing(sqlite3.connect(store.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = store.path.stat().st_size
    with store.path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))

    for number in range(1000, 1400):
        call = book.open(facts(number), ACCOUNT)
        call.note("C", "menu.key", "x" * 300)
        call.close("served")
        if store.trouble is not None:
            break
    eventually(lambda: store.trouble is not None and store.trouble.kind in ("damaged", "refused"))
    assert "Restore a backup" in str(store.trouble)
    with pytest.raises(StoreError):
        store.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM entries").scalar())
    store.close()


# --- a disk that does not answer --------------------------------------------------------------------


def test_a_commit_that_hangs_holds_nobody_up(tmp_path: Path) -> None:

    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    book = CallBook(store, accounts={"acme": ACCOUNT}.get)
    gate = get_original("threading", "Event")()
    store.post(lambda connection: gate.wait(WAIT))
    eventually(lambda: store.trouble is not None and store.trouble.kind == "slow")
    with Stall() as stall:
        call = book.open(facts(1), ACCOUNT)
        assert not call.on_disk()
        assert not call.close("served")
    assert stall.longest < 0.1
    gate.set()
    eventually(lambda: not book.live and store.trouble is None)
    store.close()


# --- bounds ----------------------------------------------------------------------------------------


def test_what_waits_in_memory_is_bounded_lines_first_and_all_that_goes_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "MAX_LINES", 50)
    monkeypatch.setattr(held, "MAX_CALLS", 20)
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    book = CallBook(store, accounts={"acme": ACCOUNT}.get)
    limited(store)
    for number in range(30):
        call = book.open(facts(number, dialled_raw="2" * 5000), ACCOUNT)
        for _ in range(5):
            call.note("C", "menu.key", "key")
        gevent.spawn(call.close, "served")
    eventually(lambda: len(book.live) == 20)
    eventually(lambda: sum(call.lines_waiting for call in book.live.values()) <= 50)
    limited(store, 1_000_000)
    eventually(lambda: not book.live)
    assert ids(store.path) == {facts(number).id for number in range(10, 30)}
    assert store.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM deliveries").scalar()) == 20
    assert store.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM entries").scalar()) == 50
    assert store.health().dropped == {"calls": 10, "deliveries": 10, "lines": 100}
    store.write(lambda c: None)
    counted = dict(store.read(lambda c: c.exec_driver_sql("SELECT name, sum(amount) FROM counts GROUP BY name").all()))
    assert counted == {"dropped.calls": 10, "dropped.deliveries": 10, "dropped.lines": 100}
    store.close()


def test_a_record_that_the_tables_refuse_is_tried_without_its_journey_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_module, "RETRY_SECONDS", (0.01,))
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    book = CallBook(store, accounts={"acme": ACCOUNT}.get)
    refuse = "CREATE TRIGGER {0} BEFORE INSERT ON {0} BEGIN SELECT RAISE(ABORT, 'no'); END"
    store.write(lambda c: c.exec_driver_sql(refuse.format("entries")))
    call = book.open(facts(1), ACCOUNT)
    call.note("C", "menu.key", "key")
    call.close("served")
    eventually(lambda: not book.live)
    assert store.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM deliveries").scalar()) == 1
    store.write(lambda c: c.exec_driver_sql(refuse.format("deliveries")))
    book.open(facts(2), ACCOUNT).close("served")
    eventually(lambda: not book.live)
    assert store.health().dropped == {"lines": 1, "calls": 1, "deliveries": 1}
    store.close()


def test_a_change_that_is_written_twice_changes_nothing(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    call = CallBook(store, accounts={"acme": ACCOUNT}.get).open(facts(1), ACCOUNT)
    call.close("served")
    store.write(lambda c: c.execute(tables.deliveries.update().values(state="delivered")))
    row = dict(store.read(lambda c: c.execute(select(tables.deliveries)).mappings().one()))
    store.write(Change([(tables.deliveries, [{**row, "state": "pending"}])]))
    assert store.read(lambda c: c.execute(select(tables.deliveries.c.state)).scalars().all()) == ["delivered"]
    store.close()


def test_the_callers_hear_the_same_with_and_without_a_store(hall: Start) -> None:
    h = hall(FLOW, speed=None)
    good = answered_call(h)
    eventually(lambda: not h.service.book.live)
    limited(h.service.store)
    eventually(lambda: answered_call(h) is not None and h.service.store.trouble is not None)
    bad = answered_call(h)
    assert bad.texts == good.texts
    slow = entry(h.states[bad.uuid], "store.slow")
    assert "Free space" in slow.text
    assert "call.arrived" in codes(h.states[bad.uuid])
    limited(h.service.store, 1_000_000)
    eventually(lambda: not h.service.book.live)


def test_who_waits_for_a_write_behind_one_that_hangs_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "GIVEN_SECONDS", 0.3)
    monkeypatch.setattr(store_module, "LOOK_SECONDS", 0.05)
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    gate = get_original("threading", "Event")()
    store.post(lambda connection: gate.wait(WAIT))
    eventually(lambda: store.trouble)
    began = time.monotonic()
    with pytest.raises(StoreError, match="look at it"):
        store.write(lambda connection: None)
    assert time.monotonic() - began < 3
    gate.set()
    store.close()
