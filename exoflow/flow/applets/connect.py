"""connect: rings agents one after another until one of them talks with the caller."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from exoflow.agents.groups import Candidate, of_numbers, of_target
from exoflow.calls.model import Leg, Recording
from exoflow.config.steps import Connect as ConnectSettings
from exoflow.config.steps import ConnectStep
from exoflow.crm.answers import BadAnswer, parse_agents
from exoflow.crm.dialect import CONNECT_HEADERS
from exoflow.errors import CallEnded, ExoflowError
from exoflow.flow import recording as recordings
from exoflow.flow.asking import ask
from exoflow.flow.attempt import Limits, attempt, settle_unheard, under_way
from exoflow.flow.here import QUICK_SECONDS, Here
from exoflow.lines import trunks
from exoflow.lines.legs import RecordingEvents

# India's ringing tone, made by FreeSWITCH itself while a leg is set up (facts, pri-and-freetdm.md section 8)
INDIAN_RINGBACK = "%(400,200,400,450);%(400,2000,400,450)"
_EDGE = "~"  # between the variables of a multiset: a tone has commas and semicolons in it


@dataclass(slots=True)
class Plan:
    """Whom to ring and how."""

    candidates: list[Candidate]
    limits: Limits
    record: Literal["none", "mono", "dual"]


class Connect:
    """Rings agents one after another until one of them talks with the caller: those of a `group`, `numbers`, or those whom the
    CRM at `url` names; `fallback` is rung when it names nobody usable. Each is rung `ring_seconds`; if the caller's own
    trunk is the trouble, the next one is tried. The caller hears `ringback`, and `hold` while the CRM is asked. With
    `record` the talk is recorded, unless the caller refused it (`consent`).

    Branches: `answered` after the talk; `unanswered` if nobody talked with the caller.
    Caller gone: `answered` if there was a talk, else `unanswered`; nobody is rung for a caller who has left.
    Store gone: an attempt waits half a second for its row, then is dialled all the same. CRM gone: `fallback`, else
    `unanswered`.
    Journey: crm.<status> or crm.<problem> and crm.agents or crm.bad_answer (with `url`); connect.again (the CRM asked once
    more, for the call's socket was lost in the question); connect.fallback, connect.no_fallback,
    connect.nobody; leg.dialled, and then leg.talked or leg.<outcome> (busy, rejected, no_answer, unreachable, bad_number,
    trunk, protocol, caller_gone; evidence leg, q850, cause, alerting, seen); lines.down, switch.slow, store.slow;
    recording.good, recording.declined, or recording.<problem>.
    """

    needs_caller = True

    def run(self, here: Here, step: ConnectStep) -> str:
        here.at.talked = False
        here.call.wants_agent()
        here.answer()
        plan = _planned(here, step.connect)
        if not plan.candidates:
            here.failed("G", "connect.nobody", "There is nobody to ring")
            return "unanswered"
        if not here.has_ended:
            _prepare(here, step.connect, plan)
        if plan.record == "none":
            _ring_all(here, plan)
        else:
            _ring_recorded(here, plan)
        if not here.at.talked:
            # keys of a caller who waited are for nobody; how many of them a menu behind would get is chance (a parked channel
            # eats one each 20 ms)
            here.execute("flush_dtmf")
        return "answered" if here.at.talked else "unanswered"

    def gone(self, here: Here, step: ConnectStep) -> str:
        leg = under_way(here)
        if leg is not None and leg.outcome == "ringing":  # nobody saw its end
            settle_unheard(here, leg)
        if leg is not None and leg.outcome == "answered":
            here.at.talked = True
            if here.data.get("recording"):
                _talk_recorded(here, _recording(here, here.data["channels"]))
        return "answered" if here.at.talked else "unanswered"


# --- whom ---------------------------------------------------------------------------------------


def _planned(here: Here, connect: ConnectSettings) -> Plan:
    """Made once in a visit: who comes back goes on with the same list."""
    if (kept := here.data.get("plan")) is not None:
        return Plan([Candidate(*one) for one in kept["who"]], Limits(*kept["limits"]), kept["record"])
    if here.data:
        here.came_back("the CRM was being asked")
        here.note("D", "connect.again", "Whether the CRM had got the request is unknown: it is asked again")
    if connect.url is not None:
        here.keep(asking=True)
    plan = _plan(here, connect)
    here.session.raise_if_disconnected()
    if plan.record != "none" and here.consent is False:
        here.note("H", recordings.DECLINED, "Not recorded: the caller refused it")
        plan.record = "none"
    limits = [plan.limits.ring, plan.limits.talk]
    here.keep(asking=None, plan={"who": [list(one) for one in plan.candidates], "limits": limits, "record": plan.record})
    if connect.url is not None:
        here.call.on_disk()  # an answered CRM is not asked twice, whatever dies now
    return plan


def _plan(here: Here, connect: ConnectSettings) -> Plan:
    limits = Limits(connect.ring_seconds, connect.talk_seconds)
    if connect.url is None:
        return Plan(of_target(here.account, connect), limits, connect.record)
    plan = _ask_crm(here, connect)
    if plan is not None:
        return plan
    if connect.fallback is None:
        here.note("G", "connect.no_fallback", "The CRM named nobody usable, and the step has no `fallback`")
        return Plan([], limits, connect.record)
    here.note("G", "connect.fallback", "On to the step's `fallback`, for the CRM named nobody usable")
    return Plan(of_target(here.account, connect.fallback), limits, connect.record)


def _ask_crm(here: Here, connect: ConnectSettings) -> Plan | None:
    """The CRM's plan; None if it gave none that can be used."""
    assert connect.url is not None
    asked = ask(here, connect.url, timeout=connect.timeout, hold=connect.hold, headers=CONNECT_HEADERS)
    if asked.answer is None:
        return None
    try:
        told = parse_agents(asked.answer)
    except BadAnswer as bad:
        if bad.key != "status":  # a wrong status is in the journey already
            here.failed("F", "crm.bad_answer", str(bad), key=bad.key, answer=asked.answer.excerpt)
        return None
    record = connect.record
    if told.record is not None:
        record = ("dual" if told.dual else "mono") if told.record else "none"
    elif told.dual is not None and record != "none":
        record = "dual" if told.dual else "mono"
    limits = Limits(told.ring_seconds or connect.ring_seconds, told.talk_seconds or connect.talk_seconds)
    here.note("F", "crm.agents", f"The CRM named {len(told.numbers)} agents", numbers=told.numbers, ignored=list(told.ignored))
    if not told.numbers and connect.fallback is not None:
        return None
    return Plan(of_numbers(here.account, told.numbers), limits, record)


# --- how ----------------------------------------------------------------------------------------


def _prepare(here: Here, connect: ConnectSettings, plan: Plan) -> None:
    """What the caller's leg must know before its first bridge. Ringback starts at once: waiting for ALERTING means seconds
    of silence on a mobile network (facts, freeswitch-socket.md section 11)."""
    ringback = INDIAN_RINGBACK if connect.ringback is None else here.sound(connect.ringback)
    variables = {
        "ignore_early_media": "true",
        "instant_ringback": "true",
        "ringback": ringback,
        "transfer_ringback": ringback,
        "continue_on_fail": "true",
        "hangup_after_bridge": "false",
        "RECORD_BRIDGE_REQ": "true",  # talk only: no ringing, no prompts
        "RECORD_STEREO": "true" if plan.record == "dual" else "false",
        "RECORD_MIN_SEC": "0",  # a talk of two seconds is a talk
    }
    here.execute("multiset", f"^^{_EDGE}" + _EDGE.join(f"{name}={value}" for name, value in variables.items()))


def _ring_recorded(here: Here, plan: Plan) -> None:
    begun = "recording" in here.data or here.has_ended
    recording = _recording(here, 2 if plan.record == "dual" else 1)
    with ExitStack() as watch:
        events = None if begun else watch.enter_context(here.parts.lines.recording(recording.path))
        try:
            if not here.has_ended:
                here.execute("record_session", recording.path)  # of what is recorded already it makes no second one
            _ring_all(here, plan)
        finally:
            if not here.session.ended.is_set():
                with suppress(ExoflowError):  # a hangup stops it, too
                    here.session.execute("stop_record_session", recording.path, deadline=QUICK_SECONDS)
            if here.at.talked:
                _talk_recorded(here, recording, events, watch.pop_all())


def _recording(here: Here, channels: int) -> Recording:
    """This visit's: the record has it once there was a talk."""
    path = here.data.get("recording")
    if path is None:
        recording = recordings.new(here, "talk", channels, datetime.now(UTC))
        here.keep(recording=recording.path, channels=channels)
        return recording
    known = next((one for one in here.call.state.recordings if one.path == path), None)
    return known or Recording("talk", path, channels)


def _talk_recorded(
    here: Here, recording: Recording, events: RecordingEvents | None = None, watch: ExitStack | None = None
) -> None:
    if recording.path in here.judged or (recording in here.call.state.recordings and recording.state != "pending"):
        return
    here.judged.add(recording.path)
    if recording not in here.call.state.recordings:
        here.call.add_recording(recording)
    # not the call's last talk: behind ours the dialplan's fallback may have rung somebody
    here.afterwards(_check, here, here.step, recording, under_way(here), events, watch or ExitStack())


def _check(
    here: Here, step: str, recording: Recording, talk: Leg | None, events: RecordingEvents | None, watch: ExitStack
) -> None:
    """Beside the call: who waits for the end of a file has nothing to do with who waits for the next step."""
    with watch:
        recordings.check(here, step, recording, events, talk)


def _ring_all(here: Here, plan: Plan) -> None:
    """One after another, until a talk or the list's end."""
    lines = trunks.outbound_order(here.parts.config.trunks, here.call.state.facts.trunk)
    at, line = here.data.get("at", 0), here.data.get("line", 0)
    while at < len(plan.candidates):
        name = lines[line]
        try:
            leg = attempt(here, plan.candidates[at], name, here.parts.config.trunks[name], plan.limits)
        except CallEnded:
            tried = under_way(here)
            here.at.talked = tried is not None and tried.outcome == "answered"
            raise
        if leg.outcome == "answered":
            here.at.talked = True
            return
        # another line helps only if ours was the trouble; else the agent cannot be reached now
        at, line = (at, line + 1) if leg.outcome == "trunk" and line + 1 < len(lines) else (at + 1, 0)
        here.keep(at=at, line=line, leg=None)
