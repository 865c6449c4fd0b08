"""transfer, back, pause, language, a passthru beside the flow, greetings in order, flows with parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import BYE, OURS, WAIT, Hall, codes, entry, menu, prompt_files, say, visited

from exoflow.flow.applets import transfer
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
SECOND = "+918030752411"


def to(flow: str, **values: Any) -> dict[str, Any]:
    return {"transfer": {"flow": flow, **({"with": values} if values else {})}}


def flows(**steps: dict[str, Any]) -> dict[str, Any]:
    """An account's flows by their steps; each starts with its first."""
    return {"flows": {name: {"start": next(iter(inner)), "steps": inner} for name, inner in steps.items()}}


# --- transfer -----------------------------------------------------------------------------------------


def test_a_call_goes_on_in_another_flow(hall: Start) -> None:
    main = {"hello": say("Welcome.", "go"), "go": to("sales")}
    h = hall({"bye": BYE}, account=flows(main=main, sales={"pitch": say("Buy."), "bye": BYE}))
    phone, state = h.run()
    assert phone.texts == ["Welcome.", "Buy."]
    assert visited(state) == ["hello", "go", "pitch", "bye"]
    assert entry(state, "transfer").evidence == {"to_flow": "sales", "transfers": 1}
    assert state.facts.flow == "main"


def test_steps_of_the_same_name_are_two_in_two_flows(hall: Start) -> None:
    """Also for a caller who has left: each is run once."""
    ask = {"passthru": {"url": "crm:/one"}, "ok": "go", "redirect": "go"}
    again = {"passthru": {"url": "crm:/two"}, "ok": "bye", "redirect": "bye"}
    h = hall(
        {"bye": BYE}, account=flows(main={"hello": say("Hi.", "ask"), "ask": ask, "go": to("b")}, b={"ask": again, "bye": BYE})
    )
    phone = h.call()
    h.noted("call.answered")
    phone.hangup()
    state = h.ended(phone)
    assert len(h.crm.to("/one")) == len(h.crm.to("/two")) == 1
    assert visited(state)[-1] == "bye"


