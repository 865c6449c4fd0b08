"""The call book: memory first, the store behind it, and a call closed together with its delivery or not at all."""

from __future__ import annotations

import json
import sqlite3
import uuid
from datetime import UTC, datetime, timedelta

import gevent
import pytest
from gevent.monkey import get_original

from exoflow.calls import call as call_module
from exoflow.calls.book import CallBook
from exoflow.calls.lately import Lately
from exoflow.calls.lookup import by_id, deliveries_of
from exoflow.calls.model import CallFacts, CallState, Entry, Leg, Recording
from exoflow.calls.payload import MAX_BYTES, delivery_body, delivery_type
from exoflow.config.model import Account
from exoflow.store import open_reader, open_store

NOW = datetime(2026, 10, 1, 6, 30, 0, 125000, tzinfo=UTC)
FLOWS = {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}}
DELIVERIES = {"url": "https://crm.example/calls", "secret": "whsec_" + "QUJD" * 8}
ACCOUNT = Account.model_validate({"name": "Acme", "flows": FLOWS, "deliveries": DELIVERIES})
SILENT = Account.model_validate({"name": "No deliveries", "flows": FLOWS})


class Clock:
    """Each look is a millisecond later."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        self.now += timedelta(milliseconds=1)
        return self.now


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/calls.db"


@pytest.fixture
def store(url):
    store = open_store(url)
    yield store
    store.close()


@pytest.fixture
def book(store):
    return CallBook(store, clock=Clock(), accounts={"acme": ACCOUNT}.get)


def facts(**changes):
    whole = {
        "id": uuid.uuid4().hex,
        "channel": str(uuid.uuid4()),
        "created_at": NOW,
        "trunk": "PRI1",
        "dialled_raw": "2400",
        "caller_raw": "9876543210",
        "dialled": "+918030752400",
        "caller": "+919876543210",
        "account": "acme",
        "flow": "main",
    }
    return CallFacts(**{**whole, **changes})


def leg(seq=1, **changes):
    return Leg(str(uuid.uuid4()), seq, "+919876543211", "PRI1", **changes)


def stored(store, call_id):
    return CallBook(store).get(call_id)


def rows(store, query):
    return [tuple(row) for row in store.read(lambda c: c.exec_driver_sql(query).fetchall())]


def settled(store):
    store.write(lambda connection: None)


# --- mirroring ------------------------------------------------------------------------------------------


def test_a_call_is_live_until_its_end_itself_is_on_disk(book, store, monkeypatch):
    """What was under way to the disk when it was closed says nothing of its end."""
    call = book.open(facts(), ACCOUNT)
    live_after_commit = []
    committed = call.committed
    monkeypatch.setattr(call, "committed", lambda: (committed(), live_after_commit.append(call.id in book.live)))
    gate = get_original("threading", "Event")()
    store.post(lambda connection: gate.wait(5))  # holds the transaction in which the call's row is
    store.hurry()
    gevent.sleep(0.05)
    closing = gevent.spawn(call.close, "served")
    gevent.sleep(0)
    gate.set()
    assert closing.get()
    assert live_after_commit == [True, False]
    assert book.get(call.id).outcome == "served"


def test_a_whole_call_comes_back_as_it_was(book, store):
    call = book.open(facts(diverted_from="+918040001234"), ACCOUNT)
    call.note("A", "call.arrived", "A call from +919876543210 arrived.", trunk="PRI1")
    call.ringing()
    call.answered()
    call.digits("1")
    call.note("C", "menu.key", "The caller pressed 1.", step="choose", key="1", attempt=1)
    call.wants_agent()
    first = leg(agent="asha", dialled_at=NOW)
    assert call.add_leg(first)
    first.q850, first.cause, first.outcome, first.released_at = 17, "USER_BUSY", "busy", NOW + timedelta(seconds=3)
    call.update_leg(first)
    second = leg(2, setup_at=NOW, alerting_at=NOW, answered_at=NOW, released_at=NOW + timedelta(seconds=61.5), seen=True)
    call.add_leg(second)
    recording = Recording("talk", "/rec/2026-10-01/x.wav", 2, started_at=NOW)
    call.add_recording(recording)
    recording.state, recording.seconds = "good", 61.4
    call.update_recording(recording)
    call.caller_gone(NOW + timedelta(seconds=90), "NORMAL_CLEARING", 16)
    assert call.close("answered")
    assert stored(store, call.id) == call.state
    assert call.state.talk_leg is second
    assert book.live == {}


def test_nothing_waits_for_the_store_but_legs_and_the_end(book, store, monkeypatch):
    monkeypatch.setattr(call_module, "LEG_COMMIT_SECONDS", 0.05)
    monkeypatch.setattr(call_module, "CLOSE_COMMIT_SECONDS", 0.05)
    lock = sqlite3.connect(store.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with gevent.Timeout(2):
        call = book.open(facts(), ACCOUNT)
        call.note("A", "call.arrived", "arrived")
        assert not call.add_leg(leg())
        assert call.state.journey[-1].code == "store.slow"
        assert not call.close("missed")
        assert book.live == {call.id: call}
    lock.rollback()
    lock.close()
    settled(store)
    assert stored(store, call.id) == call.state
    assert rows(store, "SELECT type FROM deliveries") == [("call.missed",)]
    assert book.live == {}


def test_a_call_is_live_until_its_end_is_on_disk(book, store, monkeypatch):
    """Also when a row of the running call is being written at the moment it ends."""
    monkeypatch.setattr(call_module, "CLOSE_COMMIT_SECONDS", 0.05)
    on_disk, forget = [], book.forget
    monkeypatch.setattr(book, "forget", lambda call: (on_disk.append(stored(store, call.id).outcome), forget(call)))
    lock = sqlite3.connect(store.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    call = book.open(facts(), ACCOUNT)
    store.hurry()
    gevent.sleep(0.05)  # the open call's row is on its way, and waits for the lock
    call.close("missed")
    lock.rollback()
    lock.close()
    settled(store)
    settled(store)
    assert on_disk == ["missed"]


def test_many_changes_become_few_writes(book, store, monkeypatch):
    written = []

    class Told(call_module.Change):
        def __init__(self, changed):
            super().__init__(changed)
            written.extend((table.name, len(rows)) for table, rows in self.rows)

    monkeypatch.setattr(call_module, "Change", Told)
    call = book.open(facts(), ACCOUNT)
    for i in range(50):
        call.note("C", "menu.key", f"key {i}")
    call.ringing()
    settled(store)
    assert written == [("calls", 1), ("entries", 50)]


def test_listeners_hear_each_entry_at_once_and_cannot_break_a_call(book):
    heard = []
    book.listeners += [lambda state, entry: 1 / 0, lambda state, entry: heard.append((state.facts.trunk, entry.code))]
    book.open(facts(), ACCOUNT).note("A", "call.arrived", "arrived")
    assert heard == [("PRI1", "call.arrived")]


def test_hostile_text_is_stored_bounded_and_readable(book, store):
    call = book.open(facts(caller_raw="x\ud800\x00\r\n${system}", caller=None), ACCOUNT)
    entry = call.note(
        "D",
        "crm.status",
        "\udcff" * 9000,
        answer=b"\xff" * 9000,
        much=list(range(9000)),
        odd=float("nan"),
        deep={1: {2: object()}},
    )
    call.digits("\ud83d")
    assert len(entry.text) == 500
    assert len(entry.evidence["answer"]) == 500
    assert len(entry.evidence["much"]) == 50
    assert call.close("refused", "crm.status")
    again = stored(store, call.id)
    assert again.facts.caller_raw == "x?\x00\r\n${system}"
    assert again.digits == "?"
    (body,) = rows(store, "SELECT body FROM deliveries")
    assert json.loads(body[0], parse_constant=pytest.fail)["data"]["call"] == call.id


def test_a_caller_who_presses_keys_for_hours_fills_nothing(book, store, monkeypatch):
    monkeypatch.setattr(call_module, "MAX_ENTRIES", 5)
    call = book.open(facts(), ACCOUNT)
    for _ in range(50):
        call.note("C", "menu.wrong_key", "wrong key")
    call.caller_gone(ended_by="caller")
    call.note("C", "caller.gone", "the caller left")
    call.close("abandoned", "caller.gone")
    kept = [entry.code for entry in stored(store, call.id).journey]
    assert kept == ["menu.wrong_key"] * 5 + ["journey.full", "caller.gone"]


# --- the end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state", "kind"),
    [
        ("answered", {}, "call.ended"),
        ("served", {}, "call.ended"),
        ("voicemail", {"wanted_agent": True}, "call.ended"),
        ("missed", {"wanted_agent": True}, "call.missed"),
        ("refused", {}, "call.missed"),
        ("abandoned", {}, "call.ended"),
        ("abandoned", {"wanted_agent": True}, "call.missed"),
        ("lost", {}, "call.missed"),
        ("lost", {"legs": [leg(answered_at=NOW)]}, "call.ended"),
    ],
)
def test_a_missed_call_is_one_to_be_returned(outcome, state, kind):
    assert delivery_type(CallState(facts(), outcome=outcome, **state)) == kind


def test_the_body_says_all_in_utc_and_e164():
    state = CallState(facts(), answered_at=NOW, ended_at=NOW + timedelta(seconds=5), outcome="missed", reason="agents.busy")
    state.journey.append(Entry(1, NOW, "G", "agents.busy", "Every agent was busy.", "agents", {"agents": 2}))
    state.legs.append(leg(q850=17, cause="USER_BUSY", outcome="busy"))
    body = json.loads(delivery_body(state, kind="call.missed", seq=1, now=NOW))
    assert body["type"] == "call.missed"
    assert body["timestamp"] == "2026-10-01T06:30:00.125Z"
    data = body["data"]
    assert (data["call"], data["seq"], data["account"]) == (state.facts.id, 1, "acme")
    assert (data["number"], data["caller"]) == ("+918030752400", "+919876543210")
    assert (data["outcome"], data["reason"], data["reason_text"]) == ("missed", "agents.busy", "Every agent was busy.")
    assert data["ended_at"] == "2026-10-01T06:30:05.125Z"
    assert data["ring_at"] is None
    assert data["legs"][0]["q850"] == 17
    assert data["journey"][0]["step"] == "agents"


@pytest.mark.parametrize(("entries", "legs"), [(20, 60), (1000, 2), (1000, 500)])
def test_the_body_stays_below_20_kb_and_says_what_it_leaves_out(entries, legs):
    state = CallState(facts(caller_raw="9" * 5000), outcome="missed")
    state.journey += [Entry(i, NOW, "C", "c" * 20, "ऋ" * 500, "s", {"a": "ऋ" * 500}) for i in range(1, entries + 1)]
    state.legs += [leg(i, meaning="ऋ" * 150) for i in range(1, legs + 1)]
    body = delivery_body(state, kind="call.missed", seq=1, now=NOW)
    assert len(body) < MAX_BYTES
    data = json.loads(body)["data"]
    assert len(data["journey"]) + data["journey_left_out"] == entries
    assert data["journey"][0]["seq"] == 1
    assert data["journey"][-1]["seq"] == entries
    assert len(data["legs"]) + data.get("legs_left_out", 0) == legs


def test_only_an_account_with_deliveries_gets_one(book, store):
    for account, outcome in ((None, "refused"), (SILENT, "answered"), (ACCOUNT, "answered")):
        book.open(facts(account="acme" if account else None), account).close(outcome)
    assert rows(store, "SELECT account, type, state, attempts FROM deliveries") == [("acme", "call.ended", "pending", 0)]


def test_call_and_delivery_are_closed_together_or_not_at_all(book, store, monkeypatch):
    monkeypatch.setattr(call_module, "RETRY_SECONDS", (0.01,))
    woken = []
    book.wake = lambda: woken.append(True)
    store.write(
        lambda c: c.exec_driver_sql("CREATE TRIGGER t BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'no'); END")
    )
    call = book.open(facts(), ACCOUNT)
    settled(store)
    call.note("C", "caller.gone", "the caller left")
    assert not call.close("abandoned", "caller.gone")
    assert rows(store, "SELECT outcome, closed_at FROM calls") == [(None, None)]
    assert rows(store, "SELECT count(*) FROM entries") == [(0,)]
    assert book.live == {call.id: call}
    assert not woken
    store.write(lambda c: c.exec_driver_sql("DROP TRIGGER t"))
    with gevent.Timeout(2):
        while not woken:
            gevent.sleep(0.01)
    assert stored(store, call.id) == call.state
    assert rows(store, "SELECT count(*) FROM deliveries") == [(1,)]
    assert book.live == {}


def test_a_second_close_changes_nothing(book, store):
    call = book.open(facts(), ACCOUNT)
    assert call.close("answered")
    assert call.close("missed", "x")
    assert call.state.outcome == "answered"
    assert rows(store, "SELECT count(*) FROM deliveries") == [(1,)]


def test_a_leg_heard_of_late_is_still_recorded(book, store):
    call = book.open(facts(), ACCOUNT)
    late = leg()
    call.add_leg(late)
    call.close("missed")
    late.outcome, late.q850 = "no_answer", 19
    call.update_leg(late)
    settled(store)
    assert stored(store, call.id).legs == [late]


# --- another process's calls ----------------------------------------------------------------------------


def test_the_same_channel_finds_its_running_call(book):
    call = book.open(facts(channel="chan"), ACCOUNT)
    assert book.resume("chan") is call
    assert book.resume("other") is None
    call.close("answered")
    assert book.resume("chan") is None


def test_a_call_goes_on_in_the_next_process(book, store):
    call = book.open(facts(channel="chan"), ACCOUNT)
    call.note("C", "menu.key", "1", key="1")
    settled(store)
    later = CallBook(store, clock=Clock(), accounts={"acme": ACCOUNT}.get)
    again = later.resume("chan")
    assert again.state == call.state
    assert again.account is ACCOUNT
    again.note("C", "app.resumed", "goes on")
    assert again.close("answered")
    assert [entry.seq for entry in stored(store, call.id).journey] == [1, 2]
    assert rows(store, "SELECT seq FROM deliveries") == [(1,)]


def test_calls_left_open_by_a_dead_process_are_found_and_closed_as_lost(book, store):
    talked, waiting, done = (book.open(facts(channel=name), ACCOUNT) for name in ("talked", "waiting", "done"))
    talked.add_leg(leg(answered_at=NOW))
    waiting.note("G", "agents.ringing", "ringing")
    done.close("answered")
    later = CallBook(store, clock=Clock(), accounts={"acme": ACCOUNT}.get)
    own = later.open(facts(), ACCOUNT)
    settled(store)
    left = later.unfinished()
    assert {state.facts.channel for state in left} == {"talked", "waiting"}
    assert all(later.close_lost(state) for state in left)
    assert later.unfinished() == []
    again = stored(store, waiting.id)
    assert (again.outcome, again.reason, again.ended_at) == ("lost", "app_restart", None)
    assert (again.journey[-1].stage, again.journey[-1].code) == ("G", "app_restart")
    kinds = dict(rows(store, "SELECT call_id, type FROM deliveries"))
    assert kinds == {done.id: "call.ended", talked.id: "call.ended", waiting.id: "call.missed"}
    assert later.live == {own.id: own}


# --- looking --------------------------------------------------------------------------------------------


def test_recent_calls_are_the_newest_first_and_can_be_chosen(book, store):
    for minute in range(5):
        call = book.open(facts(id=f"{minute:032x}", created_at=NOW + timedelta(minutes=minute)), ACCOUNT)
        call.close("missed" if minute % 2 else "answered")
    book.open(facts(account=None), None).close("refused")
    assert [state.facts.created_at.minute for state in book.recent(3, account="acme")] == [34, 33, 32]
    assert [state.facts.created_at.minute for state in book.recent(9, outcome="missed")] == [33, 31]
    assert len(book.recent(20)) == 6


def test_a_call_is_found_by_the_beginning_of_its_id(book, url):
    book.open(facts(id="abcd" + "0" * 28), ACCOUNT).close("answered")
    book.open(facts(id="abcd" + "1" * 28), ACCOUNT).close("answered")
    reader = open_reader(url)
    for text, found in (("abcd", 2), ("ABCD1", 1), ("abcd" + "0" * 28, 1), ("abc", 0), ("%%%%", 0), ("abce", 0), ("ffff", 0)):
        assert len(reader.read(lambda c, text=text: by_id(c, text))) == found, text
    (delivery,) = reader.read(lambda c: deliveries_of(c, "abcd" + "1" * 28))
    assert (delivery.state, delivery.seq, delivery.attempts) == ("pending", 1, [])
    reader.close()


def test_the_last_closed_ids_are_known_and_older_ones_forgotten():
    closed = Lately(3)
    for call_id in ("one", "two", "three", "four", "five"):
        assert call_id not in closed
        closed.add(call_id)
    assert [one in closed for one in ("one", "two", "three", "four", "five")] == [False, False, True, True, True]


def test_a_call_that_closed_while_the_store_was_looked_into_is_not_lost(book, store, monkeypatch):
    call = book.open(facts(), ACCOUNT)
    assert call.on_disk()
    read = store.read

    def slowly(fn):
        found = read(fn)
        call.close("served")
        return found

    monkeypatch.setattr(store, "read", slowly)
    assert book.unfinished() == []
    monkeypatch.undo()
    stale = CallState(call.state.facts)
    assert book.close_lost(stale)
    found = book.get(call.id)
    assert (found.outcome, found.journey) == ("served", [])
    assert len(store.read(lambda c: deliveries_of(c, call.id))) == 1
