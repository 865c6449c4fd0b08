"""What happens to B legs and recordings, from their own events: a call's socket shows none of it (facts, section 11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gevent.event import Event as Signal

from exoflow.esl.codec import Event

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
                self.released_at = at
                self.cause = event.get("Hangup-Cause")
                text = event.variable("hangup_cause_q850")
                self.q850 = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else None
                self.released.set()
        self.on_change(self)


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
    told = event.get("Caller-Channel-Hangup-Time") if event.name == "CHANNEL_HANGUP_COMPLETE" else ""
    known = int(told) if told.isascii() and told.isdigit() and len(told) < 17 else 0
    microseconds = known or event.microseconds
    return datetime.fromtimestamp(microseconds / 1e6, UTC) if microseconds else datetime.now(UTC)
