"""One attempt to reach an agent, or several at once, over one trunk, and the talk if one answers; also if nobody was there to
see its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from exoflow.agents.staff import Picked
from exoflow.calls.model import Leg
from exoflow.clock import utcnow
from exoflow.config.model import Trunk
from exoflow.errors import CallEnded, CommandRefused, DeadlineExceeded
from exoflow.esl.codec import Headers
from exoflow.flow import legends, placed
from exoflow.flow.here import Here
from exoflow.lines import trunks
from exoflow.lines.legs import LegEvents
from exoflow.telephony.dialstring import Ask, Phone, dial_string
from exoflow.telephony.numbers import national

# a leg's release comes on another connection than its bridge's end, some milliseconds apart; the caller is not kept waiting
# for it (silence between attempts: 0.3 s at most), and what comes later still corrects the record
RELEASE_SECONDS = 0.1
TALK_RELEASE_SECONDS = 2.0  # behind a talk nobody waits
BRIDGE_MARGIN = 30.0  # seconds beyond all limits before the bridge's end is given up


@dataclass(frozen=True, slots=True)
class How:
    """How agents are rung. Times in seconds."""

    ring: int
    talk: int
    at_once: int = 1  # phones that ring together; the first to answer talks
    cli: dict[str, str] = field(default_factory=dict)  # digits that agents see, by trunk; of others it is the trunk's own
    ask: Ask | None = None
    opening: str = ""  # a sound that the agent hears when the talk begins
    callers_opening: str = ""  # and the caller
    headers: dict[str, str] = field(default_factory=dict)  # of SIP
    ringback: str = ""  # what the caller hears meanwhile; as the step says unless set
    network_tone: bool = False  # or the tone of the agent's network, as soon as there is one

    def written(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> How:
        """What `written` made."""
        return cls(**{**kept, "ask": None if kept["ask"] is None else Ask(**kept["ask"])})


def attempt(here: Here, picked: Sequence[Picked], trunk_name: str, trunk: Trunk, how: How) -> list[Leg]:
    """Rings these agents at once; returns their legs, in the same order, when all have ended, a talk included.

    Raises CallEnded when the caller left meanwhile. The legs' rows are committed before dialling, so that a leg on the switch
    is never unknown to the record. If the call has come back from this attempt, what became of it is found out instead: nobody
    is rung twice.
    """
    legs = under_way(here) or _begun(here, picked, trunk_name)
    if any(leg.outcome == "ringing" for leg in legs):
        if here.has_ended:
            _done(here, legs, here.session.channel)
            legends.settle_unheard(here, legs)
            here.perform("bridge", lambda: "", deadline=0)
            if talk_of(legs) is not None:
                here.at.typed = max(here.at.typed, here.data.get("typed", 0))
        else:
            _dial(here, legs, trunk, how)
    here.session.raise_if_disconnected()
    return legs


def under_way(here: Here) -> list[Leg]:
    """The legs of the attempt that was begun when this step was kept."""
    uuids = here.data.get("legs", ())
    return [leg for leg in here.call.state.legs if leg.uuid in uuids]


def talk_of(legs: Sequence[Leg]) -> Leg | None:
    """The one that the caller talked with."""
    return next((leg for leg in legs if leg.outcome == "answered"), None)


def _begun(here: Here, picked: Sequence[Picked], trunk_name: str) -> list[Leg]:
    first = len(here.call.state.legs) + 1
    legs = [
        Leg(_uuid(here, one, alone=len(picked) == 1), seq, one.candidate.number, trunk_name, one.candidate.agent)
        for seq, one in enumerate(picked, first)
    ]
    for leg in legs:
        text = f"Ringing {legends.who(leg)} over {trunk_name}"
        here.note("G", "leg.dialled", text, leg=leg.uuid, number=leg.number, trunk=trunk_name)
        leg.dialled_at = utcnow()
    here.hear_keys()
    # keys from before a talk are for nobody behind it
    here.keep(legs=[leg.uuid for leg in legs], typed=len(here.keys_typed))
    here.call.add_leg(*legs)
    return legs


def _uuid(here: Here, picked: Picked, *, alone: bool) -> str:
    """A new leg's, for which its agent is claimed. If the store was slower than the call, the leg is known to the switch alone,
    which has it on the caller's channel: `uuid;name;digits` of each that was dialled (switch_ivr_originate.c:3211)."""
    if here.has_ended:
        dialled = legends.array(here.session.channel.variable("originated_legs"))
        known = [one.partition(";")[0] for one in dialled if one.endswith(national(picked.candidate.number).lstrip("0"))]
        if known:
            return known[-1]
        if alone and (talked := here.session.channel.variable("last_bridge_to")):
            return talked
    return picked.leg


