"""A call as the Calls API shows it (exotel-dialect.md, section 5, "Details").

Numbers, statuses and talk times are those of the passthru (crm/dialect.py). What this module decides itself:

* `From` is the caller and `To` the number that was called, as in a passthru; `PhoneNumberSid` is that number, too. Of a call
  that was placed `From` is who was rung first, `To` the second number, and `PhoneNumberSid` the number of ours they saw.
* Every value that Exotel shows as text is text, so also `Duration`; the `Details`' durations are integers. `Duration` is from
  `StartTime` to `EndTime`. Both are null while the call goes on, and where nobody saw its end.
* `DateUpdated` is the last that is known to have happened.
* `Leg1Status` is the caller's leg, `Leg2Status` what the connect came to; null while the call goes on, or without a connect.
* `ForwardedFrom` is the customer-facing number that was diverted to ours. `Uri` is the call's own address in the form that was
  asked for. Nobody tells a `CallerName`.
* Two legs at most, as in Exotel: the caller's, and the agent's who talked or was rung last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from exoflow.calls.links import Links
from exoflow.calls.model import CallState, Recording
from exoflow.config.model import Account
from exoflow.crm.dialect import call_status, dial_call_status, parameters
from exoflow.telephony.numbers import national
from exoflow.web.answers import Form, local_time


def sheet(
    call: CallState,
    account: Account,
    account_id: str,
    *,
    details: bool,
    now: datetime,
    links: Links | None = None,
    validity: int | None = None,
    form: Form = "json",
) -> dict[str, Any]:
    """The value of `Call`, its keys in Exotel's order. Null is what we do not have: prices, a parent, who answered.

    `links`: where recordings can be fetched; `validity`: minutes for which an address that needs no key is wanted, too.
    """
    last = _last_known(call)
    going_on = call.ended_at is None and call.outcome is None
    over = call if going_on else replace(call, ended_at=call.ended_at or last)
    told = dict(parameters(over, now=now if going_on else last, account=account, account_id=account_id))
    zone = ZoneInfo(account.time_zone)
    ended, placed = call.ended_at, call.facts.placed
    shown: dict[str, Any] = {
        "Sid": call.facts.id,
        "ParentCallSid": None,
        "DateCreated": told["StartTime"],
        "DateUpdated": local_time(last, zone),
        "AccountSid": account_id,
        "To": national(placed.to) if placed is not None and placed.to is not None else told["To"],
        "From": told["From"],
        "PhoneNumberSid": told["To"],
        "Status": call_status(over),
        "StartTime": told["StartTime"],
        "EndTime": None if ended is None else local_time(ended, zone),
        "Duration": None if ended is None else str(_seconds(call.facts.created_at, ended)),
        "Price": None,
        "Direction": "inbound" if placed is None else "outbound-api",
        "AnsweredBy": None,
        "ForwardedFrom": _forwarded_from(call.facts.diverted_from),
        "CallerName": None,
        "Uri": f"/v1/Accounts/{account_id}/Calls/{call.facts.id}{'.json' if form == 'json' else ''}",
        "RecordingUrl": None if links is None else _recording_url(call, links.urls(call, account, now)),
        "PreSignedRecordingUrl": None if links is None or validity is None else _pre_signed(call, links, now, validity),
    }
    if details:
        shown["Details"] = _details(over, told, now if going_on else last, going_on)
    return shown


def _forwarded_from(number: str | None) -> str | None:
    return national(number) if number is not None and number.startswith("+") else number or None


def _details(call: CallState, told: dict[str, str], until: datetime, going_on: bool) -> dict[str, Any]:
    talk = call.talk_leg
    second = talk or (call.legs[-1] if call.legs else None)
    durations = [_seconds(call.answered_at or until, until)]
    if second is not None:
        durations.append(int(told[f"Legs[{call.legs.index(second)}][OnCallDuration]"]))
    return {
        "ConversationDuration": durations[1] if talk is not None else 0,
        "Leg1Status": call_status(call),
        "Leg2Status": dial_call_status(call) if call.wanted_agent and not going_on else None,
        "Legs": [{"Leg": {"Id": number, "OnCallDuration": seconds}} for number, seconds in enumerate(durations, 1)],
    }


def _recording_url(call: CallState, url: Callable[[Recording], str]) -> str | None:
    """Of the last recording that did not fail, as in a passthru."""
    usable = [recording for recording in call.recordings if recording.state != "failed"]
    return url(usable[-1]) or None if usable else None


def _pre_signed(call: CallState, links: Links, now: datetime, minutes: int) -> str | None:
    def url(recording: Recording) -> str:
        seq = call.recordings.index(recording) + 1
        found = links.until(call.facts.id, seq, now + timedelta(minutes=minutes), free=True)
        return "" if found is None else found[0]

    return _recording_url(call, url)


def _last_known(call: CallState) -> datetime:
    return max(at for at in _times(call) if at is not None)


def _times(call: CallState) -> Iterator[datetime | None]:
    yield from (call.facts.created_at, call.ring_at, call.answered_at, call.ended_at)
    for leg in call.legs:
        yield from (leg.dialled_at, leg.setup_at, leg.alerting_at, leg.answered_at, leg.released_at)


def _seconds(begin: datetime, end: datetime) -> int:
    return max(0, round((end - begin).total_seconds()))
