"""Exotel's dialect, outwards: the query parameters that tell a CRM about a call.

Source of every rule is facts/exotel-dialect.md, section 2.1 (parameters), section 9 (outcomes) and its last section (what
receivers take), marked [doc], [seen] or ours there. `Stream` is not sent: there is no such applet. What this module decides
itself:

* A withheld caller is an empty `CallFrom` and `From`: receivers skip the look-up of an empty number, and any digits in its
  place would be somebody's. A caller whose number could not be read is sent as the digits the exchange gave.
* `ForwardedFrom` and `ProcessStatus` are the word `null` without a value, as every sample has them.
* `flow_id` and `tenant_id` are integers in the samples, ours are names: sent is a stable number made from the name.
* A connect that is over without any agent dialled counts as `no-answer`, as an empty list of agents does (section 4.3).
* While a connect is under way and no attempt of the call has ended, nothing has come of it: the call is a `call-attempt`
  and has no DialCallStatus. So a connect URL is asked the first time.
* `CallerId` and `OutgoingPhoneNumber` are our number that was called.
* `Legs[i][Insights][Status]` is the attempt's own DialCallStatus, and `DetailedStatus` goes with it: only `CALL_COMPLETED` is
  seen. An attempt whose end is not known yet has no Insights. `RingingDuration` is of the phone's ringing (ALERTING) alone.
* Of more than MAX_LEGS attempts the last ones are sent, counted from 0: servers refuse requests that are too long. What is left
  out of a request that is too long all the same is crm/fitting.py's.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from exoflow.calls.model import CallState, Leg, Recording
from exoflow.config.model import Account
from exoflow.telephony.numbers import national

# Exotel sends it with requests whose answer it reads as JSON (sections 3 and 4.3)
JSON_HEADERS = {"Exotel-Version": "1.0"}
CONNECT_HEADERS = JSON_HEADERS

# what a greeting's URL gets (section 3); the last two may be empty or absent
GREETING_PARAMETERS = ("CallSid", "From", "To", "DialWhomNumber", "CustomField")

# a key of a call's progress, and its values: how far the last connect step is (flow/progress.py)
CONNECT = "connect"
UNDER_WAY, OVER = "under_way", "over"

NO_END_TIME = "1970-01-01 05:30:00"  # the end is never known while a flow runs; Exotel's constant
MAX_LEGS = 12  # each takes some 500 characters of the 8,000 that a request may have (crm/http.py)
RECORDING_DELAY = timedelta(minutes=5)  # after which `RecordingAvailableBy` promises the file

_SAME_RELEASE = timedelta(seconds=1)  # both legs' ends, when one caused the other

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # strftime's follow the locale
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# section 9: what an attempt came to, as DialCallStatus
_DIAL_STATUS = {
    "answered": "completed",
    "busy": "busy",
    "engaged": "busy",
    "rejected": "busy",
    "no_answer": "no-answer",
    "not_accepted": "no-answer",
    "taken": "no-answer",
    "ringing": "no-answer",
    "caller_gone": "canceled",
}
_OTHER_DIAL_STATUS = "failed"  # unreachable, bad number, trunk, protocol
# the first is seen, the others are ours
_DETAILED_STATUS = {
    "completed": "CALL_COMPLETED",
    "no-answer": "CALL_NOT_ANSWERED",
    "busy": "CALL_BUSY",
    "canceled": "CALL_CANCELED",
    "failed": "CALL_FAILED",
}
# section 9: cause name and number where they are not simply the leg's own
_LEG_CAUSE = {
    "answered": ("NORMAL_CLEARING", 16),
    "no_answer": ("RING_TIMEOUT", 1003),
    "not_accepted": ("RING_TIMEOUT", 1003),
    "taken": ("RING_TIMEOUT", 1003),
    "caller_gone": ("RING_TIMEOUT", 1003),
    "busy": ("USER_BUSY", 17),
    "engaged": ("USER_BUSY", 17),
    "rejected": ("USER_BUSY", 17),
}


def parameters(
    state: CallState,
    *,
    now: datetime,
    account: Account,
    account_id: str,
    recording_url: Callable[[Recording], str] | None = None,
    digits: str | None = None,
) -> list[tuple[str, str]]:
    """The parameters of a passthru or a connect URL at this moment of the call, in the samples' order.

    `digits`: the last ones, if those of the record are not what was pressed but stars.

    `now` is aware. `recording_url` gives the address under which the CRM can fetch a recording; without it the call has
    no `RecordingUrl`, which receivers take as "none".
    """
    facts, zone = state.facts, ZoneInfo(account.time_zone)
    ours = national(facts.dialled) if facts.dialled else _digits(facts.dialled_raw)
    caller = _caller(state)
    leg = state.talk_leg or (state.legs[-1] if state.legs else None)
    sent = [
        ("CallSid", facts.id),
        ("CallFrom", caller),
        ("CallTo", ours),
        ("Direction", "incoming" if facts.placed is None else "outbound-dial"),
        ("ForwardedFrom", _diverted_from(facts.diverted_from)),
        ("Created", _rfc_time(facts.created_at.astimezone(zone))),
        ("DialCallDuration", str(_seconds(_span(leg, now)))),
        ("CallStatus", call_status(state)),
        ("CallType", call_type(state)),
    ]
    if state.wanted_agent and not _nothing_came_of_it(state):
        status = dial_call_status(state)
        sent += [("DialCallStatus", status), ("Insights[DialCallStatus]", status)]
    sent += [
        ("StartTime", naive_time(facts.created_at.astimezone(zone))),
        ("EndTime", NO_END_TIME),
        ("CurrentTime", naive_time(now.astimezone(zone))),
        ("DialWhomNumber", national(_whom(state.legs).number) if state.legs else ""),
        ("From", caller),
        ("To", ours),
        ("flow_id", flow_number(account_id, facts.flow or "")),
        ("tenant_id", _number_of(account_id)),
        ("ProcessStatus", "null"),
    ]
    sent += _recording(state.recordings, recording_url, now.astimezone(zone))
    if facts.placed is not None and facts.placed.custom_field:
        sent.append(("CustomField", facts.placed.custom_field))
    if pressed := state.digits if digits is None else digits:
        sent.append(("digits", f'"{_digits(pressed)}"'))
    if state.legs:
        sent.append(("OutgoingPhoneNumber", ours))
    for index, one in enumerate(state.legs[-MAX_LEGS:]):
        sent += [(f"Legs[{index}][{key}]", value) for key, value in _leg(one, state, ours, now)]
    return sent


def dial_event(state: CallState, leg: Leg, status: str, *, now: datetime, account: Account) -> list[tuple[str, str]]:
    """The parameters of a dial event (section 4.4), in its order. `status`: `busy` or `free`."""
    facts, zone = state.facts, ZoneInfo(account.time_zone)
    ours = national(facts.dialled) if facts.dialled else _digits(facts.dialled_raw)
    caller = _caller(state)
    agent = account.agents.get(leg.agent or "")
    return [
        ("CallSid", facts.id),
        ("CallFrom", caller),
        ("CallTo", ours),
        ("Direction", "incoming" if facts.placed is None else "outbound-dial"),
        ("Created", _rfc_time(facts.created_at.astimezone(zone))),
        ("From", caller),
        ("To", ours),
        ("CurrentTime", naive_time(now.astimezone(zone))),
        ("DialWhomNumber", national(leg.number)),
        ("Status", status),
        ("EventType", "Dial"),
        ("AgentEmail", (agent.email or "") if agent is not None else ""),
    ]


# --- outcomes (section 9) -----------------------------------------------------------------------


def call_type(state: CallState) -> str:
    """`completed`, `voicemail`, `client-hangup`, `incomplete`, or `call-attempt`: no connect yet, or nothing came of it."""
    if state.talk_leg is not None:
        return "completed"
    if any(recording.kind == "voicemail" and recording.state != "failed" for recording in state.recordings):
        return "voicemail"
    if not state.wanted_agent or _nothing_came_of_it(state):
        return "call-attempt"
    return "client-hangup" if _left_while_ringing(state) else "incomplete"


def dial_call_status(state: CallState) -> str:
    """What the connect came to: `completed`, `no-answer`, `busy`, `canceled` or `failed`; the last attempt decides."""
    if state.talk_leg is not None:
        return "completed"
    if _left_while_ringing(state):
        return "canceled"
    if not state.legs:
        return "no-answer"
    return _DIAL_STATUS.get(state.legs[-1].outcome, _OTHER_DIAL_STATUS)


def call_status(state: CallState) -> str:
    """The caller's own leg: `queued`, `ringing`, `in-progress`, and after its end `completed` or why not."""
    if state.ended_at is None:
        if state.answered_at is not None:
            return "in-progress"
        return "ringing" if state.ring_at is not None else "queued"
    if state.answered_at is not None:
        return "completed"
    if state.q850 == 17:
        return "busy"
    if state.q850 in (18, 19):
        return "no-answer"
    return "canceled" if state.ended_by == "caller" or state.caller_left else "failed"


