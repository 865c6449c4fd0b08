"""`exoflow calls`, run beside a store that is open for writing, on the example's configuration."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner

from exoflow.calls import show
from exoflow.calls.book import CallBook
from exoflow.calls.model import CallFacts, Entry, Leg, Recording
from exoflow.cli import main
from exoflow.config.model import Account
from exoflow.store import open_store, outbox

ARRIVED = datetime(2026, 10, 1, 21, 42, 5, 120000, tzinfo=UTC)  # 2 October, 03:12:05 in India
EXAMPLE = Path(__file__).parents[2] / "examples" / "acme"
ACCOUNT = Account.model_validate(
    {
        "name": "Acme",
        "flows": {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}},
        "deliveries": {"url": "https://crm.acme.example/calls"},
    }
)
MISSED = "5a" * 16
TALKED = "7b" * 16
STRANGE = "9c" * 16


class Clock:
    now = ARRIVED

    def __call__(self):
        return self.now

    def after(self, seconds):
        self.now = ARRIVED + timedelta(seconds=seconds)
        return self.now


@pytest.fixture
def box(tmp_path):
    folder = tmp_path / "acme"
    shutil.copytree(EXAMPLE, folder)
    store = open_store(f"sqlite:///{folder}/exoflow.db")
    yield folder, store
    store.close()


def facts(call_id, **changes):
    whole = {
        "id": call_id,
        "channel": call_id,
        "created_at": ARRIVED,
        "trunk": "PRI1",
        "dialled_raw": "2400",
        "caller_raw": "09876543210",
        "dialled": "+918030752400",
        "caller": "+919876543210",
        "account": "acme",
        "flow": "main",
    }
    return CallFacts(**{**whole, **changes})


def fill(store):
    clock = Clock()
    book = CallBook(store, clock=clock)
    _missed(book, clock)
    _talked(book, clock)
    strange = book.open(
        facts(
            STRANGE,
            created_at=clock.after(200),
            account=None,
            dialled=None,
            dialled_raw="99",
            caller=None,
            caller_raw="\x1b[2J",
        ),
        None,
    )
    strange.note("B", "did.unknown", "99 is nobody's number on PRI1.\x1b]0;owned\x07")
    strange.close("refused", "did.unknown")
    (row,) = store.write(
        lambda c: outbox.claim(c, {"acme": 1}, now=clock.now, lease_until=clock.now, total=1),
    )
    attempt = outbox.Attempt(clock.now, "https://crm.acme.example/calls", 503, 120, "busy", "status")
    store.write(
        lambda c: outbox.settle(
            c, row, attempt, state="pending", next_at=clock.after(205), failures=1, problem="answered 503, only 2xx counts"
        )
    )


def _missed(book, clock):
    call = book.open(facts(MISSED, diverted_from="+918040001234"), ACCOUNT)
    call.note("B", "call.arrived", "A call arrived on PRI1.", channel=MISSED)
    call.ringing(clock.after(0.2))
    call.answered(clock.after(0.6))
    clock.after(4)
    call.digits("1")
    call.note("C", "menu.key", "The caller pressed 1.", step="choose", key="1")
    clock.after(5)
    leg = Leg("leg-1", 1, "+919876543211", "PRI1", agent="asha", dialled_at=clock.now, setup_at=clock.now, seen=True)
    leg.released_at, leg.q850, leg.cause, leg.outcome = clock.after(6), 17, "USER_BUSY", "busy"
    leg.meaning = "The agent's phone is engaged."
    call.add_leg(leg)
    call.note("G", "agents.busy", "Every agent was busy.", step="agents")
    call.caller_gone(clock.after(9), "NORMAL_CLEARING", 16, "exoflow")
    call.close("missed", "agents.busy")


def _talked(book, clock):
    call = book.open(facts(TALKED, created_at=clock.after(100), caller=None, caller_withheld=True), None)
    answered = clock.after(107)
    leg = Leg("leg-2", 1, "+919876543212", "PRI1", agent="ravi", setup_at=clock.after(101), answered_at=answered)
    call.add_leg(leg)
    leg.released_at, leg.outcome = clock.after(199.3), "answered"
    call.add_recording(Recording("talk", "/var/rec/2026-10-02/7b.wav", 2, "good", answered, 92.3))
    call.caller_gone(clock.now, "NORMAL_CLEARING", 16, "caller")
    call.close("answered")


def run(*arguments, code=0):
    done = CliRunner().invoke(main, ["calls", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def test_the_list_says_who_called_how_it_ended_and_why(box):
    folder, store = box
    fill(store)
    lines = run("-c", folder / "exoflow.yaml").splitlines()
    assert lines[0].split() == ["WHEN", "CALL", "ACCOUNT", "FROM", "TO", "LASTED", "TALK", "OUTCOME", "WHY"]
    assert [line.split()[3] for line in lines[1:4]] == ["9c9c9c9c", "7b7b7b7b", "5a5a5a5a"]
    assert lines[2].split()[4:] == ["acme", "withheld", "+918030752400", "1:39", "1:32", "answered"]
    assert lines[3].startswith("02 Oct 03:12:05  5a5a5a5a  acme     +919876543210  +918030752400    0:09     -  missed")
    assert lines[3].endswith("Every agent was busy.")
    assert "Times are IST" in lines[-1]


def test_it_is_dated_in_the_accounts_own_zone(box):
    folder, store = box
    fill(store)
    account = folder / "accounts" / "acme.yaml"
    account.write_text(account.read_text().replace("Asia/Kolkata", "Europe/London"))
    output = run("-c", folder / "exoflow.yaml")
    assert "01 Oct 22:42:05 BST" in output  # Acme's
    assert "02 Oct 03:15:25 IST" in output  # nobody's, as India has it
    assert "Thu 01 Oct 2026 22:42:05 BST" in run("-c", folder / "exoflow.yaml", MISSED)


def test_calls_can_be_chosen(box):
    folder, store = box
    fill(store)
    config = folder / "exoflow.yaml"
    assert "7b7b7b7b" not in run("-c", config, "--outcome", "missed")
    assert "9c9c9c9c" not in run("-c", config, "--account", "acme")
    assert len(run("-c", config, "-n", "1").splitlines()) == 4
    assert run("-c", config, "--account", "nobody") == "No calls.\n"


def test_one_call_is_told_whole(box):
    folder, store = box
    fill(store)
    output = run("-c", folder / "exoflow.yaml", "5a5a5a5a")
    for line in (
        f"Call {MISSED}",
        "  account        acme (Acme Appliances), flow main",
        "  diverted from  +918040001234",
        "  arrived        Fri 02 Oct 2026 03:12:05 IST",
        "  outcome        missed",
        "  why            Every agent was busy. (agents.busy)",
        "  03:12:09.120  C ivr     [choose] The caller pressed 1.",
        "> 03:12:11.120  G ringing [agents] Every agent was busy. (agents.busy)",
        "  1  03:12:10.120  asha +919876543211 on PRI1: busy",
        "     The agent's phone is engaged.",
        '     02 Oct 03:15:25  503  120 ms  https://crm.acme.example/calls  "busy"',
        "     answered 503, only 2xx counts",
    ):
        assert line in output.splitlines()
    assert "call.missed, pending, next attempt 02 Oct 03:15:30" in output


def test_talk_and_recording_are_told(box):
    folder, store = box
    fill(store)
    output = run("-c", folder / "exoflow.yaml", TALKED)
    assert "answered after 6.0 s; talked 1:32" in output
    assert "talk, stereo, 92.3 s, good" in output
    assert "     /var/rec/2026-10-02/7b.wav" in output.splitlines()


def test_hostile_text_does_not_reach_the_terminal(box):
    folder, store = box
    fill(store)
    for arguments in ((), (STRANGE,)):
        output = run("-c", folder / "exoflow.yaml", *arguments)
        assert "?[2J" in output
        assert all(char.isprintable() or char == "\n" for char in output)


def test_json_is_for_programs(box):
    folder, store = box
    fill(store)
    config = folder / "exoflow.yaml"
    listed = json.loads(run("-c", config, "--json"))
    assert [call["outcome"] for call in listed] == ["refused", "answered", "missed"]
    one = json.loads(run("-c", config, "--json", MISSED))
    assert (one["call"], one["reason"], one["legs"][0]["q850"]) == (MISSED, "agents.busy", 17)
    (delivery,) = one["deliveries"]
    assert (delivery["type"], delivery["state"]) == ("call.missed", "pending")
    assert delivery["attempts"][0]["status"] == 503


def test_a_running_call_is_shown_as_such(box):
    folder, store = box
    CallBook(store).open(facts(MISSED), None)
    store.write(lambda connection: None)
    assert "going on" in run("-c", folder / "exoflow.yaml")
    assert "none yet" in run("-c", folder / "exoflow.yaml", MISSED)


def test_the_store_can_be_read_when_the_configuration_is_broken(box):
    folder, store = box
    fill(store)
    (folder / "exoflow.yaml").write_text("nonsense: [")
    output = run("-c", folder / "exoflow.yaml", code=1)
    assert "--store" in output
    assert "5a5a5a5a" in run("--store", f"sqlite:///{folder}/exoflow.db")


@pytest.mark.parametrize("call_id", ["ffffffff", "5a5", "%", "'; DROP TABLE calls; --"])
def test_an_id_that_is_none_is_said(box, call_id):
    folder, store = box
    fill(store)
    assert "no call's id begins with" in run("-c", folder / "exoflow.yaml", "--", call_id, code=1)


def test_an_ambiguous_id_is_said_with_the_choice(box):
    folder, store = box
    book = CallBook(store)
    for end in "12":
        book.open(facts("5a" * 15 + "5" + end), None).close("served")
    output = run("-c", folder / "exoflow.yaml", "5a5a5a", code=1)
    assert "several calls" in output
    assert "5a" * 15 + "52" in output


def test_before_the_first_call_and_before_the_store(box, tmp_path):
    folder, _ = box
    assert run("-c", folder / "exoflow.yaml") == "No calls yet.\n"
    assert "there is no store yet; `exoflow serve` makes it" in run("--store", f"sqlite:///{tmp_path}/none.db", code=1)
    assert not (tmp_path / "none.db").exists()


def test_a_narrow_terminal_cuts_the_reason_and_nothing_wraps(box):
    _, store = box
    fill(store)
    states = CallBook(store).recent(9)
    table = show.call_list(states, lambda account: ZoneInfo("Asia/Kolkata"), 80).split("\n\n")[0]
    assert max(len(line) for line in table.splitlines()) <= 80
    assert "…" in table


def _sheet(store, call_id, width):
    return show.call_sheet(CallBook(store).get(call_id), ZoneInfo("Asia/Kolkata"), width=width)


@pytest.mark.parametrize("width", [120, 80, 40])
def test_call_sheet_in_a_terminal_of_any_width_is_wrapped_between_words(box, width):
    _, store = box
    fill(store)
    sheet, wide = _sheet(store, MISSED, width), _sheet(store, MISSED, None)
    assert max(map(len, sheet.splitlines())) <= max(width, show.MIN_WIDTH)
    assert sheet.split() == wide.split()


def test_evidence_is_shown_as_an_engineer_writes_it():
    facts = {"alerting": True, "early": False, "diverted_from": None, "values": {"party": "4"}, "seconds": 2.0}
    entry = Entry(1, ARRIVED, "C", "set.done", "Known from here", None, {**facts, "keys": ["1", "2"], "legs": []})
    beneath = show.journey_line(entry, UTC).splitlines()[1].strip()
    assert beneath == "(set.done  alerting=yes  early=no  party=4  seconds=2  keys=1,2)"


def test_each_arrival_and_each_end_is_one_line_in_the_log(box, caplog):
    _, store = box
    with caplog.at_level("INFO", "exoflow.calls"):
        fill(store)
    lines = [record.getMessage() for record in caplog.records if record.name == "exoflow.calls"]
    assert lines == [
        "call 5a5a5a5a from +919876543210 to +918030752400 on 'PRI1': acme, flow main",
        "call 5a5a5a5a ended after 9.0 s: missed (agents.busy)",
        "call 7b7b7b7b from withheld to +918030752400 on 'PRI1': acme, flow main",
        "call 7b7b7b7b ended after 99.3 s, 92.3 s of talk: answered",
        "call 9c9c9c9c from '\\x1b[2J' to '99' on 'PRI1': in no account",
        "call 9c9c9c9c ended after 0.0 s: refused (did.unknown)",
    ]
