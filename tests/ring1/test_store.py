"""The store: one writer that never holds the loop, group commits, and files it refuses without touching them."""

from __future__ import annotations

import sqlite3
import sys
import time
from datetime import UTC, datetime

import gevent
import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError, StatementError

from exoflow.errors import DeadlineExceeded, StoreError
from exoflow.store import lock, open_reader, open_store, opening, outbox, tables

NOW = datetime(2026, 10, 1, 6, 30, tzinfo=UTC)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/calls.db"


@pytest.fixture
def store(url):
    store = open_store(url)
    yield store
    store.close()


def row(call_id, **changes):
    return {
        "id": call_id,
        "channel": "c",
        "created_at": NOW,
        "trunk": "PRI1",
        "dialled_raw": "2400",
        "caller_raw": "9876543210",
        "caller_withheld": False,
        "cause": "",
        "ended_by": "",
        "reason": "",
        "digits": "",
        "wanted_agent": False,
        "caller_left": False,
        **changes,
    }


def add(call_id, **changes):
    return lambda connection: connection.execute(insert(tables.calls), row(call_id, **changes)).rowcount


def ids(store):
    return set(store.read(lambda c: c.execute(select(tables.calls.c.id)).scalars().all()))


class ForeignLock:
    """Another process's write lock on the file."""

    def __init__(self, store):
        self.connection = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)

    def __enter__(self):
        self.connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_):
        self.connection.rollback()
        self.connection.close()


class Stall:
    """The longest time the loop did not come round, in ms."""

    def __enter__(self):
        self.longest = 0.0
        self._ticker = gevent.spawn(self._tick)
        gevent.sleep(0)
        return self

    def _tick(self):
        while True:
            before = time.perf_counter()
            gevent.sleep(0.001)
            self.longest = max(self.longest, (time.perf_counter() - before - 0.001) * 1000)

    def __exit__(self, *_):
        self._ticker.kill()


# --- the schema -----------------------------------------------------------------------------------


def test_the_migrated_schema_is_that_of_the_tables(store):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    assert store.read(lambda c: compare_metadata(MigrationContext.configure(c), tables.metadata)) == []


def test_head_is_alembics_head():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(opening.Path(opening.__file__).with_name("migrations")))
    assert ScriptDirectory.from_config(config).get_current_head() == tables.HEAD


def test_partial_indexes_are_made_for_the_queries_that_need_them(store):
    def plan(connection):
        query = "EXPLAIN QUERY PLAN SELECT DISTINCT account FROM deliveries WHERE state IN ('pending', 'leased')"
        return str(connection.exec_driver_sql(query).fetchall())

    assert "deliveries_open" in store.read(plan)

    def plan_of_urgent(connection):
        statement = str(outbox._LEASE_URGENT.compile(connection))
        return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (0,) * statement.count("?")).fetchall())

    assert "deliveries_urgent" in store.read(plan_of_urgent)


def test_an_up_to_date_store_opens_without_alembic(url, monkeypatch):
    open_store(url).close()
    monkeypatch.setitem(sys.modules, "alembic", None)
    open_store(url).close()


def test_an_interrupted_first_migration_is_done_anew(url, tmp_path):
    with sqlite3.connect(tmp_path / "calls.db") as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # what a killed first start leaves: a file without tables
    store = open_store(url)
    assert ids(store) == set()
    store.close()


# --- files that are refused -------------------------------------------------------------------------


def damage_middle(path):
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 3] = b"\xff" * 4096 * 2
    path.write_bytes(data)


def make_newer(path):
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()


def make_foreign(path):
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (id)")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda path: path.write_bytes(b"not a database" * 1000), "damaged or no exoflow store"),
        (damage_middle, "damaged or no exoflow store"),
        (lambda path: path.write_bytes(path.read_bytes()[:9000]), "damaged or no exoflow store"),
        (make_newer, "made by a newer exoflow (revision 9999"),
        (make_foreign, "SQLite file of another program"),
    ],
    ids=["garbage", "damaged", "truncated", "newer", "foreign"],
)
def test_a_file_that_is_not_sound_is_refused_and_left_as_it_is(url, tmp_path, harm, says):
    open_store(url).close()
    path = tmp_path / "calls.db"
    for beside in ("calls.db-wal", "calls.db-shm"):
        (tmp_path / beside).unlink(missing_ok=True)
    harm(path)
    before = path.read_bytes()
    with pytest.raises(StoreError) as refused:
        open_store(url)
    assert str(path) in str(refused.value)
    assert says in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "in memory would lose every call"),
        ("postgresql://host/exoflow", "not supported by this version"),
        ("exoflow.db", "no database URL"),
        ("sqlite:////nonexistent/folder/calls.db", "mkdir -p /nonexistent/folder"),
    ],
)
def test_a_useless_url_is_refused_with_the_cure(url, says):
    with pytest.raises(StoreError, match=says):
        open_store(url)


def test_looking_never_makes_a_store(url, tmp_path):
    with pytest.raises(StoreError, match="no store yet"):
        open_reader(url)
    with pytest.raises(StoreError, match="no store yet"):
        open_store(url, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_refused(store, url, monkeypatch):
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.0)
    with pytest.raises(StoreError, match="another exoflow process writes to it"):
        open_store(url)


def test_a_second_writer_waits_for_a_hand_over(url):
    first = open_store(url)
    gevent.spawn_later(0.1, first.close)
    second = open_store(url)
    second.close()


