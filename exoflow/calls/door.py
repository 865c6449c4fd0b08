"""Records of calls that no app had: refused at the door, served by the dialplan's fallback, or left before anybody came.

All that is known of them stands in their CDR files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from exoflow.calls import arrival
from exoflow.calls.arrival import Sent
from exoflow.calls.book import CallBook
from exoflow.calls.call import Call
from exoflow.calls.cdr import CallEnd, LegEnd
from exoflow.calls.model import CallOutcome, Leg, Recording, Stage
from exoflow.clock import utcnow
from exoflow.config.model import Account, Config
from exoflow.telephony.causes import read_leg
from exoflow.telephony.numbers import to_e164

Ended = Literal["caller", "exoflow", "switch"]

# what the dialplan marks as refused by us (dialplan/from-pri/, exo_refused), and what is to be done
REFUSALS = {
    "limit": "the trunk had as many calls as it may have; raise exoflow_max_in in vars.xml if the line has more channels, "
    "or add a line",
    "drain": "the box is being emptied; `fs_cli -x 'global_setvar exoflow_drain=false'` lets calls in again",
    "number": "the exchange sent no digits that could be routed; ask the operator what it sends as the called number",
    "caller": "the caller's number was none that a telephone has (a line break or an expansion in it); look whom the SIP "
    "gateway lets in",
    "app": "exoflow had as many calls as it may have; raise switch.max_calls if the machine bears more",
}
# why the dialplan's fallback had a call (exo_fallback)
FALLBACKS = {
    "refused": "no exoflow was there for 2 s; look at its service's log",
    "guard": "exoflow took the call and did nothing with it; look at its log, and at the load of the machine",
    "deaths": "exoflow lost the call three times in a row; its log says why",
}
TOLERANCE_SECONDS = 1.0  # between a talk and its file: its first and last frames
_ENDINGS = {
    "caller": "The caller hung up",
    "switch": "FreeSWITCH or the network ended the call",
    "exoflow": "The call was ended",
}


@dataclass(frozen=True, slots=True)
class Served:
    """What the dialplan's fallback did for a caller: whom it rang, and how many seconds of their talk it recorded."""

    legs: Sequence[LegEnd] = ()
    recording: str = ""  # the file's path; empty if none was begun
    seconds: float | None = None


def closed_to(end: CallEnd) -> bool:
    """Is it certain that no app has this call? Who is refused by an app itself may be having his record made."""
    return bool(end.fallback or (end.refused and end.refused != "app"))


def counted_as(end: CallEnd) -> str:
    """The name under which such calls are counted by the hour; empty: not at all. Those that an app refused it has counted."""
    if end.refused:
        return "" if end.refused == "app" else f"door.{end.refused}"
    return f"fallback.{end.fallback}" if end.fallback else ""


def record(book: CallBook, config: Config, end: CallEnd, served: Served | None = None) -> bool:
    """Opens and closes the record of a call that nobody had, with its delivery, in one commit. False: not on disk yet."""
    now = book.clock()
    sent = Sent(
        channel=end.channel,
        created_at=end.created_at or end.ended_at or now,
        trunk=end.trunk,
        dialled=end.did,
        caller=end.caller_raw,
        hidden=end.withheld,
        diverted_from=end.diverted_raw,
        caller_context=end.variables.get("exo_caller_context", ""),
        **arrival.types(lambda name: end.variables.get(name, "")),
    )
    # an app may have had it, and died before the record was on disk
    facts, routes = arrival.read(config, sent, end.call_id)
    call = book.open(facts, routes[0].account if len(routes) == 1 else None)
    call.state.config = config.kept.hash
    arrival.note(call, sent)
    if end.refused:
        return _refused(call, end)
    if end.fallback:
        add_fallback(call, config, end, served or Served())
        return close(call, end)
    call.note("B", "door.left", _left_text(end), at=end.ended_at, tries=end.variables.get("exo_entry", ""))
    call.caller_gone(end.ended_at, end.cause, end.q850, ended_by(end))
    return call.close("abandoned" if end.caller_left else "missed", "door.left", end.ended_at)


def add_fallback(call: Call, config: Config, end: CallEnd, served: Served) -> None:
    """Adds to a record how the dialplan's fallback served its call: why it had it, whom it rang, who talked."""
    why = FALLBACKS.get(end.fallback, "no exoflow could take it")
    whom = "" if served.legs else "; the caller heard the announcement for such cases"
    text = f"The dialplan's fallback had the call: {why}{whom}"
    call.note("B", "door.fallback", text, at=end.routed_at, why=end.fallback)
    if end.answered_at is not None and call.state.answered_at is None:
        call.answered(end.answered_at)
    known = {leg.uuid for leg in call.state.legs}
    for told in sorted(served.legs, key=lambda leg: leg.setup_at or end.ended_at or utcnow()):
        if told.uuid not in known:
            _add_leg(call, config, told, end)
    talk = call.state.talk_leg
    if served.recording and talk is not None:
        _add_recording(call, end, served, talk)


