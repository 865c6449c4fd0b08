"""The Calls API against the files of tests/dialect/api, and what no file can say."""

from __future__ import annotations

import itertools
import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import canonicalize

import pytest
from callsapi import KEY, NOW, TOKEN, Api, call, the_calls, write
from sqlalchemy import select

from exoflow.calls.model import CallState
from exoflow.crm.dialect import call_status
from exoflow.errors import StoreError
from exoflow.store import tables as t
from exoflow.web import calllist, callpages

FILES = Path(__file__).parents[1] / "dialect" / "api"
CASES = sorted(file.stem for file in FILES.glob("*.req"))
BASIC = b64encode(f"{KEY}:{TOKEN}".encode()).decode()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path, the_calls())
    yield made
    made.stop()


def asked(api: Api, query: str = "", path: str = "/v1/Accounts/acme/Calls.json") -> tuple[int, dict[str, str], Any]:
    target = path + (f"?{query}" if query else "")
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {BASIC}\r\n\r\n"
    status, headers, body = api.sent(request.encode())
    return status, headers, json.loads(body)


def sids(answer: dict[str, Any]) -> list[str]:
    return [one["Sid"] for one in answer["Calls"]]


# --- the files ------------------------------------------------------------------------------------------


def test_every_request_has_its_answer() -> None:
    assert CASES
    assert sorted(file.stem for file in FILES.glob("*.res")) == CASES


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    hours = itertools.count(step=3600.0)  # so that no rate is in the files' way
    made = Api(tmp_path_factory.mktemp("api"), the_calls(), lambda: next(hours))
    yield made
    made.stop()


@pytest.mark.parametrize("case", CASES)
def test_request(shared: Api, case: str) -> None:
    request = (FILES / f"{case}.req").read_bytes().replace(b"\n", b"\r\n")
    head, _, wanted = (FILES / f"{case}.res").read_text().partition("\n\n")
    first, *lines = head.splitlines()
    status, headers, body = shared.sent(request)
    assert (status, body.decode()[:1]) == (int(first), wanted[:1])
    for line in filter(None, lines):
        name, _, value = line.partition(": ")
        assert headers[name.lower()] == value
    assert headers["cache-control"] == "no-store"
    if wanted.startswith("{"):
        assert json.dumps(json.loads(body)) == json.dumps(json.loads(wanted))
    elif wanted:
        assert canonicalize(body.decode(), strip_text=True) == canonicalize(wanted, strip_text=True)


def test_all_else_is_healths(api: Api) -> None:
    assert api.sent(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")[2] == b"health"
    assert api.sent(b"GET /voicemail HTTP/1.1\r\nHost: x\r\n\r\n")[2] == b"health"


@pytest.mark.parametrize("numbers", ["09999999901,", "+91 99999-99901;", ",99999.99901,,", "9999999901%0A"])
def test_numbers_in_every_form_find_the_same(api: Api, numbers: str) -> None:
    found = sids(asked(api, f"From={numbers.replace('+', '%2B').replace(' ', '%20')}")[2])
    assert found == sids(asked(api, "From=09999999901")[2]) != sids(asked(api)[2])


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Status=completed,%20canceled,", "Status=completed,canceled"),
        (f"Sid=%20{'a' * 32},,{'b' * 32},", f"Sid={'a' * 32},{'b' * 32}"),
        ("Duration=gte:10s;%20lte:45s;", "Duration=gte:10s;lte:45s"),
    ],
)
def test_blanks_and_empty_parts_of_lists_count_for_nothing(api: Api, written: str, plain: str) -> None:
    assert sids(asked(api, written)[2]) == sids(asked(api, plain)[2]) != []


# --- pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_show_each_call_once_there_and_back(api: Api, order: str) -> None:
    """Many calls of one moment among them, and calls that come meanwhile move nothing."""
    moment = NOW - timedelta(minutes=1)
    write(api.store, (call(f"{number:02x}", moment, id=f"{number:032x}", channel=f"{number}") for number in range(1, 18)))
    every = sids(asked(api, f"PageSize=100&SortBy=DateCreated:{order}")[2])
    assert len(every) == len(set(every)) == 22
    uri: str | None = f"/v1/Accounts/acme/Calls.json?PageSize=4&SortBy=DateCreated:{order}"
    there: list[list[str]] = []
    back: list[list[str]] = []
    newest = itertools.count(100)
    while uri is not None:
        answer = asked(api, path=uri)[2]
        there.append(sids(answer))
        uri, last = answer["Metadata"]["NextPageUri"], answer["Metadata"]["PrevPageUri"]
        if order == "desc":
            number = next(newest)
            write(api.store, [call("n", NOW, id=f"{number:032x}", channel=f"{number}")])
    assert [sid for part in there for sid in part] == every
    while last is not None and len(back) < 5:
        answer = asked(api, path=last)[2]
        back.append(sids(answer))
        last = answer["Metadata"]["PrevPageUri"]
    assert back[::-1][-len(there) + 1 :] == there[:-1]


def test_beyond_what_is_counted_there_is_no_total(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calllist, "COUNTED", 5)
    assert asked(api)[2]["Metadata"]["Total"] == 5
    monkeypatch.setattr(calllist, "COUNTED", 4)
    assert asked(api)[2]["Metadata"]["Total"] is None


