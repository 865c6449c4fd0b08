"""What became of an agent's leg: judged by its own events, by its CDR, or by what the caller's leg shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent

from exoflow.calls import cdr, door
from exoflow.calls.cdr import LegEnd
from exoflow.calls.model import Leg
from exoflow.clock import utcnow
from exoflow.esl.codec import Headers
from exoflow.flow.gone import GoneSession
from exoflow.flow.here import Here
from exoflow.lines.legs import moment
from exoflow.telephony.causes import by_name, of_leg, read_leg

CDR_SECONDS = 1.0  # for the files of legs that have just ended
CDR_LOOK_SECONDS = 0.05  # between two looks for one: nobody hears that delay, and a look costs a thread some 0.1 ms
CALLER_LEFT = "ORIGINATOR_CANCEL"


def who(leg: Leg) -> str:
    return f"{leg.agent} ({leg.number})" if leg.agent else leg.number


def array(text: str) -> list[str]:
    """The values of a channel's variable that has several (`ARRAY::a|:b`), oldest first."""
    return text.removeprefix("ARRAY::").split("|:") if text else []


def connected(complete: Headers | None, leg: Leg) -> bool:
    """By the caller's leg: did this bridge reach this agent?"""
    return complete is not None and leg.uuid in (complete.variable("bridge_uuid"), complete.variable("last_bridge_to"))


def made(shown: Headers | None, leg: Leg) -> bool:
    """By the caller's leg: did this one come to be? Its own events come on another connection, perhaps later."""
    if shown is None:
        return False
    # `uuid;name;digits` of each that was dialled (switch_ivr_originate.c:3211)
    begun = [one.partition(";")[0] for one in array(shown.variable("originated_legs"))]
    return leg.uuid in begun or connected(shown, leg)


def settle_unheard(here: Here, legs: Sequence[Leg]) -> None:
    """An attempt that ended while the call was away: by the CDRs of the agents' legs, else by what the caller's leg shows."""
    folder = here.parts.config.switch.cdr
    found = {} if folder is None else _cdrs(folder, legs)
    for leg in legs:
        if leg.uuid in found:
            door.settle(leg, found[leg.uuid], caller_left=here.caller_gone)
            here.call.update_leg(leg)
            continue
        if leg.released_at is None:
            _draw(here, leg, here.session.channel, _gone_at(here), alone=len(legs) == 1)
        judge(here, leg, had_leg=leg.seen or folder is None)
    here.came_back(_found(legs))
    for leg in legs:
        tell(here, leg)


def _found(legs: Sequence[Leg]) -> str:
    talk = next((leg for leg in legs if leg.outcome == "answered"), None)
    if talk is not None:
        return f"{who(talk)} was rung on and answered meanwhile, and talked {talk.talk_seconds:.0f} s"
    were = "was" if len(legs) == 1 else "were"
    return f"{', '.join(map(who, legs))} {were} rung on and did not answer"


def _cdrs(folder: Path, legs: Sequence[Leg]) -> dict[str, LegEnd]:
    """By their legs. They are written when the legs end, which is when the call comes back: CDR_SECONDS at most are waited for
    all of them. Of a leg whose end was heard of there is one already, and it alone may know that its agent was asked."""
    until = time.monotonic() + CDR_SECONDS
    found: dict[str, LegEnd] = {}
    while True:
        for leg in legs:
            if leg.uuid not in found:
                end = gevent.get_hub().threadpool.apply(cdr.read_leg, (folder, leg.uuid))
                if end is not None:
                    found[leg.uuid] = end
        if all(leg.uuid in found or leg.released_at is not None for leg in legs) or time.monotonic() > until:
            return found
        gevent.sleep(CDR_LOOK_SECONDS)


def _gone_at(here: Here) -> datetime:
    """When the attempt ended, as far as the caller's leg tells: when the dialplan had the call back."""
    if isinstance(here.session, GoneSession):
        return here.session.hung_up_at
    return _moment(here.session.channel.variable("exo_gone_at")) or utcnow()


def _moment(micros: str) -> datetime | None:
    return datetime.fromtimestamp(int(micros) / 1e6, UTC) if micros.isdigit() and 0 < int(micros) < cdr.LATEST else None


def draw_end(here: Here, leg: Leg, complete: Headers | None, *, alone: bool) -> None:
    """The leg's end from what the caller's leg shows right behind its bridge. `alone`: no other phone rang with it."""
    at = None if complete is None else _moment(complete.get("Event-Date-Timestamp"))
    _draw(here, leg, complete, at or utcnow(), alone=alone)


def _draw(here: Here, leg: Leg, complete: Headers | None, at: datetime, *, alone: bool) -> None:
    leg.released_at = at
    if complete is None:
        return
    talked = connected(complete, leg)
    leg.cause = complete.variable("last_bridge_hangup_cause" if talked else "originate_disposition")
    if not (talked or alone):
        # the disposition is of one of them; of each there is `uuid;cause` (switch_ivr_originate.c:4126)
        causes = dict(one.split(";", 1) for one in array(complete.variable("originate_causes")) if ";" in one)
        leg.cause = causes.get(leg.uuid, "")
    if alone and not talked:
        leg.cause, _ = of_leg(leg.cause, None, complete.variable("last_bridge_proto_specific_hangup_cause"))
    known = by_name(leg.cause)
    leg.q850 = known.q850 if known is not None else None
    if talked and leg.answered_at is None:
        bridged = here.session.bridged_event
        shown = _moment(complete.get("Caller-Channel-Bridged-Time")) if bridged is None else moment(bridged)
        leg.answered_at = shown or leg.dialled_at


def judge(here: Here, leg: Leg, *, had_leg: bool) -> None:
    """Its outcome and meaning."""
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
            picked_up=leg.picked_up_at is not None,
        )
    here.call.update_leg(leg)


def tell(here: Here, leg: Leg) -> None:
    """The journey's line of it."""
    name = who(leg)
    shown: dict[str, Any] = {
        "leg": leg.uuid,
        "q850": leg.q850,
        "cause": leg.cause,
        "alerting": leg.alerting_at is not None,
        "seen": leg.seen,
    }
    if leg.outcome == "answered":
        here.note("H", "leg.talked", f"{name} and the caller talked {leg.talk_seconds:.0f} s. {leg.meaning}", **shown)
    else:
        here.failed("G", f"leg.{leg.outcome}", f"{name}: {leg.meaning}", **shown)
