"""gather by URL: what the CRM is asked, what its answer changes, and what counts when it gives none that can be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hall import BYE, Hall, codes, entry, say, visited

from exoflow.linesound import wav
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
ENDS = {"yes": say("Thank you."), "no": say("Goodbye."), "bye": BYE}


def ask(otherwise: str | None = "no", **more: Any) -> dict[str, Any]:
    step: dict[str, Any] = {"gather": {"url": "crm:/gather?key=K", **more}, "next": "yes"}
    return step | ({"otherwise": otherwise} if otherwise else {})


def told(**keys: Any) -> Reply:
    return Reply(200, json.dumps({"gather_prompt": {"text": "Your order?"}, **keys}).encode(), "application/json")


def questions(h: Hall) -> list[list[str]]:
    return [argument.split(" ") for argument in h.executed("play_and_get_digits")]


def test_the_crm_is_asked_with_all_parameters_and_the_version(hall: Start) -> None:
    h = hall({"ask": ask(), **ENDS})
    h.crm.script("/gather", told(max_input_digits=4))
    _, state = h.run(keys=["1234"])
    (request,) = h.crm.to("/gather")
    assert request.method == "GET"
    assert request.headers["exotel-version"] == "1.0"
    assert request.params[0] == ("key", "K")
    assert {"CallSid", "CallFrom", "CallTo", "From", "To", "CallStatus", "StartTime"} <= {name for name, _ in request.params}
    assert state.digits == "1234"
    assert entry(state, "crm.gather").evidence == {
        "words": "Your order?",
        "digits": 4,
        "end_key": "#",
        "seconds": 5,
        "attempts": 1,
    }
    assert visited(state) == ["ask", "yes", "bye"]
    assert h.switch.violations == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ["1", "128", "1", "5000", "#"]),
        ({"finish_on_key": "", "max_input_digits": 6}, ["1", "6", "1", "5000", "none"]),
        ({"finish_on_key": "*", "input_timeout": 9, "max_input_digits": 200}, ["1", "128", "1", "9000", "*"]),
    ],
)
def test_what_the_switch_is_told(hall: Start, keys: dict[str, Any], words: list[str]) -> None:
    h = hall({"ask": ask(digits=2, end_key="*", timeout=3, say="Ours?"), **ENDS})
    h.crm.script("/gather", told(**keys))
    h.run(keys=["12#"])
    assert questions(h)[0][:5] == words
    assert questions(h)[0][9] == words[3]  # between two keys as before the first


def test_the_next_url_gets_the_quoted_digits(hall: Start) -> None:
    tell = {"passthru": {"url": "crm:/passthru"}, "ok": "bye", "redirect": "bye"}
    h = hall({"ask": ask() | {"next": "tell"}, "tell": tell, **ENDS})
    h.crm.script("/gather", told())
    h.run(keys=["0042#"])
    assert h.crm.to("/passthru")[0].get("digits") == '"0042"'


def test_a_repeat_has_its_own_prompt(hall: Start) -> None:
    h = hall({"ask": ask(), **ENDS})
    again = {"audio_url": h.crm.url("/again.wav")}
    h.crm.script("/gather", told(repeat_menu=2, repeat_gather_prompt=again, input_timeout=2))
    h.crm.script("/again.wav", Reply(200, wav(bytes(8000)), "audio/wav"))
    _, state = h.run(keys=["", "", "7#"])
    first, second, third = (words[5] for words in questions(h))
    assert first != second == third
    assert state.digits == "7"
    assert codes(state).count("gather.no_input") == 2


def test_after_the_last_try_it_goes_by_otherwise(hall: Start) -> None:
    h = hall({"ask": ask(), **ENDS})
    h.crm.script("/gather", told(input_timeout=1))
    _, state = h.run()
    assert visited(state) == ["ask", "no", "bye"]
    assert len(questions(h)) == 1


def test_a_star_among_the_digits_is_the_crms(hall: Start) -> None:
    h = hall({"ask": ask(say="Ours?", digits=3), **ENDS})
    h.crm.script("/gather", told(max_input_digits=4))
    _, state = h.run(keys=["12*4"])
    assert state.digits == "12*4"


BAD = {
    "an unknown key": (told(barge_in=True), "crm.bad_answer", "barge_in"),
    "a wrong value": (told(input_timeout="5"), "crm.bad_answer", "input_timeout"),
    "no prompt": (Reply(200, b"{}", "application/json"), "crm.bad_answer", "gather_prompt"),
    "a redirect": (Reply(302), "crm.bad_answer", "status"),
    "an error": (Reply(500), "crm.500", None),
    "too slow": (Reply(200, b"{}", "application/json", delay=3), "crm.timeout", None),
    "no audio": (told(gather_prompt={"audio_url": "http://10.1.1.1/a.wav"}), "crm.unplayable", None),
}


@pytest.mark.parametrize("why", sorted(BAD))
def test_an_answer_that_cannot_be_used_is_refused_whole(hall: Start, why: str) -> None:
    reply, code, key = BAD[why]
    h = hall({"ask": ask(url_timeout=1, fallback_url="crm:/second"), **ENDS})
    h.crm.script("/gather", reply)
    h.crm.script("/second", told(max_input_digits=2))
    _, state = h.run(keys=["12"])
    if key is not None:
        assert entry(state, code).evidence["key"] == key
        assert key in entry(state, code).text
    assert code in codes(state)
    assert "crm.fallback_url" in codes(state)
    assert h.crm.to("/second")[0].headers["exotel-version"] == "1.0"
    assert state.digits == "12"


@pytest.mark.parametrize("why", sorted(BAD))
def test_then_the_steps_own_settings_count(hall: Start, why: str) -> None:
    h = hall({"ask": ask(url_timeout=1, say="Ours?", digits=3), **ENDS})
    h.crm.script("/gather", BAD[why][0])
    _, state = h.run(keys=["123"])
    assert "crm.own_prompt" in codes(state)
    assert questions(h)[0][1] == "3"
    assert state.digits == "123"


@pytest.mark.parametrize(("otherwise", "then"), [("no", "no"), (None, "yes")])
def test_with_nothing_to_ask_it_goes_on_and_nothing_is_left_unsaid(hall: Start, otherwise: str | None, then: str) -> None:
    h = hall({"hello": say("Welcome.", "ask"), "ask": ask(otherwise), **ENDS})
    h.crm.script("/gather", Reply(503))
    phone, state = h.run()
    assert visited(state) == ["hello", "ask", then, "bye"]
    assert entry(state, "gather.nothing").text.endswith(f"on to {then}")
    assert "Welcome." in phone.texts
    assert questions(h) == []


def test_a_call_that_comes_back_is_asked_the_same(hall: Start) -> None:
    h = hall({"ask": ask(), **ENDS})
    h.crm.script("/gather", told(max_input_digits=3, repeat_menu=1))
    phone = h.call()
    h.noted("crm.gather")
    h.until(lambda: len(questions(h)) == 1)
    h.lose_socket(phone)
    h.until(lambda: len(questions(h)) == 2)
    phone.press("123")
    state = h.ended(phone)
    assert state.digits == "123"
    assert len(h.crm.to("/gather")) == 1
    assert "call.resumed" in codes(state)


def test_a_variable_and_a_secret_of_the_step_still_count(hall: Start) -> None:
    h = hall({"ask": ask(variable="pin", secret=True), **ENDS})
    h.crm.script("/gather", told(max_input_digits=6))
    _, state = h.run(keys=["908172"])
    assert state.digits == "****"
    assert entry(state, "set.done").evidence["hidden"] == ["pin"]