# --- statuses -------------------------------------------------------------------------------------------


def every_end() -> Iterator[CallState]:
    """Each combination of what a status goes by."""
    moment = NOW - timedelta(minutes=5)
    ways = itertools.product(
        (None, moment), (None, moment), (None, moment), (None, 16, 17, 18, 19), ("", "caller"), (False, True)
    )
    for number, (ring, answered, ended, q850, by, left) in enumerate(ways):
        yield call(
            "x",
            moment,
            id=f"{number:032x}",
            channel=str(number),
            ring_at=ring,
            answered_at=answered,
            ended_at=ended,
            q850=q850,
            ended_by=by,
            caller_left=left,
            outcome="served" if ended else None,
        )


def test_the_filter_by_status_finds_what_the_calls_show(tmp_path: Path) -> None:
    calls = {one.facts.id: one for one in every_end()}
    api = Api(tmp_path, calls.values())
    try:
        with_status = api.store.read(lambda c: c.execute(select(t.calls.c.id, calllist._status())).all())
        assert dict(map(tuple, with_status)) == {sid: call_status(one) for sid, one in calls.items()}
        for status in {call_status(one) for one in calls.values()}:
            answer = asked(api, f"Status={status}&PageSize=100")[2]
            assert answer["Calls"]
            assert {one["Status"] for one in answer["Calls"]} == {status}
    finally:
        api.stop()


# --- indices, and what takes too long ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "calls_account"),
        ("SortBy=DateCreated:asc", "calls_account"),
        ("From=09999999901&Status=busy&Duration=gte:5s", "calls_account"),
        (f"Sid={'a' * 32},{'b' * 32}", "sqlite_autoindex_calls_1"),
        ("After=CURSOR", "calls_account"),
    ],
)
def test_an_index_leads_to_the_page(api: Api, query: str, index: str) -> None:
    cursor = str(calllist.Cursor(NOW, "a" * 32))
    given = callpages.parameters(query.replace("CURSOR", quote(cursor)))
    wanted = callpages.query(given, zone=NOW.tzinfo or callpages.UTC, now=NOW)
    seen: list[str] = []

    def look(connection: Any) -> None:
        connection.connection.dbapi_connection.set_trace_callback(seen.append)
        try:
            calllist.page(connection, "acme", wanted)
        finally:
            connection.connection.dbapi_connection.set_trace_callback(None)
        for statement in [one for one in seen if "FROM calls" in one]:
            plan = " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}"))
            assert index in plan or "sqlite_autoindex_calls_1" in plan
            assert "SCAN calls" not in plan
            plans.append(plan)

    plans: list[str] = []
    api.store.read(look)
    assert len(plans) == (3 if "After" in query else 2)  # places, count, calls; no count where all is on the page
    assert index in plans[0]
    assert index in plans[-2]
    assert ("calls_account" in index) == ("created_at>" in plans[0])


def test_a_look_that_takes_too_long_is_broken_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calllist, "LOOK_SECONDS", -1.0)
    monkeypatch.setattr(calllist, "STEPS", 1)
    status, headers, answer = asked(api)
    assert (status, headers["retry-after"]) == (503, "5")
    assert "fewer days" in answer["RestException"]["Message"]
    monkeypatch.undo()
    assert asked(api)[0] == 200  # the same connection, and nothing of it is left


def test_a_store_that_cannot_be_read_is_told_without_its_path(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(look: Any, *, deadline: float) -> None:
        raise StoreError("/var/lib/exoflow/exoflow.db: cannot be read")

    monkeypatch.setattr(api.store, "read", read)
    status, _, answer = asked(api)
    assert (status, answer["RestException"]["Status"]) == (503, 503)
    assert "/var" not in answer["RestException"]["Message"]


def test_half_of_the_readers_stay_free_for_calls(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callpages, "READ_SECONDS", 0.01)
    for _ in range(callpages.READS):
        api.pages._turn.acquire()
    assert asked(api)[0] == 503
    monkeypatch.undo()
    api.pages._turn.release()
    assert asked(api)[0] == 200


class Steps:
    """In the place of the clock: counts how often SQLite's machine looks at it."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return 0.0


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_far_behind_costs_what_the_first_does(api: Api, monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    begin = NOW - timedelta(days=10)
    many = (call("m", begin + timedelta(seconds=n), id=f"{n:032x}", channel=str(n)) for n in range(1, 5000))
    write(api.store, many)
    steps = Steps()
    monkeypatch.setattr(calllist, "STEPS", 50)
    monkeypatch.setattr(calllist, "time", steps)

    def cost(query: str) -> int:
        steps.looks = 0
        assert len(asked(api, f"SortBy=DateCreated:{order}&{query}")[2]["Calls"]) == 50
        return steps.looks

    first = cost("")
    for cursor in (f"After={calllist.Cursor(begin + timedelta(seconds=2500), 'f' * 32)}", f"Before={_last(begin, order)}"):
        assert cost(cursor) < 1.5 * first


def _last(begin: datetime, order: str) -> calllist.Cursor:
    return calllist.Cursor(begin + timedelta(seconds=4900 if order == "asc" else 100), "0" * 32)
