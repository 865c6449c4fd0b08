"""Why an agent is not rung now, beside being engaged: he is off, it is not his time, or he is left alone for a while."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeVar
from zoneinfo import ZoneInfo

from exoflow.config.hours import day_spans, is_open
from exoflow.config.model import Account
from exoflow.config.people import Agent, Group

MANY_NUMBERS = 10_000  # of agents, those too who left the accounts' files since; the oldest go first

T = TypeVar("T")
Why = Literal["engaged", "off", "hours", "wrap_up", "paused"]

WORDS: dict[Why, str] = {
    "engaged": "engaged by a call of ours",
    "off": "switched off",
    "hours": "not within his hours",
    "wrap_up": "left time behind his last talk",
    "paused": "left alone, for he was not reached a moment ago",
}

_KINDS = {"busy": "busy", "rejected": "rejected"} | dict.fromkeys(("no_answer", "unreachable", "not_accepted"), "no_answer")


@dataclass(slots=True)
class Tried:
    """The last attempt on a number that tells something of its agent."""

    outcome: str
    at: datetime


@dataclass(slots=True)
class Standings:
    """How attempts on the numbers of the accounts' agents ended lately."""

    tried: dict[str, Tried] = field(default_factory=dict)
    freed: dict[str, datetime] = field(default_factory=dict)  # when a number's last talk ended

    def ended(self, number: str, outcome: str, at: datetime) -> None:
        """An attempt is over. What tells nothing of the agent, a fault of our lines or a caller who left, changes nothing."""
        if outcome == "answered":
            _keep(self.freed, number, at)
            _keep(self.tried, number, Tried("answered", at))
        elif outcome in _KINDS:
            _keep(self.tried, number, Tried(_KINDS[outcome], at))

    def followed_by(self, newer: Standings) -> Standings:
        return Standings(self.tried | newer.tried, self.freed | newer.freed)

    def left_alone(self, number: str, group: Group, now: datetime) -> Why | None:
        """Does the group leave him alone behind his last attempt?"""
        last = self.tried.get(number)
        if last is None:
            return None
        talked = last.outcome == "answered"
        seconds: int = group.wrap_up_seconds if talked else getattr(group.pause_seconds, last.outcome)
        # the end is the switch's time, which may be a little ahead of ours
        if not seconds or now >= last.at + timedelta(seconds=seconds):
            return None
        return "wrap_up" if talked else "paused"


def _keep(known: dict[str, T], number: str, value: T) -> None:
    known.pop(number, None)  # the newest are last
    known[number] = value
    if len(known) > MANY_NUMBERS:
        del known[next(iter(known))]


def off_hours(agent: Agent, account: Account, now: datetime) -> bool:
    """Is it outside of the hours in which groups ring him?"""
    return agent.hours is not None and not is_open(day_spans(agent.hours), now.astimezone(ZoneInfo(account.time_zone)))