def _dial(here: Here, legs: Sequence[Leg], trunk: Trunk, how: How) -> None:
    endpoint = trunks.endpoint(trunk)
    dialled = dial_string(
        [Phone(endpoint, leg.number, leg.uuid) for leg in legs],
        cli=how.cli.get(legs[0].trunk) or placed.cli_on(here.call.state.facts, legs[0].trunk) or trunk.outbound.cli,
        ring_seconds=how.ring,
        talk_seconds=how.talk,
        ask=how.ask,
        opening=how.opening,
        headers=how.headers,
        network_tone=how.network_tone,
    )
    deadline = how.ring + how.talk + (how.ask.seconds if how.ask is not None else 0) + BRIDGE_MARGIN
    lines = here.parts.lines
    with ExitStack() as watch:
        changed = [partial(_changed, here, leg, asked=how.ask is not None, alone=len(legs) == 1) for leg in legs]
        told = [watch.enter_context(lines.leg(leg.uuid, change)) for leg, change in zip(legs, changed, strict=True)]
        watched, connection = lines.up, lines.connections
        for leg in legs:
            leg.dialled_at = utcnow()
        ended: CallEnded | None = None
        complete: Headers | None = None
        here.session.lease_off()  # it would take the caller out of the talk
        try:
            complete = here.perform("bridge", partial(_told, here, legs, dialled), deadline=deadline)
            _done(here, legs, complete)
        except CommandRefused:
            _done(here, legs, None)
            raise
        except CallEnded as error:
            ended = error
        except DeadlineExceeded:
            text = "The attempt did not end within its limits and was broken off"
            here.note("G", "switch.slow", text, leg=legs[0].uuid)
            here.break_off()
        finally:
            here.session.lease_on()
        watched = watched and lines.up and lines.connections == connection
        if lines.up:
            talked = any(leg.answered_at is not None or legends.connected(complete, leg) for leg in legs)
            _wait_for_releases(told, TALK_RELEASE_SECONDS if talked or ended else RELEASE_SECONDS, talked=talked)
        # from here to the end of the step's next `keep` nothing waits: what is told and what is kept are written together
        for leg in legs:
            if leg.released_at is None:
                legends.draw_end(here, leg, complete, alone=len(legs) == 1)
            legends.judge(here, leg, had_leg=leg.setup_at is not None or not watched)
        if ended is None and talk_of(legs) is not None:
            here.drop_keys(complete)
    if not watched:
        _say_unwatched(here, legs)
    for leg in legs:
        legends.tell(here, leg)
    if ended is not None:
        raise ended


def _told(here: Here, legs: Sequence[Leg], dialled: str) -> str:
    """The bridge's argument, which goes to the switch now: until its end is told the phones may yet ring."""
    here.parts.staff.claims.told([leg.uuid for leg in legs])
    return dialled


def _done(here: Here, legs: Sequence[Leg], shown: Headers | None) -> None:
    """The bridge has ended, or was refused: what the caller's leg shows of these, for their claims."""
    for leg in legs:
        here.parts.staff.claims.done(leg.uuid, made=legends.made(shown, leg))


def _changed(here: Here, leg: Leg, events: LegEvents, *, asked: bool, alone: bool) -> None:
    leg.seen = True
    leg.setup_at, leg.alerting_at, leg.early_media_at = events.setup_at, events.alerting_at, events.early_media_at
    # with an agent who is asked first the talk begins later than his answer; of several two may answer at once
    leg.answered_at = events.answered_at if alone and not asked else events.bridged_at
    leg.picked_up_at = events.answered_at if asked else None
    if events.released_at is not None:
        leg.released_at, leg.cause, leg.q850 = events.released_at, events.cause, events.q850
    here.call.update_leg(leg)


def _wait_for_releases(told: Sequence[LegEvents], seconds: float, *, talked: bool) -> None:
    until = time.monotonic() + seconds
    for events in told:
        if events.setup_at is not None or not talked:  # one that got no channel has no release, either
            events.released.wait(max(0.0, until - time.monotonic()))


def _say_unwatched(here: Here, legs: Sequence[Leg]) -> None:
    problem = here.parts.lines.problem or "it was lost during the attempt and is back"
    text = f"The event socket was not connected: what is known of this attempt is drawn from the caller's leg. {problem}"
    here.note("G", "lines.down", text, leg=legs[0].uuid)
