"""The spill's file: damage, strangers and other stores beside it, and its limits."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import gevent
import pytest
from hall import eventually
from hypothesis import given, settings
from hypothesis import strategies as st
from spilling import ACCOUNT, book_of, facts, file_of, fill, lines_of, mend, row, spilled_call
from support.disks import small_disk

from exoflow.calls import call as call_module
from exoflow.errors import StoreError
from exoflow.store import open_store, tables
from exoflow.store import spill as spill_module
from exoflow.store import sqlite as store_module
from exoflow.store.changes import Change
from exoflow.store.spill import Spill
from exoflow.store.sqlite import Store


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


# --- the file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_cut_off_tail_is_passed_over_counted_and_written_on_behind(tmp_path: Path, cut: int) -> None:
    one = Spill(tmp_path, tmp_path / "calls.db")
    one.append([Change([(tables.counts, [row(number)])]) for number in range(3)])
    one.close()
    os.truncate(one.path, one.path.stat().st_size - cut)
    two = Spill(tmp_path, tmp_path / "calls.db")
    two.append([Change([(tables.counts, [row(9)])])])
    found = [change.rows[0][1][0]["name"] for batch in two.batches() for _, change in batch]
    # without its newline only, the line is whole
    assert (found, two.unusable) == ((["n0", "n1", "n2", "n9"], 0) if cut == 1 else (["n0", "n1", "n9"], 1))
    two.close()


def test_a_flipped_bit_costs_its_line_and_no_other(url: str, full: Store, spill: Path) -> None:
    book = book_of(full)
    for number in range(3):
        spilled_call(book, number)
    full.close()
    data = bytearray(file_of(spill).read_bytes())
    data[20] ^= 4
    file_of(spill).write_bytes(data)
    again = open_store(url, spill=spill)
    assert again.health().unusable == 1
    assert len(book_of(again).recent(10)) >= 2
    assert file_of(spill).stat().st_size == 0
    again.close()


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=3000))
def test_no_bytes_in_a_spill_keep_exoflow_from_starting(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("spill")
    Spill(folder, folder / "calls.db").close()
    file_of(folder).write_bytes(data)
    spill = Spill(folder, folder / "calls.db")
    assert [change for batch in spill.batches() for change in batch] == []
    spill.close()


def test_a_line_with_its_checksum_that_the_tables_refuse_is_put_aside(url: str, spill: Path, tmp_path: Path) -> None:
    open_store(url, spill=spill).close()
    lines = [Change([(tables.counts, [row(1)])]).line(), Change([(tables.counts, [row(2, amount=None)])]).line()]
    file_of(spill).write_bytes(b"".join(lines))
    store = open_store(url, spill=spill)
    assert store.read(lambda c: c.exec_driver_sql("SELECT name FROM counts").scalars().all()) == ["n1"]
    assert store.health().unusable == 1
    aside = file_of(spill).with_suffix(".refused")
    assert aside.read_bytes() == lines[1]
    assert {path.stat().st_mode & 0o777 for path in (aside, file_of(spill))} == {0o600}  # callers' numbers are in them
    store.close()


def test_two_stores_share_a_folder(tmp_path: Path, spill: Path) -> None:
    stores = [open_store(f"sqlite:///{tmp_path}/{folder}/calls.db", spill=spill) for folder in made(tmp_path, "a", "b")]
    assert len(list(spill.glob("*.spill"))) == 2
    for store in stores:
        store.close()


def made(tmp_path: Path, *names: str) -> list[str]:
    for name in names:
        (tmp_path / name).mkdir()
    return list(names)


# --- its own limits ------------------------------------------------------------------------------------


def test_a_full_spill_leaves_the_rest_in_memory_and_says_so(full: Store, spill: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_module, "MAX_BYTES", 6000)
    book = book_of(full)
    calls = [book.open(facts(number), ACCOUNT) for number in range(20)]
    for call in calls:
        gevent.spawn(call.close, "served")
    eventually(lambda: full.health().spill)
    assert "its limit" in full.health().spill
    assert file_of(spill).stat().st_size <= 6000
    assert not full.spills
    monkeypatch.undo()
    mend(full)
    eventually(lambda: not book.live)
    assert len(book.recent(50)) == 20


def appended_without_end(spill: Spill, change: Change) -> None:
    while True:
        spill.append([change])


def test_a_spill_whose_disk_is_full_keeps_whole_lines_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kib=64) as disk:
        spill = Spill(disk, tmp_path / "calls.db")
        change = Change([(tables.counts, [row(1, trunk="x" * 5000)])])
        with pytest.raises(StoreError, match="free space"):
            appended_without_end(spill, change)
        lines = lines_of(spill.path)
        assert 5 < len(lines) < 20
        assert all(line.endswith(b"\n") for line in lines)
        assert sum(len(batch) for batch in spill.batches()) == len(lines)
        spill.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_spill_that_is_removed_while_in_use_gets_its_name_again(url: str, full: Store, spill: Path, replaced: bool) -> None:
    book = book_of(full)
    calls = [spilled_call(book, 1)]
    path = file_of(spill)
    path.unlink()
    if replaced:
        path.write_bytes(b"something else\n")
    calls.append(spilled_call(book, 2))
    full.close()
    again = open_store(url, spill=spill)
    assert {state.facts.id for state in book_of(again).recent(9)} == {call.id for call in calls}
    assert [one.name for one in spill.iterdir()] == [path.name]
    again.close()


def test_a_spill_that_cannot_be_opened_does_not_keep_a_sound_store_from_its_calls(url: str, tmp_path: Path) -> None:
    store = open_store(url, spill=tmp_path / "nowhere")
    assert "could not be opened" in store.health().spill
    book = book_of(store)
    assert book.open(facts(1), ACCOUNT).close("served")
    store.close()


def test_without_a_spill_a_short_trouble_costs_nothing(url: str) -> None:
    store = open_store(url)
    book = book_of(store)
    fill(store)
    call = book.open(facts(1), ACCOUNT)
    assert not call.close("served")
    mend(store)
    eventually(lambda: not book.live)
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("SELECT outcome FROM calls").fetchall() == [("served",)]
    store.close()
