"""The parameters a CRM receives, against the files of tests/dialect/requests."""

from __future__ import annotations

import locale
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from exoflow.calls.model import CallFacts, CallState, Leg, Placed, Recording
from exoflow.config.model import Account
from exoflow.crm.dialect import CONNECT, MAX_LEGS, OVER, UNDER_WAY, parameters
from exoflow.crm.fitting import CUSTOM, LEGS, fitted
from exoflow.crm.http import MAX_URL_CHARS, with_params

REQUESTS = Path(__file__).parents[1] / "dialect" / "requests"
BEGUN = datetime(2026, 1, 5, 4, 30, 0, tzinfo=UTC)  # 10:00:00 in India
NOW = BEGUN + timedelta(seconds=60)


def account(time_zone: str = "Asia/Kolkata") -> Account:
    flow = {"start": "bye", "steps": {"bye": {"hangup": {}}}}
    return Account.model_validate({"name": "Acme", "time_zone": time_zone, "flows": {"main": flow}})


def call(**facts) -> CallState:
    known = {
        "id": "0123456789abcdef0123456789abcdef",
        "channel": "c",
        "created_at": BEGUN,
        "trunk": "PRI1",
        "dialled_raw": "9902",
        "caller_raw": "9999999901",
        "dialled": "+919999999902",
        "caller": "+919999999901",
        "account": "acme",
        "flow": "main",
    }
    state = CallState(CallFacts(**(known | facts)), ring_at=BEGUN)
    state.answered_at = BEGUN + timedelta(seconds=1)
    return state


def after(seconds: float) -> datetime:
    return BEGUN + timedelta(seconds=seconds)


def dialled(state: CallState, outcome: str, *, begun: float, ended: float, number="+919999999903", **more) -> CallState:
    """One attempt, `begun` and `ended` seconds into the call."""
    state.wanted_agent = True
    leg = Leg("u", len(state.legs), number, "PRI1", dialled_at=after(begun), released_at=after(ended), outcome=outcome, **more)
    leg.setup_at = leg.dialled_at
    state.legs.append(leg)
    return state


def talked(state: CallState) -> CallState:
    return dialled(
        state, "answered", begun=20, ended=37, alerting_at=after(22), answered_at=after(27), q850=16, cause="NORMAL_CLEARING"
    )


def gone(state: CallState, seconds: float) -> CallState:
    """The caller hung up."""
    state.ended_at, state.ended_by, state.caller_left, state.q850 = after(seconds), "caller", True, 16
    return state


def unanswered(state: CallState) -> CallState:
    state.answered_at = None
    return state


def with_digits(state: CallState) -> CallState:
    state.digits = "89"
    return state


def wanted(state: CallState) -> CallState:
    state.wanted_agent = True
    return state


def in_connect(state: CallState) -> CallState:
    """In its first connect step, which is not over."""
    state.progress = {CONNECT: UNDER_WAY}
    return wanted(state)


def with_message(state: CallState) -> CallState:
    state.recordings.append(Recording("voicemail", "/r/a.wav", 1))
    return state


def no_answer(state: CallState, **more) -> CallState:
    return dialled(state, "no_answer", begun=10, ended=40, alerting_at=after(12), q850=19, cause="NO_ANSWER", **more)


CALLS = {
    "ivr": lambda: call(),
    "unanswered": lambda: unanswered(call()),
    "digits": lambda: with_digits(call()),
    "answered": lambda: talked(call()),
    "answered_caller_hung_up": lambda: gone(talked(call()), 37.02),
    "nobody_answered": lambda: no_answer(call()),
    "agent_rejected": lambda: dialled(
        call(), "rejected", begun=10, ended=13, alerting_at=after(12.6), q850=21, cause="CALL_REJECTED"
    ),
    "agent_unreachable": lambda: dialled(call(), "unreachable", begun=10, ended=13, q850=20, cause="SUBSCRIBER_ABSENT"),
    "caller_hung_up_ringing": lambda: gone(
        dialled(call(), "caller_gone", begun=10, ended=18, alerting_at=after(12.5), q850=487, cause="ORIGINATOR_CANCEL"), 18
    ),
    "nobody_to_dial": lambda: wanted(call()),
    "connect_first": lambda: in_connect(call()),
    "two_attempts": lambda: no_answer(
        dialled(call(), "busy", begun=5, ended=7, q850=17, cause="USER_BUSY"), number="+919999999904"
    ),
    "voicemail": lambda: with_message(no_answer(call())),
    "withheld_and_diverted": lambda: call(
        caller=None, caller_raw="9999999901", caller_withheld=True, diverted_from="+918040001234"
    ),
}


