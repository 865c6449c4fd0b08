"""The sender against a real HTTP server on loopback; the schedule's days pass on a clock of the test's own."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import gevent
import pytest
from gevent.event import Event
from gevent.pywsgi import WSGIServer
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from exoflow.calls import call as call_module
from exoflow.calls.book import CallBook
from exoflow.calls.lookup import deliveries_of
from exoflow.calls.model import CallFacts
from exoflow.config.model import Account
from exoflow.crm import sender as sender_module
from exoflow.crm.http import CrmClient
from exoflow.crm.sender import SCHEDULE, Sender, retry_after
from exoflow.store import open_store, outbox, tables

SECRET = "whsec_" + "QUJD" * 8
FLOWS = {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}}


class Crm:
    """A CRM that notes what it receives and answers what the test says: a status, or (status, headers, body)."""

    def __init__(self):
        self.received = []  # (headers, body)
        self.answer = 200
        self.arrived = Event()
        self.blocked = {}  # account: Event to wait for
        self.under_way = {}
        self.server = WSGIServer(("127.0.0.1", 0), self._serve, log=None, error_log=None)
        self.server.start()

    def url(self, account="acme"):
        return f"http://127.0.0.1:{self.server.server_port}/{account}?token=very-secret"

    def _serve(self, environ, start_response):
        account = environ["PATH_INFO"].strip("/")
        try:
            body = environ["wsgi.input"].read()
        except OSError:  # the sender was killed while it sent
            start_response("400 X", [])
            return [b""]
        self.under_way[account] = self.under_way.get(account, 0) + 1
        if account in self.blocked:
            self.blocked[account].wait()
        self.under_way[account] -= 1
        headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        self.received.append((headers, body))
        answer = self.answer(headers, body) if callable(self.answer) else self.answer
        status, extra, text = answer if isinstance(answer, tuple) else (answer, {}, b"")
        self.arrived.set()
        start_response(f"{status} X", list(extra.items()))
        return [text]

    @property
    def ids(self):
        return [headers["webhook-id"] for headers, _ in self.received]

    def seqs(self, call_id):
        whole = (json.loads(body)["data"] for _, body in self.received)
        return [data["seq"] for data in whole if data["call"] == call_id]


class Clock:
    def __init__(self):
        self.now = datetime.now(UTC)

    def __call__(self):
        return self.now

    def pass_seconds(self, seconds):
        self.now += timedelta(seconds=seconds)


class World:
    def __init__(self, tmp_path, client):
        self.url = f"sqlite:///{tmp_path}/calls.db"
        self.store = open_store(self.url)
        self.crm = Crm()
        self.clock = Clock()
        self.accounts = {name: self.account(name) for name in ("acme", "slow", "other")}
        self.client = client
        self.book = CallBook(self.store, clock=self.clock, accounts=self.accounts.get)
        self.sender = self.new_sender()

    def account(self, name="acme", *, url=None, secret=SECRET, timeout=5):
        deliveries = {"url": url or self.crm.url(name), "secret": secret, "timeout": timeout}
        crm = {"allow_private": ["127.0.0.0/8"]}
        return Account.model_validate({"name": name, "flows": FLOWS, "deliveries": deliveries, "crm": crm})

    def new_sender(self, **options):
        options = {"clock": self.clock, "jitter": lambda: 0.0, **options}
        return Sender(self.store, self.client, self.accounts.get, **options)

    def ended_call(self, account="acme", deliveries=1):
        """A closed call; further deliveries are as of recordings that are judged late."""
        call = self.book.open(
            CallFacts(uuid.uuid4().hex, uuid.uuid4().hex, self.clock(), "PRI1", "2400", "1", account=account),
            self.accounts[account],
        )
        assert call.close("answered")
        for _ in range(deliveries - 1):
            call._told.ids.clear()
            (tiding,) = call.book.tidings(call.state, call.account, self.clock(), call._told)
            row = call._told.next(call.state, tiding, self.clock()) | {"webhook_id": f"msg_{uuid.uuid4().hex}"}
            self.store.write(lambda c, row=row: c.execute(tables.deliveries.insert(), row))
        return call.id

    def rows(self, call_id):
        return self.store.read(lambda c: deliveries_of(c, call_id))

    def row(self, call_id):
        (row,) = self.rows(call_id)
        return row

    def close(self):
        self.sender.stop(1)
        self.store.close()
        self.crm.server.stop(timeout=0)


@pytest.fixture(scope="module")
def client():
    client = CrmClient()
    yield client
    client.close()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "calls.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def world(tmp_path, client, empty_store):
    shutil.copy(empty_store, tmp_path)
    world = World(tmp_path, client)
    yield world
    world.close()


# --- one attempt ------------------------------------------------------------------------------------------


def test_a_delivery_is_signed_sent_once_and_kept(world):
    world.crm.answer = (200, {}, b"thanks " * 100)
    call = world.ended_call()
    assert world.sender.drain() == 1
    ((headers, body),) = world.crm.received
    payload = Webhook(SECRET).verify(body, headers)
    assert payload["type"] == "call.ended"
    assert payload["data"]["call"] == call
    assert headers["content-type"] == "application/json"
    row = world.row(call)
    assert (row.state, row.webhook_id, row.delivered_at) == ("delivered", headers["webhook-id"], world.clock.now)
    (attempt,) = row.attempts
    assert (attempt.status, attempt.reason) == (200, "")
    assert attempt.answer.startswith("thanks thanks")
    assert len(attempt.answer) <= 200
    assert "very-secret" not in attempt.url
    assert world.sender.drain() == 0


@pytest.mark.parametrize("status", [201, 204, 299])
def test_any_2xx_is_a_success(world, status):
    world.crm.answer = status
    call = world.ended_call()
    world.sender.drain()
    assert world.row(call).state == "delivered"


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 429, 500, 502, 503])
def test_anything_else_is_tried_again(world, status):
    world.crm.answer = (status, {"Location": world.crm.url()}, b"no")
    call = world.ended_call()
    assert world.sender.drain() == 1
    row = world.row(call)
    assert (row.state, row.attempts[0].status, row.attempts[0].reason) == ("pending", status, "status")
    assert str(status) in row.problem
    assert "very-secret" not in row.problem
    world.crm.answer = 200
    world.clock.pass_seconds(5)
    world.sender.drain()
    assert world.row(call).state == "delivered"
    assert len(set(world.crm.ids)) == 1


def test_a_crm_that_is_away_or_silent_is_tried_again_with_its_reason(world):
    world.accounts["acme"] = world.account(url="http://127.0.0.1:1/")
    world.accounts["slow"] = world.account("slow", timeout=0.05)
    world.crm.blocked["slow"] = Event()
    refused, silent = world.ended_call(), world.ended_call("slow")
    world.sender.drain()
    world.crm.blocked["slow"].set()
    assert [world.row(call).attempts[0].reason for call in (refused, silent)] == ["refused", "timeout"]
    assert [world.row(call).attempts[0].status for call in (refused, silent)] == [None, None]


def test_410_ends_a_row_at_once_and_is_told(world, caplog):
    world.crm.answer = 410
    call = world.ended_call(deliveries=2)
    assert world.sender.drain() == 2  # the later row is not held back by a dead one
    assert [row.state for row in world.rows(call)] == ["dead", "dead"]
    assert "410" in world.rows(call)[0].problem
    assert "is given up" in caplog.text
    world.clock.pass_seconds(90000)
    assert world.sender.drain() == 0


def test_an_account_that_lost_its_deliveries_gets_them_once_it_is_corrected(world):
    call = world.ended_call()
    good = world.accounts.pop("acme")
    world.sender.drain()
    assert world.row(call).attempts[0].reason == "no_endpoint"
    world.accounts["acme"] = world.account(secret="whsec_c2hvcnQ=")
    world.clock.pass_seconds(5)
    world.sender.drain()
    assert world.row(call).attempts[1].reason == "secret"
    assert world.crm.received == []
    world.accounts["acme"] = good
    world.clock.pass_seconds(300)
    world.sender.drain()
    assert world.row(call).state == "delivered"


# --- the schedule -----------------------------------------------------------------------------------------


def test_ten_attempts_over_75_hours_then_given_up(world, caplog):
    world.crm.answer = 500
    call = world.ended_call()
    times = []
    while world.row(call).state == "pending":
        world.clock.now = max(world.clock.now, world.row(call).next_at - timedelta(milliseconds=1))
        assert world.sender.drain() == (0 if times else 1)  # never before its time
        if times:
            world.clock.now = world.row(call).next_at
            assert world.sender.drain() == 1
        times.append(world.clock.now)
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert waits == list(SCHEDULE[1:])
    assert sum(waits) > 24 * 3600
    assert world.row(call).state == "dead"
    assert [attempt.status for attempt in world.row(call).attempts] == [500] * 10
    assert len(set(world.crm.ids)) == 1
    assert len({body for _, body in world.crm.received}) == 1
    assert "is given up" in caplog.text


def test_jitter_is_a_fifth_to_either_side(world):
    sender = Sender(world.store, world.client, world.accounts.get)
    waits = [sender._wait(SCHEDULE[2], 0) for _ in range(300)]
    assert 240 <= min(waits) < 265
    assert 335 < max(waits) <= 360


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_never_undercut(world, status):
    sender = world.new_sender(jitter=lambda: -0.2)
    world.crm.answer = (status, {"Retry-After": "7200"}, b"")
    call = world.ended_call()
    sender.drain()
    wait = (world.row(call).next_at - world.clock.now).total_seconds()
    assert 7200 <= wait <= 8640


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("999999999999999999999", 86400),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
        ("١٢", 0),
        ("Wed, 99 Foo 2026 99:99:99 GMT", 0),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2026 07:28:00 +9999999999999", 0),
        ("Wed, 9999999999999999999999 Oct 2026 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86400),
        (",", 0),
        ("\0", 0),
    ],
)
def test_retry_after_as_servers_write_it(text, seconds):
    assert retry_after({"Retry-After": text}, datetime.now(UTC)) == seconds


@given(st.text(max_size=60) | st.from_regex(r"\A[A-Z][a-z]{2}, [0-9]{1,30} [A-Z][a-z]{2} [0-9]{1,30} .{0,20}\Z"))
@settings(max_examples=300, deadline=None)
def test_retry_after_is_read_or_counts_as_none(text):
    assert 0 <= retry_after({"Retry-After": text}, datetime.now(UTC)) <= 86400


def test_attempt_that_fails_within_exoflow_is_settled_like_any_other(world, monkeypatch, caplog):
    def breaks(headers, now):
        raise OverflowError("no calendar has it")

    monkeypatch.setattr(sender_module, "retry_after", breaks)
    world.crm.answer = (503, {"Retry-After": "x"}, b"")
    call = world.ended_call()
    assert world.sender.drain() == 1
    row = world.row(call)
    assert (row.state, [attempt.reason for attempt in row.attempts]) == ("pending", ["internal"])
    assert row.next_at > world.clock.now
    assert "OverflowError: no calendar has it" in caplog.text


@pytest.mark.parametrize(
    ("headers", "body"),
    [({}, b"<html>" + b"x" * 70_000), ({"Content-Encoding": "gzip"}, b"\x1f\x8b"), ({"Content-Encoding": "none"}, b"OK")],
)
def test_delivery_that_was_answered_2xx_is_taken_whatever_the_body_is(world, headers, body):
    world.crm.answer = (200, headers, body)
    call = world.ended_call()
    assert world.sender.drain() == 1
    assert world.row(call).state == "delivered"


@pytest.mark.parametrize(("offset", "seconds"), [(3600, 3600), (-3600, 0), (10**7, 86400)])
def test_retry_after_as_a_date(offset, seconds):
    now = datetime.now(UTC).replace(microsecond=0)
    assert retry_after({"Retry-After": format_datetime(now + timedelta(seconds=offset), usegmt=True)}, now) == seconds


# --- order ------------------------------------------------------------------------------------------------


def test_rows_of_a_call_arrive_in_order_until_one_has_failed_five_times(world):
    world.crm.answer = lambda headers, body: 500 if json.loads(body)["data"]["seq"] == 1 else 200
    call = world.ended_call(deliveries=3)
    other = world.ended_call()
    for wait in SCHEDULE[:4]:
        world.clock.pass_seconds(wait)
        world.sender.drain()
    assert world.crm.seqs(call) == [1] * 4
    assert world.crm.seqs(other) == [1] * 4
    world.clock.pass_seconds(SCHEDULE[4])
    world.sender.drain()
    assert world.crm.seqs(call) == [1] * 5 + [2, 3]
    assert [row.state for row in world.rows(call)] == ["pending", "delivered", "delivered"]


def test_in_good_times_each_call_is_in_order_though_calls_overtake_each_other(world):
    calls = [world.ended_call(deliveries=4) for _ in range(10)]
    world.sender.drain()
    for call in calls:
        assert world.crm.seqs(call) == [1, 2, 3, 4]


def test_a_slow_crm_holds_back_its_own_deliveries_only(world):
    release = world.crm.blocked["slow"] = Event()
    for _ in range(30):
        world.ended_call("slow")
    quick = [world.ended_call("acme") for _ in range(30)]
    world.sender.start()
    with gevent.Timeout(5):
        while any(world.row(call).state != "delivered" for call in quick):
            gevent.sleep(0.01)
    assert world.crm.under_way["slow"] == sender_module.PER_ACCOUNT
    release.set()


def test_a_crm_that_is_down_is_asked_by_one_row_at_a_time(world):
    most = []
    world.crm.answer = lambda headers, body: most.append(len(world.sender._pool)) or 500
    for _ in range(12):
        world.ended_call()
    world.sender.drain()
    assert max(most[:4]) == sender_module.PER_ACCOUNT
    assert set(most[4:]) == {1}
    world.crm.answer = 200
    world.clock.pass_seconds(10)
    assert world.sender.drain() == 12


# --- durability -------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_it_is_committed(world, monkeypatch):
    monkeypatch.setattr(call_module, "CLOSE_COMMIT_SECONDS", 0.02)
    world.book.wake = world.sender.wake
    world.sender.start()
    with closing(sqlite3.connect(world.store.path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        call = world.book.open(
            CallFacts("a" * 32, "c", world.clock(), "PRI1", "1", "1", account="acme"), world.accounts["acme"]
        )
        assert not call.close("answered")
        gevent.sleep(0.05)
        assert world.crm.received == []
        foreign.rollback()
    assert world.crm.arrived.wait(5)
    assert world.crm.seqs(call.id) == [1]


def test_a_commit_wakes_the_sender_before_its_poll(world, monkeypatch):
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 60)
    world.book.wake = world.sender.wake
    world.sender.start()
    gevent.sleep(0.02)
    world.ended_call()
    assert world.crm.arrived.wait(2)


def test_without_a_wake_up_the_poll_finds_it(world, monkeypatch):
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 0.02)
    world.sender.start()
    gevent.sleep(0.05)
    world.ended_call()
    assert world.crm.arrived.wait(2)


def test_a_lease_is_respected_then_taken_over_and_the_late_answer_is_fenced_off(world):
    call = world.ended_call()
    now = world.clock.now
    (late,) = world.store.write(
        lambda c: outbox.claim(c, {"acme": 9}, now=now, lease_until=now + timedelta(seconds=60), total=9)
    )
    assert world.sender.drain() == 0
    world.clock.pass_seconds(61)
    world.crm.answer = 500
    assert world.sender.drain() == 1
    attempt = outbox.Attempt(now, "", 200, 5, "", "")
    assert not world.store.write(lambda c: outbox.settle(c, late, attempt, state="delivered"))
    assert world.row(call).state == "pending"
    assert [a.status for a in world.row(call).attempts] == [200, 500]


def test_a_start_takes_over_what_a_dead_process_had_under_way(world):
    call = world.ended_call()
    now = world.clock.now
    world.store.write(lambda c: outbox.claim(c, {"acme": 9}, now=now, lease_until=now + timedelta(seconds=60), total=9))
    world.sender.start()
    assert world.crm.arrived.wait(2)
    world.sender.stop()
    assert world.row(call).state == "delivered"


def test_an_answer_whose_settling_is_lost_leads_to_a_repeat_under_the_same_id(world, monkeypatch):
    call = world.ended_call()
    with monkeypatch.context() as broken:
        broken.setattr(outbox, "settle", lambda *_, **__: 1 / 0)
        assert world.sender.drain() == 1
    assert world.row(call).state == "leased"
    world.clock.pass_seconds(sender_module.LEASE_SECONDS + 1)
    assert world.sender.drain() == 1
    assert world.row(call).state == "delivered"
    assert len(world.crm.ids) == 2
    assert len(set(world.crm.ids)) == 1


def test_stopping_leaves_the_rest_for_the_next_start(world):
    world.crm.blocked["acme"] = Event()
    call = world.ended_call()
    world.sender.start()
    gevent.sleep(0.05)
    world.sender.stop(0.05)
    assert world.row(call).state == "leased"
    del world.crm.blocked["acme"]
    world.sender = world.new_sender()
    world.sender.start()
    assert world.crm.arrived.wait(2)


KILLS = 5


def test_kill_9_at_any_moment_loses_no_committed_delivery(world):
    """A process closes calls and sends; it is killed at seeded moments and started again on the same store."""
    world.store.close()
    seed = 20261001
    moments = random.Random(seed)
    acknowledged: list[str] = []
    print(f"seed {seed}")
    for number in range(KILLS):
        program = [sys.executable, str(Path(__file__).with_name("killed_sender.py")), world.url, world.crm.url()]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        wanted = moments.randrange(1, 40)
        printed = [process.stdout.readline().strip() for _ in range(wanted)]
        gevent.sleep(moments.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        printed += [line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.wait()
        assert all(printed), f"the process of kill {number} ended by itself"
        acknowledged += printed
        print(f"kill {number}: after {len(printed)} calls closed, {len(world.crm.received)} received so far")
    world.store = open_store(world.url)
    assert world.store.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"
    book = CallBook(world.store, accounts=world.accounts.get)
    for state in book.unfinished():
        assert book.close_lost(state)
        acknowledged.append(state.facts.id)
    sender = Sender(world.store, world.client, world.accounts.get)
    world.store.write(lambda c: outbox.release(c, datetime.now(UTC)))
    sender.drain()
    received = {json.loads(body)["data"]["call"] for _, body in world.crm.received}
    assert set(acknowledged) <= received
    assert len(set(world.crm.ids)) == len(received)  # a repeat bears the same id
    states = world.store.read(lambda c: c.exec_driver_sql("SELECT DISTINCT state FROM deliveries").scalars().all())
    assert states == ["delivered"]
    open_calls = "SELECT count(*) FROM calls WHERE closed_at IS NULL OR id NOT IN (SELECT call_id FROM deliveries)"
    assert world.store.read(lambda c: c.exec_driver_sql(open_calls).scalar()) == 0
