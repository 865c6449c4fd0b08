"""A greeting and a menu's prompt by URL: what the CRM is asked, what is played, and what comes when it cannot be."""

from __future__ import annotations

import wave
from collections.abc import Callable
from typing import Any

import pytest
from hall import BYE, WAIT, Hall, codes, entry, say, visited
from support.ports import free_port

from exoflow.linesound import wav
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
ENDS = {"bye": BYE, "other": {"hangup": {"cause": "USER_BUSY"}}}
SOUND = Reply(200, wav(bytes(16_000)), "audio/wav")


def greeting(then: str = "bye", failed: str | None = None, **more: Any) -> dict[str, Any]:
    step: dict[str, Any] = {"greeting": {"url": "crm:/hello", **more}, "next": then}
    return step | ({"failed": failed} if failed else {})


def played(h: Hall) -> list[str]:
    """The files of the playbacks, without hold audio."""
    return [argument for argument in h.executed("playback") if "://" not in argument or argument.startswith("file_string")]


def test_a_text_is_spoken(hall: Start) -> None:
    h = hall({"hello": greeting(), **ENDS})
    h.crm.script("/hello", Reply(200, b"Good morning, Mr Rao."))
    phone, state = h.run()
    assert phone.texts == ["Good morning, Mr Rao."]
    assert codes(state) == ["call.arrived", "call.answered", "crm.200", "crm.prompt", "greeting.played", "hangup"]
    assert entry(state, "crm.prompt").evidence == {"words": "Good morning, Mr Rao."}
    (file,) = played(h)
    with wave.open(file) as sound:
        assert sound.getframerate() == 8000
        assert 1.4 < sound.getnframes() / 8000 < 1.6
    assert h.switch.violations == []


def test_the_crm_is_asked_by_head_and_get_with_the_greetings_parameters(hall: Start) -> None:
    h = hall({"hello": greeting(url="crm:/hello?key=K"), **ENDS})
    h.crm.script("/hello", Reply(200, b"Hello."))
    _, state = h.run()
    head, get = h.crm.to("/hello")
    assert (head.method, get.method) == ("HEAD", "GET")
    assert head.params == get.params
    assert get.params == [
        ("key", "K"),
        ("CallSid", state.facts.id),
        ("DialWhomNumber", ""),
        ("From", "09811100001"),
        ("To", "08030752400"),
    ]
    assert "exotel-version" not in get.headers


@pytest.mark.parametrize("status", [404, 405, 500, 501])
def test_a_crm_without_head_is_asked_by_get(hall: Start, status: int) -> None:
    h = hall({"hello": greeting(), **ENDS})
    h.crm.script("/hello", lambda request: Reply(status) if request.method == "HEAD" else Reply(200, b"Hello."))
    _, state = h.run()
    assert "greeting.played" in codes(state)


def test_audio_is_played_in_order(hall: Start) -> None:
    h = hall({"hello": greeting(), **ENDS})
    urls = [h.crm.url("/one.wav"), h.crm.url("/two.wav?key=SECRET")]
    h.crm.script("/hello", Reply(200, "\r\n".join(urls).encode()))
    h.crm.script("/one.wav", SOUND)
    h.crm.script("/two.wav", SOUND)
    _, state = h.run()
    told = entry(state, "crm.prompt").evidence
    assert told["came"] == ["fetched", "fetched"]
    assert "SECRET" not in str(told)
    assert told["audio"][0] == urls[0]
    (files,) = played(h)
    one, two = files.removeprefix("file_string://").split("!")
    assert one != two
    h.run()
    assert len(h.crm.to("/one.wav")) == 1  # kept by its URL


def test_json_with_a_greeting_url(hall: Start) -> None:
    h = hall({"hello": greeting(), **ENDS})
    h.crm.script("/hello", Reply(200, f'{{"greeting_url": "{h.crm.url("/a.wav")}"}}'.encode(), "application/json"))
    h.crm.script("/a.wav", SOUND)
    _, state = h.run()
    assert entry(state, "crm.prompt").evidence["came"] == ["fetched"]


BAD = {
    "status": (Reply(302), "crm.bad_answer"),
    "5xx": (Reply(500), "crm.500"),
    "a web page": (Reply(200, b"<html>Hello</html>", "text/html"), "crm.bad_answer"),
    "empty": (Reply(200, b" \n"), "crm.bad_answer"),
    "slow": (Reply(200, b"Hello.", delay=3), "crm.timeout"),
    "audio that is none": (Reply(200, b"crm:/hello"), "crm.unplayable"),
    "audio at a private address": (Reply(200, b"http://10.9.9.9/a.wav"), "crm.unplayable"),
}


def _bad(h: Hall, reply: Reply) -> Reply:
    return Reply(200, h.crm.url("/passthru").encode()) if reply.body == b"crm:/hello" else reply


@pytest.mark.parametrize("why", sorted(BAD))
def test_what_cannot_be_played_leads_to_the_fallback_url(hall: Start, why: str) -> None:
    h = hall({"hello": greeting(fallback_url="crm:/second", url_timeout=1, say="Ours."), **ENDS})
    reply, code = BAD[why]
    h.crm.script("/hello", _bad(h, reply))
    h.crm.script("/second", Reply(200, b"From the second."))
    _, state = h.run()
    found = codes(state)
    assert code in found
    assert found[found.index("crm.fallback_url") :][1:3] == ["crm.200", "crm.prompt"]
    assert entry(state, "crm.prompt").evidence == {"words": "From the second."}


