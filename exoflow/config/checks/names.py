"""Names that must exist: trunks, flows, agents, groups, time zones; and the rules that a step counts on."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator

from exoflow.config.draft import AccountDraft, Draft
from exoflow.config.findings import DID_YOU_MEAN, Finding, did_you_mean
from exoflow.config.parameters import PLACEHOLDER
from exoflow.config.steps import ConnectStep, Target, TransferStep

# of the system's tz database, and no zones of people: `right` counts leap seconds and is 27 s off, `Factory` says that the
# zone was never set, the others are copies of whatever the box has
NO_ZONES = frozenset({"right", "posix", "Factory", "localtime", "posixrules"})


def check(draft: Draft) -> Iterator[Finding]:
    for account in draft.accounts:
        yield from _numbers(account, draft)
        yield from _agents(account)
        yield from _groups(account)
        yield from _steps(account)
        yield from _time_zone(account)


def _numbers(a: AccountDraft, draft: Draft) -> Iterator[Finding]:
    used: set[str] = set()
    for i, number in enumerate(a.account.numbers):
        used.add(number.flow)
        if number.flow not in a.account.flows:
            message = f"unknown flow `{number.flow}`{did_you_mean(number.flow, a.account.flows)}"
            yield a.document.at("E302", message, "numbers", i, "flow")
        if draft.main is not None and number.trunk not in draft.main.trunks:
            message = f"unknown trunk `{number.trunk}`{did_you_mean(number.trunk, draft.main.trunks)}"
            yield a.document.at("E305", message, "numbers", i, "trunk")
    todo = [number.entry for number in a.as_run().numbers]
    reached: set[str] = set()
    while todo:  # by numbers, and by transfers from what they reach
        entry = todo.pop()
        flow_as_run = a.as_run().flows.get(entry)
        if flow_as_run is not None and entry not in reached:
            reached.add(entry)
            steps = [step for step in flow_as_run.steps.values() if isinstance(step, TransferStep)]
            used |= {step.transfer.flow for step in steps}
            todo += [step.transfer.entry for step in steps]
    for flow in a.account.flows:
        if flow not in used:
            message = f"no number uses the flow `{flow}`; give it one under `numbers`, or delete it"
            yield a.document.at("W310", message, "flows", flow, key=True)


def _agents(a: AccountDraft) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name, agent in a.account.agents.items():
        other = first.setdefault(agent.number, name)
        if other != name and agent.lines == 1:
            message = (
                f"`{other}` has this number, too: a call to one engages both; if several phones ring there, give it `lines`"
            )
            yield a.document.at("W507", message, "agents", name, "number")


def _groups(a: AccountDraft) -> Iterator[Finding]:
    for name, group in a.account.groups.items():
        for i, agent in enumerate(group.agents):
            if agent not in a.account.agents:
                message = f"unknown agent `{agent}`{did_you_mean(agent, a.account.agents)}"
                yield a.document.at("E304", message, "groups", name, "agents", i)


def _steps(a: AccountDraft) -> Iterator[Finding]:
    for flow, name, step in a.steps():
        where = ("flows", flow, "steps", name)
        if isinstance(step, TransferStep) and not PLACEHOLDER.search(step.transfer.flow):
            target = step.transfer.flow
            if target not in a.account.flows:
                message = f"unknown flow `{target}`{did_you_mean(target, a.account.flows)}"
                yield a.document.at("E302", message, *where, "transfer", "flow")
        if isinstance(step, ConnectStep):
            yield from _group(a, step.connect, (*where, "connect"))
            if step.connect.fallback is not None:
                yield from _group(a, step.connect.fallback, (*where, "connect", "fallback"))
            if step.connect.queue is not None and step.connect.queue.call_back is not None and a.account.call_backs is None:
                message = "the account has no `call_backs`; write its `hours` and the do-not-call hook `ask` (docs/queue.md)"
                yield a.document.at("E308", message, *where, "connect", "queue", "call_back", key=True)


def _group(a: AccountDraft, target: Target, where: tuple[str, ...]) -> Iterator[Finding]:
    if target.group is not None and target.group not in a.account.groups and not PLACEHOLDER.search(target.group):
        known = did_you_mean(target.group, a.account.groups) or "; the account has no `groups`"
        yield a.document.at("E303", f"unknown group `{target.group}`{known}", *where, "group")


def _time_zone(a: AccountDraft) -> Iterator[Finding]:
    name = a.account.time_zone
    try:
        if name.partition("/")[0] in NO_ZONES:
            raise ValueError(name)
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = did_you_mean(name, zoneinfo.available_timezones() - NO_ZONES)
        cure = near if near.startswith(DID_YOU_MEAN) else "; write it as in the tz database, e.g. `Asia/Kolkata`"
        yield a.document.at("E306", f"unknown time zone `{name}`{cure}", "time_zone")
