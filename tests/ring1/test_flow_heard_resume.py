"""A call that hears what CRMs tell, whose app dies: the caller hears and is asked the same, and no CRM is asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dying import Death, How, Moment
from hall import BYE, Hall, codes, eventually

from exoflow.calls.model import CallState
from exoflow.linesound import wav
from exoflow.sim.crm import Reply

STEPS: dict[str, Any] = {
    "hello": {"greeting": {"url": "crm:/hello", "fallback_url": "crm:/second"}, "next": "wait"},
    "wait": {"pause": {"seconds": 1}, "next": "news"},
    "news": {"greeting": {"url": "crm:/news"}, "next": "choose"},
    "choose": {"menu": {"url": "crm:/menu", "attempts": 2, "timeout": 2}, "keys": {"1": "ask"}, "otherwise": "bye"},
    "ask": {"gather": {"url": "crm:/gather"}, "next": "own"},
    "own": {"greeting": {"url": "crm:/nothing", "say": "This is our own."}, "next": "bye"},
    "bye": BYE,
}
TAKING_TIME = ["playback", "playback", *["play_and_get_digits"] * 4, "playback"]
BESIDE = {"call.resumed", "socket.lost"}
ASKED = [
    "/hello",
    "/hello",
    "/second",
    "/second",
    "/news",
    "/news",
    "/menu",
    "/menu",
    "/gather",
    "/again.wav",
    "/nothing",
    "/nothing",
]


def run(h: Hall, patch: pytest.MonkeyPatch, how: How, number: int, moment: Moment) -> dict[str, Any]:
    h.crm.script("/hello", Reply(500))
    h.crm.script("/second", Reply(200, b"Good morning, Mr Rao, and welcome to Acme."))
    h.crm.script("/news", Reply(200, b"There is news for you."))
    h.crm.script("/menu", Reply(200, b"Dial 1 for your order."))
    h.crm.script("/again.wav", Reply(200, wav(bytes(16_000)), "audio/wav"))
    again = {"audio_url": h.crm.url("/again.wav")}
    h.crm.script(
        "/gather",
        Reply.gather("Your order?", max_input_digits=4, input_timeout=2, repeat_menu=1, repeat_gather_prompt=again),
    )
    h.crm.script("/nothing", Reply(404))
    death = Death(h, patch, how, number, moment)
    phone = h.call(keys=["7", "1", "", "4711"])
    state = closed(h, h.ended(phone).facts.id)
    assert death.struck == (number > 0)
    assert h.switch.violations == []
    return {
        "heard": ["audio" if text.endswith(".wav") else text for text in phone.texts if text != "silence"],
        "asked": [request.path for request in h.crm.requests if request not in h.crm.deliveries],
        "journey": sorted(code for code in codes(state) if code not in BESIDE),
        "record": (state.outcome, state.reason, state.digits, state.ended_by),
        "applications": death.applications,
        "resumed": codes(state).count("call.resumed"),
    }


def closed(h: Hall, call: str) -> CallState:
    """The call's record out of the store, also when another exoflow has closed it than the one that opened it."""

    def state() -> CallState:
        found = h.service.book.get(call)
        assert found is not None
        return found

    eventually(lambda: state().outcome and call not in h.service.book.live)
    return state()


def open_hall(folder: Path) -> Hall:
    h = Hall(folder).start(STEPS, switch={"cdr": str(folder / "cdr")})
    h.switch.cdr = folder / "cdr"
    return h


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    h = open_hall(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        seen = run(h, patch, "socket", 0, "in")
    h.stop()
    return seen


@pytest.fixture
def own_hall(tmp_path: Path) -> Iterator[Hall]:
    h = open_hall(tmp_path)
    yield h
    h.stop()


def test_the_undisturbed_call(undisturbed: dict[str, Any]) -> None:
    assert undisturbed["applications"] == TAKING_TIME
    assert undisturbed["asked"] == ASKED
    assert undisturbed["record"] == ("served", "", "4711", "exoflow")
    assert undisturbed["heard"][0] == "Good morning, Mr Rao, and welcome to Acme."
    assert undisturbed["heard"][-1] == "This is our own."


@pytest.mark.parametrize("how", ["socket", "kill", "kill with a slow store"])
@pytest.mark.parametrize("moment", ["before", "in", "after"])
@pytest.mark.parametrize("number", range(1, len(TAKING_TIME) + 1))
def test_whatever_dies_the_caller_hears_the_same(
    own_hall: Hall, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch, how: How, moment: Moment, number: int
) -> None:
    seen = run(own_hall, monkeypatch, how, number, moment)
    assert seen["resumed"] == 1
    for what in ("heard", "asked", "journey", "record"):
        assert seen[what] == undisturbed[what], what