def sent(state: CallState, **more) -> list[tuple[str, str]]:
    return parameters(state, now=NOW, account=more.pop("account", account()), account_id="acme", **more)


def _expected(name: str) -> dict[str, str]:
    lines = (REQUESTS / f"{name}.txt").read_text().splitlines()
    pairs = [line.partition("=")[::2] for line in lines if not line.startswith("#")]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_every_file_is_tested_and_names_its_source():
    files = list(REQUESTS.glob("*.txt"))
    assert {file.stem for file in files} == set(CALLS)
    assert all("# Source: section" in file.read_text() for file in files)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_request(name):
    got = sent(CALLS[name](), recording_url=lambda recording: f"https://rec.example/{Path(recording.path).name}")
    expected = _expected(name)
    assert len(dict(got)) == len(got), "a parameter comes twice"
    integers = {key for key, value in expected.items() if value == "<integer>"}
    assert all(re.fullmatch(r"[1-9][0-9]*", dict(got)[key]) for key in integers)
    assert dict(got) | dict.fromkeys(integers, "<integer>") == expected


def test_the_facts_sample():
    """Every parameter of the sample, as it is there (Created is a second after StartTime there)."""
    sample = parse_qsl(urlsplit((REQUESTS / "sample.http").read_text().split(" ")[1]).query, keep_blank_values=True)
    state = talked(call(id="9f0c..."))
    state.recordings.append(Recording("talk", "/r/a.wav", 2))
    got = dict(sent(state, recording_url=lambda recording: "https://rec.example/a.mp3"))
    for key, value in sample:
        if key == "Created":
            assert re.fullmatch(r"Mon, 05 Jan 2026 10:00:0\d", got[key])
        elif key != "key":  # the URL's own
            assert got[key] == value, key


@pytest.mark.parametrize("name", sorted(CALLS))
def test_only_forms_that_receivers_in_the_field_take(name):
    got = dict(sent(CALLS[name]()))
    for key in ("StartTime", "EndTime", "CurrentTime"):
        datetime.strptime(got[key], "%Y-%m-%d %H:%M:%S")
    assert got["DialCallDuration"].isdigit()
    assert "DialWhomNumber" in got
    assert "RecordingUrl" not in got  # no address, so no parameter; never the word null
    for key in ("CallFrom", "CallTo", "From", "To", "DialWhomNumber"):
        assert re.fullmatch(r"(0[0-9]{10})?", got[key]), key
    assert {key for key, value in got.items() if value == "null"} <= {"ForwardedFrom", "ProcessStatus"}


def test_times_are_in_the_accounts_zone_and_english():
    before = locale.setlocale(locale.LC_TIME)
    try:
        for name in ("de_DE.UTF-8", "hi_IN.UTF-8", "C"):
            try:
                locale.setlocale(locale.LC_TIME, name)
            except locale.Error:
                continue
            got = dict(sent(call(), account=account("America/New_York")))
            assert got["StartTime"] == "2026-01-04 23:30:00"
            assert got["Created"] == "Sun, 04 Jan 2026 23:30:00"
    finally:
        locale.setlocale(locale.LC_TIME, before)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"caller": "+442079460000"}, "00442079460000"),
        ({"caller": None, "caller_raw": "12345"}, "12345"),
        ({"caller": None, "caller_raw": "x\r\n&CallTo=1${system(id)}"}, "1"),
        ({"caller": None, "caller_raw": "१२३४"}, ""),
        ({"caller": None, "caller_raw": "anonymous", "caller_withheld": True}, ""),
        # presentation restricted: the network lets us see it, the CRM must not
        ({"caller": "+919999999901", "caller_withheld": True}, ""),
    ],
)
def test_callers_numbers(facts, expected):
    got = dict(sent(call(**facts)))
    assert got["CallFrom"] == got["From"] == expected


