"""A call that an account has placed itself: how it begins when the first number has answered, and ends if it does not.

To the flow it is a call like any other, whose caller is he who was rung first. Two numbers are a flow of one `connect`, and
who is called back has the flow in whose queue he asked for it, from that step on: both are made here from what the call's
record keeps, so that any process can go on with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import gevent

from exoflow.calls.call import Call
from exoflow.calls.model import CalledBack, CallFacts, CallState, Placed
from exoflow.clock import utcnow
from exoflow.config.model import Account, Flow
from exoflow.config.steps import (
    MAX_RING_SECONDS,
    MAX_TALK_SECONDS,
    ConnectStep,
    GreetingStep,
    LanguageStep,
    Step,
)
from exoflow.errors import ExoflowError
from exoflow.lines import trunks
from exoflow.lines.lines import Lines
from exoflow.telephony.causes import by_name, read_leg

TWO_NUMBERS, CALL_BACK = "(two numbers)", "(call-back)"  # no names that an account's file can give a flow
HELLO, LANGUAGE = "(hello)", "(language)"  # nor a step
MIN_RING_SECONDS, MIN_TALK_SECONDS = 5, 10  # least that a `connect` takes; a shorter `limit` is kept by `limited`
BUSY = 17
OVER_TIME = "ALLOTTED_TIMEOUT"


def account_of(account: Account, placed: Placed | None) -> Account:
    """The account with the flow that connects the two numbers, or that goes on with who is called back, for a call that needs
    it; without that if its step is there no more."""
    if placed is None:
        return account
    if placed.call_back is not None:
        going_on = _flow_from(account, placed.call_back)
        return account if going_on is None else _with(account, CALL_BACK, going_on)
    return account if placed.to is None else _with(account, TWO_NUMBERS, _two_numbers(placed, placed.to))


def entry(placed: Placed | None) -> str | None:
    """The flow that is made for such a call; None: it has one of the account's."""
    if placed is None or (placed.call_back is None and placed.to is None):
        return None
    return TWO_NUMBERS if placed.call_back is None else CALL_BACK


def step_of(account: Account, back: CalledBack) -> ConnectStep | None:
    """The step in whose queue somebody asked to be called back; None if it is not in the account any more, or offers it to
    nobody."""
    flow = account.flows.get(back.flow)
    step = None if flow is None else flow.steps.get(back.step)
    if not isinstance(step, ConnectStep) or step.connect.queue is None or back.team not in account.groups:
        return None
    return None if step.connect.queue.call_back is None else step


def _flow_from(account: Account, back: CalledBack) -> Flow | None:
    """The whole flow, begun at that step behind a greeting. The group for which he waited is rung, whatever a CRM would say
    now; and he is not asked again whether he wants to be called."""
    step = step_of(account, back)
    if step is None or step.connect.queue is None or step.connect.queue.call_back is None:
        return None
    whom = {"group": back.team, "numbers": None, "url": None, "fallback_url": None, "fallback": None}
    queue = step.connect.queue.model_copy(update={"call_back": None})
    begun: dict[str, Step] = {
        HELLO: GreetingStep.model_construct(greeting=[step.connect.queue.call_back.hello], next=back.step, failed=None),
        back.step: step.model_copy(update={"connect": step.connect.model_copy(update={**whom, "queue": queue})}),
    }
    if back.language != account.language:
        begun[LANGUAGE] = LanguageStep.model_validate({"language": {"to": back.language}, "next": HELLO})
    whole = account.flows[back.flow]
    made = whole.model_copy(update={"start": LANGUAGE if LANGUAGE in begun else HELLO, "steps": {**whole.steps, **begun}})
    made.set_arguments(whole.arguments)
    return made


def _with(account: Account, name: str, flow: Flow) -> Account:
    return account.model_copy(update={"flows": {**account.flows, name: flow}})


def _two_numbers(placed: Placed, second: str) -> Flow:
    connect = {
        "numbers": [second],
        "ring_seconds": min(max(placed.ring, MIN_RING_SECONDS), MAX_RING_SECONDS),
        "talk_seconds": min(max(placed.limit, MIN_TALK_SECONDS), MAX_TALK_SECONDS),
        "record": placed.record,
    }
    steps = {"connect": {"connect": connect, "answered": "bye", "unanswered": "bye"}, "bye": {"hangup": {}}}
    return Flow.model_validate({"start": "connect", "steps": steps})


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
    call.caller_gone(at or utcnow(), cause, q850, "switch")
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
    left = placed.limit - (utcnow() - answered).total_seconds()
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
