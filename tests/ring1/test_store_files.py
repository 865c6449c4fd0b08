"""The store's file at a start and under calls: of another schema, a stranger's, removed, replaced, read-only."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ailing import ACCOUNT, Start, answered_call, facts, ids, locked, served, started, whole
from hall import BYE, WAIT, eventually, new_store
from sqlalchemy import select
from support.disks import small_disk

from exoflow.calls import call as call_module
from exoflow.calls.book import CallBook
from exoflow.errors import StoreError
from exoflow.store import open_reader, open_store, opening, tables
from exoflow.store import sqlite as store_module


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(store_module, "REOPEN_SECONDS", 0.05)
    monkeypatch.setattr(store_module, "SPILL_SECONDS", 0.2)
    monkeypatch.setattr(call_module, "CLOSE_COMMIT_SECONDS", 0.2)


@pytest.mark.parametrize("harm", ["cut", "garbage", "emptied"])
def test_serve_refuses_a_file_damaged_while_closed(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "exoflow.db"
    open_store(f"sqlite:///{path}").close()
    if harm == "garbage":
        path.write_bytes(b"garbage" * 5000)
    else:
        os.truncate(path, 9000 if harm == "cut" else 0)
    before = path.read_bytes()
    ended = served(tmp_path)
    assert ended.returncode != 0
    assert str(path) in ended.stderr
    assert "Restore a backup" in ended.stderr
    assert path.read_bytes() == before


# --- (d) another schema ----------------------------------------------------------------------------


def test_a_store_of_revision_0001_is_migrated_with_all_it_holds(tmp_path: Path) -> None:
    """The file was made by the program of that revision: calls open and closed, deliveries sent and waiting."""
    shutil.copy(Path(__file__).parents[1] / "store" / "revision-0001.db", tmp_path / "calls.db")
    url = f"sqlite:///{tmp_path}/calls.db"
    with pytest.raises(StoreError, match="made by an older exoflow"):
        open_reader(url)
    store = open_store(url)
    book = CallBook(store, accounts={"acme": ACCOUNT}.get)
    (left,) = book.unfinished()
    assert (left.facts.channel, left.progress, left.config) == ("still-open", {}, "")
    assert [one.code for one in left.journey] == ["call.arrived"]
    (done,) = [state for state in book.recent(10) if state.outcome]
    assert (done.outcome, [leg.q850 for leg in done.legs], done.recordings[0].seconds) == ("answered", [16], 61.4)
    rows = store.read(lambda c: c.execute(select(tables.deliveries.c.state, tables.deliveries.c.webhook_id)).all())
    assert [tuple(row) for row in rows] == [("pending", "msg_1")]
    assert book.adopt(left).close("lost", "app_restart")
    store.counts.add("refused", "PRI1")
    store.write(lambda c: None)
    assert store.read(lambda c: c.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()) == tables.HEAD
    assert store.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"
    store.close()


def test_a_start_on_a_locked_store_of_revision_0001_answers_calls_and_migrates_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opening, "BUSY_MS", 100)
    path = tmp_path / "calls.db"
    shutil.copy(Path(__file__).parents[1] / "store" / "revision-0001.db", path)
    with locked(path):
        store = open_store(f"sqlite:///{path}")
        assert store.trouble is not None
        assert store.trouble.kind == "locked"
        assert "end that one" in caplog.text
        book = CallBook(store, accounts={"acme": ACCOUNT}.get)
        assert book.resume("channel-1") is None
        assert book.unfinished() == []
        book.open(facts(1), ACCOUNT).close("served")
        with pytest.raises(StoreError, match="cannot be read"):
            book.recent(10)
    eventually(lambda: not book.live)
    assert facts(1).id in ids(path)
    assert [left.facts.channel for left in book.unfinished()] == ["still-open"]
    assert store.read(lambda c: c.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()) == tables.HEAD
    store.close()


def test_serve_refuses_a_strangers_file_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "exoflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (id)")
        connection.commit()
    before = path.read_bytes()
    ended = served(tmp_path)
    assert ended.returncode != 0
    assert "another program" in ended.stderr
    assert path.read_bytes() == before
    assert not path.with_name("exoflow.db-wal").exists()


# --- (e) removed or replaced while running ---------------------------------------------------------


def test_a_file_removed_while_running_is_not_made_anew(hall: Start) -> None:
    h, phones = started(hall)
    path = h.service.store.path
    away = path.with_name("moved.db")
    path.rename(away)
    phones += [answered_call(h) for _ in range(3)]
    eventually(lambda: h.service.store.trouble is not None and h.service.store.trouble.kind == "gone")
    assert "not made anew" in str(h.service.store.trouble)
    assert not path.exists()
    assert len(h.crm.deliveries) == 1
    away.rename(path)
    whole(h, phones)


def test_a_call_in_progress_is_whole_in_the_file_that_replaces_the_removed_one(hall: Start) -> None:
    h = hall({"hello": {"gather": {"say": "Number?", "digits": 1, "timeout": 60}, "next": "bye"}, "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    path = h.service.store.path
    h.service.store.write(lambda c: None)
    path.rename(path.with_name("old.db"))
    shutil.copy(new_store(), path)
    phone.press("1")
    state = h.ended(phone)
    assert state.journey == h.states[phone.uuid].journey
    h.crm.wait_for_deliveries(1)


def test_a_strangers_file_put_in_its_place_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    book = CallBook(store, accounts={"acme": ACCOUNT}.get)
    stranger = tmp_path / "songs.db"
    with closing(sqlite3.connect(stranger)) as connection:
        connection.execute("CREATE TABLE songs (id)")
        connection.commit()
    before = stranger.read_bytes()
    stranger.rename(store.path)
    book.open(facts(1), ACCOUNT).close("served")
    eventually(lambda: store.trouble is not None and store.trouble.kind == "refused")
    assert "another program" in str(store.trouble)
    assert store.path.read_bytes() == before
    store.close()


def test_another_exoflow_on_the_new_file_keeps_this_one_off(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    book = CallBook(store, accounts={"acme": ACCOUNT}.get)
    for path in tmp_path.iterdir():
        path.unlink()
    second = open_store(f"sqlite:///{tmp_path}/calls.db")
    book.open(facts(1), ACCOUNT).close("served")
    eventually(lambda: store.trouble is not None and "another exoflow process" in str(store.trouble))
    assert ids(second.path) == set()
    second.close()
    eventually(lambda: not book.live)
    assert ids(store.path) == {facts(1).id}
    store.close()


# --- (f) read-only ---------------------------------------------------------------------------------


def test_a_store_that_turns_read_only_is_borne_until_it_is_writable_again(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    book = CallBook(store, accounts={"acme": ACCOUNT}.get)
    raw: Any = store._writing._connection
    raw.exec_driver_sql("PRAGMA query_only = 1").close()
    call = book.open(facts(1), ACCOUNT)
    assert not call.close("served")
    eventually(lambda: store.trouble is not None)
    assert store.trouble is not None
    assert (store.trouble.kind, "mounted rw" in str(store.trouble)) == ("readonly", True)
    raw.exec_driver_sql("PRAGMA query_only = 0").close()
    eventually(lambda: not book.live)
    store.close()


def test_a_start_on_a_read_only_disk_is_refused_with_the_cure(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kib=512) as disk:
        open_store(f"sqlite:///{disk}/calls.db").close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StoreError, match="must be able to write"):
            open_store(f"sqlite:///{disk}/calls.db")