@pytest.mark.parametrize("why", sorted(BAD))
def test_what_cannot_be_played_leads_to_the_own_prompt(hall: Start, why: str) -> None:
    h = hall({"hello": greeting(url_timeout=1, say="Ours."), **ENDS})
    h.crm.script("/hello", _bad(h, BAD[why][0]))
    phone, state = h.run()
    assert "crm.own_prompt" in codes(state)
    assert phone.texts[-1] == "Ours."


@pytest.mark.parametrize(("failed", "then"), [("other", "other"), (None, "bye")])
def test_without_any_prompt_it_goes_on(hall: Start, failed: str | None, then: str) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    h = hall({"hello": greeting(url=url, failed=failed), **ENDS})
    _, state = h.run()
    assert visited(state) == ["hello", then]
    assert entry(state, "greeting.nothing").text.endswith(f"on to {then}")
    assert played(h) == []


def test_who_waits_hears_hold_audio(hall: Start) -> None:
    h = hall({"hello": greeting(hold={"say": "One moment."}), **ENDS})
    h.crm.script("/hello", Reply(200, b"Hello.", delay=0.8))
    phone, state = h.run()
    assert phone.texts[0] == "One moment."
    assert "greeting.played" in codes(state)


def test_before_a_menu_it_can_be_typed_over(hall: Start) -> None:
    choose = {"menu": {"say": "Dial 1.", "timeout": 2}, "keys": {"1": "bye"}, "otherwise": "other"}
    h = hall({"hello": greeting("choose"), "choose": choose, **ENDS})
    h.crm.script("/hello", Reply(200, b"Hello."))
    _, state = h.run(keys=["1"])
    assert "greeting.joined" in codes(state)
    (asked,) = h.executed("play_and_get_digits")
    assert asked.count(".wav") == 2


def test_secret_digits_are_never_spoken(hall: Start) -> None:
    pin = {"gather": {"say": "PIN?", "digits": 6, "secret": True, "attempts": 1}, "next": "hello"}
    h = hall({"pin": pin, "hello": greeting(failed="other"), **ENDS})
    h.crm.script("/hello", Reply(200, b"Your PIN is 908172."))
    _, state = h.run(keys=["908172"])
    assert entry(state, "crm.bad_answer").evidence["key"] == "text"
    assert "908172" not in str(state)


# --- menu -------------------------------------------------------------------------------------------


def offer(**more: Any) -> dict[str, Any]:
    return {
        "menu": {"url": "crm:/menu", "attempts": 2, "timeout": 2, **more},
        "keys": {"1": "bye"},
        "otherwise": "other",
    }


def test_a_menus_prompt_by_url_is_asked_once_for_all_attempts(hall: Start) -> None:
    h = hall({"hello": say("Welcome.", "choose"), "choose": offer(wrong_key={"say": "No."}), **ENDS})
    h.crm.script("/menu", Reply(200, b"Dial 1 for Mr Rao."))
    _, state = h.run(keys=["7", "1"])
    assert visited(state) == ["hello", "choose", "bye"]
    assert [request.method for request in h.crm.to("/menu")] == ["HEAD", "GET"]
    first, second = h.executed("play_and_get_digits")
    assert first.count(".wav") == second.count(".wav") == 2  # the greeting before it; what was wrong


@pytest.mark.parametrize(("own", "then"), [({"say": "Dial 1."}, "bye"), ({}, "other")])
def test_a_menu_whose_crm_is_down(hall: Start, own: dict[str, Any], then: str) -> None:
    h = hall({"hello": say("Welcome.", "choose"), "choose": offer(**own), **ENDS})
    h.crm.script("/menu", Reply(503))
    phone, state = h.run(keys=["1"])
    assert visited(state) == ["hello", "choose", then]
    assert "Welcome." in phone.texts
    assert ("menu.nothing" in codes(state)) == (not own)


# --- a call that comes back -------------------------------------------------------------------------


def test_a_call_that_comes_back_hears_the_same_and_asks_no_more(hall: Start) -> None:
    h = hall({"hello": greeting(), **ENDS})
    h.crm.script("/hello", Reply(200, b"A long greeting that is played for some seconds to the caller."))
    phone = h.call()
    h.noted("crm.prompt")
    assert phone.wait_until(lambda p: any(sound.endswith(".wav") for sound in played(h)), WAIT)
    h.lose_socket(phone)
    state = h.ended(phone)
    assert "call.resumed" in codes(state)
    assert "greeting.played" in codes(state)
    assert [request.method for request in h.crm.to("/hello")] == ["HEAD", "GET"]


def test_a_call_that_is_lost_in_the_question_asks_again(hall: Start) -> None:
    h = hall({"hello": greeting(), **ENDS})
    h.crm.script("/hello", Reply(200, b"Hello.", delay=0.5))
    phone = h.call()
    assert h.crm.wait_for(lambda crm: bool(crm.to("/hello")))
    h.lose_socket(phone)
    state = h.ended(phone)
    assert "crm.again" in codes(state)
    assert codes(state).count("greeting.played") == 1


def test_a_caller_who_leaves_in_the_question(hall: Start) -> None:
    h = hall({"hello": greeting(fallback_url="crm:/second"), **ENDS})
    h.crm.script("/hello", Reply(500, delay=0.5))
    phone = h.call()
    assert h.crm.wait_for(lambda crm: bool(crm.to("/hello")))
    phone.hangup()
    state = h.ended(phone)
    assert h.crm.to("/second") == []  # nobody would hear it
    assert state.outcome == "abandoned"
