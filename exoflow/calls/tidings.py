"""What of a call is to be told to its account: drawn from the call's state each time it changes.

So a process that takes a call over tells what the one before it had no time to, and nothing twice: a tiding's `webhook-id` is
made of the call, the kind and what it is about. Who tells what is put together in serve.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from exoflow.calls.links import Links
from exoflow.calls.model import CallState, Recording
from exoflow.calls.payload import delivery_body, delivery_type, shown_recording
from exoflow.config.model import Account
from exoflow.store.changes import Row


@dataclass(frozen=True, slots=True)
class Tiding:
    """Told once in a call's life for each `type` and `about` (what of the call it is about; empty: the call)."""

    type: str
    about: str
    body: Callable[[int], str]  # made with its number among the call's deliveries


@dataclass(slots=True)
class Told:
    """The deliveries that a call has had: the highest number and the webhook-ids."""

    seq: int = 0
    ids: set[str] = field(default_factory=set)

    def add(self, seq: int, webhook_id: str) -> None:
        self.seq = max(self.seq, seq)
        self.ids.add(webhook_id)

    def knows(self, call_id: str, type: str, about: str = "") -> bool:
        return webhook_id(call_id, type, about) in self.ids

    def next(self, state: CallState, tiding: Tiding, now: datetime) -> Row | None:
        """Its row; None if it has been told."""
        name = webhook_id(state.facts.id, tiding.type, tiding.about)
        if name in self.ids:
            return None
        self.ids.add(name)
        self.seq += 1
        return {
            "webhook_id": name,
            "call_id": state.facts.id,
            "seq": self.seq,
            "account": state.facts.account,
            "type": tiding.type,
            "body": tiding.body(self.seq),
            "state": "pending",
            "created_at": now,
            "next_at": now,
            "lease_until": now,
            "attempts": 0,
            "failures": 0,
            "problem": "",
        }


# state, account, now (aware), what the call has told; must never wait
Source = Callable[[CallState, Account, datetime, Told], Iterable[Tiding]]


def webhook_id(call_id: str, type: str, about: str = "") -> str:
    """`msg_` and 32 hex digits."""
    kind = "call.over" if type in ("call.ended", "call.missed") else type  # a call ends once
    return "msg_" + hashlib.sha256(f"{call_id}\n{kind}\n{about}".encode("utf-8", "replace")).hexdigest()[:32]


def together(*sources: Source) -> Source:
    """What all of them tell, in their order."""

    def tidings(state: CallState, account: Account, now: datetime, told: Told) -> Iterator[Tiding]:
        for source in sources:
            yield from source(state, account, now, told)

    return tidings


class SignedTidings:
    """The signed deliveries (docs/deliveries.md), those of which the account wants: `deliveries.events`."""

    def __init__(self, links: Links | None = None) -> None:
        """Without `links` no recording has an address."""
        self._links = links

    def __call__(self, state: CallState, account: Account, now: datetime, told: Told) -> Iterator[Tiding]:
        if account.deliveries is None:
            return
        wanted = account.deliveries.events
        for kind, about, more in self._due(state, account, now):
            if kind in wanted:
                yield Tiding(kind, about, self._body(kind, state, account, now, more))

    def _due(self, state: CallState, account: Account, now: datetime) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Kind, what it is about, and what its data has beside the call; in the order in which they happen."""
        # a process that died may have told nobody that it rings; that a flow had it is on disk all the same
        if state.outcome is None and (state.ring_at is not None or state.progress):
            yield "call.started", "", {}
        for leg in state.legs:
            if leg.answered_at is not None:
                yield "call.answered", leg.uuid, {"leg": leg.uuid}
        for seq, recording in enumerate(state.recordings, 1):
            if recording.state != "pending":
                shown = shown_recording(recording, self._link(state, seq, account, now))
                kind = "recording.ready" if recording.state == "good" else "recording.failed"
                yield kind, recording.path, {"recording": shown}
        if state.outcome is not None:
            yield delivery_type(state), "", {}

    def _body(self, kind: str, state: CallState, account: Account, now: datetime, more: dict[str, Any]) -> Callable[[int], str]:
        def address(recording: Recording) -> tuple[str, datetime] | None:
            return self._link(state, state.recordings.index(recording) + 1, account, now)

        return lambda seq: delivery_body(state, kind=kind, seq=seq, now=now, address=address, more=more).decode()

    def _link(self, state: CallState, seq: int, account: Account, now: datetime) -> tuple[str, datetime] | None:
        return None if self._links is None else self._links.address(state.facts.id, seq, account, now)