def test_an_unknown_number_dialled_is_sent_as_it_came():
    assert dict(sent(call(dialled=None)))["CallTo"] == "9902"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("busy", "busy"),
        ("rejected", "busy"),
        ("no_answer", "no-answer"),
        ("unreachable", "failed"),
        ("bad_number", "failed"),
        ("trunk", "failed"),
        ("protocol", "failed"),
    ],
)
def test_every_outcome_of_an_attempt_has_a_dial_status(outcome, status):
    got = dict(sent(dialled(call(), outcome, begun=1, ended=2, q850=None, cause="")))
    assert (got["CallType"], got["DialCallStatus"]) == ("incomplete", status)
    assert got["Legs[0][Cause]"].isdigit() or got["Legs[0][Cause]"] == ""


def test_a_talk_whose_release_was_not_seen_yet_counts_until_now():
    state = talked(call())
    state.legs[0].released_at = None
    got = dict(sent(state))
    assert got["DialCallDuration"] == "40"
    assert got["Legs[0][OnCallDuration]"] == "33"
    assert "Legs[0][DisconnectedBy]" not in got


def test_a_clock_set_back_makes_no_negative_duration():
    got = dict(sent(dialled(call(), "no_answer", begun=10, ended=-3600)))
    assert got["DialCallDuration"] == "0"


def test_a_caller_who_leaves_after_nobody_answered_did_not_hang_up_on_the_ringing():
    got = dict(sent(gone(no_answer(call()), 50)))
    assert (got["CallType"], got["DialCallStatus"], got["CallStatus"]) == ("incomplete", "no-answer", "completed")


def test_nothing_has_come_of_a_connect_while_its_first_phone_rings():
    state = in_connect(dialled(call(), "ringing", begun=10, ended=40, alerting_at=after(12), q850=None, cause=""))
    state.legs[0].released_at = None
    got = dict(sent(state))
    assert (got["CallType"], got["DialWhomNumber"]) == ("call-attempt", "09999999903")
    assert not [name for name in got if "DialCallStatus" in name]
    state = in_connect(no_answer(state, number="+919999999904"))
    got = dict(sent(state))
    assert (got["CallType"], got["DialCallStatus"]) == ("incomplete", "no-answer")


def test_a_caller_who_leaves_while_the_crm_is_asked_left_the_connect_and_later_did_not():
    got = dict(sent(gone(in_connect(call()), 5)))
    assert (got["CallType"], got["DialCallStatus"]) == ("client-hangup", "canceled")
    state = gone(wanted(call()), 50)
    state.progress = {CONNECT: OVER}
    got = dict(sent(state))
    assert (got["CallType"], got["DialCallStatus"]) == ("incomplete", "no-answer")


def test_a_caller_who_leaves_in_the_menu_made_a_call_attempt():
    got = dict(sent(gone(call(), 5)))
    assert (got["CallType"], got["CallStatus"]) == ("call-attempt", "completed")
    assert "DialCallStatus" not in got


def test_a_failed_message_is_no_voicemail():
    state = with_message(no_answer(call()))
    state.recordings[0].state = "failed"
    got = dict(sent(state, recording_url=lambda recording: "https://rec.example/a"))
    assert got["CallType"] == "incomplete"
    assert "RecordingUrl" not in got


@pytest.mark.parametrize(
    ("ended_by", "q850", "status"),
    [("caller", 16, "canceled"), ("exoflow", 17, "busy"), ("exoflow", 19, "no-answer"), ("switch", 41, "failed")],
)
def test_the_status_of_a_call_that_was_never_answered(ended_by, q850, status):
    state = unanswered(call())
    state.ended_at, state.ended_by, state.q850 = NOW, ended_by, q850
    assert dict(sent(state))["CallStatus"] == status


def test_the_numbers_of_flow_and_account_stay_the_same():
    first, again = dict(sent(call())), dict(sent(call()))
    assert (first["flow_id"], first["tenant_id"]) == (again["flow_id"], again["tenant_id"])
    assert dict(sent(call(flow="other")))["flow_id"] != first["flow_id"]


# --- what receivers in the field do with it ---------------------------------------------------------


