"""Whom a connect step rings, and how: from the configuration, or as the CRM says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exoflow.agents.groups import Candidate, of_numbers, of_target
from exoflow.config.steps import Connect as ConnectSettings
from exoflow.crm.answers import BadAnswer, parse_agents
from exoflow.crm.dialect import CONNECT_HEADERS
from exoflow.flow import recording as recordings
from exoflow.flow.asking import ask
from exoflow.flow.attempt import How
from exoflow.flow.here import Here


@dataclass(slots=True)
class Plan:
    """Whom to ring and how."""

    candidates: list[Candidate]
    how: How
    record: Literal["none", "mono", "dual"]
    team: str | None = None  # the group that they are, if they are one


def planned(here: Here, connect: ConnectSettings) -> Plan:
    """Made once in a visit: who comes back goes on with the same list."""
    if (kept := here.data.get("plan")) is not None:
        return Plan([Candidate(*one) for one in kept["who"]], How.read(kept["how"]), kept["record"], kept.get("team"))
    if here.data:
        here.came_back("the CRM was being asked")
        here.note("D", "connect.again", "Whether the CRM had got the request is unknown: it is asked again")
    if connect.url is not None:
        here.keep(asking=True)
    plan = _plan(here, connect)
    here.session.raise_if_disconnected()
    if plan.record != "none" and here.consent is False:
        here.note("H", recordings.DECLINED, "Not recorded: the caller refused it")
        plan.record = "none"
    who = [list(one) for one in plan.candidates]
    here.keep(asking=None, plan={"who": who, "how": plan.how.written(), "record": plan.record, "team": plan.team})
    if connect.url is not None:
        here.call.on_disk()  # an answered CRM is not asked twice, whatever dies now
    return plan


def _plan(here: Here, connect: ConnectSettings) -> Plan:
    how = How(connect.ring_seconds, connect.talk_seconds)
    if connect.url is None:
        return Plan(of_target(here.account, connect), how, connect.record, connect.group)
    plan = _ask_crm(here, connect)
    if plan is not None:
        return plan
    if connect.fallback is None:
        here.note("G", "connect.no_fallback", "The CRM named nobody usable, and the step has no `fallback`")
        return Plan([], how, connect.record)
    here.note("G", "connect.fallback", "On to the step's `fallback`, for the CRM named nobody usable")
    return Plan(of_target(here.account, connect.fallback), how, connect.record, connect.fallback.group)


def _ask_crm(here: Here, connect: ConnectSettings) -> Plan | None:
    """The CRM's plan; None if it gave none that can be used."""
    assert connect.url is not None
    asked = ask(here, connect.url, timeout=connect.timeout, hold=connect.hold, headers=CONNECT_HEADERS)
    if asked.answer is None:
        return None
    try:
        told = parse_agents(asked.answer)
    except BadAnswer as bad:
        if bad.key != "status":  # a wrong status is in the journey already
            here.failed("F", "crm.bad_answer", str(bad), key=bad.key, answer=asked.answer.excerpt)
        return None
    record = connect.record
    if told.record is not None:
        record = ("dual" if told.dual else "mono") if told.record else "none"
    elif told.dual is not None and record != "none":
        record = "dual" if told.dual else "mono"
    how = How(told.ring_seconds or connect.ring_seconds, told.talk_seconds or connect.talk_seconds)
    here.note("F", "crm.agents", f"The CRM named {len(told.numbers)} agents", numbers=told.numbers, ignored=list(told.ignored))
    if not told.numbers and connect.fallback is not None:
        return None
    return Plan(of_numbers(here.account, told.numbers), how, record)
