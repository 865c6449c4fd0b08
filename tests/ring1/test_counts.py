"""Hourly counts: never waited for, summed over processes, and read by an engineer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gevent
import pytest
from click.testing import CliRunner
from hall import BYE, WAIT, Hall, eventually, say
from hypothesis import given
from hypothesis import strategies as st
from spilling import fill, mend

from exoflow.cli import main
from exoflow.store import counts as counts_module
from exoflow.store import open_store, tables
from exoflow.store import sqlite as store_module
from exoflow.store.counts import ALL_BUSY, OTHER, Counts, by_hour, turned_away
from exoflow.store.sqlite import Store

NOW = datetime(2026, 11, 23, 6, 59, 59, tzinfo=UTC)
HOUR = NOW.replace(minute=0, second=0)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
Start = Callable[..., Hall]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/calls.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = open_store(url)
    yield made
    made.close()


def counted(store: Store) -> list[tuple[datetime, str, str, float]]:
    store.write(lambda connection: None)
    return store.read(lambda c: by_hour(c, LONG_AGO))


def at(store: Store, now: datetime) -> Counts:
    return Counts(store.mirror, clock=lambda: now)


def test_counts_are_added_up_by_hour_name_and_trunk(store: Store) -> None:
    first, later = at(store, NOW), at(store, NOW + timedelta(seconds=1))
    for _ in range(3):
        first.add("refused", "PRI1")
    first.add("refused", "PRI2", 2)
    later.add("refused", "PRI1")
    first.add("nothing", "PRI1", 0)
    next_hour = HOUR + timedelta(hours=1)
    assert counted(store) == [
        (HOUR, "refused", "PRI1", 3.0),
        (HOUR, "refused", "PRI2", 2.0),
        (next_hour, "refused", "PRI1", 1.0),
    ]


def test_processes_of_one_hour_are_added_up(url: str) -> None:
    for _ in range(3):
        store = open_store(url)
        at(store, NOW).add("refused", "", 5)
        found = counted(store)
        store.close()
    assert found == [(HOUR, "refused", "", 15.0)]


def test_adding_never_waits_and_an_ailing_store_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.02)
    fill(store)
    counts = at(store, NOW)
    with gevent.Timeout(1):
        for _ in range(1000):
            counts.add("refused", "PRI1")
            gevent.sleep(0)
    eventually(lambda: store.trouble)
    counts.add("refused", "PRI1")
    mend(store)
    assert counted(store) == [(HOUR, "refused", "PRI1", 1001.0)]


def test_trunk_names_that_a_switch_makes_up_fill_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "MAX_KEYS", 5)
    counts = at(store, NOW)
    for number in range(50):
        counts.add("refused", f"made-up-{number}")
    found = counted(store)
    assert len(found) == 6
    assert (HOUR, "refused", OTHER, 45.0) in found


def test_an_hour_that_has_passed_leaves_memory(store: Store) -> None:
    now = [NOW]
    counts = Counts(store.mirror, clock=lambda: now[0])
    for hour in range(50):
        now[0] = NOW + timedelta(hours=hour)
        counts.add("refused", "PRI1")
        store.write(lambda connection: None)
    assert len(counts._sums) == 1
    assert len(counted(store)) == 50


def test_what_is_heard_of_later_counts_in_its_own_hour_however_often_that_is_written(store: Store) -> None:
    """Calls that were refused while exoflow was away, from their CDR files."""
    counts = at(store, NOW)
    for _ in range(3):
        counts.add("door.limit", "PRI1", at=NOW - timedelta(hours=9))
        counts.add("refused", "PRI1")
        store.write(lambda connection: None)
    assert counted(store) == [(HOUR - timedelta(hours=9), "door.limit", "PRI1", 3.0), (HOUR, "refused", "PRI1", 3.0)]
    assert len(counts._sums) == 1


def test_running_sums_are_counted_by_what_they_grow(store: Store) -> None:
    counts = at(store, NOW)
    sums = {("refused", ""): 0.0, (ALL_BUSY, "PRI1"): 2.5}
    counts.watch(lambda: sums)
    counts.look()
    sums["refused", ""] = 4.0
    counts.look()
    sums[ALL_BUSY, "PRI1"] = 10.0
    counts.stop()
    assert counted(store) == [(HOUR, ALL_BUSY, "PRI1", 10.0), (HOUR, "refused", "", 4.0)]


def test_a_service_counts_the_calls_that_it_refuses(hall: Start) -> None:
    h = hall({"hello": say("Hi."), "bye": BYE}, switch={"max_calls": 1}, speed=None)
    taken, refused = h.call(), h.call()
    assert taken.wait(WAIT)
    assert refused.wait(WAIT)
    eventually(lambda: not h.service.book.live)
    h.service.store.counts.look()
    found = {name: amount for _, name, _, amount in counted(h.service.store)}
    assert found["refused"] == 1.0


# --- the estimate ------------------------------------------------------------------------------------------


def test_callers_turned_away_are_estimated_from_those_who_came_through() -> None:
    assert turned_away(330, 300.0, 3600.0) == pytest.approx(30.0)  # 330 in 55 min: 6 a minute, and 5 min without room
    assert turned_away(0, 300.0, 3600.0) == 0.0
    assert turned_away(330, 0.0, 3600.0) == 0.0


@given(arrivals=st.integers(0, 100_000), busy=st.floats(0, 4000), seconds=st.floats(0, 3600))
def test_an_estimate_is_finite_and_never_negative(arrivals: int, busy: float, seconds: float) -> None:
    assert 0 <= turned_away(arrivals, busy, seconds) < float("inf")


# --- the command -------------------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["counts", *arguments])


def test_the_command_shows_the_hours_and_says_what_is_an_estimate(store: Store, url: str) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    counts = at(store, hour)
    counts.add("refused", "PRI1", 3)
    counts.add(ALL_BUSY, "PRI1", 600.0)
    call = dict.fromkeys(("channel", "dialled_raw", "caller_raw", "cause", "ended_by", "reason", "digits"), "")
    flags = {"caller_withheld": False, "wanted_agent": False, "caller_left": False}
    rows = [{**call, **flags, "id": f"{n}", "trunk": "PRI1", "created_at": hour + timedelta(seconds=n)} for n in range(100)]
    store.write(lambda c: c.execute(tables.calls.insert(), rows))
    shown = run("--store", url)
    assert shown.exit_code == 0
    assert "calls refused above switch.max_calls" in shown.output
    (estimate,) = [line for line in shown.output.splitlines() if "an estimate" in line]
    assert "~20" in estimate  # 100 calls in 50 min: 2 a minute, and 10 min without room
    data = json.loads(run("--store", url, "--json").output)
    assert {row["name"]: row["amount"] for row in data} == {"refused": 3.0, ALL_BUSY: 600.0, "turned_away_estimate": 20.0}
    assert run("--store", url, "--hours", "1").output.startswith("Nothing was refused")


def test_the_command_names_the_cure_where_there_is_no_store(tmp_path: Path) -> None:
    shown = run("--store", f"sqlite:///{tmp_path}/none.db")
    assert shown.exit_code == 1
    assert "`exoflow serve` makes it" in shown.output
