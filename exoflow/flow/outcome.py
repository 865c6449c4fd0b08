"""What a call came to, at its end and on its way there."""

from __future__ import annotations

from exoflow.calls.model import CallOutcome, CallState

GOOD_ENDS = ("answered", "served", "voicemail")  # which need no reason


def outcome_of(state: CallState, passed_over: bool, *, flow_ended: bool | None = None) -> CallOutcome:
    """`passed_over`: a step was, because the caller had gone. `flow_ended`: the flow came to its end although the caller had
    left; as the journey says unless it is given."""
    if state.talk_leg is not None:
        return "answered"
    if any(recording.kind == "voicemail" and recording.state == "good" for recording in state.recordings):
        return "voicemail"
    if any(recording.kind == "voicemail" and recording.state == "failed" for recording in state.recordings):
        return "missed"  # the caller wanted to leave a message and could not: somebody has to call back
    ended = _flow_ended(state) if flow_ended is None else flow_ended
    if state.caller_left and not state.legs and (passed_over or state.wanted_agent or not ended):
        return "abandoned"
    if state.ended_by == "switch" and (passed_over or not ended):
        return "missed"  # the caller was cut off: somebody has to call back
    return "missed" if state.wanted_agent else "served"


def _flow_ended(state: CallState) -> bool:
    """Did the flow come to its end although the caller had left?"""
    return bool(state.journey) and state.journey[-1].code.startswith("hangup")
