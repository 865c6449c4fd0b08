"""A call that an account has placed itself: how it begins when the first number has answered, and ends if it does not.

To the flow it is a call like any other, whose caller is he who was rung first. Two numbers are a flow of one `connect`,
which is made here from what the call's record keeps, so that any process can go on with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import gevent

from exoflow.calls.call import Call
from exoflow.calls.model import CallFacts, CallState, Placed
from exoflow.config.model import Account, Flow
from exoflow.config.steps import MAX_RING_SECONDS, MAX_TALK_SECONDS
from exoflow.errors import ExoflowError
from exoflow.lines import trunks
from exoflow.lines.lines import Lines
from exoflow.telephony.causes import by_name, read_leg

TWO_NUMBERS = "(two numbers)"  # no name that an account's file can give a flow
MIN_RING_SECONDS, MIN_TALK_SECONDS = 5, 10  # least that a `connect` takes; a shorter `limit` is kept by `limited`
BUSY = 17
OVER_TIME = "ALLOTTED_TIMEOUT"


def account_of(account: Account, placed: Placed | None) -> Account:
    """The account with the flow that connects the two numbers, for a call that needs it."""
    if placed is None or placed.to is None:
        return account
    connect = {
        "numbers": [placed.to],
        "ring_seconds": min(max(placed.ring, MIN_RING_SECONDS), MAX_RING_SECONDS),
        "talk_seconds": min(max(placed.limit, MIN_TALK_SECONDS), MAX_TALK_SECONDS),
        "record": placed.record,
    }
    steps = {"connect": {"connect": connect, "answered": "bye", "unanswered": "bye"}, "bye": {"hangup": {}}}
    flow = Flow.model_validate({"start": "connect", "steps": steps})
    return account.model_copy(update={"flows": {**account.flows, TWO_NUMBERS: flow}})


def cli_on(facts: CallFacts, trunk: str) -> str:
    """What the second number sees of a placed call: the same number of ours as the first, as long as it is over the line that
    this number is on; else empty."""
    return trunks.cli(facts.dialled or "") if facts.placed is not None and trunk == facts.trunk else ""


def is_awaited(state: CallState) -> bool:
    """Was it placed, and has the first of the two not answered yet, as far as the record goes?"""
    return state.facts.placed is not None and state.answered_at is None


def begin(call: Call, at: datetime) -> None:
    """He has answered, and the call is ours."""
    if call.state.ring_at is None:
        call.ringing(at)  # as some exchanges do, which send no ALERTING
    call.answered(at)
    call.note("B", "placed.answered", f"{call.state.facts.caller} answered", at=at)


def not_reached(
    call: Call,
    cause: str,
    q850: int | None = None,
    at: datetime | None = None,
    *,
    had_leg: bool = True,
    announced: bool = False,
) -> None:
    """He has not answered: the record closes. `announced`: the network spoke instead. Changes nothing if it is closed."""
    if call.closed:
        return
    known = by_name(cause)
    q850 = known.q850 if q850 is None and known is not None else q850
    alerting = call.state.ring_at is not None
    outcome, meaning = read_leg(
        q850=q850, name=cause, answered=False, alerting=alerting, early_media=announced, had_leg=had_leg
    )
    code = f"placed.{outcome}"
    call.note("G", code, f"{call.state.facts.caller}: {meaning}", at=at, q850=q850, cause=cause, alerting=alerting)
    call.caller_gone(at or datetime.now(UTC), cause, q850, "switch")
    call.close("missed", code)


def engaged(call: Call) -> None:
    """Another call of ours is on his telephone, so that he is not rung: busy, as the network would have said."""
    call.note("G", "placed.engaged", f"{call.state.facts.caller} is in another call of ours, and is not rung")
    call.caller_gone(None, "USER_BUSY", BUSY, "exoflow")
    call.close("missed", "placed.engaged")


@contextmanager
def limited(state: CallState, lines: Lines) -> Iterator[None]:
    """Within it the call is ended when it has had its time, whatever its flow does; without an event socket only a talk is."""
    placed, answered = state.facts.placed, state.answered_at
    if placed is None or answered is None:
        yield
        return
    left = placed.limit - (datetime.now(UTC) - answered).total_seconds()
    timer = gevent.spawn_later(max(0.0, left), _cut, lines, state.facts.channel)
    try:
        yield
    finally:
        timer.kill(block=False)


def _cut(lines: Lines, channel: str) -> None:
    try:
        lines.kill(channel, OVER_TIME)
    except ExoflowError:
        return  # it has ended, or nobody can end it now: the talk has a limit of its own
