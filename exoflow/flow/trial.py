"""One step of a flow on a call that is none: so that a URL can be tried by the functions that a call goes by.

There is no channel and no store: nothing is played, no agent is rung, and nothing of it is kept.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from gevent.event import AsyncResult
from gevent.event import Event as Signal

from exoflow.calls.book import CallBook
from exoflow.calls.call import Call
from exoflow.calls.model import CallFacts, CallState
from exoflow.config.model import Account, Config, Number
from exoflow.config.values import Value
from exoflow.crm.audio import AudioCache
from exoflow.crm.http import CrmClient
from exoflow.esl.codec import Event, Headers
from exoflow.flow.here import Here, Parts
from exoflow.prompts import PromptBook


class NoLine:
    """Has what applets ask of a `CallSession` until they ring or record. Each application ends at once."""

    hung_up = False
    answered_event: Event | None = None
    bridged_event: Event | None = None
    hangup_event: Event | None = None
    close_reason: Any = ""

    def __init__(self, channel: str) -> None:
        self.uuid, self.channel = channel, Headers(b"")
        self.keyed, self.ended, self.complete, self.closed = Signal(), Signal(), Signal(), Signal()

    def execute(self, *_: Any, **__: Any) -> Headers:
        return self.channel

    api = execute

    def raise_if_disconnected(self) -> None:
        """It never is."""

    def take_keys(self, until: int | None = None) -> str:
        return ""

    def lease_on(self) -> None:
        """There is none."""

    lease_off = lease_on


class UnwrittenCall(Call):
    """A record that is in memory alone, and of which no CRM is told."""

    def changed(self, *, whole: bool = False) -> AsyncResult:
        done = AsyncResult()
        done.set(None)
        return done

    def on_disk(self, seconds: float = 0.0) -> bool:
        return True

    def events_taken(self, seconds: float) -> bool:
        return True

    def _tell(self, now: datetime | None = None) -> None:
        """Nobody."""


class _Book:
    """What `Call` needs of its CallBook."""

    store = None

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.listeners: list[Any] = []


def pretended(account_id: str, number: Number | None, caller: str, *, digits: str = "") -> CallState:
    """A call that has just arrived at a number of the account. `caller` is E.164."""
    now, call_id = datetime.now(UTC), uuid.uuid4().hex
    dialled = "" if number is None else number.number
    facts = CallFacts(
        id=call_id,
        channel=call_id,
        created_at=now,
        trunk="" if number is None else number.trunk,
        dialled_raw=dialled.removeprefix("+"),
        caller_raw=caller.removeprefix("+"),
        dialled=dialled or None,
        caller=caller,
        account=account_id,
        flow=None if number is None else number.flow,
        diverted_from=None if number is None else number.diverted_from,
    )
    return CallState(facts, ring_at=now, digits=digits)


def placed_at(
    config: Config,
    account_id: str,
    account: Account,
    flow: str,
    step: str,
    *,
    state: CallState,
    crm: CrmClient,
    folder: Path,
    variables: Mapping[str, Value],
) -> Here:
    """A call at the beginning of a step. `folder` keeps the sounds that a CRM names."""
    book = _Book(lambda: datetime.now(UTC))
    call = UnwrittenCall(cast(CallBook, book), state, account)
    nothing = cast(Any, None)  # no agent is rung, and no event of the switch is waited for
    parts = Parts(config, PromptBook(config.prompts), crm, nothing, AudioCache(folder, crm), nothing)
    here = Here(parts, cast(Any, NoLine(state.facts.channel)), call, account_id, account, flow)
    here.step = step
    here.variables.update(variables)
    here.enter()
    return here
