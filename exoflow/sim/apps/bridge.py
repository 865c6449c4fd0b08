"""The `bridge` application: originate, and the talk (mod_dptools.c audio_bridge_function, switch_ivr_originate.c)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from exoflow.sim.apps import application
from exoflow.sim.apps.recording import talk_began, talk_ended
from exoflow.sim.frames import is_true
from exoflow.sim.originate import DEFAULT_TIMEOUT, BLeg, DialledLeg, legs_of

if TYPE_CHECKING:
    from exoflow.sim.session import Session

# a failed bridge goes on by itself only after these, when continue_on_fail is unset (facts, pri-and-freetdm 8)
_GOES_ON = ("NO_ANSWER", "NO_USER_RESPONSE", "ORIGINATOR_CANCEL")
_DIALSTATUS = {
    "USER_BUSY": "BUSY",
    "NO_ANSWER": "NOANSWER",
    "ORIGINATOR_CANCEL": "CANCEL",
    "CALL_REJECTED": "DONTCALL",
    "DESTINATION_OUT_OF_ORDER": "INVALIDARGS",
}


@application("bridge")
def bridge(session: Session, argument: str) -> None:
    """Rings what the dial string names; caller and agent talk if one answers, else `continue_on_fail` decides."""
    channel = session.channel
    if any(timer.pending for timer in session.timers):
        session.switch.complain(
            "guard_in_bridge", "a sched_transfer is armed during a bridge: it would pull the caller away", session
        )
    passed_on = is_true(_from_legs(argument, "bridge_early_media"))
    if not channel.media and not passed_on and not is_true(_from_legs(argument, "ignore_early_media")):
        session.switch.complain(
            "early_media", "a leg without ignore_early_media: an announcement would count as an answer", session
        )
    cause = "NO_ROUTE_DESTINATION"
    for group in legs_of(session, argument):
        winner, cause = _ring(session, group)
        if winner is not None:
            _talk(session, winner)
            return
        if channel.hung_up or cause == "ORIGINATOR_CANCEL":
            break
    _failed(session, cause)


def _from_legs(argument: str, name: str) -> str:
    found = re.search(rf"\b{name}=(\w+)", argument)
    return found[1] if found else ""


def _ring(session: Session, group: list[DialledLeg]) -> tuple[BLeg | None, str]:
    """Rings a group at once. The leg that answered, or None and the cause."""
    legs = [BLeg(session, leg) for leg in group]
    channel = session.channel
    session.phone.hears_ringback()
    for leg in legs:
        leg.start()
        if leg.channel is not None:
            channel.set("originate_signal_bond", leg.channel.uuid)
            channel.add("originated_legs", f"{leg.channel.uuid};Outbound Call;{leg.channel.destination}")

    def decided() -> bool:
        return any(leg.won() for leg in legs) or all(leg.over for leg in legs)

    ending = _wait_ringing(session, legs, decided)
    winner = next((leg for leg in legs if leg.won()), None) if not channel.hung_up else None
    cause = "NONE"
    for leg in legs:
        if leg is winner:
            continue
        leg.end("LOSE_RACE" if winner else _end_cause(session, ending))
        cause = leg.cause
        if leg.channel is not None:
            channel.add("originate_causes", f"{leg.channel.uuid};{leg.cause}")
    if winner is not None and winner.channel is not None:
        channel.add("originate_causes", f"{winner.channel.uuid};NONE")
        return winner, "SUCCESS"
    if channel.hung_up or ending in ("hangup", "away"):
        cause = "ORIGINATOR_CANCEL"
    return None, "NO_ANSWER" if cause == "PROGRESS_TIMEOUT" else cause


def _wait_ringing(session: Session, legs: list[BLeg], decided: Callable[[], bool]) -> str:
    """Until one won, all ended, the time is up (NO_ANSWER) or there was no sign of life in time (PROGRESS_TIMEOUT)."""
    variables = legs[0].variables
    total = _seconds(variables.get("originate_timeout") or variables.get("leg_timeout")) or _seconds(
        session.channel.variables.get("call_timeout")
    )
    total = total or DEFAULT_TIMEOUT
    progress = _seconds(
        variables.get("progress_timeout")
        or variables.get("leg_progress_timeout")
        or session.channel.variables.get("progress_timeout")
    )
    began = session.switch.clock.elapsed()
    if progress and progress < total:
        alive = session.wait(progress, lambda: decided() or any(leg.alerting() for leg in legs), inside=False)
        if alive == "time":
            return "progress"
        if alive != "came" or decided():
            return alive
    spent = session.switch.clock.elapsed() - began
    return session.wait(total - spent, decided, inside=False)


def _end_cause(session: Session, ending: str) -> str:
    if session.channel.hung_up or ending in ("hangup", "away", "break"):
        return "ORIGINATOR_CANCEL"
    return "PROGRESS_TIMEOUT" if ending == "progress" else "NO_ANSWER"


def _seconds(text: str | None) -> float:
    return float(text) if text and re.fullmatch(r"\d+(\.\d+)?", text) else 0.0


def _talk(session: Session, leg: BLeg) -> None:
    """Both hear each other until one goes. The caller is answered now if nothing answered before."""
    a, b = session.channel, leg.channel
    assert b is not None
    for name, value in (
        ("originate_disposition", "SUCCESS"),
        ("DIALSTATUS", "SUCCESS"),
        ("last_bridge_to", b.uuid),
        ("bridge_channel", b.name),
        ("bridge_uuid", b.uuid),
        ("signal_bond", b.uuid),
        ("originate_signal_bond", None),
    ):
        a.set(name, value)
    if b.answered:
        a.answer()
    else:
        a.early_media()
    a.mark_bridged(b)
    b.mark_bridged(a)
    b.set("signal_bond", a.uuid)
    b.state = "CS_EXCHANGE_MEDIA"
    session.switch.bus.fire("CHANNEL_BRIDGE", a, head=[("Bridge-A-Unique-ID", a.uuid), ("Bridge-B-Unique-ID", b.uuid)])
    name = leg.script.name or b.destination
    session.phone.agent("talks", name)
    talk_began(session, b.times["Answered" if leg.asking is None else "Bridged"])
    leg.begins_to_talk(b)
    for name in [name for name in a.variables if name.startswith("execute_on_pre_bridge")]:
        session.execute(*a.variables[name].partition(" ")[::2])
    while session.wait(None, lambda: b.hung_up) == "break":
        pass  # uuid_break does not end a talk
    leg.end(a.cause if a.hung_up else "NORMAL_CLEARING")
    talk_ended(session, b.times["Hangup"])
    session.phone.agent("gone", name)
    a.bridged_to = None
    session.digits.clear()  # keys of the talk went to the agent
    a.set("last_bridge_hangup_cause", b.cause)
    a.set("bridge_hangup_cause", b.cause)
    session.switch.bus.fire("CHANNEL_UNBRIDGE", a, head=[("Bridge-A-Unique-ID", a.uuid), ("Bridge-B-Unique-ID", b.uuid)])
    if is_true(a.variables.get("hangup_after_bridge")) and not session.away:
        a.hangup(b.cause)


def _failed(session: Session, cause: str) -> None:
    channel = session.channel
    status = _DIALSTATUS.get(cause, cause)
    for name, value in (
        ("last_bridge_hangup_cause", cause),
        ("originate_disposition", cause),
        ("DIALSTATUS", status),
        ("originate_failed_cause", cause),
    ):
        channel.set(name, value)
    if channel.hung_up or not session.ready():
        return
    wanted = channel.variables.get("continue_on_fail")
    goes_on = cause in _GOES_ON if wanted is None else is_true(wanted) or cause in wanted.upper().split(",")
    if not goes_on:
        channel.hangup(cause)
