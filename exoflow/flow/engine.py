"""Runs a call's flow: from step to step, to the flow's end also after the caller has gone, and closes the record."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from exoflow.calls.model import CallOutcome, CallState, Stage
from exoflow.errors import CallEnded
from exoflow.flow.applets import APPLETS
from exoflow.flow.here import Here, Place
from exoflow.lines.legs import moment

log = logging.getLogger("exoflow.flow")

# a caller's own hangup has none of these; the last is what FreeSWITCH says when an application cannot be run
SWITCH_CAUSES = ("ALLOTTED_TIMEOUT", "SYSTEM_SHUTDOWN", "MANAGER_REQUEST", "DESTINATION_OUT_OF_ORDER")
# a flow that the CRM sends in circles must end some time; nobody listens to 500 steps
MAX_STEPS = 500


def run(here: Here) -> None:
    """From `here.step` to the flow's end. Raises Disconnected when the socket is lost and not the call: another takes over."""
    passed_over = False
    branch: str | Place | None = None
    seen_alone: set[Place] = set()
    for _ in range(MAX_STEPS):
        step = here.flow.steps[here.step]
        here.way.append(here.place)
        applet = APPLETS[step.applet]
        if here.caller_gone:
            if here.place in seen_alone:
                break  # round and round without anybody
            seen_alone.add(here.place)
        try:
            if here.caller_gone and applet.needs_caller:
                passed_over = True
                branch = applet.gone(here, step)
            else:
                branch = applet.run(here, step)
        except CallEnded:
            _caller_left(here)
            passed_over = passed_over or applet.needs_caller  # or not done to its end, which is the same to the caller
            branch = applet.gone(here, step)
        if branch is None:
            break
        if here.caller_gone:
            _caller_left(here)  # a step that needs no caller does not notice
        if isinstance(branch, Place):
            here.go_to(branch)
        else:
            here.step = step.branches()[branch]
    else:
        here.failed("C", "flow.too_long", f"The flow went through {MAX_STEPS} steps; look for a circle in it")
    _finish(here, passed_over)


def _caller_left(here: Here) -> None:
    """The channel's end, once: who ended it, why, and in which step."""
    if here.call.state.ended_at is not None:
        return
    session = here.session
    session.complete.wait(1.0)  # CHANNEL_HANGUP_COMPLETE carries the Q.850 number; it is right behind
    at = moment(session.hangup_event) if session.hangup_event is not None else datetime.now(UTC)
    by_switch = session.cause in SWITCH_CAUSES
    here.call.caller_gone(at, session.cause, session.q850, "switch" if by_switch else "caller")
    stage: Stage = "H" if here.talked else "G" if here.call.state.legs else "C"
    who = f"FreeSWITCH ended the call ({session.cause})" if by_switch else "The caller hung up"
    here.note(stage, "switch.ended" if by_switch else "caller.left", who, at=at, cause=session.cause, q850=session.q850)


def _finish(here: Here, passed_over: bool) -> None:
    session, call = here.session, here.call
    if not here.caller_gone:
        session.hang_up("NORMAL_CLEARING")
    if call.state.ended_at is None:
        at = moment(session.hangup_event) if session.hangup_event is not None else datetime.now(UTC)
        call.caller_gone(at, session.cause, session.q850, "exoflow")
    here.wait_for_aftermath()
    outcome = _outcome(call.state, passed_over)
    reason = "" if outcome in ("answered", "served", "voicemail") else here.reason or "caller.left"
    if outcome == "abandoned":
        reason = "caller.left"
    call.close(outcome, reason)


def _outcome(state: CallState, passed_over: bool) -> CallOutcome:
    if state.talk_leg is not None:
        return "answered"
    if any(recording.kind == "voicemail" and recording.state == "good" for recording in state.recordings):
        return "voicemail"
    if state.caller_left and not state.legs and (passed_over or state.wanted_agent or not _flow_ended(state)):
        return "abandoned"
    return "missed" if state.wanted_agent else "served"


def _flow_ended(state: CallState) -> bool:
    """Did the flow come to its end although the caller had left?"""
    return bool(state.journey) and state.journey[-1].code.startswith("hangup")
