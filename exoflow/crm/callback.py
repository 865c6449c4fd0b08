"""StatusCallback: a form that tells that a call rings (`ringing`), was answered (`answered`), and is over (`terminal`).

Source: exotel-dialect.md, section 5. What this module decides itself:

* The form is url-encoded unless another is asked for (crm/callback_body.py); `Legs` are bracketed as in a passthru. Fields
  without a value are sent empty, but `RecordingUrl`, whose absence means "none".
* `ringing` is told once, when the caller hears it ring, or the telephone that a placed call rings first begins to. It has the
  call as it was then, whenever it is told.
* `answered` is told when an agent talks with the caller, once. Its `EndTime` is the dialect's constant for an end to come.
* `Status` is what the connect came to, or without one the caller's own leg. There are four words for an end: a caller who left
  is `no-answer`.
* The legs are the caller's and the agent's who talked or was rung last. `AnsweredBy` is `NA`: nobody listens for machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Literal
from zoneinfo import ZoneInfo

from exoflow.calls.links import Links
from exoflow.calls.model import CallState
from exoflow.calls.tidings import Tiding, Told
from exoflow.config.model import Account
from exoflow.crm.dialect import NO_END_TIME, call_status, dial_call_status, naive_time, parameters
from exoflow.crm.outgoing import STATUS, written
from exoflow.telephony.numbers import national

Event = Literal["ringing", "answered", "terminal"]

_ENDS = {"completed": "completed", "busy": "busy", "failed": "failed"}
_OTHER_END = "no-answer"


@dataclass(frozen=True, slots=True)
class Callback:
    """Who is told of a call, and of what. `url` None: the account's own, whatever it is when it is told."""

    url: str | None = None
    events: Sequence[str] = ()  # with all fields; without any the end alone, with few
    custom_field: str = ""
    direction: str = "inbound"
    content_type: str = ""  # empty: the account's own, or a url-encoded form


def callback_of(state: CallState, account: Account) -> Callback | None:
    """Of a call: the one that it was placed with, or else its number's, or else the account's."""
    placed = state.facts.placed
    if placed is None:
        return _configured(state, account)
    given = Callback(placed.status_callback, placed.events, content_type=placed.content_type)
    own = given if placed.status_callback else _configured(state, account)
    return None if own is None else replace(own, custom_field=placed.custom_field, direction="outbound-api")


def _configured(state: CallState, account: Account) -> Callback | None:
    number = next((one for one in account.numbers if one.number == state.facts.dialled), None)
    if number is not None and number.status_callback is not None:
        where = number.status_callback
        return Callback(where.url, where.events, content_type=where.content_type)
    own = account.crm.status_callback
    return None if own is None else Callback(None, own.events)


class CallbackTidings:
    """What is told by status callbacks."""

    def __init__(self, links: Links | None) -> None:
        self._links = links

    def __call__(self, state: CallState, account: Account, now: datetime, told: Told) -> Iterator[Tiding]:
        callback = callback_of(state, account)
        if callback is None:
            return
        wanted = callback.events or ("terminal",)
        body = partial(self._body, state, account, now, callback)
        if "ringing" in wanted and state.ring_at is not None:
            yield Tiding(f"{STATUS}ringing", "", partial(body, "ringing"))
        if "answered" in wanted and state.talk_leg is not None:
            yield Tiding(f"{STATUS}answered", "", partial(body, "answered"))
        if "terminal" in wanted and state.outcome is not None:
            yield Tiding(f"{STATUS}terminal", "", partial(body, "terminal"))

    def _body(self, state: CallState, account: Account, now: datetime, callback: Callback, event: Event, seq: int) -> str:
        url = None if self._links is None else self._links.urls(state, account, now)
        told = fields(state, event, callback, now=now, account=account, recording_url=url)
        return written(told, callback.url, callback.content_type)


def fields(
    state: CallState,
    event: Event,
    callback: Callback,
    *,
    now: datetime,
    account: Account,
    recording_url: Callable[..., str] | None = None,
) -> list[tuple[str, str]]:
    """The form's fields. `recording_url` as in `dialect.parameters`."""
    over = event == "terminal"
    if event == "ringing":
        state = replace(state, answered_at=None, ended_at=None, outcome=None, legs=[], recordings=[])
    end = state.ended_at or now
    known = replace(state, ended_at=end) if over else state
    sent = dict(parameters(known, now=end if over else now, account=account, account_id="", recording_url=recording_url))
    zone = ZoneInfo(account.time_zone)
    recording = [("RecordingUrl", sent["RecordingUrl"])] if sent.get("RecordingUrl") else []
    status = _end(known) if over else call_status(known)
    updated = ("DateUpdated", naive_time(now.astimezone(zone)))
    if not callback.events:
        return [("CallSid", sent["CallSid"]), updated, ("Status", status), *recording]
    talk, placed = known.talk_leg, known.facts.placed
    seconds = 0 if talk is None else _seconds(talk.answered_at, talk.released_at or (end if over else now))
    return [
        ("CallSid", sent["CallSid"]),
        ("EventType", event),
        ("DateCreated", sent["StartTime"]),
        updated,
        ("Status", status),
        ("To", national(placed.to) if placed is not None and placed.to is not None else sent["To"]),
        ("From", sent["From"]),
        ("PhoneNumberSid", sent["To"]),
        ("StartTime", sent["StartTime"]),
        ("EndTime", naive_time(end.astimezone(zone)) if over else NO_END_TIME),
        ("ConversationDuration", str(seconds)),
        ("Direction", callback.direction),
        ("CustomField", callback.custom_field),
        *recording,
        *_legs(known, end if over else now, seconds, over=over),
    ]


def _end(state: CallState) -> str:
    return _ENDS.get(dial_call_status(state) if state.wanted_agent else call_status(state), _OTHER_END)


def _legs(state: CallState, until: datetime, talked: int, *, over: bool) -> list[tuple[str, str]]:
    """The caller's and, if one was rung, the agent's."""
    own = _seconds(state.answered_at, until)
    legs = [(own, call_status(state))]
    if state.legs:
        legs.append((talked, dial_call_status(state) if over else "in-progress"))
    told: list[tuple[str, str]] = []
    for index, (seconds, status) in enumerate(legs):
        told += [
            (f"Legs[{index}][OnCallDuration]", str(seconds)),
            (f"Legs[{index}][Status]", status),
            (f"Legs[{index}][AnsweredBy]", "NA"),
        ]
    return told


def _seconds(begin: datetime | None, end: datetime) -> int:
    return 0 if begin is None else max(0, round((end - begin).total_seconds()))