def test_transfers_are_bounded(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_TRANSFERS", 4)
    a = {"ask": menu({"1": "go"}), "go": to("b"), "bye": BYE}
    b = {"ask": menu({"1": "go"}), "go": to("main"), "bye": BYE}
    phone, state = hall({"bye": BYE}, account=flows(main=a, b=b)).run(keys="1" * 20)
    assert codes(state).count("transfer") == 4
    assert "circle" in entry(state, "transfer.too_many").text
    assert len(phone.pressed) == 5
    assert state.ended_by == "exoflow"


def test_a_call_whose_socket_was_lost_goes_on_in_its_flow_and_language(hall: Start) -> None:
    two = {"en": "Press one.", "hi": "एक दबाएं।"}
    b = {"ask": {"menu": {"say": two, "timeout": 20, "attempts": 3}, "keys": {"1": "bye"}, "otherwise": "bye"}, "bye": BYE}
    main = {"speak": {"language": {"to": "hi"}, "next": "go"}, "go": to("b"), "ask": say("Wrong flow.", "go")}
    h = hall({"bye": BYE}, account=flows(main=main, b=b))
    phone = h.call()
    assert phone.wait_until(lambda p: p.texts == ["एक दबाएं।"], 10)
    h.lose_socket(phone)
    h.noted("call.resumed")
    assert phone.wait_until(lambda p: p.texts.count("एक दबाएं।") == 2, 10)
    phone.press("1")
    state = h.ended(phone)
    assert visited(state)[-2:] == ["ask", "bye"]
    assert "Wrong flow." not in phone.texts


# --- back ---------------------------------------------------------------------------------------------

BACK: dict[str, Any] = {"back": {}, "otherwise": "bye"}


def test_back_from_a_submenu_and_from_an_announcement(hall: Start) -> None:
    steps = {
        "top": menu({"1": "sub", "2": "news", "9": "bye"}),
        "sub": menu({"1": "news", "0": "up"}),
        "news": say("News.", "up"),
        "up": BACK,
        "bye": BYE,
    }
    _, state = hall(steps).run(keys=["1", "0", "2", "1", "1", "0", "9"])
    assert visited(state) == [
        *("top", "sub", "up"),  # 0 in the submenu: the menu above it
        *("top", "news", "up"),  # an announcement: the menu that led to it
        *("top", "sub", "news", "up"),
        *("sub", "up", "top", "bye"),
    ]


def test_back_by_one_step(hall: Start) -> None:
    steps = {
        "hello": say("Hello.", "news"),
        "news": say("News.", "ask"),
        "ask": menu({"1": "up", "2": "bye"}, attempts=1),
        "up": {"back": {"to": "step"}, "otherwise": "bye"},
        "bye": BYE,
    }
    phone, state = hall(steps).run(keys=["1", "2"])
    assert visited(state) == ["hello", "news", "ask", "up", "news", "ask", "bye"]
    assert phone.texts[0] == "Hello."


@pytest.mark.parametrize("to", ["choice", "step"])
def test_nothing_to_go_back_to(hall: Start, to: str) -> None:
    steps = {"ask": menu({"1": "up"}), "up": {"back": {"to": to}, "otherwise": "bye"}, "bye": BYE}
    _, state = hall(steps).run(keys=["1"])
    assert visited(state) == ["ask", "up", "bye"]
    assert "back.nowhere" in codes(state)


def test_back_is_bounded(hall: Start) -> None:
    steps = {
        "top": menu({"1": "news"}),
        "news": say("News.", "up"),
        "up": {"back": {"times": 2}, "otherwise": "bye"},
        "bye": BYE,
    }
    _, state = hall(steps).run(keys="1" * 10)
    assert codes(state).count("back") == 2
    assert visited(state)[-2:] == ["up", "bye"]
    assert "2 times already" in entry(state, "back.often").text


def test_back_into_the_flow_that_the_call_came_from(hall: Start) -> None:
    main = {"top": menu({"1": "go", "2": "bye"}), "go": to("news"), "bye": BYE}
    news = {"news": say("News.", "up"), "up": BACK, "bye": BYE}
    _, state = hall({"bye": BYE}, account=flows(main=main, news=news)).run(keys=["1", "2"])
    assert visited(state) == ["top", "go", "news", "up", "top", "bye"]
    assert entry(state, "back").evidence == {"to_step": "top", "to_flow": "main"}


# --- pause --------------------------------------------------------------------------------------------


def test_a_pause_plays_and_waits(hall: Start) -> None:
    h = hall({"wait": {"pause": {"seconds": 7.5, "sound": {"say": "One moment."}}, "next": "bye"}, "bye": BYE})
    phone, state = h.run()
    prompt, silence = phone.heard
    assert (prompt.text, silence.text) == ("One moment.", "silence")
    assert silence.seconds == pytest.approx(7.5, abs=1)
    assert entry(state, "pause.waited").evidence == {"seconds": 7.5}


def test_a_pause_is_over_when_the_caller_leaves(hall: Start) -> None:
    h = hall({"wait": {"pause": {"seconds": 300}, "next": "bye"}, "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), 10)
    phone.after(5, phone.hangup)
    assert visited(h.ended(phone)) == ["wait", "bye"]
    assert phone.heard[0].seconds < 100


# --- greetings ----------------------------------------------------------------------------------------


def test_texts_and_files_in_their_order(hall: Start) -> None:
    several = {"greeting": [{"say": "One."}, {"say": "Two."}, {"say": "One."}], "next": "bye"}
    h = hall({"hello": several, "bye": BYE})
    phone, _ = h.run()
    assert phone.texts == ["One.", "Two.", "One."]
    assert len(h.executed("playback")) == 1  # in one piece


def test_several_texts_before_a_menu_can_be_typed_over(hall: Start) -> None:
    several = {"greeting": [{"say": "One."}, {"say": "Two."}], "next": "ask"}
    h = hall({"hello": several, "ask": menu({"1": "bye"}), "bye": BYE})
    phone, state = h.run(keys=["1"])
    assert state.digits == "1"
    assert h.executed("play_and_get_digits")[0].count("!") == 2
    assert "Which one?" not in phone.texts


# --- language -----------------------------------------------------------------------------------------

CHOOSE = {"ask": menu({"1": "speak", "2": "hello"}), "speak": {"language": {"to": "hi"}, "next": "hello"}, "bye": BYE}


@pytest.mark.parametrize(("key", "heard"), [("1", ["नमस्ते।", "Only English."]), ("2", ["Hello.", "Only English."])])
def test_the_language_of_all_that_follows(hall: Start, key: str, heard: list[str]) -> None:
    steps = CHOOSE | {
        "hello": {"greeting": {"say": {"en": "Hello.", "hi": "नमस्ते।"}}, "next": "more"},
        "more": {"greeting": {"say": {"en": "Only English.", "ta": "தமிழ்."}}, "next": "bye"},
    }
    h = hall(steps)
    phone, _ = h.run(keys=[key])
    assert phone.texts[1:] == heard
    assert {"Hello.", "नमस्ते।", "Only English.", "தமிழ்."} < set(prompt_files(h))


def test_all_prompts_of_a_step_are_in_the_language(hall: Start) -> None:
    both = {text: {"say": {"en": text, "hi": f"hi {text}"}} for text in ("Which?", "Wrong.", "Silence.", "Hold.")}
    second = {
        "menu": {**both["Which?"], "attempts": 3, "timeout": 2, "wrong_key": both["Wrong."], "no_input": both["Silence."]}
    }
    ask = {"passthru": {"url": "crm:/passthru", "hold": both["Hold."]}, "ok": "bye", "redirect": "bye"}
    h = hall(CHOOSE | {"hello": second | {"keys": {"1": "crm"}, "otherwise": "bye"}, "crm": ask})
    h.crm.script("/passthru", Reply(200, delay=0.6))
    phone, _ = h.run(keys=["1", "7", "", "1"])
    assert set(phone.texts) - {"Which one?", "silence"} == {"hi Which?", "hi Wrong.", "hi Silence.", "hi Hold."}


def test_a_text_in_its_own_language_and_files_by_language(hall: Start, tmp_path: Any) -> None:
    steps = CHOOSE | {"hello": {"greeting": {"say": "हिंदी", "language": "hi"}, "next": "bye"}}
    h = hall(steps, main={"prompts": {"engine": "text", "folder": str(tmp_path / "prompts"), "voices": {"hi": "hi"}}})
    with_voice = prompt_files(h)["हिंदी"]
    assert with_voice.exists()
    phone, _ = h.run(keys=["2"])
    assert phone.texts[1:] == ["हिंदी"]


# --- passthru beside the flow ---------------------------------------------------------------------------


def beside(url: str = "crm:/log", then: str = "hello", **more: Any) -> dict[str, Any]:
    return {"passthru": {"url": url, "wait": False, **more}, "next": then}


@pytest.mark.parametrize("status", [200, 302, 500])
def test_nobody_waits_for_it_and_its_answer_is_noted(hall: Start, status: int) -> None:
    h = hall({"log": beside(), "hello": say("Hello."), "bye": BYE})
    h.crm.script("/log", lambda _: h.noted("hangup") and Reply(status, b'{"select": "x"}'))
    phone, state = h.run()
    assert phone.texts == ["Hello."]
    assert visited(state)[:3] == ["log", "hello", "bye"]
    told = entry(state, f"crm.{status}")
    assert told.step == "log"
    # the flow had gone on; the record waited
    assert codes(state).index("greeting.played") < codes(state).index(f"crm.{status}")
    assert (state.outcome, state.reason) == ("served", "")
    assert h.crm.to("/log")[0].get("CallSid") == state.facts.id


def test_a_crm_that_is_not_there_matters_to_nobody(hall: Start) -> None:
    h = hall({"log": beside("http://127.0.0.1:9/crm"), "hello": say("Hello."), "bye": BYE})
    _, state = h.run()
    assert entry(state, "crm.refused").step == "log"
    assert state.reason == ""


def test_it_is_sent_also_when_the_caller_has_gone(hall: Start) -> None:
    h = hall({"hello": say("Hello, and some more words to leave in.", "log"), "log": beside(then="bye"), "bye": BYE})
    h.crm.script("/log", Reply(200))
    phone = h.call()
    h.noted("call.answered")
    phone.hangup()
    state = h.ended(phone)
    assert len(h.crm.to("/log")) == 1
    assert entry(state, "crm.200").step == "log"


# --- parameters -----------------------------------------------------------------------------------------


def shared(**parameters: Any) -> dict[str, Any]:
    steps = {
        "hello": {"greeting": {"say": "Welcome to {city}, desk {desk}."}, "next": "tell"},
        "tell": {"passthru": {"url": "crm:/log?city={city}"}, "ok": "line", "redirect": "line"},
        "line": {"note": {"text": "for {city}"}, "next": "which"},
        "which": {"switch": {"variable": "city"}, "cases": {"Pune": "ring"}, "otherwise": "bye"},
        "ring": {"connect": {"group": "{team}"}, "answered": "bye", "unanswered": "bye"},
        "bye": BYE,
    }
    kinds = {"city": "text", "desk": {"type": "number", "default": 1}, "team": {"type": "group", "default": "support"}}
    return {"main": {"parameters": kinds | parameters, "start": "hello", "steps": steps}}


def test_a_flow_is_written_once_for_several_numbers(hall: Start) -> None:
    numbers = [
        {"number": OURS, "trunk": "PRI1", "flow": "main", "with": {"city": "Pune", "team": "backup"}},
        {"number": SECOND, "trunk": "PRI1", "flow": "main", "with": {"city": "Goa", "desk": 7}},
    ]
    h = hall({"bye": BYE}, account={"numbers": numbers, "flows": shared()})
    first, second = h.call(), h.call(to=SECOND)
    pune, goa = h.ended(first), h.ended(second)
    assert first.texts[0] == "Welcome to Pune, desk 1."
    assert second.texts[0] == "Welcome to Goa, desk 7."
    assert sorted(request.get("city") or "" for request in h.crm.to("/log")) == ["Goa", "Pune"]
    assert entry(pune, "note").text == "for Pune"
    assert entry(goa, "note").text == "for Goa"
    assert [leg.agent for leg in pune.legs] == ["Meena"]
    assert visited(goa)[-1] == "bye"
    assert goa.legs == []
    assert pune.facts.flow == goa.facts.flow == "main"
    # both are rendered beforehand, and nothing else
    assert set(prompt_files(h)) == {"Welcome to Pune, desk 1.", "Welcome to Goa, desk 7."}


def test_a_transfer_gives_values_and_passes_its_own_on(hall: Start) -> None:
    both = shared()
    both["front"] = {
        "parameters": {"place": "text"},
        "start": "go",
        "steps": {"go": to("main", city="{place} North", desk=3)},
    }
    numbers = [{"number": OURS, "trunk": "PRI1", "flow": "front", "with": {"place": "Goa"}}]
    h = hall({"bye": BYE}, account={"numbers": numbers, "flows": both})
    phone, state = h.run()
    assert phone.texts[0] == "Welcome to Goa North, desk 3."
    assert entry(state, "transfer").evidence["to_flow"] == "main(city=Goa North, desk=3, team=support)"
    assert entry(state, "note").text == "for Goa North"


def test_which_flow_it_goes_on_in_may_be_a_parameter(hall: Start) -> None:
    """Numbers stay numbers on their way, and long values make no endless names."""
    fall = {"parameters": {"to": "flow", "n": "number", "text": "text"}, "start": "go"}
    fall |= {"steps": {"go": {"transfer": {"flow": "{to}", "with": {"desk": "{n}", "words": "{text}!"}}}}}
    steps = {"hello": {"greeting": {"say": "Desk {desk}: {words}"}, "next": "bye"}, "bye": BYE}
    desk = {"parameters": {"desk": "number", "words": "text"}, "start": "hello", "steps": steps}
    words = "many words " * 20
    numbers = [{"number": OURS, "trunk": "PRI1", "flow": "fall", "with": {"to": "desk", "n": 7, "text": words}}]
    h = hall({"bye": BYE}, account={"numbers": numbers, "flows": {"fall": fall, "desk": desk}})
    phone, state = h.run()
    assert phone.texts == [f"Desk 7: {words}!"]
    assert len(entry(state, "transfer").evidence["to_flow"]) < 150


def test_a_call_of_a_flow_with_parameters_comes_back_to_it(hall: Start) -> None:
    steps = {"ask": {"menu": {"say": "{city}?", "timeout": 20}, "keys": {"1": "bye"}, "otherwise": "bye"}, "bye": BYE}
    flow = {"main": {"parameters": {"city": "text"}, "start": "ask", "steps": steps}}
    numbers = [{"number": OURS, "trunk": "PRI1", "flow": "main", "with": {"city": "Pune"}}]
    h = hall({"bye": BYE}, account={"numbers": numbers, "flows": flow})
    phone = h.call()
    assert phone.wait_until(lambda p: p.texts == ["Pune?"], 10)
    h.lose_socket(phone)
    h.noted("call.resumed")
    assert phone.wait_until(lambda p: p.texts.count("Pune?") == 2, WAIT)
    phone.press("1")
    assert visited(h.ended(phone))[-2:] == ["ask", "bye"]
