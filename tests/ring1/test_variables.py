"""Typed values of a flow: where they come from, what is refused, and what they become in a text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exoflow.calls.model import CallFacts, CallState, Entry
from exoflow.config.actions import Note, Sms, Variable
from exoflow.config.values import MAX_INTEGER, Unfit, typed
from exoflow.flow.variables import consented, find, json_body, recall

SAID = {"customer": {"due": 1250, "name": "Asha", "orders": [{"id": "A-1"}], "vip": True, "nothing": None, "rate": 2.0}}


def state(**facts: Any) -> CallState:
    known = CallFacts("0" * 32, "c", datetime.now(UTC), "PRI1", "2400", "", dialled="+918030752400", **facts)
    return CallState(known, digits="0420")


def value(said: Any = SAID, **settings: Any) -> Any:
    return find(Variable.model_validate(settings), state(caller="+919811100001"), said)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"from": "gathered"}, "0420"),
        ({"from": "gathered", "type": "digits"}, "0420"),
        ({"from": "gathered", "type": "integer"}, 420),
        ({"from": "caller"}, "+919811100001"),
        ({"from": "caller", "type": "digits"}, "09811100001"),
        ({"from": "dialled"}, "+918030752400"),
        ({"from": "crm", "key": "customer.due", "type": "integer"}, 1250),
        ({"from": "crm", "key": "customer.due"}, "1250"),
        ({"from": "crm", "key": "customer.rate", "type": "integer"}, 2),
        ({"from": "crm", "key": "customer.orders.0.id"}, "A-1"),
        ({"value": "Pune"}, "Pune"),
        ({"value": 7}, "7"),
        ({"value": "7", "type": "integer"}, 7),
        ({"from": "crm", "key": "customer.none", "default": "nobody"}, "nobody"),
        ({"from": "crm", "key": "customer.name", "type": "integer", "default": 0}, 0),
    ],
)
def test_values(settings, expected):
    assert value(**settings) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"from": "crm", "key": "customer.none"},
        {"from": "crm", "key": "customer"},
        {"from": "crm", "key": "customer.orders.1.id"},
        {"from": "crm", "key": "customer.orders.x"},
        {"from": "crm", "key": "customer.nothing"},
        {"from": "crm", "key": "customer.vip"},
        {"from": "crm", "key": "customer.name", "type": "digits"},
        {"from": "crm", "key": "customer.name", "type": "integer"},
    ],
)
def test_no_value(settings):
    with pytest.raises(Unfit):
        value(**settings)


@pytest.mark.parametrize("said", [None, [], "text", 5, json_body(b"<html>"), json_body(b"[" * 100_000), json_body(b"\xff")])
def test_a_crm_that_sent_no_such_json(said):
    with pytest.raises(Unfit):
        value(said, **{"from": "crm", "key": "customer.due"})


def test_a_withheld_number_is_no_value():
    with pytest.raises(Unfit):
        find(Variable.model_validate({"from": "caller", "type": "digits"}), state(caller_withheld=True), None)


@given(st.sampled_from(["text", "integer", "digits"]), st.one_of(st.text(max_size=300), st.integers(), st.floats(), st.none()))
def test_a_value_is_of_its_type_or_none(wanted, raw):
    try:
        found = typed(raw, wanted)
    except Unfit:
        return
    assert isinstance(found, int if wanted == "integer" else str)
    assert wanted != "integer" or abs(int(found)) <= MAX_INTEGER
    assert str(found).isprintable()


def entry(code: str, **evidence: Any) -> Entry:
    return Entry(1, datetime.now(UTC), "C", code, "", "s", evidence)


def test_a_call_that_comes_back_knows_what_it_knew():
    journey = [entry("set.done", values={"due": 5, "city": "Pune"}), entry("note"), entry("set.done", values={"due": 6})]
    journey += [entry("set.done", values={"pin": "1"}), entry("set.done", values={}, hidden=["pin"])]
    known: dict[str, Any] = {}
    for line in journey:
        recall(known, line)
    assert known == {"due": 6, "city": "Pune"}
    assert consented(journey) is None
    assert consented([*journey, entry("consent.refused", key="2")]) is False
    assert consented([*journey, entry("consent.agreed", key="1")]) is True


@pytest.mark.parametrize("text", ["{", "}", "{a", "{a}}", "{Name}", "{a b}", "{a.b}", "{}", "{a!r}", "{0}", "${x", "{a[0]}"])
def test_templates_that_are_refused(text):
    with pytest.raises(ValidationError):
        Note(text=text)


@pytest.mark.parametrize("text", ["no name", "{caller}", "{{literal}}", "${caller}", "{{{caller}}}"])
def test_templates_that_are_taken(text):
    Note(text=text)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"form": {"a": "b"}, "json": {"a": "b"}},
        {"json": {"a": "b"}, "method": "get"},
        {"json": {"a": [{"b": "{"}]}},
        {"json": {"a": {"a": {"a": {"a": {"a": {"a": "b"}}}}}}},
        {"form": {"a": "b"}, "headers": {"Host": "elsewhere"}},
        {"form": {"a": "b"}, "headers": {"content-length": "0"}},
        {"form": {"a": "b"}, "headers": {"X": "a\r\nY: b"}},
        {"form": {"a": "b"}, "headers": {"a b": "c"}},
        {"form": {"a": "b"}, "timeout": 16.0},
    ],
)
def test_sms_settings_that_are_refused(broken):
    with pytest.raises(ValidationError):
        Sms.model_validate({"url": "https://sms.example/", **broken})


def test_a_header_may_come_from_the_environment_and_is_never_shown():
    settings = {"url": "https://sms.example/", "form": {"a": "b"}, "headers": {"X-Key": "${SMS_KEY}"}}
    sms = Sms.model_validate(settings, context={"environ": {"SMS_KEY": "s3cret"}})
    assert sms.headers["X-Key"].get_secret_value() == "s3cret"
    assert "s3cret" not in repr(sms)
    with pytest.raises(ValidationError):
        Sms.model_validate(settings, context={"environ": {}})