# --- writing ------------------------------------------------------------------------------------------


def test_a_failing_closure_hurts_no_neighbour(store):
    def late_failure(connection):
        connection.execute(insert(tables.calls), row("undone"))
        raise ZeroDivisionError

    results = [store.post(add("a")), store.post(late_failure), store.post(add("a")), store.post(add("b"))]
    gevent.wait(results)
    assert [type(result.exception) for result in results] == [type(None), ZeroDivisionError, IntegrityError, type(None)]
    assert ids(store) == {"a", "b"}


def test_times_come_back_aware_and_naive_ones_are_refused(store):
    store.write(add("a"))
    assert store.read(lambda c: c.execute(select(tables.calls.c.created_at)).scalar()) == NOW
    with pytest.raises(StatementError, match="without a zone"):
        store.write(add("b", created_at=datetime(2026, 10, 1)))


def test_a_write_past_its_deadline_still_happens(store):
    with ForeignLock(store), pytest.raises(DeadlineExceeded, match=r"commit to calls\.db"):
        store.write(add("a"), deadline=0.05)
    store.write(lambda connection: None)
    assert ids(store) == {"a"}


def test_an_outer_timeout_is_not_taken_for_the_deadline(store):
    with ForeignLock(store), pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
        store.write(add("a"), deadline=30)


def test_a_foreign_lock_does_not_hold_the_loop(store):
    with ForeignLock(store), Stall() as stall:
        waiting = store.post(add("a"))
        gevent.sleep(1.0)
        assert not waiting.ready()
        assert store.read(lambda c: 1) == 1  # readers go on
    waiting.get(timeout=5)
    assert stall.longest < 500  # a busy machine's share; the lock was there for longer


def test_a_full_disk_fails_the_write_and_nothing_after_it(store):
    pages = store.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
    store.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar())
    with pytest.raises(StoreError, match="is the disk full"):
        store.write(add("big", caller_raw="9" * 200_000))
    store.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1000000").scalar())
    store.write(add("after"))
    assert ids(store) == {"after"}
    assert store.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"


def test_closing_writes_what_is_queued_and_then_takes_nothing_more(url):
    store = open_store(url)
    for i in range(500):
        store.post(add(f"call{i}"))
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.post(add("late"))
    reader = open_reader(url)
    assert reader.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM calls").scalar()) == 500
    reader.close()


def test_200_greenlets_write_and_the_loop_hardly_waits(store):
    """The best of five rounds: other programs on the machine may hold one of them up, our own writing would hold all."""

    def writer(number):
        for i in range(5):
            store.write(add(f"{number}-{i}"))

    with Stall() as machine:  # what others on the machine hold up
        gevent.sleep(0.5)
    longest = []
    for attempt in range(5):
        with Stall() as stall:
            gevent.joinall([gevent.spawn(writer, attempt * 1000 + number) for number in range(200)], raise_error=True)
        longest.append(stall.longest)
    assert len(ids(store)) == 5 * 200 * 5
    print("longest stalls in ms:", [round(ms, 1) for ms in longest])
    assert min(longest) < 10 + 2 * machine.longest


# --- reading ------------------------------------------------------------------------------------------


def test_a_reader_beside_the_writer_sees_what_is_committed_and_cannot_write(store, url):
    reader = open_reader(url)
    store.write(add("a"))
    assert reader.read(lambda c: c.execute(select(tables.calls.c.id)).scalars().all()) == ["a"]
    with pytest.raises(StoreError, match="readonly"):
        reader.read(add("b"))
    reader.close()


def test_one_look_is_of_one_moment(store, url):
    store.write(add("a"))
    reader = open_reader(url)

    def look(connection):
        first = len(connection.execute(select(tables.calls.c.id)).all())
        store.write(add("b"))
        return first, len(connection.execute(select(tables.calls.c.id)).all())

    assert reader.read(look) == (1, 1)
    reader.close()


def test_a_greenlet_killed_in_a_read_spoils_no_connection(store):
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) FROM n"
    killed = [gevent.spawn(store.read, lambda c: c.exec_driver_sql(slow).scalar()) for _ in range(6)]
    gevent.sleep(0.01)
    gevent.killall(killed)
    results = [gevent.spawn(store.read, lambda c: c.exec_driver_sql("SELECT 7").scalar()) for _ in range(8)]
    gevent.joinall(results, raise_error=True)
    assert [greenlet.value for greenlet in results] == [7] * 8


@pytest.mark.parametrize(
    "name", ["exo%20flow.db", "exo?mode=ro.db", "exo#1.db", "exo flow.db", "exo&cache=shared.db", "विक्रय.db"]
)
def test_store_lies_under_the_name_that_is_written(tmp_path, name):
    folder = tmp_path / "p%20q" / "p?x"
    folder.mkdir(parents=True)
    store = open_store(f"sqlite:///{folder}/{name}")
    store.write(add("1"))
    store.close()
    assert store.path == folder / name
    assert (folder / name).stat().st_size > 0
    assert {file.name.removeprefix(name) for file in folder.iterdir()} <= {"", "-wal", "-shm", ".lock"}
    reader = open_reader(f"sqlite:///{folder}/{name}")
    assert reader.read(lambda c: c.execute(select(tables.calls.c.id)).scalars().all()) == ["1"]
    reader.close()
