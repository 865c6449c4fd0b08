"""Runs a call's flow: from step to step, to the flow's end also after the caller has gone, and closes the record."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Literal

from exoflow.calls.cdr import left_by_caller
from exoflow.calls.model import Stage
from exoflow.clock import utcnow
from exoflow.config.steps import ConnectStep, Step, VoicemailStep
from exoflow.errors import CallEnded, Disconnected, ExoflowError
from exoflow.esl.session import CallSession
from exoflow.flow.applets import APPLETS
from exoflow.flow.gone import GoneSession
from exoflow.flow.here import Here
from exoflow.flow.outcome import GOOD_ENDS, outcome_of
from exoflow.flow.progress import Place
from exoflow.lines.legs import moment

log = logging.getLogger("exoflow.flow")

TELLS_WHO = ("sip_hangup_disposition", "current_application")  # variables of a channel that has ended
OPERATORS_CAUSES = ("MANAGER_REQUEST",)
NEVER_OURS = ("SYSTEM_SHUTDOWN", "MANAGER_REQUEST")  # no step can hang up with these
# a caller's own hangup has none of these; the last is what FreeSWITCH says when an application cannot be run
SWITCH_CAUSES = ("ALLOTTED_TIMEOUT", "SYSTEM_SHUTDOWN", "MANAGER_REQUEST", "DESTINATION_OUT_OF_ORDER")
# a flow that the CRM sends in circles must end some time; nobody listens to 500 steps
MAX_STEPS = 500
# of a step that the switch or a fault of ours kept from being done, the branch that promises least
WAYS_ON = ("failed", "otherwise", "unanswered", "redirect", "next")


def run(here: Here) -> None:
    """From `here.step` to the flow's end. Raises Disconnected when the socket is lost and not the call: another takes over."""
    seen_alone: set[Place] = set()
    while here.at.visit < MAX_STEPS:
        here.enter()
        _still_ours(here)
        if here.caller_gone:
            _caller_left(here)
            if here.place in seen_alone:
                break  # round and round without anybody
            seen_alone.add(here.place)
        branch = _do(here, here.flow.steps[here.step])
        if not here.has_ended:
            here.came_back()
        if branch is None:
            break
        if here.caller_gone:
            _caller_left(here)  # a step that needs no caller does not notice
        here.go_to(branch)
    else:
        here.failed("C", "flow.too_long", f"The flow went through {MAX_STEPS} steps; look for a circle in it")
    _still_ours(here)
    _finish(here)


def _do(here: Here, step: Step) -> Place | None:
    """Does a step; where the flow goes on, None at its end."""
    applet = APPLETS[step.applet]
    branch: str | Place | None
    try:
        # what had ended while the call was away counts, also when its caller has left since
        if here.caller_gone and applet.needs_caller and not here.has_ended:
            here.at.passed_over = True
            branch = applet.gone(here, step)
        else:
            branch = applet.run(here, step)
    except CallEnded:
        # or not done to its end, which is the same to the caller
        here.at.passed_over = here.at.passed_over or applet.needs_caller
        _caller_left(here)
        branch = applet.gone(here, step)
    except ExoflowError as error:
        if error.connection_gone:
            text = f"The call's socket was lost in this step; the dialplan gives the call back: {error}"
            here.note("C", "socket.lost", text)
            raise
        branch = _way_on(step)
        on = f"on to {step.branches()[branch]}" if branch is not None else "the flow ends here"
        here.failed("C", "step.failed", f"The step could not be done, {on}: {error}")
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        text = f"exoflow itself failed in this step ({what}); its log has the place. The call goes back to the dialplan"
        here.failed("C", "step.crashed", text)
        raise
    return Place(here.flow_name, step.branches()[branch]) if isinstance(branch, str) else branch


def _still_ours(here: Here) -> None:
    """Raises Disconnected when the socket has gone and the call has not: it may run in another greenlet or process by now."""
    if here.session.closed.is_set() and not here.caller_gone:
        raise Disconnected("the next step", str(here.session.close_reason))


def _way_on(step: Step) -> str | None:
    """The branch of a step that could not be done at all: a caller is routed on, never left in the middle."""
    return next((name for name in WAYS_ON if name in step.branches()), None)


def _caller_left(here: Here) -> None:
    """The channel's end, once: who ended it, why, and in which step."""
    if here.call.state.ended_at is not None:
        return
    session = here.session
    session.complete.wait(1.0)  # CHANNEL_HANGUP_COMPLETE carries the Q.850 number; it is right behind
    at, by = _ended_at(session), _ended_by(session)
    here.call.caller_gone(at, session.cause, session.q850, by)
    if by == "exoflow":
        return  # the step that did it has its line
    step = here.flow.steps[here.step]
    ringing = isinstance(step, ConnectStep) and here.call.state.legs
    stage: Stage = "H" if here.at.talked or isinstance(step, VoicemailStep) else "G" if ringing else "C"
    who = _who_ended(session.cause) if by == "switch" else "The caller hung up"
    here.note(stage, "switch.ended" if by == "switch" else "caller.left", who, at=at, cause=session.cause, q850=session.q850)


def _finish(here: Here) -> None:
    session, call = here.session, here.call
    if not here.caller_gone:
        session.hang_up("NORMAL_CLEARING")
    if session.cause in NEVER_OURS:
        _caller_left(here)  # it came while our own hangup was on its way
    if call.state.ended_at is None:
        call.caller_gone(_ended_at(session), session.cause, session.q850, "exoflow")
    here.wait_for_aftermath()
    outcome = outcome_of(call.state, here.at.passed_over)
    left = "switch.ended" if call.state.ended_by == "switch" else "caller.left"
    usual = "door.fallback" if here.fell_back else left
    reason = "" if outcome in GOOD_ENDS else here.at.reason or usual
    if outcome == "abandoned":
        reason = "caller.left"
    call.close(outcome, reason)


def _ended_at(session: CallSession | GoneSession) -> datetime:
    if isinstance(session, GoneSession):
        return session.hung_up_at
    return moment(session.hangup_event) if session.hangup_event is not None else utcnow()


def _ended_by(session: CallSession | GoneSession) -> Literal["caller", "exoflow", "switch"]:
    if session.cause in SWITCH_CAUSES:
        return "switch"
    if isinstance(session, GoneSession):
        return session.ended_by
    if (event := session.hangup_event) is None:
        return "caller"
    told = {name: value for name in TELLS_WHO if (value := event.variable(name))}
    return "caller" if left_by_caller(told | {"hangup_cause": session.cause}) else "switch"


def _who_ended(cause: str) -> str:
    if cause in OPERATORS_CAUSES:
        return f"An operator or a program ended the call, by `hupall` for example ({cause})"
    return f"FreeSWITCH ended the call ({cause}): an operator (`uuid_kill`), a program, or the dialplan"
