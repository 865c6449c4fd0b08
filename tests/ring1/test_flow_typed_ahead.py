"""Digits typed through while something stands between two questions: whole and in their order, or none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from hall import ASHA, BYE, MEENA, WAIT, Hall, codes, entry, eventually, menu, say, visited

from exoflow.calls.model import CallState
from exoflow.flow.here import MAX_AHEAD
from exoflow.sim import AgentScript, Phone
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]


def ask(then: str, **more: Any) -> dict[str, Any]:
    settings = {"say": "Your number, please.", "timeout": 4, "digit_timeout": 3, "attempts": 1, **more}
    return {"gather": settings, "next": then, "otherwise": "bye"}


CUSTOMER = ask("between", digits=4)
AMOUNT = ask("bye", max_digits=6)


def digits_of(state: CallState, step: str = "amount") -> list[str]:
    return [one.evidence["digits"] for one in state.journey if one.code == "gather.digits" and one.step == step]


def types(phone: Phone, keys: str, gap: float, start: float = 1.0) -> None:
    for at, key in enumerate(keys):
        phone.after(start + at * gap, phone.press, key)


BETWEEN: dict[str, dict[str, Any]] = {
    "pause": {"between": {"pause": {"seconds": 1}, "next": "amount"}},
    "pause with a sound": {"between": {"pause": {"seconds": 0.5, "sound": {"say": "Please wait."}}, "next": "amount"}},
    "set and language": {
        "between": {"set": {"variables": {"who": {"from": "caller"}}}, "next": "tongue"},
        "tongue": {"language": {"to": "en"}, "next": "amount"},
    },
    "greeting": {"between": say("One moment.", "wait"), "wait": {"pause": {"seconds": 0.2}, "next": "amount"}},
    "say_value": {
        "between": {"say_value": {"value": 12, "as": "number"}, "next": "wait"},
        "wait": {"pause": {"seconds": 0.2}, "next": "amount"},
    },
}


@pytest.mark.parametrize("gap", [0.3, 0.25, 0.2, 0.1])
@pytest.mark.parametrize("between", BETWEEN)
def test_digits_typed_through_are_whole(hall: Start, between: str, gap: float) -> None:
    steps = {"customer": CUSTOMER, **BETWEEN[between], "amount": AMOUNT, "bye": BYE}
    h = hall(steps)
    phone = h.call()
    types(phone, "123412500#", gap)
    state = h.ended(phone)
    assert (digits_of(state, "customer"), digits_of(state)) == (["1234"], ["12500"])
    assert h.switch.violations == []


@pytest.mark.parametrize("typed", ["1234#12500#", "1234#12500", "123412500#9"], ids=["both ends", "first end", "one more"])
def test_the_end_keys_among_them(hall: Start, typed: str) -> None:
    steps = {"customer": CUSTOMER, **BETWEEN["pause"], "amount": ask("more", max_digits=6), "more": menu({"9": "bye"})}
    h = hall(steps | {"bye": BYE})
    phone = h.call()
    types(phone, typed, 0.25)
    state = h.ended(phone)
    assert digits_of(state) == ["12500"]
    assert codes(state).count("digits.late_end") == typed.startswith("1234#")
    assert codes(state).count("menu.key") == typed.endswith("9")


def test_a_late_end_key_is_no_digit_where_it_ends_nothing(hall: Start) -> None:
    amount = ask("bye", digits=3, end_key="none")
    h = hall({"customer": CUSTOMER, **BETWEEN["pause"], "amount": amount, "bye": BYE})
    phone = h.call()
    types(phone, "1234#125", 0.25)
    state = h.ended(phone)
    assert digits_of(state) == ["125"]
    assert codes(state).count("digits.late_end") == 1


@pytest.mark.parametrize("died", [False, True], ids=["", "and the app dies behind it"])
@pytest.mark.parametrize("kind", ["passthru", "gather"])
def test_digits_typed_while_a_crm_is_asked(hall: Start, kind: str, died: bool) -> None:
    between = {"passthru": {"url": "crm:/slow"}, "ok": "amount", "redirect": "bye"}
    amount = AMOUNT if kind == "passthru" else ask("bye", max_digits=6, url="crm:/slow")
    steps = {"customer": ask("between" if kind == "passthru" else "amount", digits=4), "between": between, "amount": amount}
    h = hall(steps | {"bye": BYE})
    phones: list[Phone] = []

    def go_on(phone: Phone) -> None:
        h.until(lambda: h.executed("play_and_get_digits")[1:])
        phone.press("00#")

    def slow(request: Any) -> Reply:
        (phone,) = phones
        phone.press("125")
        eventually(lambda: phone.session is not None and not phone.session.digits)
        if died and kind == "passthru":
            eventually(lambda: phone.session is not None and phone.session.channel.variables.get("exo_typed") == "125")
            h.lose_socket(phone)
        gevent.spawn(go_on, phone)
        return Reply(200, b"OK") if kind == "passthru" else Reply(500, b"")

    h.crm.script("/slow", slow, Reply(200, b"OK"))
    phones.append(h.call())
    types(phones[0], "1234", 0.1)
    state = h.ended(phones[0])
    assert digits_of(state) == ["12500"]


@pytest.mark.parametrize("gap", [0.3, 0.8])
@pytest.mark.parametrize(
    "agent", [AgentScript.busy(), AgentScript.rejects(1.5), AgentScript.silent()], ids=["busy", "rejects", "silent"]
)
def test_digits_typed_into_an_attempt_on_an_agent_are_dropped_whole(hall: Start, agent: AgentScript, gap: float) -> None:
    """What a caller presses while agents ring is for nobody, and so is the rest of it."""
    connect = {"connect": {"numbers": [MEENA], "ring_seconds": 5}, "answered": "bye", "unanswered": "amount"}
    h = hall({"customer": CUSTOMER, "between": connect, "amount": AMOUNT, "bye": BYE}, agents={MEENA: agent})
    phone = h.call()
    types(phone, "1234125009#", gap)
    assert digits_of(h.ended(phone)) in ([], ["125009"])  # the attempt may be over before the first of them


def test_a_talk_ends_what_was_typed_before_it_and_in_it(hall: Start) -> None:
    connect = {"connect": {"group": "support", "ring_seconds": 5}, "answered": "amount", "unanswered": "bye"}
    h = hall({"customer": CUSTOMER, "between": connect, "amount": AMOUNT, "bye": BYE}, agents={ASHA: AgentScript.answers(1, 4)})
    phone = h.call()
    types(phone, "12349", 0.1)
    phone.after(4, phone.press, "77")
    phone.after(9, phone.press, "12500#")
    assert digits_of(h.ended(phone)) == ["12500"]


def test_what_was_typed_to_a_mailbox_is_for_no_question(hall: Start) -> None:
    mailbox = {"voicemail": {"say": "Please speak.", "silence_seconds": 3}, "next": "choose"}
    h = hall({"mailbox": mailbox, "choose": menu({"1": "yes", "2": "bye"}), "yes": say("Yes."), "bye": BYE})
    phone = h.call(speaks=20.0)
    h.until(lambda: h.executed("record"))
    phone.after(3, phone.press, "1")
    phone.after(4, phone.press, "#")
    phone.after(4.2, phone.press, "2")
    state = h.ended(phone)
    assert entry(state, "menu.key").evidence["key"] == "2"


def test_a_stuck_key_is_for_no_question(hall: Start) -> None:
    h = hall({"customer": CUSTOMER, "between": {"pause": {"seconds": 5}, "next": "amount"}, "amount": AMOUNT, "bye": BYE})
    phone = h.call()
    types(phone, "1234", 0.1)
    h.until(lambda: any("silence_stream://5000" in one for one in h.executed("playback")))
    phone.press("9" * (MAX_AHEAD + 1))
    state = h.ended(phone)
    assert "digits.too_many" in codes(state)
    assert digits_of(state) == []


# --- keys that no telephone has -----------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["A1", "ABCD1", "D1"])
def test_a_voice_taken_for_a_key_costs_a_menu_nothing(hall: Start, typed: str) -> None:
    h = hall({"choose": menu({"1": "yes"}, "bye", attempts=1), "yes": say("Yes."), "bye": BYE})
    phone = h.call(keys=list(typed))
    state = h.ended(phone)
    assert visited(state) == ["choose", "yes", "bye"]
    assert entry(state, "digits.passed_over").evidence == {"keys": typed[:-1]}
    assert entry(state, "menu.key").evidence["attempt"] == 1


def test_and_costs_digits_nothing(hall: Start) -> None:
    h = hall({"amount": ask("bye", digits=4), "bye": BYE})
    phone = h.call()
    types(phone, "A12BC3D4", 0.2)
    state = h.ended(phone)
    assert digits_of(state) == ["1234"]
    assert entry(state, "digits.passed_over").evidence == {"keys": "ABCD"}


def test_a_line_that_makes_them_without_end_is_given_up(hall: Start) -> None:
    h = hall({"choose": menu({"1": "bye"}, "bye", attempts=1), "bye": BYE})
    phone = h.call(keys=["A"] * 100)
    state = h.ended(phone)
    assert entry(state, "menu.no_input").evidence["attempt"] == 1
    assert phone.wait(WAIT)


# --- sounds that the switch cannot open -----------------------------------------------------------------------


def test_a_question_whose_sound_cannot_be_opened_keeps_its_time(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exoflow.sim.sounds.wav_seconds", unreadable)
    h = hall(
        {
            "choose": menu({"1": "yes"}, "bye", attempts=1, timeout=5),
            "yes": {"pause": {"seconds": 1}, "next": "bye"},
            "bye": BYE,
        }
    )
    phone = h.call()
    h.until(lambda: h.executed("play_and_get_digits")[1:])
    phone.after(3, phone.press, "1")
    state = h.ended(phone)
    assert entry(state, "menu.key").evidence["attempt"] == 1
    assert "FreeSWITCH's user" in entry(state, "prompt.unplayable").text
    assert any(text.startswith("tone") for text in phone.texts)


def test_a_greeting_that_cannot_be_opened_was_not_played(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exoflow.sim.sounds.wav_seconds", unreadable)
    h = hall({"hello": say("Hello."), "bye": BYE})
    phone, state = h.run()
    assert "greeting.played" not in codes(state)
    assert entry(state, "prompt.unplayable").step == "hello"
    assert phone.texts[0].startswith("tone")


def unreadable(path: Any) -> float:
    raise PermissionError(path)
