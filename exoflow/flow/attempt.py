"""One attempt to reach one agent over one trunk, and the talk if he answers; also if nobody was there to see its end."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent

from exoflow.agents.groups import Candidate
from exoflow.calls import cdr, door
from exoflow.calls.cdr import LegEnd
from exoflow.calls.model import Leg
from exoflow.config.model import Trunk
from exoflow.errors import CallEnded, DeadlineExceeded
from exoflow.esl.codec import Headers
from exoflow.flow.gone import GoneSession
from exoflow.flow.here import Here
from exoflow.lines import trunks
from exoflow.lines.legs import LegEvents, moment
from exoflow.telephony.causes import by_name, read_leg
from exoflow.telephony.dialstring import leg_string

# a leg's release comes on another connection than its bridge's end, some milliseconds apart; the caller is not kept waiting
# for it (silence between attempts: 0.3 s at most), and what comes later still corrects the record
RELEASE_SECONDS = 0.1
TALK_RELEASE_SECONDS = 2.0  # behind a talk nobody waits
CDR_SECONDS = 1.0  # for the file of a leg that has just ended
CDR_LOOK_SECONDS = 0.05  # between two looks for it: nobody hears that delay, and a look costs a thread some 0.1 ms
CALLER_LEFT = "ORIGINATOR_CANCEL"
BRIDGE_MARGIN = 30.0  # seconds beyond ringing and talk limit before the bridge's end is given up


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds."""

    ring: int
    talk: int


def attempt(here: Here, candidate: Candidate, trunk_name: str, trunk: Trunk, limits: Limits) -> Leg:
    """Rings an agent; returns the leg when it has ended, talk included. Raises CallEnded when the caller left meanwhile.

    The leg's row is committed before dialling, so that a leg on the switch is never unknown to the record. If the call has
    come back from this attempt, what became of it is found out instead: nobody is rung twice.
    """
    leg = under_way(here)
    if leg is None:
        dialled = here.has_ended and here.session.channel.variable("last_bridge_to")  # known to the switch alone
        leg = Leg(dialled or str(uuid.uuid4()), len(here.call.state.legs) + 1, candidate.number, trunk_name, candidate.agent)
        text = f"Ringing {_who(leg)} over {trunk_name}"
        here.note("G", "leg.dialled", text, leg=leg.uuid, number=leg.number, trunk=trunk_name)
        leg.dialled_at = datetime.now(UTC)
        here.at.typed = len(here.keys_typed)  # keys from before a talk are for nobody behind it
        here.keep(leg=leg.uuid)
        here.call.add_leg(leg)
    if leg.outcome == "ringing" and here.has_ended:
        settle_unheard(here, leg)
        here.perform("bridge", lambda: "", deadline=0)
    if leg.outcome == "ringing":
        _dial(here, leg, trunk, limits)
    here.session.raise_if_disconnected()
    return leg


def under_way(here: Here) -> Leg | None:
    """The attempt that was begun when this step was kept."""
    return next((leg for leg in here.call.state.legs if leg.uuid == here.data.get("leg")), None)


def _who(leg: Leg) -> str:
    return f"{leg.agent} ({leg.number})" if leg.agent else leg.number


def _dial(here: Here, leg: Leg, trunk: Trunk, limits: Limits) -> None:
    dialled = leg_string(
        endpoint=trunks.endpoint(trunk),
        e164=leg.number,
        leg_uuid=leg.uuid,
        cli=trunk.outbound.cli,
        ring_seconds=limits.ring,
        talk_seconds=limits.talk,
    )

    def changed(events: LegEvents) -> None:
        _copy(leg, events)
        here.call.update_leg(leg)

    with here.parts.lines.leg(leg.uuid, changed) as events:
        watched = here.parts.lines.up
        leg.dialled_at = datetime.now(UTC)
        ended: CallEnded | None = None
        complete: Headers | None = None
        here.session.lease_off()  # it would take the caller out of the talk
        try:
            complete = here.perform("bridge", lambda: dialled, deadline=limits.ring + limits.talk + BRIDGE_MARGIN)
        except CallEnded as error:
            ended = error
        except DeadlineExceeded:
            here.note("G", "switch.slow", "The attempt did not end within its limits and was broken off", leg=leg.uuid)
            here.break_off()
        finally:
            here.session.lease_on()
        watched = watched and here.parts.lines.up
        if here.parts.lines.up:
            talked = events.answered_at is not None or _connected(complete, leg)
            events.released.wait(TALK_RELEASE_SECONDS if talked or ended else RELEASE_SECONDS)
        if leg.released_at is None:
            at = None if complete is None else _moment(complete.get("Event-Date-Timestamp"))
            _draw(here, leg, complete, at or datetime.now(UTC))
        _judge(here, leg, had_leg=leg.setup_at is not None or not here.parts.lines.up)
    if not watched:
        _say_unwatched(here, leg)
    _tell(here, leg)
    if ended is not None:
        raise ended


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