def _nothing_came_of_it(state: CallState) -> bool:
    """Is a connect under way, of which no attempt has ended yet?"""
    if state.ended_at is not None or state.progress.get(CONNECT) != UNDER_WAY:
        return False
    return all(leg.outcome == "ringing" and leg.released_at is None for leg in state.legs)


def _left_while_ringing(state: CallState) -> bool:
    """Did the caller leave within a connect, and not in a step after it?"""
    if state.legs:
        # of several who rang at once the last one may have ended otherwise; behind a caller who has left nobody is rung
        outcomes = {leg.outcome for leg in state.legs}
        return "caller_gone" in outcomes or ("ringing" in outcomes and state.caller_left)
    return state.caller_left and state.progress.get(CONNECT) != OVER


def _whom(legs: Sequence[Leg]) -> Leg:
    """The agent who was dialled last; of several who rang at once the one who talked."""
    last = legs[-1]
    for leg in reversed(legs):
        if leg.answered_at is not None and last.dialled_at is not None and last.dialled_at <= leg.answered_at:
            return leg
    return last


# --- values -------------------------------------------------------------------------------------


def _caller(state: CallState) -> str:
    facts = state.facts
    if facts.caller_withheld:
        return ""
    return national(facts.caller) if facts.caller else _digits(facts.caller_raw)


