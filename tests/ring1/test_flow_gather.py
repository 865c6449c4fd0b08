"""gather: digits with their ends, what is asked again, and where it leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import BYE, WAIT, Hall, codes, entry, menu, say, visited

Start = Callable[..., Hall]
PROMPTS = {"invalid": {"say": "That is wrong."}, "no_input": {"say": "We heard nothing."}}


def ask(then: str = "yes", otherwise: str | None = "no", **more: Any) -> dict[str, Any]:
    step: dict[str, Any] = {
        "gather": {"say": "Your order?", "timeout": 2, "digit_timeout": 2, "attempts": 2, **more},
        "next": then,
    }
    return step | ({"otherwise": otherwise} if otherwise else {})


ENDS = {"yes": say("Thank you."), "no": say("Goodbye."), "bye": BYE}


def questions(h: Hall) -> list[list[str]]:
    return [argument.split(" ") for argument in h.executed("play_and_get_digits")]


@pytest.mark.parametrize(
    ("settings", "keys", "digits"),
    [
        ({"digits": 4}, "1234", "1234"),
        ({"digits": 1}, "7", "7"),
        ({"min_digits": 2, "max_digits": 6}, "123#", "123"),
        ({"min_digits": 2, "max_digits": 6}, "123", "123"),  # and then nothing more
        ({"max_digits": 6}, "1#", "1"),
        ({"max_digits": 6, "end_key": "*"}, "0042*", "0042"),
        ({"max_digits": 6, "end_key": "none"}, "42", "42"),
        ({"max_digits": 128}, "9" * 128, "9" * 128),
        ({"digits": 1, "least": 1, "most": 5}, "5", "5"),
    ],
)
def test_digits_end_by_number_key_or_silence(hall: Start, settings: dict[str, Any], keys: str, digits: str) -> None:
    h = hall({"ask": ask(**settings), **ENDS})
    phone, state = h.run(keys=[keys])
    assert visited(state) == ["ask", "yes", "bye"]
    assert state.digits == digits
    assert entry(state, "gather.digits").evidence == {"digits": digits, "attempt": 1}
    assert phone.texts[-1] == "Thank you."
    assert len(questions(h)) == 1
    assert h.switch.violations == []


def test_what_the_switch_is_told(hall: Start) -> None:
    h = hall({"ask": ask(min_digits=4, max_digits=6, timeout=7, digit_timeout=2.5, repeat_key="*"), **ENDS})
    h.run(keys=["12345#"])
    (words,) = questions(h)
    # one digit is the least it waits for: short ones and silence are told apart by the flow
    assert words[:5] == ["1", "6", "1", "7000", "#*"]
    assert words[7:] == ["exo_keys_1_1", ".", "2500"]


@pytest.mark.parametrize(
    ("settings", "wrong", "problem"),
    [
        ({"digits": 4}, "12#", "fewer than 4"),
        ({"digits": 4}, "12", "fewer than 4"),
        ({"digits": 1, "least": 1, "most": 5}, "0", "less than 1"),
        ({"digits": 1, "least": 1, "most": 5}, "9", "more than 5"),
        ({"max_digits": 4}, "1*2#", "star or hash"),
        ({"digits": 4, "end_key": "none"}, "12#4", "star or hash"),
    ],
)
def test_wrong_digits_are_asked_again_with_their_prompt(
    hall: Start, settings: dict[str, Any], wrong: str, problem: str
) -> None:
    h = hall({"ask": ask(**settings, **PROMPTS), **ENDS})
    good = "3" * settings.get("digits", 2) + ("" if "digits" in settings else "#")
    phone, state = h.run(keys=[wrong, good])
    assert problem in entry(state, "gather.invalid").text
    assert visited(state) == ["ask", "yes", "bye"]
    assert "That is wrong." in phone.texts
    assert entry(state, "gather.digits").evidence["attempt"] == 2


@pytest.mark.parametrize(
    ("keys", "reason", "said"),
    [
        (["", ""], "gather.no_digits", ["We heard nothing."]),
        (["12#", "1#"], "gather.wrong_digits", ["That is wrong."]),
        (["#", ""], "gather.no_digits", ["We heard nothing."]),
    ],
)
def test_it_gives_up_after_its_attempts(hall: Start, keys: list[str], reason: str, said: list[str]) -> None:
    h = hall({"ask": ask(digits=4, **PROMPTS), **ENDS})
    phone, state = h.run(keys=keys)
    assert visited(state) == ["ask", "no", "bye"]
    assert "no" in entry(state, reason).text
    assert [text for text in phone.texts if text in ("That is wrong.", "We heard nothing.")] == said
    assert state.digits == ""


def test_without_otherwise_it_goes_on_by_next(hall: Start) -> None:
    h = hall({"ask": ask(then="bye", otherwise=None, digits=1, attempts=1), "bye": BYE})
    _, state = h.run(keys=[])
    assert visited(state) == ["ask", "bye"]
    assert entry(state, "gather.no_digits").text.endswith("on to bye")


@pytest.mark.parametrize("settings", [{"digits": 1}, {"max_digits": 4}])
def test_the_repeat_key_plays_it_again_and_costs_nothing(hall: Start, settings: dict[str, Any]) -> None:
    steps = {"hello": say("Welcome.", "ask"), "ask": ask(attempts=1, repeat_key="*", **settings), **ENDS}
    h = hall(steps)
    _, state = h.run(keys=["*", "*", "5#" if "max_digits" in settings else "5"])
    assert codes(state).count("gather.repeat") == 2
    assert state.digits == "5"
    files = [words[5].count("!") for words in questions(h)]
    assert files == [1, 1, 1]  # the greeting before it belongs to it


def test_the_repeat_key_is_bounded(hall: Start) -> None:
    h = hall({"ask": ask(digits=1, attempts=1, repeat_key="*"), **ENDS})
    _, state = h.run(keys=["*"] * 20)
    assert codes(state).count("gather.repeat") == 5
    assert visited(state) == ["ask", "no", "bye"]


def test_greetings_before_it_can_be_typed_over(hall: Start) -> None:
    h = hall({"hello": say("Welcome.", "glad"), "glad": say("We are glad.", "ask"), "ask": ask(digits=4), **ENDS})
    phone = h.call()
    assert phone.wait_until(lambda p: len(p.heard) == 1, WAIT)
    phone.press("4321")
    state = h.ended(phone)
    assert state.digits == "4321"
    assert phone.texts == ["Welcome.", "Thank you."]


def test_an_end_key_that_was_not_needed_is_no_wrong_key_for_the_menu_behind(hall: Start) -> None:
    h = hall({"ask": ask("choose", digits=4), "choose": menu({"1": "yes"}, "no", attempts=1), **ENDS})
    _, state = h.run(keys=["1234", "#", "1"])
    assert "#" in entry(state, "digits.late_end").text
    assert visited(state) == ["ask", "choose", "yes", "bye"]


def test_an_end_key_that_was_not_needed_is_no_answer_to_the_next_question(hall: Start) -> None:
    h = hall({"ask": ask("again", digits=2), "again": ask(digits=2, attempts=1), **ENDS})
    _, state = h.run(keys=["12", "#", "34"])
    assert codes(state).count("digits.late_end") == 1
    assert state.digits == "34"


def test_the_hash_of_a_menu_behind_it_is_the_menus(hall: Start) -> None:
    h = hall({"ask": ask("choose", digits=4), "choose": menu({"#": "yes"}, "no", attempts=1), **ENDS})
    _, state = h.run(keys=["1234", "#"])
    assert "digits.late_end" not in codes(state)
    assert visited(state) == ["ask", "choose", "yes", "bye"]


def test_the_digits_are_a_variable_and_the_crms(hall: Start) -> None:
    tell = {"passthru": {"url": "crm:/passthru"}, "ok": "line", "redirect": "bye"}
    line = {"note": {"text": "order {order}"}, "next": "bye"}
    h = hall({"ask": ask("tell", "tell", digits=4, variable="order"), "tell": tell, "line": line, "bye": BYE})
    _, state = h.run(keys=["0089"])
    assert h.crm.to("/passthru")[0].get("digits") == '"0089"'
    assert entry(state, "note").text == "order 0089"


def test_who_leaves_within_it_is_still_told_to_the_crm(hall: Start) -> None:
    tell = {"passthru": {"url": "crm:/passthru"}, "ok": "bye", "redirect": "bye"}
    h = hall({"ask": ask("tell", "tell", digits=4), "tell": tell, "bye": BYE})
    phone = h.call()
    h.noted("call.answered")
    phone.hangup()
    state = h.ended(phone)
    assert visited(state) == ["ask", "tell", "bye"]
    assert h.crm.to("/passthru")[0].get("digits") is None


# --- the menu's own repeat key ------------------------------------------------------------------------


def test_a_menu_repeats_itself_with_its_greetings(hall: Start) -> None:
    h = hall({"hello": say("Welcome.", "ask"), "ask": menu({"1": "bye"}, attempts=1, repeat_key="*"), "bye": BYE})
    _, state = h.run(keys=["*", "1"])
    assert entry(state, "menu.repeat").evidence == {"key": "*"}
    assert entry(state, "menu.key").evidence == {"key": "1", "attempt": 1}
    assert [words[5].count("!") for words in questions(h)] == [1, 1]
