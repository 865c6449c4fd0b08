"""For `exoflow crm test`: what an account is told of a call that is none, as the rows of the outbox that tell it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from exoflow.calls.model import CallState, Entry, Leg
from exoflow.calls.tidings import SignedTidings, Source, Told
from exoflow.commands.crm import DELIVERIES, Address
from exoflow.config.model import Account
from exoflow.crm.callback import CallbackTidings
from exoflow.crm.dialevents import dial_tidings
from exoflow.crm.http import Answer, CrmClient
from exoflow.crm.mask import mask_url
from exoflow.crm.outgoing import Outgoing, outgoing
from exoflow.store.outbox import Claimed

RANG, TALKED = timedelta(seconds=4), timedelta(seconds=60)  # of a talk that never was
TEST_LINE = "A test by `exoflow crm test`: there was no such call"
SAMPLE_AGENT = "+919999999903"  # where the account has no agent: the dialect's own sample

Telling = tuple[str, str, Callable[[], Answer]]


def tellings(address: Address, account: Account, state: CallState, client: CrmClient) -> Iterator[Telling]:
    """Type, masked URL and sending of each row, in the order in which a call tells them. Sending raises ExoflowError."""
    sources: dict[str, Source] = {DELIVERIES: SignedTidings(), "dial_events": dial_tidings}
    source = sources.get(address.applet) or CallbackTidings(None)
    told, now = Told(), datetime.now(UTC)
    for moment in _moments(address, account, state, now):
        for tiding in source(moment, account, now, told):
            row = told.next(moment, tiding, now)
            if row is not None:
                yield _telling(row, account, client, now)


def _telling(row: dict[str, Any], account: Account, client: CrmClient, now: datetime) -> Telling:
    claimed = Claimed(0, row["webhook_id"], row["call_id"], row["account"], row["type"], row["body"].encode(), 1, 0)
    ready: Outgoing = outgoing(claimed, account, client, now)
    return row["type"], mask_url(ready.url, account.crm.mask), ready.send


def _moments(address: Address, account: Account, state: CallState, now: datetime) -> Iterator[CallState]:
    """The call while an agent's phone rings, while they talk, and at its end."""
    agent_id, agent = next(iter(account.agents.items()), ("", None))
    began = now - TALKED - RANG
    facts = replace(state.facts, created_at=began)
    if address.applet == "status_callback" and not address.number:
        own = {one.number for one in account.numbers if one.status_callback is not None}
        facts = replace(facts, dialled=None) if facts.dialled in own else facts
    line = Entry(1, began, "C", "crm.test", TEST_LINE)
    number = SAMPLE_AGENT if agent is None else agent.number
    leg = Leg("test-leg", 1, number, facts.trunk, agent_id or None, dialled_at=began, setup_at=began, alerting_at=began)
    going_on = CallState(facts, ring_at=began, answered_at=began, wanted_agent=True, legs=[leg], journey=[line])
    yield going_on
    talk = replace(leg, answered_at=began + RANG, outcome="answered", meaning="answered", seen=True)
    yield replace(going_on, legs=[talk])
    over = replace(talk, released_at=now, q850=16, cause="NORMAL_CLEARING")
    end = replace(going_on, legs=[over], ended_at=now, cause="NORMAL_CLEARING", q850=16, ended_by="caller")
    missed = replace(leg, released_at=now, q850=19, cause="NO_ANSWER", outcome="no_answer", seen=True)
    if account.deliveries is not None and "call.ended" not in account.deliveries.events:
        yield replace(end, legs=[missed], outcome="missed", reason="crm.test")
    else:
        yield replace(end, outcome="answered")
