"""One attempt to reach one agent over one trunk, and the talk if he answers."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exoflow.agents.groups import Candidate
from exoflow.calls.model import Leg
from exoflow.config.model import Trunk
from exoflow.errors import CallEnded, DeadlineExceeded
from exoflow.esl.codec import Event
from exoflow.flow.here import Here
from exoflow.lines import trunks
from exoflow.lines.legs import LegEvents, moment
from exoflow.telephony.causes import by_name, read_leg
from exoflow.telephony.dialstring import leg_string

# a leg's release comes on another connection than its bridge's end, some milliseconds apart; the caller is not kept waiting
# for it (silence between attempts: 0.3 s at most), and what comes later still corrects the record
RELEASE_SECONDS = 0.1
TALK_RELEASE_SECONDS = 2.0  # behind a talk nobody waits
BRIDGE_MARGIN = 30.0  # seconds beyond ringing and talk limit before the bridge's end is given up


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds."""

    ring: int
    talk: int


def attempt(here: Here, candidate: Candidate, trunk_name: str, trunk: Trunk, limits: Limits) -> Leg:
    """Rings an agent; returns the leg when it has ended, talk included. Raises CallEnded when the caller left meanwhile.

    The leg's row is committed before dialling, so that a leg on the switch is never unknown to the record.
    """
    leg = Leg(str(uuid.uuid4()), len(here.call.state.legs) + 1, candidate.number, trunk_name, candidate.agent)
    dialled = leg_string(
        endpoint=trunks.endpoint(trunk),
        e164=candidate.number,
        leg_uuid=leg.uuid,
        cli=trunk.outbound.cli,
        ring_seconds=limits.ring,
        talk_seconds=limits.talk,
    )
    here.call.add_leg(leg)
    who = f"{candidate.agent} ({candidate.number})" if candidate.agent else candidate.number
    here.note("G", "leg.dialled", f"Ringing {who} over {trunk_name}", leg=leg.uuid, number=leg.number, trunk=trunk_name)

    def changed(events: LegEvents) -> None:
        _copy(leg, events)
        here.call.update_leg(leg)

    with here.parts.lines.leg(leg.uuid, changed) as events:
        watched = here.parts.lines.up
        leg.dialled_at = datetime.now(UTC)
        ended: CallEnded | None = None
        complete: Event | None = None
        try:
            complete = here.session.execute("bridge", dialled, deadline=limits.ring + limits.talk + BRIDGE_MARGIN)
        except CallEnded as error:
            ended = error
        except DeadlineExceeded:
            here.note("G", "switch.slow", "The attempt did not end within its limits and was broken off", leg=leg.uuid)
            here.break_off()
        watched = watched and here.parts.lines.up
        if here.parts.lines.up:
            talked = events.answered_at is not None or _connected(complete, leg)
            events.released.wait(TALK_RELEASE_SECONDS if talked or ended else RELEASE_SECONDS)
        _settle(here, leg, events, complete)
    if not watched:
        _say_unwatched(here, leg)
    _tell(here, leg, who)
    if ended is not None:
        raise ended
    here.session.raise_if_disconnected()
    return leg


def _say_unwatched(here: Here, leg: Leg) -> None:
    problem = here.parts.lines.problem or "it was lost during the attempt and is back"
    text = f"The event socket was not connected: what is known of this attempt is drawn from the caller's leg. {problem}"
    here.note("G", "lines.down", text, leg=leg.uuid)


def _copy(leg: Leg, events: LegEvents) -> None:
    leg.seen = True
    leg.setup_at, leg.alerting_at, leg.early_media_at = events.setup_at, events.alerting_at, events.early_media_at
    leg.answered_at = events.answered_at
    if events.released_at is not None:
        leg.released_at, leg.cause, leg.q850 = events.released_at, events.cause, events.q850


def _connected(complete: Event | None, leg: Leg) -> bool:
    """By the caller's leg: did this bridge reach this agent?"""
    return complete is not None and leg.uuid in (complete.variable("bridge_uuid"), complete.variable("last_bridge_to"))


def _settle(here: Here, leg: Leg, events: LegEvents, complete: Event | None) -> None:
    """The leg's end: from its own events, else from what the caller's leg shows."""
    if events.released_at is None:
        leg.released_at = datetime.now(UTC) if complete is None else moment(complete)
        if complete is not None:
            talked = _connected(complete, leg)
            name = complete.variable("last_bridge_hangup_cause" if talked else "originate_disposition")
            leg.cause = name
            known = by_name(name)
            leg.q850 = known.q850 if known is not None else None
            if talked and leg.answered_at is None:
                bridged = here.session.bridged_event
                leg.answered_at = leg.dialled_at if bridged is None else moment(bridged)
    left = here.session.hung_up and leg.answered_at is None
    if left:
        leg.outcome, leg.meaning = "caller_gone", "The caller left while the agent's phone was being rung."
    else:
        leg.outcome, leg.meaning = read_leg(
            q850=leg.q850,
            name=leg.cause,
            answered=leg.answered_at is not None,
            alerting=leg.alerting_at is not None,
            early_media=leg.early_media_at is not None,
            had_leg=leg.setup_at is not None or not here.parts.lines.up,
        )
    here.call.update_leg(leg)


def _tell(here: Here, leg: Leg, who: str) -> None:
    shown: dict[str, Any] = {
        "leg": leg.uuid,
        "q850": leg.q850,
        "cause": leg.cause,
        "alerting": leg.alerting_at is not None,
        "seen": leg.seen,
    }
    if leg.outcome == "answered":
        here.note("H", "leg.talked", f"{who} and the caller talked {leg.talk_seconds:.0f} s. {leg.meaning}", **shown)
    else:
        here.failed("G", f"leg.{leg.outcome}", f"{who}: {leg.meaning}", **shown)
