"""set, say_value and note: what a caller hears of values, and what the journey keeps of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hall import BYE, WAIT, Hall, codes, entry, menu, prompt_files, say, visited

from exoflow.sim.crm import Reply

Start = Callable[..., Hall]


def setting(then: str = "tell", **variables: Any) -> dict[str, Any]:
    return {"set": {"variables": variables}, "next": then}


def telling(kind: str, variable: str = "it", **more: Any) -> dict[str, Any]:
    return {"say_value": {"variable": variable, "as": kind, **more}, "next": "bye"}


VOICES = {"prompts": {"engine": "text", "voices": {name: f"voice of {name}" for name in ("hi", "hi-IN", "kn", "mr")}}}


def crm_says(h: Hall, **what: Any) -> None:
    h.crm.script("/passthru", Reply(200, json.dumps(what).encode(), "application/json"))


ASK = {"passthru": {"url": "crm:/passthru"}, "ok": "keep", "redirect": "keep"}


def test_an_amount_of_the_crm_is_said_from_blocks_in_one_sound(hall: Start) -> None:
    around = {"before": {"say": "You owe"}, "after": {"say": "Thank you."}}
    keep = setting(it={"from": "crm", "key": "order.due"})
    h = hall({"ask": ASK, "keep": keep, "tell": telling("amount", **around), "bye": BYE})
    crm_says(h, order={"due": 123456.5})
    phone, state = h.run()
    words = ["one", "lakh", "twenty three", "thousand", "four", "hundred", "fifty six", "rupees", "and", "fifty", "paise"]
    assert phone.texts == ["You owe", *words, "Thank you."]
    assert entry(state, "set.done").evidence == {"values": {"it": "123456.5"}}
    assert entry(state, "say_value.said").evidence == {"value": "123456.5", "kind": "amount", "language": "en"}
    files = prompt_files(h)
    assert h.executed("playback") == ["file_string://" + "!".join(str(files[t]) for t in ("You owe", *words, "Thank you."))]
    assert h.switch.violations == []


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("digits", "0*7", ["zero", "star", "seven"]),
        ("number", 100000, ["one", "lakh"]),
        ("date", "2026-11-23", ["twenty third", "November", "two", "thousand", "twenty six"]),
        ("time", "16:05", ["four", "oh", "five", "P M"]),
    ],
)
def test_each_kind_as_a_constant(hall: Start, kind: str, value: Any, words: list[str]) -> None:
    h = hall({"tell": {"say_value": {"value": value, "as": kind}, "next": "bye"}, "bye": BYE})
    phone, _ = h.run()
    assert phone.texts == words


def choosing(language: str, tell: dict[str, Any]) -> dict[str, Any]:
    """A flow that chooses a language and says a value."""
    return {"choose": {"language": {"to": language}, "next": "tell"}, "tell": tell | {"next": "bye"}, "bye": BYE}


IN_HINDI = ["एक", "हज़ार", "दो", "सौ", "पचास", "रुपये", "और", "पचास", "पैसे"]


@pytest.mark.parametrize(
    ("chosen", "account", "named", "words", "language"),
    [
        ("hi", "en", None, IN_HINDI, "hi"),
        ("hi-IN", "en", None, IN_HINDI, "hi-IN"),
        ("kn", "en", None, ["ಒಂದು", "ಸಾವಿರದ", "ಇನ್ನೂರ", "ಐವತ್ತು", "ರೂಪಾಯಿ", "ಐವತ್ತು", "ಪೈಸೆ"], "kn"),
        ("fr", "hi", None, IN_HINDI, "hi"),  # no words in French
        ("fr", "de", None, ["one", "thousand", "two", "hundred", "fifty", "rupees", "and", "fifty", "paise"], "en"),
        ("hi", "en", "mr", ["एक", "हजार", "दोनशे", "पन्नास", "रुपये", "आणि", "पन्नास", "पैसे"], "mr"),
    ],
)
def test_a_value_is_said_in_the_callers_language(
    hall: Start, chosen: str, account: str, named: str | None, words: list[str], language: str
) -> None:
    tell = {"say_value": {"value": "1250.50", "as": "amount"} | ({"language": named} if named else {})}
    steps = choosing(chosen, tell)
    h = hall(steps, account={"language": account}, main=VOICES, speed=None)
    phone, state = h.run()
    assert phone.texts == words
    assert entry(state, "say_value.said").evidence["language"] == language
    assert "prompt.missing" not in codes(state)


def test_a_value_before_a_menu_is_in_the_callers_language(hall: Start) -> None:
    question = {"menu": {"say": {"en": "Press 1.", "hi": "1 दबाएँ।"}, "timeout": 2, "attempts": 1}, "keys": {"1": "bye"}}
    steps = choosing("hi", {"say_value": {"value": 21, "as": "number"}})
    steps["tell"]["next"] = "ask"
    h = hall(steps | {"ask": question | {"otherwise": "bye"}}, main=VOICES, speed=None)
    phone, state = h.run()
    assert phone.texts[:2] == ["इक्कीस", "1 दबाएँ।"]
    assert entry(state, "say_value.joined").evidence["language"] == "hi"


def test_gathered_digits_are_said_as_they_were_pressed(hall: Start) -> None:
    keep = setting(it={"from": "gathered", "type": "digits"})
    h = hall({"ask": menu({"*": "keep"}), "keep": keep, "tell": telling("digits"), "bye": BYE})
    phone, _ = h.run(keys="*")
    assert phone.texts == ["Which one?", "star"]


@pytest.mark.parametrize("failed", [True, False])
def test_what_cannot_be_said_goes_by_failed(hall: Start, failed: bool) -> None:
    tell = telling("number") | ({"failed": "sorry"} if failed else {})
    h = hall({"keep": setting(it={"value": "many"}), "tell": tell, "sorry": say("Sorry."), "bye": BYE})
    phone, state = h.run()
    assert phone.texts == (["Sorry."] if failed else [])
    assert visited(state) == ["keep", "tell", *(["sorry"] if failed else []), "bye"]
    assert "'many'" in entry(state, "say_value.unfit").text


@pytest.mark.parametrize("failed", [True, False])
def test_a_variable_without_a_value(hall: Start, failed: bool) -> None:
    keep = setting(it={"from": "crm", "key": "due", "type": "integer"}, other={"value": 1}) | (
        {"failed": "bye"} if failed else {}
    )
    h = hall({"ask": ASK, "keep": keep, "tell": telling("number"), "bye": BYE})
    h.crm.script("/passthru", Reply(200, b"<html>no JSON</html>"))
    phone, state = h.run()
    assert entry(state, "set.missing").evidence == {"variable": "it"}
    assert entry(state, "set.done").evidence == {"values": {"other": "1"}}
    assert visited(state) == ["ask", "keep", *([] if failed else ["tell"]), "bye"]
    assert phone.texts == []


def test_an_old_value_is_not_kept_in_place_of_a_missing_one(hall: Start) -> None:
    again = setting(then="line", it={"from": "crm", "key": "due"})
    steps = {
        "keep": setting(then="ask", it={"value": "old"}),
        "ask": ASK | {"ok": "again", "redirect": "again"},
        "again": again,
    }
    h = hall(steps | {"line": {"note": {"text": "now: {it}"}, "next": "bye"}, "bye": BYE})
    crm_says(h, other=1)
    _, state = h.run()
    assert entry(state, "note").text == "now: "
    assert entry(state, "note").evidence == {"unset": ["it"]}


def test_a_value_before_a_menu_is_typed_over(hall: Start) -> None:
    tell = {"say_value": {"value": 1234, "as": "number", "before": {"say": "Ticket"}}, "next": "glad"}
    h = hall({"tell": tell, "glad": say("Thank you.", "ask"), "ask": menu({"2": "bye"}), "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: len(p.heard) == 3, 5)
    phone.press("2")
    state = h.ended(phone)
    assert phone.texts == ["Ticket", "one", "thousand"]
    assert state.digits == "2"
    assert entry(state, "say_value.joined").evidence == {"value": 1234, "kind": "number", "language": "en"}
    assert h.executed("playback") == []


def test_a_caller_who_leaves_while_a_value_is_said(hall: Start) -> None:
    tell = {"say_value": {"value": "1" * 32, "as": "digits"}, "next": "line"}
    h = hall({"tell": tell, "line": {"note": {"text": "{caller} left"}, "next": "bye"}, "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: len(p.heard) > 2, 5)
    phone.hangup()
    state = h.ended(phone)
    assert visited(state) == ["tell", "line", "bye"]
    assert entry(state, "note").text == "+919811100001 left"


def test_a_block_that_has_gone_is_a_tone(hall: Start) -> None:
    h = hall({"tell": {"say_value": {"value": 12, "as": "digits"}, "next": "bye"}, "bye": BYE})
    prompt_files(h)["one"].unlink()
    phone, state = h.run()
    assert phone.texts[0].startswith("tone ")
    assert phone.texts[1] == "two"
    assert entry(state, "prompt.missing").step == "tell"


def test_hostile_values_reach_neither_the_switch_nor_another_line_of_the_journey(hall: Start) -> None:
    evil = "${system(id)}\r\nAPI: uuid_kill {caller} !unload mod_event_socket\u2028"
    keep = setting(then="line", it={"from": "crm", "key": "name"})
    h = hall({"ask": ASK, "keep": keep, "line": {"note": {"text": "<{it}>{{}}"}, "next": "bye"}, "bye": BYE})
    crm_says(h, name=evil)
    _, state = h.run()
    assert entry(state, "note").text == "<${system(id)}  API: uuid_kill {caller} !unload mod_event_socket>{}"
    assert not any("system" in argument for _, _, argument in h.tap.executed)


def test_variables_come_back_with_a_call_whose_socket_was_lost(hall: Start) -> None:
    steps = {"keep": setting(then="wait", it={"value": "Pune"}), "wait": menu({"1": "line"}, timeout=20)}
    h = hall(steps | {"line": {"note": {"text": "from {it}"}, "next": "bye"}, "bye": BYE})
    phone = h.call()
    h.noted("call.answered")
    h.lose_socket(phone)
    h.noted("call.resumed")
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    phone.press("1")
    state = h.ended(phone)
    assert entry(state, "note").text == "from Pune"
    assert "set.done" in codes(state)