def _diverted_from(number: str | None) -> str:
    if not number:
        return "null"
    return national(number) if number.startswith("+") else _digits(number) or "null"


def _digits(text: str) -> str:
    """Only what a telephone can dial: the rest is whoever's text."""
    return "".join(c for c in text if c in "0123456789*#+")


def naive_time(local: datetime) -> str:
    """`2026-01-05 10:00:01`; a zone, RFC 2822 or an epoch here lose the event at the receiver."""
    return local.strftime("%Y-%m-%d %H:%M:%S")


def _rfc_time(local: datetime) -> str:
    """`Mon, 05 Jan 2026 10:00:01`, as `Created` really comes, without a zone."""
    return f"{_DAYS[local.weekday()]}, {local.day:02} {_MONTHS[local.month - 1]} {local.year} {local:%H:%M:%S}"


def flow_number(account_id: str, flow: str) -> str:
    """What is sent as `flow_id`."""
    return _number_of(f"{account_id}/{flow}")


def _number_of(name: str) -> str:
    return str(zlib.crc32(name.encode()) & 0x7FFFFFFF)


def _seconds(span: timedelta) -> int:
    """Whole seconds, never negative: a clock may have been set back meanwhile. Anything but an integer loses the event."""
    return max(0, round(span.total_seconds()))


def _span(leg: Leg | None, now: datetime) -> timedelta:
    """An attempt's time, ringing included; up to now if its release has not been seen yet."""
    begun = (leg.setup_at or leg.dialled_at) if leg else None
    return ((leg.released_at or now) - begun) if leg and begun else timedelta()


def _recording(
    recordings: Iterable[Recording], recording_url: Callable[[Recording], str] | None, local: datetime
) -> list[tuple[str, str]]:
    usable = [recording for recording in recordings if recording.state != "failed"]
    if recording_url is None or not usable:
        return []
    by = naive_time(local + RECORDING_DELAY)
    return [("RecordingUrl", recording_url(usable[-1])), ("RecordingAvailableBy", by)]


def _leg(leg: Leg, state: CallState, ours: str, now: datetime) -> list[tuple[str, str]]:
    talked = ((leg.released_at or now) - leg.answered_at) if leg.answered_at else timedelta()
    outcome = "answered" if leg.answered_at else leg.outcome
    cause, number = _LEG_CAUSE.get(outcome, (leg.cause, leg.q850))
    if outcome == "ringing" and state.caller_left:
        cause, number = _LEG_CAUSE["caller_gone"]
    told = [
        ("Number", national(leg.number)),
        ("Type", "single"),
        ("OnCallDuration", str(_seconds(talked))),
        ("CallerId", ours),
        ("CauseCode", cause),
        ("Cause", "" if number is None else str(number)),
    ]
    by = _disconnected_by(leg, state)
    told += [] if by is None else [("DisconnectedBy", by)]
    return told + [(f"Insights][{name}", value) for name, value in _insights(leg, state, outcome, by)]


def _insights(leg: Leg, state: CallState, outcome: str, disconnected_by: str | None) -> list[tuple[str, str]]:
    if outcome == "ringing":
        if not state.caller_left:
            return []
        outcome = "caller_gone"
    status = _DIAL_STATUS.get(outcome, _OTHER_DIAL_STATUS)
    until = leg.answered_at or leg.released_at
    rang = (until - leg.alerting_at).total_seconds() if until and leg.alerting_at else 0.0
    told = [
        ("Status", status),
        ("DetailedStatus", _DETAILED_STATUS[status]),
        ("RingingDuration", f"{max(0.0, rang):.2f}"),
    ]
    return told + ([] if disconnected_by is None else [("DisconnectedBy", disconnected_by)])


def _disconnected_by(leg: Leg, state: CallState) -> str | None:
    """`Caller` or `Callee`, for a talk that is over. The key is seen in the field, its words are ours."""
    ended = state.ended_at if state.ended_by == "caller" else None
    if leg.answered_at is None or (leg.released_at is None and ended is None):
        return None
    if ended is not None and (leg.released_at is None or abs(ended - leg.released_at) <= _SAME_RELEASE):
        return "Caller"
    return "Callee"