def _add_leg(call: Call, config: Config, told: LegEnd, end: CallEnd) -> None:
    trunk = told.trunk or call.state.facts.trunk
    prefix = config.trunks[trunk].outbound.dial_prefix if trunk in config.trunks else ""
    number = to_e164(told.number.removeprefix(prefix)) or told.number
    leg = Leg(told.uuid, len(call.state.legs) + 1, number, trunk, _agent(call.account, number), dialled_at=told.setup_at)
    settle(leg, told, caller_left=end.caller_left)
    call.wants_agent()
    call.state.legs.append(leg)
    call.update_leg(leg)
    who = f"{leg.agent} ({number})" if leg.agent else number
    shown: dict[str, Any] = {"leg": leg.uuid, "q850": leg.q850, "cause": leg.cause, "seen": True}
    shown["alerting"] = leg.alerting_at is not None
    if leg.outcome == "answered":
        text = f"{who} and the caller talked {leg.talk_seconds:.0f} s, by the fallback. {leg.meaning}"
        call.note("H", "leg.talked", text, at=leg.released_at, **shown)
    else:
        call.note("G", f"leg.{leg.outcome}", f"{who}, by the fallback: {leg.meaning}", at=leg.released_at, **shown)


def _add_recording(call: Call, end: CallEnd, served: Served, talk: Leg) -> None:
    channels = 2 if end.variables.get("RECORD_STEREO") == "true" else 1
    recording = Recording("talk", served.recording, channels, started_at=talk.answered_at, seconds=served.seconds)
    good = served.seconds is not None and abs(served.seconds - talk.talk_seconds) <= TOLERANCE_SECONDS
    recording.state = "good" if good else "failed"
    if not good:
        there = (
            "is not there" if served.seconds is None else f"has {served.seconds:.1f} s of a talk of {talk.talk_seconds:.1f} s"
        )
        recording.problem = f"the file {there}; look at the disk and at FreeSWITCH's log"
    call.add_recording(recording)
    text = f"Recorded {served.seconds:.1f} s, by the fallback" if good else f"Recording failed: {recording.problem}"
    shown: dict[str, Any] = {"file": recording.path, "seconds": served.seconds}
    call.note("H", "recording.good" if good else "recording.wrong_length", text, at=talk.released_at, **shown)


def _agent(account: Account | None, number: str) -> str | None:
    agents = {} if account is None else account.agents
    return next((name for name, agent in agents.items() if agent.number == number), None)


def settle(leg: Leg, told: LegEnd, *, caller_left: bool = False) -> None:
    """A leg's story and end, by its CDR."""
    leg.seen = True
    leg.setup_at, leg.alerting_at, leg.early_media_at = told.setup_at, told.alerting_at, told.early_media_at
    leg.answered_at, leg.released_at, leg.cause, leg.q850 = told.answered_at, told.released_at, told.cause, told.q850
    if caller_left and leg.answered_at is None and leg.cause == "ORIGINATOR_CANCEL":
        leg.outcome, leg.meaning = "caller_gone", "The caller left while the agent's phone was being rung."
        return
    leg.outcome, leg.meaning = read_leg(
        q850=leg.q850,
        name=leg.cause,
        answered=leg.answered_at is not None,
        alerting=leg.alerting_at is not None,
        early_media=leg.early_media_at is not None,
        had_leg=True,
        picked_up=told.picked_up,
    )


def close(call: Call, end: CallEnd) -> bool:
    """Closes a record by its CDR alone, without any step of a flow. False: not on disk yet."""
    state = call.state
    if state.ended_at is None:
        call.caller_gone(end.ended_at, end.cause, end.q850, ended_by(end))
        stage: Stage = "H" if state.talk_leg is not None else "G" if state.legs else "C"
        code = {"caller": "caller.left", "switch": "switch.ended", "exoflow": "call.ended"}[ended_by(end)]
        text = f"{_ENDINGS[ended_by(end)]}, while no exoflow had it"
        call.note(stage, code, text, at=end.ended_at, cause=end.cause, q850=end.q850)
    outcome = _outcome(call, end)
    reason = ""
    if outcome != "answered":
        reason = "door.fallback" if end.fallback else state.journey[-1].code
    return call.close(outcome, reason, end.ended_at)


def _outcome(call: Call, end: CallEnd) -> CallOutcome:
    if call.state.talk_leg is not None:
        return "answered"
    if call.state.wanted_agent or end.fallback or not end.caller_left:
        return "missed"
    return "abandoned"


def _refused(call: Call, end: CallEnd) -> bool:
    code = f"door.{end.refused}"
    why = REFUSALS.get(end.refused, f"the dialplan said {end.refused}")
    heard = f"the exchange heard {end.q850}" if end.q850 else "the exchange heard no cause"
    shown: dict[str, Any] = {"q850": end.q850, "cause": end.cause}
    if end.refused == "limit":
        shown["most"] = end.variables.get("exo_max_in", "")
    call.note("B", code, f"Refused, {heard}: {why}", at=end.ended_at, **shown)
    call.caller_gone(end.ended_at, end.cause, end.q850, "exoflow")
    return call.close("refused", code, end.ended_at)


def _left_text(end: CallEnd) -> str:
    if end.caller_left:
        return "The caller hung up before any exoflow had the call"
    return "The call ended before any exoflow had it; FreeSWITCH's log tells more"


def ended_by(end: CallEnd) -> Ended:
    if end.caller_left:
        return "caller"
    return "exoflow" if end.variables.get("last_app") == "hangup" else "switch"
