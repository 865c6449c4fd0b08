"""Whom a connect step rings, and how: from the configuration, or as the CRM says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from exoflow.agents.groups import Candidate, of_numbers, of_target
from exoflow.config.steps import Connect as ConnectSettings
from exoflow.config.steps import Prompt
from exoflow.crm.answers import AgentsAnswer, Music, parse_agents
from exoflow.crm.dialect import CONNECT_HEADERS
from exoflow.crm.http import Answer
from exoflow.flow import recording as recordings
from exoflow.flow import whisper
from exoflow.flow.asking import Question, ask_in_turn
from exoflow.flow.attempt import How
from exoflow.flow.here import Here
from exoflow.telephony.numbers import national

MAX_ROUNDS = 20  # times that one CRM is asked in one connect: at 30 s a ring nobody waits for more


@dataclass(slots=True)
class Plan:
    """Whom to ring and how."""

    candidates: list[Candidate]
    how: How
    record: Literal["none", "mono", "dual"]
    team: str | None = None  # the group that they are, if they are one
    again: bool = False  # after each attempt that failed the CRM is asked whom to ring next
    trunk: str = ""  # the one to begin with; the caller's own unless set

    def written(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "who": [list(one) for one in self.candidates],
            "how": self.how.written(),
            "record": self.record,
            "team": self.team,
            "again": self.again,
            "trunk": self.trunk,
        }

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Plan:
        """What `written` made."""
        who = [Candidate(*one) for one in kept["who"]]
        return cls(who, How.read(kept["how"]), kept["record"], kept["team"], kept["again"], kept["trunk"])


def planned(here: Here, connect: ConnectSettings) -> Plan:
    """Made once in a round of a visit: who comes back goes on with the same list."""
    if (kept := here.data.get("plan")) is not None:
        return Plan.read(kept)
    if here.data.get("asking"):
        here.came_back("the CRM was being asked")
        here.note("D", "connect.again", "Whether the CRM had got the request is unknown: it is asked again")
    if connect.url is not None:
        here.keep(asking=True)
    plan = _plan(here, connect)
    here.session.raise_if_disconnected()
    if plan.record != "none" and here.consent is False:
        here.note("H", recordings.DECLINED, "Not recorded: the caller refused it")
        plan.record = "none"
    here.keep(asking=None, plan=plan.written())
    if connect.url is not None:
        here.call.on_disk()  # an answered CRM is not asked twice, whatever dies now
    return plan


def next_round(here: Here) -> bool:
    """The agents of a plan have failed. Makes the step ready for another one, if the CRM wants to be asked again."""
    plan, rounds = here.data["plan"], here.data.get("rounds", 1)
    if not plan["again"] or not plan["who"]:
        return False
    if rounds >= MAX_ROUNDS:
        here.note("F", "connect.often", f"The CRM was asked {rounds} times: now it is enough")
        return False
    here.keep(**{**dict.fromkeys(here.data), "rounds": rounds + 1})
    return True


def _plan(here: Here, connect: ConnectSettings) -> Plan:
    how = _how(here, connect)
    if connect.url is None:
        return Plan(of_target(here.account, connect), _waited(here, connect, how), connect.record, connect.group)
    plan = _ask_crm(here, connect, how)
    if plan is not None:
        return plan
    if connect.fallback is None:
        here.note("G", "connect.no_fallback", "The CRM named nobody usable, and the step has no `fallback`")
        return Plan([], how, connect.record)
    here.note("G", "connect.fallback", "On to the step's `fallback`, for the CRM named nobody usable")
    return Plan(of_target(here.account, connect.fallback), how, connect.record, connect.fallback.group)


def _how(here: Here, connect: ConnectSettings) -> How:
    """As the step says."""
    how = How(connect.ring_seconds, connect.talk_seconds, connect.parallel, ask=whisper.asked(here, connect))
    return how if connect.opening is None else _opened(here, how, connect.opening)


def _opened(here: Here, how: How, opening: Prompt) -> How:
    return replace(how, opening=whisper.for_agents(here, opening), callers_opening=here.sound(opening))


def _waited(here: Here, connect: ConnectSettings, how: How) -> How:
    """With what the first of two numbers is to hear by the URL that its call was placed with."""
    placed = here.call.state.facts.placed
    if placed is None or placed.to is None or not placed.wait_url:
        return how
    return _as_heard(here, connect, how, AgentsAnswer([], music=Music("custom_tone", placed.wait_url)))


def _ask_crm(here: Here, connect: ConnectSettings, how: How) -> Plan | None:
    """The CRM's plan; None if it gave none that can be used."""
    assert connect.url is not None
    numbers = {number.number: number.trunk for number in here.account.numbers}

    def read(answer: Answer) -> AgentsAnswer:
        return parse_agents(answer, ours=numbers, trunks=here.parts.config.trunks)

    question = Question(
        [url for url in (connect.url, connect.fallback_url) if url is not None],
        read,
        timeout=connect.timeout,
        hold=connect.hold,
        headers=CONNECT_HEADERS,
        digits="rounds" not in here.data,
    )
    told = ask_in_turn(here, question)
    if told is None:
        return None
    here.at.dial_url = told.events_url or ""
    here.note("F", "crm.agents", f"The CRM named {len(told.numbers)} agents", numbers=told.numbers, ignored=list(told.ignored))
    if not told.numbers and connect.fallback is not None:
        return None
    how = _as_heard(here, connect, _as_told(how, told, numbers), told)
    who = of_numbers(here.account, told.numbers)
    trunk = told.trunk or ("" if told.shown is None else numbers[told.shown])
    return Plan(who, how, _recorded(connect, told), again=told.again, trunk=trunk)


def _as_told(how: How, told: AgentsAnswer, numbers: Mapping[str, str]) -> How:
    """The CRM's word goes before the step's. `numbers`: the account's, with their trunks."""
    return replace(
        how,
        ring=told.ring_seconds or how.ring,
        talk=told.talk_seconds or how.talk,
        at_once=told.at_once or how.at_once,
        # an exchange shows no number of another line's
        cli=how.cli if told.shown is None else {numbers[told.shown]: national(told.shown).removeprefix("0")},
        headers=told.headers or how.headers,
    )


def _as_heard(here: Here, connect: ConnectSettings, how: How, told: AgentsAnswer) -> How:
    """With the sounds that the CRM names before those of the step."""
    named, kind = whisper.named(here, connect, told), told.music.kind if told.music is not None else ""
    ringback = how.ringback if named.music is None else here.sound(named.music)
    how = how if named.both is None else _opened(here, how, named.both)
    return replace(
        how,
        ask=how.ask if named.callee is None else whisper.asked(here, connect, named.callee),
        ringback=whisper.INDIAN_RINGBACK if kind == "default_tone" else ringback,
        network_tone=kind == "operator_tone",
    )


def _recorded(connect: ConnectSettings, told: AgentsAnswer) -> Literal["none", "mono", "dual"]:
    if told.record is not None:
        return ("dual" if told.dual else "mono") if told.record else "none"
    if told.dual is not None and connect.record != "none":
        return "dual" if told.dual else "mono"
    return connect.record
