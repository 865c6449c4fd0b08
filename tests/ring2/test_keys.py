"""What becomes of a key on a real FreeSWITCH: the rules that the embedded switch follows (tests/ring1/test_sim_faults.py)."""

from __future__ import annotations

import time

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
