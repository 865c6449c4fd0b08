"""Dial events: the account's CRM hears of each agent's phone that begins and ceases to ring, for its pop-ups.

Source: exotel-dialect.md, section 4.4. What this module decides itself: `busy` is told when the switch is told to ring the
phone, some seconds before it rings on a mobile network, and `free` when the attempt is over, the talk included; each `busy` has
its `free`. A phone that was rung while no exoflow had the call is not told of, for it is over then.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from exoflow.calls.model import CallState, Leg
from exoflow.calls.tidings import Tiding, Told
from exoflow.config.model import Account
from exoflow.crm.dialect import dial_event
from exoflow.crm.outgoing import BUSY, FREE, written

ANSWER_URL = "dial_url"  # the key of a call's progress that has the CRM's `dial_passthru_event_url`


def dial_tidings(state: CallState, account: Account, now: datetime, told: Told) -> Iterator[Tiding]:
    """To the account's address, and to the one of the CRM's answer; for each phone first `busy`, then `free`."""
    if state.facts.placed is not None and state.facts.placed.to is not None:
        return  # two numbers: no agent's phone
    targets = [(f" {ANSWER_URL}", state.progress.get(ANSWER_URL))]
    if account.crm.dial_events is not None:
        targets.insert(0, ("", None))  # whatever it is when it is sent
    for mark, url in targets:
        if mark and not url:
            continue
        for leg in state.legs:
            about = leg.uuid + mark
            over = leg.outcome != "ringing" or leg.released_at is not None or state.outcome is not None
            if not over:
                yield Tiding(BUSY, about, partial(_body, state, leg, "busy", account, now, url))
            elif told.knows(state.facts.id, BUSY, about):
                yield Tiding(FREE, about, partial(_body, state, leg, "free", account, now, url))


def _body(state: CallState, leg: Leg, status: str, account: Account, now: datetime, url: str | None, seq: int) -> str:
    return written(dial_event(state, leg, status, now=now, account=account), url)
