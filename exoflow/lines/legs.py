"""What happens to B legs and recordings, from their own events: a call's socket shows none of it (facts, section 11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gevent.event import Event as Signal

from exoflow.clock import utcnow
from exoflow.esl.codec import Event
from exoflow.telephony.causes import of_leg

EVENTS = (
    "CHANNEL_CREATE",
    "CHANNEL_PROGRESS",
    "CHANNEL_PROGRESS_MEDIA",
    "CHANNEL_ANSWER",
    "CHANNEL_BRIDGE",
    "CHANNEL_HANGUP_COMPLETE",
    "DTMF",
    "RECORD_START",
    "RECORD_STOP",
    "BACKGROUND_JOB",
)


@dataclass(slots=True)
class LegEvents:
    """The stages of one B leg as the switch told them; None: not seen."""

    uuid: str
    on_change: Callable[[LegEvents], None]
    setup_at: datetime | None = None
    alerting_at: datetime | None = None
    early_media_at: datetime | None = None
    answered_at: datetime | None = None
    bridged_at: datetime | None = None  # the talk began
    released_at: datetime | None = None
    cause: str = ""
    q850: int | None = None
    released: Signal = field(default_factory=Signal)

    def hear(self, event: Event) -> None:
        at = moment(event)
        match event.name:
            case "CHANNEL_CREATE":
                self.setup_at = at
            case "CHANNEL_PROGRESS":
                self.alerting_at = self.alerting_at or at
            case "CHANNEL_PROGRESS_MEDIA":
                self.early_media_at = self.early_media_at or at
            case "CHANNEL_ANSWER":
                self.answered_at = at
            case "CHANNEL_BRIDGE":  # the caller's event, about this leg
                self.bridged_at = at
            case "CHANNEL_HANGUP_COMPLETE":
                self._complete(event)
                self.released_at = at
                text = event.variable("hangup_cause_q850")
                q850 = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else None
                protocol = event.variable("proto_specific_hangup_cause")
                self.cause, self.q850 = of_leg(event.get("Hangup-Cause"), q850, protocol)
                self.released.set()
        self.on_change(self)

    def _complete(self, event: Event) -> None:
        """What was not heard, for the connection was lost meanwhile: the leg's end tells its whole life
        (switch_caller.c:434, times in microseconds, 0 for what never was)."""
        self.setup_at = self.setup_at or _stage(event, "Created")
        self.alerting_at = self.alerting_at or _stage(event, "Progress")
        self.early_media_at = self.early_media_at or _stage(event, "Progress-Media")
        self.answered_at = self.answered_at or _stage(event, "Answered")
        self.bridged_at = self.bridged_at or _stage(event, "Bridged")


@dataclass(slots=True)
class RecordingEvents:
    """One file of a recording, by its path."""

    path: str
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    discarded: bool = False
    completion: str = ""
    started: Signal = field(default_factory=Signal)
    stopped: Signal = field(default_factory=Signal)

    def hear(self, event: Event) -> None:
        if event.name == "RECORD_START":
            self.started_at = moment(event)
            self.started.set()
        else:
            self.stopped_at = moment(event)
            self.discarded = event.variable("RECORD_DISCARDED") == "true" or event.get("RECORD_DISCARDED") == "true"
            self.completion = event.get("Record-Completion-Cause") or event.variable("record_completion_cause")
            self.stopped.set()


def moment(event: Event) -> datetime:
    """When the switch says it happened. CHANNEL_HANGUP_COMPLETE comes once all about the channel is done, on a busy switch a
    second later; when the channel ended is told in it."""
    known = _stage(event, "Hangup") if event.name == "CHANNEL_HANGUP_COMPLETE" else None
    if known is not None:
        return known
    return datetime.fromtimestamp(event.microseconds / 1e6, UTC) if event.microseconds else utcnow()


def _stage(event: Event, what: str) -> datetime | None:
    """When a stage of the event's channel was reached, as the channel itself tells."""
    told = event.get(f"Caller-Channel-{what}-Time")
    known = int(told) if told.isascii() and told.isdigit() and len(told) < 17 else 0
    return datetime.fromtimestamp(known / 1e6, UTC) if known else None