def _connected(complete: Headers | None, leg: Leg) -> bool:
    """By the caller's leg: did this bridge reach this agent?"""
    return complete is not None and leg.uuid in (complete.variable("bridge_uuid"), complete.variable("last_bridge_to"))


def settle_unheard(here: Here, leg: Leg) -> None:
    """An attempt that ended while the call was away: by the CDR of the agent's leg, else by what the caller's leg shows."""
    folder = here.parts.config.switch.cdr
    end = _cdr(folder, leg) if folder is not None and leg.released_at is None else None
    if end is not None:
        door.settle(leg, end, caller_left=here.caller_gone)
        here.call.update_leg(leg)
    else:
        if leg.released_at is None:
            _draw(here, leg, here.session.channel, _gone_at(here))
        _judge(here, leg, had_leg=leg.seen or folder is None)
    talked = f"answered meanwhile, and talked {leg.talk_seconds:.0f} s"
    here.came_back(f"{_who(leg)} was rung on and {talked if leg.outcome == 'answered' else 'did not answer'}")
    _tell(here, leg)


def _cdr(folder: Path, leg: Leg) -> LegEnd | None:
    """It is written when the leg ends, which is when the call comes back: CDR_SECONDS at most are waited for it."""
    until = time.monotonic() + CDR_SECONDS
    while True:
        end: LegEnd | None = gevent.get_hub().threadpool.apply(cdr.read_leg, (folder, leg.uuid))
        if end is not None or time.monotonic() > until:
            return end
        gevent.sleep(CDR_LOOK_SECONDS)


def _gone_at(here: Here) -> datetime:
    """When the attempt ended, as far as the caller's leg tells: when the dialplan had the call back."""
    if isinstance(here.session, GoneSession):
        return here.session.hung_up_at
    return _moment(here.session.channel.variable("exo_gone_at")) or datetime.now(UTC)


def _moment(micros: str) -> datetime | None:
    return datetime.fromtimestamp(int(micros) / 1e6, UTC) if micros.isdigit() and 0 < int(micros) < cdr.LATEST else None


def _draw(here: Here, leg: Leg, complete: Headers | None, at: datetime) -> None:
    """The leg's end at `at` from what the caller's leg shows behind a bridge."""
    leg.released_at = at
    if complete is None:
        return
    talked = _connected(complete, leg)
    leg.cause = complete.variable("last_bridge_hangup_cause" if talked else "originate_disposition")
    known = by_name(leg.cause)
    leg.q850 = known.q850 if known is not None else None
    if talked and leg.answered_at is None:
        bridged = here.session.bridged_event
        shown = _moment(complete.get("Caller-Channel-Bridged-Time")) if bridged is None else moment(bridged)
        leg.answered_at = shown or leg.dialled_at


def _judge(here: Here, leg: Leg, *, had_leg: bool) -> None:
    if here.session.hung_up and leg.answered_at is None and leg.cause in ("", CALLER_LEFT):
        leg.outcome, leg.meaning = "caller_gone", "The caller left while the agent's phone was being rung."
    else:
        leg.outcome, leg.meaning = read_leg(
            q850=leg.q850,
            name=leg.cause,
            answered=leg.answered_at is not None,
            alerting=leg.alerting_at is not None,
            early_media=leg.early_media_at is not None,
            had_leg=had_leg,
        )
    here.call.update_leg(leg)


def _tell(here: Here, leg: Leg) -> None:
    who = _who(leg)
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