def test_attempts_that_would_make_the_request_too_long_are_left_out():
    state = call()
    for at in range(50):
        no_answer(state, number=f"+9199999{at:05}")
    got = sent(state)
    whole = with_params("https://crm.example/exotel/passthru?key=" + "k" * 200, got)
    assert len(whole) < MAX_URL_CHARS
    numbers = [value for key, value in got if re.fullmatch(r"Legs\[\d+\]\[Number\]", key)]
    assert numbers == [f"099999{at:05}" for at in range(50 - MAX_LEGS, 50)]
    assert dict(got)["Legs[0][Number]"] == numbers[0]


def test_what_does_not_fit_into_an_address_is_left_out_and_never_the_request():
    state = placed_call("क" * 1000)
    for at in range(MAX_LEGS):
        talked(state).legs[-1].number = f"+9199999{at:05}"
    whole = sent(state)
    found = fitted("https://crm.example/p?key=K", whole)
    assert (found.left_out, found.chars) == ([CUSTOM], len(with_params("https://crm.example/p?key=K", whole)))
    assert found.parameters == [pair for pair in whole if pair[0] != "CustomField"]
    url = "https://crm.example/p?key=" + "K" * 1974  # as long as one may be in the configuration
    found = fitted(url, whole)
    assert found.left_out == [CUSTOM, LEGS]
    assert len(with_params(url, found.parameters)) <= MAX_URL_CHARS
    names = [name for name, _ in found.parameters]
    numbers = [value for name, value in found.parameters if re.fullmatch(r"Legs\[\d+\]\[Number\]", name)]
    assert 5 < len(numbers) < MAX_LEGS
    assert numbers == [f"099999{at:05}" for at in range(MAX_LEGS - len(numbers), MAX_LEGS)]
    assert [f"Legs[{at}][Number]" for at in range(len(numbers))] == [name for name in names if name.endswith("][Number]")]
    assert [name for name in names if not name.startswith("Legs")] == [
        name for name, _ in whole if not name.startswith(("Legs", "CustomField"))
    ]


@pytest.mark.parametrize("field", ["", "order 12", "क" * 700])
def test_what_fits_into_an_address_goes_whole(field):
    whole = sent(talked(placed_call(field)))
    found = fitted("https://crm.example/p?key=K", whole)
    assert (found.parameters, found.left_out) == (whole, [])
    assert dict(found.parameters).get("CustomField", "") == field


def placed_call(field: str) -> CallState:
    state = call()
    state.facts = replace(state.facts, placed=Placed(None, 30, 14400, custom_field=field))
    return state


def test_an_attempt_that_goes_on_has_no_insights_yet():
    state = dialled(call(), "ringing", begun=10, ended=20)
    state.legs[0].released_at = None
    assert [key for key, _ in sent(state) if key.startswith("Legs[0][Insights]")] == []


def test_a_recordings_address_is_never_the_word_null():
    state = talked(call())
    state.recordings.append(Recording("talk", "/r/a.wav", 2, state="failed"))
    got = dict(sent(state, recording_url=lambda recording: "https://rec.example/a.mp3"))
    assert "RecordingUrl" not in got
    assert "RecordingAvailableBy" not in got


@pytest.mark.parametrize("name", sorted(CALLS))
def test_both_pairs_of_numbers_say_the_same(name):
    got = dict(sent(CALLS[name]()))
    assert (got["CallFrom"], got["CallTo"]) == (got["From"], got["To"])


def test_the_agent_stays_known_when_a_later_attempt_fails():
    state = no_answer(dialled(call(), "busy", begun=5, ended=7, q850=17, cause="USER_BUSY"), number="+919999999904")
    assert dict(sent(state))["DialWhomNumber"] == "09999999904"
    assert dict(sent(gone(state, 50)))["DialWhomNumber"] == "09999999904"


@pytest.mark.parametrize("span", [-5, 0, 0.4, 17, 90_000])
def test_the_duration_is_a_plain_integer_of_seconds(span):
    got = dict(sent(dialled(call(), "busy", begun=5, ended=5 + span, q850=17, cause="USER_BUSY")))
    assert got["DialCallDuration"] == str(max(0, round(span)))


def test_a_configured_query_stays_before_ours():
    whole = with_params("https://crm.example/p?key=K", sent(call()))
    assert whole.startswith("https://crm.example/p?key=K&CallSid=0123456789abcdef")
