"""greeting and menu: what a caller hears, presses, and where that leads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hall import BYE, WAIT, Hall, codes, entry, menu, prompt_files, say, visited

from exoflow.flow import engine, here

Start = Callable[..., Hall]
KEYS = "0123456789*#"
GREETED = {"hello": say("Welcome.", "glad"), "glad": say("We are glad.", "ask"), "ask": menu({"2": "bye"}), "bye": BYE}


def asked(hall: Hall) -> list[list[str]]:
    """The words of each play_and_get_digits."""
    return [argument.split(" ") for argument in hall.executed("play_and_get_digits")]


def test_every_key_leads_to_its_own_step(hall: Start) -> None:
    steps = {"ask": menu({key: f"on {n}" for n, key in enumerate(KEYS)}), "bye": BYE}
    steps |= {f"on {n}": say(f"You pressed {key}.") for n, key in enumerate(KEYS)}
    h = hall(steps)
    phones = {key: h.call(keys=key) for key in KEYS}
    for n, (key, phone) in enumerate(phones.items()):
        state = h.ended(phone)
        assert visited(state) == ["ask", f"on {n}", "bye"]
        assert phone.texts == ["Which one?", f"You pressed {key}."]
        assert state.digits == key
        assert entry(state, "menu.key").evidence == {"key": key, "attempt": 1}
        assert (state.outcome, state.reason) == ("served", "")
    assert h.switch.violations == []


@pytest.mark.parametrize("heard", [1, 2, 3])
def test_a_key_pressed_over_greetings_and_menu_counts(hall: Start, heard: int) -> None:
    h = hall(GREETED)
    phone = h.call()
    assert phone.wait_until(lambda p: len(p.heard) == heard, WAIT)
    phone.press("2")
    state = h.ended(phone)
    assert phone.texts == ["Welcome.", "We are glad.", "Which one?"][:heard]
    assert state.digits == "2"
    assert visited(state) == ["hello", "glad", "ask", "bye"]
    (words,) = asked(h)
    files = prompt_files(h)
    assert words[5] == "file_string://" + "!".join(str(files[text]) for text in ("Welcome.", "We are glad.", "Which one?"))
    assert h.executed("playback") == []


def test_a_greeting_that_leads_to_no_menu_is_played_at_its_own_step(hall: Start) -> None:
    h = hall({"hello": say("Welcome.", "closed"), "closed": say("We are closed."), "bye": BYE})
    phone, state = h.run()
    assert phone.texts == ["Welcome.", "We are closed."]
    assert [one.step for one in state.journey if one.code == "greeting.played"] == ["hello", "closed"]
    assert phone.cause == state.cause == "NORMAL_CLEARING"
    assert state.ended_by == "exoflow"


def test_wrong_keys_and_silence_have_their_own_prompts_and_each_question_its_own_variable(hall: Start) -> None:
    prompts = {"wrong_key": {"say": "No such choice."}, "no_input": {"say": "We heard nothing."}}
    h = hall({"ask": menu({"1": "one"}, attempts=4, **prompts), "one": say("One."), "bye": BYE})
    _, state = h.run(keys=["7", "", "#", "1"])
    files = {str(path): text for text, path in prompt_files(h).items()}
    played = [[files[path] for path in words[5].removeprefix("file_string://").split("!")] for words in asked(h)]
    assert played == [
        ["Which one?"],
        *([text, "Which one?"] for text in ("No such choice.", "We heard nothing.", "No such choice.")),
    ]
    assert [c for c in codes(state) if c.startswith("menu.")] == [
        "menu.wrong_key",
        "menu.no_input",
        "menu.wrong_key",
        "menu.key",
    ]
    assert state.digits == "1"
    assert entry(state, "menu.key").evidence == {"key": "1", "attempt": 4}
    assert [words[7] for words in asked(h)] == ["exo_keys_1_1", "exo_keys_1_2", "exo_keys_1_3", "exo_keys_1_4"]
    assert {words[3] for words in asked(h)} == {"2000"}


@pytest.mark.parametrize(
    ("keys", "reason", "attempts"),
    [
        (["7", "8"], "menu.wrong_keys", 2),
        (["", ""], "menu.no_keys", 2),
        (["9", ""], "menu.no_keys", 2),
        ([], "menu.no_keys", 1),
    ],
)
def test_the_menu_gives_up_after_its_attempts(hall: Start, keys: list[str], reason: str, attempts: int) -> None:
    h = hall({"ask": menu({"1": "bye"}, "sorry", attempts=attempts), "sorry": say("Sorry."), "bye": BYE})
    phone, state = h.run(keys=keys)
    # without prompts of its own the menu is simply offered again
    assert [text for text in phone.texts if text != "silence"] == ["Which one?"] * attempts + ["Sorry."]
    assert visited(state) == ["ask", "sorry", "bye"]
    assert entry(state, reason).stage == "C"
    assert "sorry" in entry(state, reason).text
    assert state.digits == ""


def test_a_second_menu_never_takes_the_first_ones_key(hall: Start) -> None:
    h = hall(
        {"ask": menu({"1": "again"}), "again": menu({"1": "bye"}, "quiet", attempts=1), "quiet": say("Quiet."), "bye": BYE}
    )
    _, state = h.run(keys=["1", ""])
    assert visited(state) == ["ask", "again", "quiet", "bye"]
    assert [words[7] for words in asked(h)] == ["exo_keys_1_1", "exo_keys_2_1"]


def test_a_caller_in_a_circle_is_let_go_in_the_end(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_STEPS", 20)
    h = hall({"ask": menu({"1": "ask"}), "bye": BYE})
    phone, state = h.run(keys="1" * 50)
    assert phone.pressed == ["1"] * 20
    assert "circle" in entry(state, "flow.too_long").text
    assert (state.ended_by, state.cause) == ("exoflow", "NORMAL_CLEARING")


# --- faults ---------------------------------------------------------------------------------------


def test_a_prompt_that_has_gone_is_a_tone_and_digits_are_still_taken(hall: Start) -> None:
    h = hall(GREETED)
    prompt_files(h)["Which one?"].unlink()
    phone, state = h.run(keys=["", "2"])
    assert phone.texts[:2] == ["Welcome.", "We are glad."]
    assert phone.texts[2].startswith("tone ")
    assert state.digits == "2"
    gone = [one for one in state.journey if one.code == "prompt.missing"]
    assert [(one.stage, one.step) for one in gone] == [("C", "ask")] * 2
    assert "exoflow prompts build" in gone[0].text
    assert h.switch.violations == []


def test_all_prompts_gone_is_a_caller_with_tones_who_can_still_choose(hall: Start) -> None:
    h = hall(GREETED | {"bye": BYE, "ask": menu({"2": "last"}), "last": say("Goodbye.")})
    for path in prompt_files(h).values():
        path.unlink()
    phone, state = h.run(keys=["", "2"])
    assert phone.texts
    assert all(text.startswith(("tone ", "silence")) for text in phone.texts)
    assert visited(state) == ["hello", "glad", "ask", "last", "bye"]
    assert [one.step for one in state.journey if one.code == "prompt.missing"] == ["ask", "ask", "ask", "ask", "last"]


def test_a_prompt_that_does_not_end_is_broken_off(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a tenth of the speed the sound takes longer than any sound of its length may."""
    monkeypatch.setattr(here, "PROMPT_MARGIN", -0.8)
    h = hall({"hello": say("Welcome."), "bye": BYE}, speed=0.1)
    phone, state = h.run()
    assert phone.texts == ["Welcome."]
    assert entry(state, "switch.slow").stage == "C"
    assert visited(state) == ["hello", "bye"]
    assert phone.ended_at is not None
    assert phone.ended_at / h.switch.clock.speed < 2


def test_a_question_that_does_not_end_is_no_key(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "PROMPT_MARGIN", -1.8)
    h = hall({"ask": menu({"1": "bye"}, attempts=1, timeout=1), "bye": BYE}, speed=2)
    _, state = h.run()
    assert codes(state)[-4:] == ["switch.slow", "menu.no_input", "menu.no_keys", "hangup"]
