"""What becomes of a key on a real FreeSWITCH: the rules that the embedded switch follows (tests/ring1/test_sim_faults.py)."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.server import StreamServer
from support.esl import AppCall, AppServer

from exoflow.esl.session import Before, CallSession
from ring2.box import Box
from ring2.network import Exchange

ASK = "1 1 1 1000 none silence_stream://300 silence_stream://50 exo_d [0-9] 1000"
LONG = {"sleep": "3000", "playback": "silence_stream://3000"}


@pytest.mark.parametrize(
    ("application", "queued", "seconds", "got"),
    [
        ("sleep", True, 1.0, "7"),  # ended by the key, which stays for what is queued behind
        ("sleep", False, 1.0, None),  # the park behind it has eaten the key before the next question comes
        ("playback", True, 3.0, None),
        ("playback", False, 3.0, None),
    ],
)
def test_a_key_in_the_middle(
    fs: Box, exchange: Exchange, application: str, queued: bool, seconds: float, got: str | None
) -> None:
    found: list[tuple[float, str | None]] = []

    def handler(call: AppCall) -> None:
        call.take()
        call.execute("answer")
        began = time.monotonic()
        first = call.start(application, LONG[application])
        asked = call.start("play_and_get_digits", ASK) if queued else None
        first.get(timeout=10)
        took = time.monotonic() - began
        answer = (asked or call.start("play_and_get_digits", ASK)).get(timeout=10)
        found.append((took, answer.get("variable_exo_d")))
        call.start("hangup", "NORMAL_CLEARING")

    with AppServer(handler, port=fs.exoflow_hosts.port):
        call = exchange.call("8030752400").wait_answered()
        gevent.sleep(1.0)
        call.press("7")
        call.wait_ended(20)
    ((took, digits),) = found
    assert took == pytest.approx(seconds, abs=0.5)
    assert digits == got


PARKED = json.loads((Path(__file__).parents[1] / "wire" / "recorded" / "idle_park.json").read_text())
ALL_THERE_ARE = "1 9 1 1000 none silence_stream://20 silence_stream://20 exo_d [0-9]+ 1000"
MANY = "123456"
ROUNDS = 30


def test_a_parked_call_eats_keys_as_recorded(fs: Box, exchange: Exchange) -> None:
    """One a frame while its app does nothing, and one behind each short application; when in a frame they come is chance."""
    idle: dict[str, str] = {}
    behind: dict[str, str] = {}

    def ask(call: AppCall) -> str:
        return call.start("play_and_get_digits", ALL_THERE_ARE).get(timeout=10).get("variable_exo_d") or ""

    def handler(call: AppCall) -> None:
        call.take()
        call.execute("answer")
        gevent.sleep(0.5)
        for ms in PARKED["idle_ms"]:
            call.execute("set", "exo_x=1")
            gevent.sleep(0.1)
            fs.api(f"uuid_recv_dtmf {call.uuid} {MANY}")
            gevent.sleep(int(ms) / 1000)
            idle[ms] = ask(call)
        for applications in PARKED["behind_applications"]:
            asleep = call.start("sleep", "3000")
            gevent.sleep(0.1)
            fs.api(f"uuid_recv_dtmf {call.uuid} {MANY}")
            asleep.get(timeout=5)
            for _ in range(int(applications)):
                call.execute("set", "exo_x=1")
            behind[applications] = ask(call)
        call.start("hangup", "NORMAL_CLEARING")

    with AppServer(handler, port=fs.exoflow_hosts.port):
        exchange.call("8030752400").wait_answered().wait_ended(60)
    for ms, left in PARKED["idle_ms"].items():
        assert MANY.endswith(idle[ms])
        assert len(idle[ms]) <= len(left) + 1
    assert idle["200"] == ""
    assert len(idle["0"]) >= 4
    for applications, left in PARKED["behind_applications"].items():
        assert left.endswith(behind[applications])


def test_no_key_between_a_gap_and_its_question_goes_unheard(fs: Box, exchange: Exchange) -> None:
    """What the question took ends with what was told until its end; most of what was told before that is known as soon as a
    `set` in front of it has ended, and the channel keeps what is put on it while the question runs (flow/latekeys.py)."""
    chance = random.Random(7)
    rounds: list[tuple[str, str, str, str]] = []

    def ask(session: CallSession, number: int) -> tuple[str, str, str, str]:
        fs.api(f"uuid_recv_dtmf {session.uuid} {MANY}")
        gevent.sleep(chance.uniform(0.0, 0.1))
        before, kept = Before("set", "exo_x=1"), f"exo_late_{number}"

        def keep() -> str:
            before.ended.wait(10)
            early = session.take_keys(before.ended.get().sequence)
            session.api(f"uuid_setvar {session.uuid} {kept} {early}")
            return early

        keeping = gevent.spawn(keep)
        words = f"1 9 1 300 none silence_stream://20 silence_stream://20 exo_d_{number} [0-9]+ 300"
        found = session.execute("play_and_get_digits", words, deadline=10, before=before)
        early: str = keeping.get(timeout=10)
        told = early + session.take_keys(found.sequence)
        return early, told, found.variable(f"exo_d_{number}"), found.variable(kept)

    def serve(sock: Any, address: Any) -> None:
        session = CallSession(address, sock)
        session.begin()
        session.execute("sched_cancel", deadline=10)  # nobody here keeps its lease
        session.execute("answer", deadline=10)
        gevent.sleep(0.5)
        rounds.extend(ask(session, number) for number in range(ROUNDS))
        session.hang_up("NORMAL_CLEARING")
        session.complete.wait(10)
        session.stop()

    server = StreamServer(("127.0.0.1", fs.exoflow_hosts.port), serve)
    server.start()
    try:
        exchange.call("8030752400").wait_answered().wait_ended(90)
    finally:
        server.stop(timeout=0)
    assert len(rounds) == ROUNDS
    for early, told, asked, kept in rounds:
        assert told == MANY
        assert told.endswith(asked)
        assert kept == early
        assert told.startswith(early)
        assert 0 <= len(told) - len(asked) - len(early) <= 1, "the switch takes one at most between the two"
    between = [told for early, told, asked, _ in rounds if early + asked != told]
    assert len(between) <= ROUNDS // 5, "the switch hardly ever takes one between the two"
    assert len({early for early, _, _, _ in rounds}) > 2, "it is chance how many the gap has"
