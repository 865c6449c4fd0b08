"""Agents on the public network: what their phones do when they are called.

A behaviour is a function of one `Attempt`; the ones here are made by name: `agent.behave(busy())`,
`agent.behave(answers(after=2, talk=5))`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gevent.event import Event
from support.audio import Sound, read_wav
from support.esl import AppCall, HungUp, when

Behaviour = Callable[["Attempt"], None]

FOREVER = 3600.0
"""Seconds; an agent that waits for the other side to hang up."""


def tone(hz: int) -> str:
    """An endless tone for `playback`; 10 s hold whole periods of each whole frequency, so that the loop has no click."""
    return f"tone_stream://%(10000,0,{hz});loops=-1"


class Attempt:
    """One time that an agent's phone was called; times are epoch seconds of the exchange."""

    def __init__(self, call: AppCall, recordings: Path) -> None:
        self.call = call
        self.uuid = call.uuid
        self.dialled = call.data["Caller-Destination-Number"]
        """digits as they came from the box, with its dial prefix"""
        self.number = self.dialled[-10:]
        self.cli = call.data.get("Caller-Caller-ID-Number", "")
        """the caller's number that this phone shows"""
        self.sip_call_id = call.var("sip_call_id") or ""
        self.at = int(call.data["Caller-Channel-Created-Time"]) / 1e6
        self.alerting_at: float | None = None
        self.answered_at: float | None = None
        self.pressed_at: list[float] = []
        self.ended_at: float | None = None
        self.cause = ""
        """why it ended, as the exchange saw it"""
        self.ended = Event()
        self.heard_wav = recordings / f"agent-{self.uuid}.wav"

    def __repr__(self) -> str:
        return f"<Attempt {self.number} cause={self.cause or 'live'}>"

    def wait_ended(self, seconds: float = 10) -> Attempt:
        if not self.ended.wait(seconds):
            raise TimeoutError(f"{self} not ended within {seconds:g} s")
        return self

    def heard(self) -> Sound:
        """What the agent heard, from the answer on."""
        return read_wav(self.heard_wav)

    def ring(self) -> None:
        """ALERTING."""
        self.alerting_at = when(self.call.execute("ring_ready"))

    def announce(self, hz: int) -> None:
        """In-band audio without ALERTING, as networks announce that a phone is switched off."""
        self.call.execute("pre_answer")
        self.call.start("playback", tone(hz))

    def answer(self, hz: int | None) -> None:
        """CONNECT; from here on the agent is recorded and speaks at `hz`."""
        self.answered_at = when(self.call.execute("answer"))
        self.call.execute("set", "RECORD_READ_ONLY=true")
        self.call.execute("record_session", str(self.heard_wav))
        if hz is not None:
            self.call.start("playback", tone(hz))

    def pause(self, seconds: float) -> None:
        self.call.pause(seconds)

    def press(self, key: str) -> None:
        # `execute send_dtmf` would wait behind an endless playback
        self.pressed_at.append(time.time())
        self.call.command(f"api uuid_send_dtmf {self.uuid} {key}")

    def hangup(self, cause: str) -> None:
        # `execute hangup` would wait behind an endless playback
        self.call.command(f"api uuid_kill {self.uuid} {cause}")
        self.call.wait_hangup()


@dataclass
class Agent:
    """A phone number of the public network."""

    number: str
    script: list[Behaviour]
    attempts: list[Attempt] = field(default_factory=list)

    def behave(self, *script: Behaviour) -> Agent:
        """What this phone does at its first call, at its second, …; the last one is for all further calls."""
        self.script = list(script)
        return self

    def play(self, attempt: Attempt) -> None:
        """Lives through one call, to its end."""
        behaviour = self.script[min(len(self.attempts), len(self.script) - 1)]
        self.attempts.append(attempt)
        try:
            behaviour(attempt)
        except HungUp:
            pass
        finally:
            ended = attempt.call.hangup
            attempt.cause = ended.get("Hangup-Cause", "")
            attempt.ended_at = when(ended) if ended else None
            attempt.ended.set()


def rejects(cause: str) -> Behaviour:
    """Ends at once with a Q.850 cause, e.g. CALL_REJECTED."""
    return lambda attempt: attempt.hangup(cause)


def busy() -> Behaviour:
    """486, 17."""
    return rejects("USER_BUSY")


def unreachable() -> Behaviour:
    """480, 20: switched off or out of coverage, told by the network."""
    return rejects("SUBSCRIBER_ABSENT")


def network_congested() -> Behaviour:
    """503, 34: from the network, with a leg."""
    return rejects("NORMAL_CIRCUIT_CONGESTION")


def unknown_number() -> Behaviour:
    """404, 1: every number that no test has given a phone."""
    return rejects("UNALLOCATED_NUMBER")


def silent(after: float = FOREVER) -> Behaviour:
    """Rings and is not picked up; the network gives up after `after` seconds (19)."""

    def play(attempt: Attempt) -> None:
        attempt.ring()
        attempt.pause(after)
        attempt.hangup("NO_ANSWER")

    return play


def announcement(seconds: float = FOREVER, hz: int = 620) -> Behaviour:
    """Audio in a 183 without ALERTING, then released with 18: "the number you have dialled is switched off" on the wire."""

    def play(attempt: Attempt) -> None:
        attempt.announce(hz)
        attempt.pause(seconds)
        attempt.hangup("NO_USER_RESPONSE")

    return play


def answers(
    *,
    alerts_after: float = 0,
    after: float = 0.5,
    listens: float = 1.0,
    presses: str = "",
    talk: float | None = None,
    hz: int | None = 880,
) -> Behaviour:
    """Alerts after `alerts_after` seconds (mobile networks: 3-8), rings `after` seconds, answers and speaks at `hz`.

    Before each key that it presses it listens so long. Hangs up after `talk` seconds, or waits for the other side to do so.
    """

    def play(attempt: Attempt) -> None:
        attempt.pause(alerts_after)
        attempt.ring()
        attempt.pause(after)
        attempt.answer(hz)
        for key in presses:
            attempt.pause(listens)
            attempt.press(key)
        attempt.pause(FOREVER if talk is None else talk)
        attempt.hangup("NORMAL_CLEARING")

    return play
