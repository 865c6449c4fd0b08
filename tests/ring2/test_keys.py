"""What becomes of a key on a real FreeSWITCH: the rules that the embedded switch follows (tests/ring1/test_sim_faults.py)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import gevent
import pytest
from support.esl import AppCall, AppServer

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
