"""Callers by a seed on a real FreeSWITCH, and what they, their agents and their CRM saw of each call.

Nothing here looks at exoflow's tables: what callers, agents and the CRM saw is what the records are held against.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import gevent
from ring2.agents import Agent, Attempt, Behaviour, answers, busy, rejects
from ring2.network import ExchangeCall
from ring2.site import Visit, agents_json, text

from faults.killed import Killed

Kind = Literal["prompts", "keys", "whole"]
Leaves = Literal["", "early", "ringing", "talking"]
NUMBERS: dict[Kind, str] = {"prompts": "8030752430", "keys": "8030752431", "whole": "8030752432"}
FIRST_KEYS = 6  # of the first question, as in kills.yaml
CRM_SECONDS = 0.2
RING_SECONDS = 6.0  # as in kills.yaml
CALL_SECONDS = 90.0  # none takes half as long, whatever happens to it
GAP_SECONDS = 2.0  # from a kill until exoflow surely asks again
STAGE_SECONDS = 40.0  # until the first agent's phone rings, or the CRM has the order


@dataclass(frozen=True)
class Telephone:
    """An agent's. Seconds of ringing until he does something, and of talk."""

    does: Literal["answers", "busy", "rejects", "nothing"]
    after: float
    talk: float


@dataclass(frozen=True)
class Plan:
    """One call. `keys` come each after so many seconds from the answer or from the key before."""

    kind: Kind
    keys: tuple[tuple[float, str], ...] = ()
    agents: tuple[Telephone, ...] = ()
    leaves: Leaves = ""
    leaves_after: float = 0.0


@dataclass
class Told:
    """What became of a call, as its caller, his agents and the CRM saw it."""

    plan: Plan
    site: Killed
    visit: Visit
    channel: str = ""
    agents: list[Agent] = field(default_factory=list)
    pressed: list[tuple[float, str]] = field(default_factory=list)  # epoch seconds
    left_at: float | None = None
    begun: float = field(default_factory=time.time)  # when it was dialled
    trouble: str = ""  # what went otherwise than a caller may expect

    @property
    def phone(self) -> ExchangeCall:
        return self.visit.phone

    @property
    def attempts(self) -> list[Attempt]:
        """In the order in which phones rang."""
        return sorted((one for agent in self.agents for one in agent.attempts), key=lambda one: one.at)

    @property
    def talk(self) -> Attempt | None:
        return next((one for one in self.attempts if one.answered_at is not None), None)


def plan(chance: random.Random, kind: Kind) -> Plan:
    if kind == "prompts":
        leaves: Leaves = "early" if chance.random() < 0.15 else ""
        return Plan(kind, leaves=leaves, leaves_after=chance.uniform(0.3, 6.0))
    if kind == "keys":
        return Plan(kind, tuple((chance.uniform(0.2, 0.8), chance.choice("0123456789")) for _ in range(8)))
    agents = [_telephone(chance) for _ in range(chance.randint(1, 2))]
    ways: list[Leaves] = ["", "", "", "", "early", "ringing", "talking"]
    leaves = chance.choice(ways)
    return Plan(kind, ((chance.uniform(0.3, 2.5), "1"),), tuple(agents), leaves, chance.uniform(0.2, 2.0))


def _telephone(chance: random.Random) -> Telephone:
    does = chance.choices(("answers", "busy", "rejects", "nothing"), (6, 1, 1, 1))[0]
    return Telephone(does, chance.uniform(0.5, 3.0), chance.uniform(2.0, 4.0))


def _behaviour(telephone: Telephone) -> Behaviour:
    if telephone.does == "answers":
        return answers(after=telephone.after, talk=telephone.talk)
    if telephone.does == "busy":
        return busy()

    def rings(attempt: Attempt) -> None:
        attempt.ring()
        attempt.pause(telephone.after if telephone.does == "rejects" else CALL_SECONDS)
        rejects("CALL_REJECTED")(attempt)

    return rings


def call(site: Killed, plan: Plan) -> Told:
    """A call from its SETUP to its end."""
    return live(begin(site, plan))


def begin(site: Killed, plan: Plan) -> Told:
    """Dials, and returns at once."""
    agents = site.agents(*map(_behaviour, plan.agents))
    slow = text("OK", delay=CRM_SECONDS)
    crm = {"/idle": slow, "/lookup": slow, "/agents": agents_json(*agents, recording_channels="dual", record=True)}
    return Told(plan, site, site.call(NUMBERS[plan.kind], crm), agents=agents)


def live(told: Told) -> Told:
    """A call that was dialled, to its end."""
    try:
        told.channel = told.visit.channel
        told.phone.wait_answered(STAGE_SECONDS)
        {"prompts": _listens, "keys": _types, "whole": _talks}[told.plan.kind](told)
    except (AssertionError, TimeoutError) as error:
        told.trouble = str(error)
    try:
        told.phone.wait_ended(CALL_SECONDS)
    except TimeoutError as error:
        told.trouble = told.trouble or str(error)
        told.phone.hangup()
    return told


def _listens(told: Told) -> None:
    if told.plan.leaves:
        _leave(told)


def _types(told: Told) -> None:
    for number, (pause, key) in enumerate(told.plan.keys):
        if number == FIRST_KEYS:  # the second question has begun, or nobody is there to ask it
            _until(told, lambda: bool(told.visit.requests("/order")) or _in_gap(told), "the CRM has the order")
        gevent.sleep(pause)
        told.phone.press(key)
        told.pressed.append((time.time(), key))


def _in_gap(told: Told) -> bool:
    return time.time() - told.site.died_at < GAP_SECONDS


def _talks(told: Told) -> None:
    plan = told.plan
    if plan.leaves == "early":
        _leave(told)
        return
    for pause, key in plan.keys:
        gevent.sleep(pause)
        told.phone.press(key)
        told.pressed.append((time.time(), key))
    told.phone.speak(440)
    if plan.leaves == "ringing":
        _until(told, lambda: any(one.alerting_at for one in told.attempts), "an agent's phone rings", may_end=True)
        _leave(told)
    elif plan.leaves == "talking":
        _until(told, lambda: told.talk is not None, "an agent answers", may_end=True)
        _leave(told)


def _leave(told: Told) -> None:
    gevent.sleep(told.plan.leaves_after)
    leave(told)


def leave(told: Told) -> None:
    """The caller hangs up now."""
    if told.phone.ended_at is None:
        told.left_at = time.time()
        told.phone.hangup()


def _until(told: Told, happened: Callable[[], bool], what: str, *, may_end: bool = False) -> None:
    deadline = time.monotonic() + STAGE_SECONDS
    while not happened():
        if told.phone.ended_at is not None:
            if may_end:
                return
            raise AssertionError(f"the call ended before {what}")
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {STAGE_SECONDS:g} s: {what}")
        gevent.sleep(0.02)
