"""The socket of a call whose caller has left while nobody held one: nothing can be done on it any more."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gevent.event import Event as Signal

from exoflow.calls import door
from exoflow.calls.cdr import CallEnd
from exoflow.clock import utcnow
from exoflow.errors import CallEnded
from exoflow.esl.codec import Event, Headers


class GoneSession:
    """Has what the engine and the applets ask of a `CallSession`, and tells of the end from the call's CDR."""

    hung_up = True
    answered_event: Event | None = None
    bridged_event: Event | None = None
    close_reason: Any = "the caller has left"

    def __init__(self, end: CallEnd) -> None:
        self.uuid, self.cause, self.q850, self.ended_by = end.channel, end.cause, end.q850, door.ended_by(end)
        self.hung_up_at = end.ended_at or utcnow()
        lines = [f"variable_{name}: {quote(value, safe='')}\n" for name, value in end.variables.items()]
        if end.answered_at is not None:
            lines.append(f"Caller-Channel-Answered-Time: {int(end.answered_at.timestamp() * 1e6)}\n")
        self.channel = Headers("".join(lines).encode("utf-8", "replace"))
        self.keyed = Signal()
        self.ended, self.complete, self.closed = Signal(), Signal(), Signal()
        for signal in (self.ended, self.complete, self.closed):
            signal.set()

    def execute(self, *_: Any, **__: Any) -> Any:
        raise CallEnded(self.cause, self.q850)

    api = execute

    def raise_if_disconnected(self) -> Any:
        raise CallEnded(self.cause, self.q850)

    def hang_up(self, cause: str) -> None:
        """It has been."""

    def take_keys(self, until: int | None = None) -> str:
        return ""

    def lease_on(self) -> None:
        """There is nothing left to be taken away."""

    lease_off = lease_on
