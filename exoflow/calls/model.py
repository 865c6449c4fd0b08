"""A call while it lives: what is known of it, its legs and its journey. No I/O; all times are aware UTC datetimes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from exoflow.telephony.causes import LegOutcome

# where in its life a call is (design, section 1)
Stage = Literal["A", "B", "C", "D", "E", "F", "G", "H"]


PASSING = {"kept": False}  # a field that is for this process only: another one finds it in the leg's CDR


@dataclass(slots=True)
class Entry:
    """One dated line of the journey: what happened, why, and what shows it."""

    seq: int
    at: datetime
    stage: Stage
    code: str  # stable, for programs: "menu.key", "crm.timeout", "leg.busy"
    text: str  # one sentence for people; for a failure it names the cure
    step: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


CLOCKS_APART = timedelta(seconds=1)  # FreeSWITCH's and ours, and what they are asked in between


def in_order(journey: Iterable[Entry]) -> list[Entry]:
    """By time. What was only found out later, by a CDR for example, stands where it belongs."""
    found: list[Entry] = []
    for entry in journey:
        place = len(found)
        while place and found[place - 1].at - entry.at > CLOCKS_APART:
            place -= 1
        found.insert(place, entry)
    return found


@dataclass(slots=True)
class Leg:
    """One attempt to reach an agent (a B leg). `uuid` is ours and is committed before dialling."""

    uuid: str
    seq: int
    number: str  # E.164
    trunk: str
    agent: str | None = None
    dialled_at: datetime | None = None  # we told the switch
    setup_at: datetime | None = None  # SETUP left (CHANNEL_CREATE)
    alerting_at: datetime | None = None  # ALERTING: the phone rings
    early_media_at: datetime | None = None  # the network speaks (announcement, in-band tone)
    answered_at: datetime | None = None  # CONNECT
    released_at: datetime | None = None
    q850: int | None = None
    cause: str = ""  # FreeSWITCH's name
    outcome: LegOutcome = "ringing"
    meaning: str = ""  # a sentence
    seen: bool = False  # were the leg's own events seen, or is this drawn from the caller's leg only?
    # CONNECT of an agent who is then asked whether he takes the call; the talk begins later, or not at all
    picked_up_at: datetime | None = field(default=None, metadata=PASSING)

    @property
    def talk_seconds(self) -> float:
        if self.answered_at is None or self.released_at is None:
            return 0.0
        return max(0.0, (self.released_at - self.answered_at).total_seconds())

    @property
    def total_seconds(self) -> float:
        """From dialling to release, ringing included."""
        start = self.setup_at or self.dialled_at
        if start is None or self.released_at is None:
            return 0.0
        return max(0.0, (self.released_at - start).total_seconds())


@dataclass(slots=True)
class Recording:
    kind: Literal["talk", "voicemail"]
    path: str
    channels: int
    state: Literal["pending", "good", "failed"] = "pending"
    started_at: datetime | None = None
    seconds: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class CalledBack:
    """Where a caller who is called back goes on: in the step in whose queue he asked for it, as old as he was there."""

    flow: str  # as it is run
    step: str
    team: str  # the group for which he waited
    since: str  # ISO 8601, aware: how old his place is
    language: str
    recorded: bool = True  # False: he refused it


@dataclass(frozen=True, slots=True)
class Placed:
    """What was asked for when an account placed the call itself, by the Calls API (exotel-dialect.md, section 5), or when a
    caller is called back."""

    to: str | None  # E.164, rung when `caller` has answered; None: the flow takes the call
    ring: int  # seconds each of the two is rung
    limit: int  # seconds of the whole call, from the first answer
    record: Literal["none", "mono", "dual"] = "none"
    custom_field: str = ""
    wait_url: str = ""  # URL of what `caller` hears while `to` is rung; empty: ringing
    status_callback: str = ""  # URL; empty: nobody is told
    events: tuple[str, ...] = ()  # of which it is told: `ringing`, `answered`, `terminal`; empty: the end, in few words
    content_type: str = ""  # of what `status_callback` is told; empty: a url-encoded form
    call_back: CalledBack | None = None  # None: the account placed it


@dataclass(slots=True)
class CallFacts:
    """What is known when a call arrives, or is placed: then `caller` is who is rung first, and `dialled` what he sees."""

    id: str  # ours, 32 hex digits: the dialect's CallSid
    channel: str  # FreeSWITCH's uuid of the caller's leg
    created_at: datetime
    trunk: str
    dialled_raw: str  # digits as the exchange sent them
    caller_raw: str
    dialled: str | None = None  # E.164, None if the number is nobody's
    caller: str | None = None  # E.164, None if withheld or unreadable
    caller_withheld: bool = False
    account: str | None = None
    flow: str | None = None
    diverted_from: str | None = None  # the customer-facing number
    placed: Placed | None = None  # None: it came in


CallOutcome = Literal["answered", "missed", "abandoned", "served", "voicemail", "refused", "lost"]
# answered: caller and agent talked.        missed: agents were to be reached and none was, or somebody else than the
#                                           caller ended the call before its flow's end.
# abandoned: the caller left before any agent was dialled.   served: the flow ended without wanting an agent.
# voicemail: a message was left.            refused: no account, no flow, or no room.
# lost: exoflow was away when the call ended and the cause is unknown.


@dataclass(slots=True)
class CallState:
    """All that a running call has gathered; the dialect and the deliveries are made from it."""

    facts: CallFacts
    ring_at: datetime | None = None  # ALERTING sent
    answered_at: datetime | None = None  # CONNECT sent: from here the caller pays
    ended_at: datetime | None = None
    cause: str = ""
    q850: int | None = None
    ended_by: Literal["", "caller", "exoflow", "switch"] = ""
    outcome: CallOutcome | None = None
    reason: str = ""  # the code of the entry that explains a failed outcome
    digits: str = ""  # the last digits collected
    wanted_agent: bool = False  # a connect step was entered
    caller_left: bool = False
    progress: dict[str, Any] = field(default_factory=dict)  # where in its flow the call is, for another process (flow/here.py)
    config: str = ""  # hash of the configuration it began with
    legs: list[Leg] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    journey: list[Entry] = field(default_factory=list)

    @property
    def talk_leg(self) -> Leg | None:
        return next((leg for leg in reversed(self.legs) if leg.answered_at is not None), None)
