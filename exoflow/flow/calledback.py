"""A caller in a queue who may ask to be called back: whether he can be, and that it is kept before he is told."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from exoflow.agents.callbacks import CallBack, new_id
from exoflow.config.callbacks import CallBacks as Rules
from exoflow.config.hours import day_spans, is_open
from exoflow.config.model import Account
from exoflow.errors import StoreError, UnsafeText
from exoflow.flow.here import Here
from exoflow.telephony.numbers import agent_number

KEPT_SECONDS = 3.0  # he hears nothing until it is on disk, or known that it is not


def within_hours(account: Account, now: datetime) -> bool:
    """Does the account call anybody back now?"""
    rules: Rules | None = account.call_backs
    return rules is not None and is_open(day_spans(rules.hours), now.astimezone(ZoneInfo(account.time_zone)))


def can_be_rung(number: str | None) -> bool:
    """A number that was withheld, or that is none, or from abroad, cannot."""
    try:
        return number is not None and agent_number(number) == number
    except UnsafeText:
        return False


def is_offered(here: Here) -> bool:
    """To this caller, at this moment. A line that the configuration has no more could not be dialled over."""
    facts, known = here.call.state.facts, here.parts.call_backs
    if known is None or facts.caller is None or not within_hours(here.account, here.parts.staff.clock()):
        return False
    if any(agent.number == facts.caller for agent in here.account.agents.values()):
        return False  # who is rung for others cannot be kept an agent
    over_it = any((one.number, one.trunk) == (facts.dialled, facts.trunk) for one in here.account.numbers)
    asked_before = bool(known.of(here.account_id, facts.caller))
    return over_it and can_be_rung(facts.caller) and known.ready and (asked_before or known.has_room(here.account_id))


def ask(here: Here, team: str, since: datetime) -> bool:
    """He wants to be called: kept, on disk. False, and nobody is called, if that cannot be had in KEPT_SECONDS.

    Who has asked before for the same group keeps the place that he has, and that is on disk.
    """
    known, facts, now = here.parts.call_backs, here.call.state.facts, here.parts.staff.clock()
    if known is None or facts.caller is None or facts.dialled is None:
        return False
    older = next((one for one in known.of(here.account_id, facts.caller) if one.team == team), None)
    wish = older or CallBack(
        id=new_id(),
        account=here.account_id,
        caller=facts.caller,
        number=facts.dialled,
        trunk=facts.trunk,
        flow=here.flow_name,
        step=here.step,
        team=team,
        language=here.language,
        recorded=True,
        call=here.call.id,
        since=since,
        asked_at=now,
        next_at=now,
    )
    wish.recorded = wish.recorded and here.consent is not False
    try:
        kept = known.ask(wish)
        kept.wait(KEPT_SECONDS)
        if older is not None or (kept.ready() and kept.successful()):
            return True
        known.end(wish, "not_kept")
    except StoreError:  # it is being closed, for the process ends
        known.open.pop(wish.id, None)
    return older is not None
