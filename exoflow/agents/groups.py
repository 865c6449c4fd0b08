"""Whom to ring: a group's agents in its order, or numbers, each with the name the account gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from exoflow.config.model import Account
from exoflow.config.steps import Target


class Candidate(NamedTuple):
    number: str  # E.164
    agent: str | None  # the account's name for him, if it has one


def of_target(account: Account, target: Target) -> list[Candidate]:
    """The agents that a group or a list of numbers in the configuration means, in order."""
    if target.group is not None:
        names = account.groups[target.group].agents
        return [Candidate(account.agents[name].number, account.agents[name].name or name) for name in names]
    return of_numbers(account, target.numbers or ())


def of_numbers(account: Account, numbers: Sequence[str]) -> list[Candidate]:
    """Numbers (E.164) with the agents' names; a number named twice is rung once."""
    names = {agent.number: agent.name or name for name, agent in account.agents.items()}
    return [Candidate(number, names.get(number)) for number in dict.fromkeys(numbers)]
