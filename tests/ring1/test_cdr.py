"""CDR files: what real ones say, and that no file of any content does harm."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exoflow.calls.cdr import MAX_BYTES, CallEnd, LegEnd, parse, read_file, read_leg, uuid_of
from exoflow.errors import CdrError

RECORDED = Path(__file__).parents[1] / "cdr"
CALL = "0123456789abcdef" * 2


def call(name: str) -> CallEnd:
    end = parse((RECORDED / f"{name}.cdr.json").read_bytes())
    assert isinstance(end, CallEnd)
    return end


def leg(name: str) -> LegEnd:
    end = parse((RECORDED / f"leg-{name}.cdr.json").read_bytes())
    assert isinstance(end, LegEnd)
    return end


def seconds(start: datetime | None, end: datetime | None) -> float:
    assert start is not None
    assert end is not None
    return (end - start).total_seconds()


# --- real ones ----------------------------------------------------------------------------------


def test_a_call_that_an_app_served_and_ended() -> None:
    end = call("served")
    assert (end.trunk, end.did, end.caller_raw, end.withheld) == ("PRI1", "8030752400", "09812345678", False)
    assert (end.diverted_raw, end.call_id, end.refused, end.fallback) == ("08040001234", CALL, "", "")
    assert (end.cause, end.q850, end.caller_left) == ("NORMAL_CLEARING", 16, False)
    assert 0 < seconds(end.created_at, end.ring_at) <= seconds(end.created_at, end.answered_at) < 1
    assert 0.25 < seconds(end.answered_at, end.ended_at) < 1
    assert end.created_at is not None
    assert end.created_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("why", "cause", "q850", "did"),
    [
        ("limit", "USER_BUSY", 17, "8030752400"),
        ("drain", "NORMAL_TEMPORARY_FAILURE", 41, "8030752400"),
        ("number", "UNALLOCATED_NUMBER", 1, "acme"),
        ("caller", "CALL_REJECTED", 21, "8030752400"),
    ],
)
def test_a_call_that_the_dialplan_refused(why: str, cause: str, q850: int, did: str) -> None:
    end = call(f"refused-{why}")
    assert (end.refused, end.cause, end.q850, end.caller_left) == (why, cause, q850, False)
    assert (end.trunk, end.did, end.call_id, end.answered_at) == ("PRI1", did, "", None)
    assert end.withheld is (why == "limit")
    assert end.caller_raw.isprintable()


@pytest.mark.parametrize("why", ["refused", "guard", "deaths"])
def test_a_call_that_the_fallback_served_has_what_the_exchange_sent(why: str) -> None:
    """Also after the transfers that led there, which put other destinations in front."""
    end = call(f"fallback-{why}")
    assert (end.fallback, end.did, end.caller_raw, end.cause) == (why, "8030752400", "09812345678", "NORMAL_CLEARING")
    assert seconds(end.created_at, end.answered_at) > 0.9
    assert 0 <= seconds(end.routed_at, end.answered_at) < 0.2
    assert seconds(end.answered_at, end.ended_at) > 1
    assert not end.caller_left


@pytest.mark.parametrize(
    ("name", "call_id", "done", "answered", "cause"),
    [
        ("caller-left", CALL, "", False, "ORIGINATOR_CANCEL"),
        ("left-before-an-app", "", "", False, "ORIGINATOR_CANCEL"),
        ("left-after-a-death", CALL, "2.1", True, "NORMAL_CLEARING"),
    ],
)
def test_a_call_whose_caller_left(name: str, call_id: str, done: str, answered: bool, cause: str) -> None:
    end = call(name)
    assert (end.call_id, end.done, end.answered_at is not None, end.cause) == (call_id, done, answered, cause)
    assert end.caller_left
    assert (end.refused, end.fallback) == ("", "")


@pytest.mark.parametrize(
    ("name", "alerting", "early", "answered", "cause", "q850"),
    [
        ("answered", True, False, True, "NORMAL_CLEARING", 16),
        ("busy", False, False, False, "USER_BUSY", 17),
        ("no-answer", True, False, False, "NO_ANSWER", 19),
        ("announcement", False, True, False, "NO_ANSWER", 19),
    ],
)
def test_an_agents_leg(name: str, alerting: bool, early: bool, answered: bool, cause: str, q850: int) -> None:
    end = leg(name)
    assert (end.uuid, end.cause, end.q850) == (f"leg-{name}", cause, q850)
    seen = (end.alerting_at is not None, end.early_media_at is not None, end.answered_at is not None)
    assert seen == (alerting, early, answered)
    assert (end.number, end.fallback, len(end.caller)) == ("09000000001", False, 36)
    assert seconds(end.setup_at, end.released_at) >= 0
    if answered:
        assert 0.8 < seconds(end.answered_at, end.released_at) < 1.5


def test_a_part_of_a_file_is_no_cdr() -> None:
    """mod_json_cdr writes in place."""
    whole = (RECORDED / "served.cdr.json").read_bytes().rstrip()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        with pytest.raises(CdrError):
            parse(whole[:length])


# --- who hung up, on a line that does not tell ---------------------------------------------------


def on_isdn(**variables: Any) -> CallEnd:
    cdr = json.loads((RECORDED / "left-after-a-death.cdr.json").read_bytes())
    del cdr["variables"]["sip_hangup_disposition"]
    cdr["variables"] |= variables
    end = parse(json.dumps(cdr))
    assert isinstance(end, CallEnd)
    return end


@pytest.mark.parametrize(
    ("last_app", "cause", "left"),
    [
        ("read", "NORMAL_CLEARING", True),
        ("hangup", "NORMAL_CLEARING", False),
        ("bridge", "ALLOTTED_TIMEOUT", False),
        ("bridge", "NORMAL_UNSPECIFIED", True),
        ("sleep", "ORIGINATOR_CANCEL", True),
        ("playback", "SYSTEM_SHUTDOWN", False),
    ],
)
def test_who_ended_a_call_on_isdn(last_app: str, cause: str, left: bool) -> None:
    assert on_isdn(last_app=last_app, hangup_cause=cause).caller_left is left


@pytest.mark.parametrize(
    ("told", "legs"),
    [
        (None, []),
        ("a-1;Outbound Call;0987", ["a-1"]),
        ("ARRAY::a-1;Outbound Call;0987|:b-2;;0988|:a-1;;0987", ["a-1", "b-2"]),
        ("ARRAY::../x;;|:;;|:" + "c;;|:" * 1000, ["c"]),
    ],
)
def test_the_legs_that_were_dialled_for_a_call(told: str | None, legs: list[str]) -> None:
    assert on_isdn(**({} if told is None else {"originated_legs": told})).originated == legs


def test_the_marker_of_what_had_ended_has_several_numbers() -> None:
    assert on_isdn(exo_done="3.1.0.2.4.0").done == "3.1.0.2.4.0"


# --- hostile ones -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "field", "seen"),
    [
        ("exo_call", "../../etc/passwd", "call_id", ""),
        ("exo_call", CALL.upper(), "call_id", ""),
        ("exo_call", 7, "call_id", ""),
        ("exo_done", "1.2\n", "done", ""),
        ("exo_done", "1." + "9" * 30, "done", ""),
        ("exo_refused", "limit; DROP TABLE calls", "refused", ""),
        ("exo_fallback", ["guard"], "fallback", ""),
        ("hangup_cause", "\x1b[2J", "cause", ""),
        ("hangup_cause_q850", "١٦", "q850", None),
        ("hangup_cause_q850", "-1", "q850", None),
        ("exo_diverted_from", "+91\r\nX: y", "diverted_raw", "+91??X: y"),
        ("exo_did", "8" * 5000, "did", "8" * 64),
        ("exo_withheld", True, "withheld", False),
    ],
)
def test_what_has_another_form_is_nothing(name: str, value: Any, field: str, seen: Any) -> None:
    assert getattr(on_isdn(**{name: value}), field) == seen


@pytest.mark.parametrize("time", ["", "0", "-5", "1e9", "９", "9" * 16, "9" * 400, 1795421702126322, None, {}])
def test_a_time_that_is_none(time: Any) -> None:
    cdr = json.loads((RECORDED / "served.cdr.json").read_bytes())
    cdr["callflow"][0]["times"]["answered_time"] = time
    end = parse(json.dumps(cdr))
    assert isinstance(end, CallEnd)
    assert end.answered_at is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00" * 100,
        b"[]",
        b"null",
        b'"variables"',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 10_000,
        b'{"variables":{"uuid":"../x"}}',
        b'{"variables":{"uuid":"x"},"callflow":{}}',
        b'{"variables":{"uuid":"x"},"callflow":[1,2]}',
        b'{"variables":{"uuid":"x"},"callflow":[{}],"channel_data":{"direction":["inbound"]}}',
        b" " * (MAX_BYTES + 1),
    ],
)
def test_what_is_no_cdr_is_refused_in_words(text: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(CdrError, match="no CDR"):
        parse(text)
    assert time.monotonic() - started < 2


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    _JSON,
    st.dictionaries(st.sampled_from(["uuid", "exo_did", "exo_call", "hangup_cause", "hangup_cause_q850", "last_app"]), _JSON),
    st.sampled_from(["inbound", "outbound"]),
)
def test_any_type_anywhere(anything: Any, variables: dict[str, Any], direction: str) -> None:
    cdr = {
        "variables": {"uuid": "x", **variables},
        "callflow": [{"times": anything, "caller_profile": anything}, {"caller_profile": {"caller_id_number": anything}}],
        "channel_data": {"direction": direction},
    }
    try:
        end = parse(json.dumps(cdr))
    except CdrError:
        return
    assert end.q850 is None or 0 <= end.q850 <= 9999


def test_values_that_are_no_utf8_and_half_characters() -> None:
    raw = (RECORDED / "served.cdr.json").read_bytes()
    end = parse(raw.replace(b'"caller_id_number":"09812345678"', b'"caller_id_number":"\xff\\ud80098"'))
    assert isinstance(end, CallEnd)
    assert end.caller_raw == "\N{REPLACEMENT CHARACTER}?98"


# --- files --------------------------------------------------------------------------------------


def test_a_leg_is_read_from_its_file(tmp_path: Path) -> None:
    whole = (RECORDED / "leg-answered.cdr.json").read_bytes()
    file = tmp_path / "leg-answered.cdr.json"
    assert read_leg(tmp_path, "leg-answered") is None
    file.write_bytes(whole[:500])
    assert read_leg(tmp_path, "leg-answered") is None
    file.write_bytes(whole)
    assert read_leg(tmp_path, "leg-answered") == leg("answered")


@pytest.mark.parametrize("uuid", ["", "..", "../leg-answered", "a/b", "x" * 65, "-x", "leg\n"])
def test_a_leg_is_named_by_an_id_only(tmp_path: Path, uuid: str) -> None:
    assert read_leg(tmp_path, uuid) is None


def test_another_channels_file_is_not_the_legs(tmp_path: Path) -> None:
    (tmp_path / "mine.cdr.json").write_bytes((RECORDED / "leg-answered.cdr.json").read_bytes())
    (tmp_path / "caller.cdr.json").write_bytes((RECORDED / "served.cdr.json").read_bytes())
    assert read_leg(tmp_path, "mine") is None
    assert read_leg(tmp_path, "caller") is None


def test_neither_a_link_nor_a_pipe_nor_a_folder_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (tmp_path / "link.cdr.json").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe.cdr.json")
    (tmp_path / "folder.cdr.json").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises((OSError, CdrError)):
            read_file(tmp_path / f"{name}.cdr.json")
        assert read_leg(tmp_path, name) is None


def test_a_file_is_never_read_beyond_its_limit(tmp_path: Path) -> None:
    with (tmp_path / "big.cdr.json").open("wb") as file:
        file.truncate(1 << 33)
    assert len(read_file(tmp_path / "big.cdr.json")) == MAX_BYTES + 1


@pytest.mark.parametrize(
    ("name", "uuid"),
    [
        ("5f8b28d1-82cc.cdr.json", "5f8b28d1-82cc"),
        ("x.json", ""),
        (".cdr.json", ""),
        ("a b.cdr.json", ""),
        ("a_x.cdr.json", ""),
    ],
)
def test_the_names_of_files(name: str, uuid: str) -> None:
    assert uuid_of(name) == uuid
