"""The body of a delivery: `{type, timestamp, data}` (Standard Webhooks), the call whole, and always below 20 kB."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from exoflow.calls.model import CallState, Entry, Leg, Recording, in_order

MAX_BYTES = 20_000  # Standard Webhooks advises below 20 kB; many CRMs' frameworks read no more than that into a log
MAX_RAW = 64  # characters of what the exchange sent as a number
KEPT = (40, 20, 10, 4, 1)  # lines kept at each end of a list that is too long

Address = Callable[[Recording], tuple[str, datetime] | None]
DeliveryType = Literal["call.ended", "call.missed"]


def delivery_type(state: CallState) -> DeliveryType:
    """`call.missed` is a call somebody should return: agents were wanted and none spoke, or we could not serve it.

    A caller who left in the menu (`abandoned`, no agent wanted), a served call and a voicemail are `call.ended`.
    """
    if state.outcome in ("missed", "refused"):
        return "call.missed"
    if state.outcome == "abandoned" and state.wanted_agent:
        return "call.missed"
    if state.outcome == "lost" and state.talk_leg is None:
        return "call.missed"
    return "call.ended"


def delivery_body(
    state: CallState,
    *,
    kind: str,
    seq: int,
    now: datetime,
    address: Address = lambda recording: None,
    more: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes that are stored, signed and sent, the same at each attempt. Too much journey: evidence goes first.

    `address` of a recording; `more` is what the data has beside the call.
    """
    data = call_data(state, address) | dict(more or {})
    data["seq"] = seq
    body = _encoded(kind, now, data)
    if len(body) > MAX_BYTES:
        for entry in data["journey"]:
            entry["evidence"] = {}
        body = _encoded(kind, now, data)
    for kept in KEPT:
        if len(body) <= MAX_BYTES:
            break
        for part in ("journey", "legs", "recordings"):
            _shorten(data, part, kept)
        body = _encoded(kind, now, data)
    return body


def call_data(state: CallState, address: Address = lambda recording: None) -> dict[str, Any]:
    """A call as JSON: times ISO 8601 in UTC, numbers E.164 or null."""
    facts = state.facts
    return {
        "call": facts.id,
        "account": facts.account,
        "direction": "inbound" if facts.placed is None else "outbound-api",
        "flow": facts.flow,
        "trunk": facts.trunk,
        "number": facts.dialled,
        "dialled": facts.dialled_raw[:MAX_RAW],
        "diverted_from": facts.diverted_from,
        "caller": facts.caller,
        "caller_withheld": facts.caller_withheld,
        "outcome": state.outcome,
        "reason": state.reason or None,
        "reason_text": reason_text(state) or None,
        "digits": state.digits,
        "placed": None if facts.placed is None else {"to": facts.placed.to, "custom_field": facts.placed.custom_field},
        "created_at": iso(facts.created_at),
        "ring_at": iso(state.ring_at),
        "answered_at": iso(state.answered_at),
        "ended_at": iso(state.ended_at),
        "ended_by": state.ended_by or None,
        "cause": state.cause or None,
        "q850": state.q850,
        "talk_seconds": round(sum(leg.talk_seconds for leg in state.legs), 3),
        "legs": [_leg(leg) for leg in state.legs],
        "recordings": [shown_recording(recording, address(recording)) for recording in state.recordings],
        "journey": [_entry(entry) for entry in in_order(state.journey)],
    }


def reason_text(state: CallState) -> str:
    """The reason in words: the last entry that bears its code."""
    if not state.reason:
        return ""
    return next((entry.text for entry in reversed(state.journey) if entry.code == state.reason), "")


def iso(at: datetime | None) -> str | None:
    """UTC to the millisecond: 2026-10-01T06:30:00.125Z."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _leg(leg: Leg) -> dict[str, Any]:
    return {
        "leg": leg.uuid,
        "seq": leg.seq,
        "number": leg.number,
        "agent": leg.agent,
        "trunk": leg.trunk,
        "outcome": leg.outcome,
        "meaning": leg.meaning,
        "dialled_at": iso(leg.dialled_at),
        "setup_at": iso(leg.setup_at),
        "alerting_at": iso(leg.alerting_at),
        "answered_at": iso(leg.answered_at),
        "released_at": iso(leg.released_at),
        "talk_seconds": round(leg.talk_seconds, 3),
        "q850": leg.q850,
        "cause": leg.cause or None,
        "seen": leg.seen,
    }


def shown_recording(recording: Recording, address: tuple[str, datetime] | None = None) -> dict[str, Any]:
    """`address`: where it can be fetched, and until when."""
    url, until = address or (None, None)
    return {
        "kind": recording.kind,
        "file": recording.path,
        "channels": recording.channels,
        "state": recording.state,
        "started_at": iso(recording.started_at),
        "seconds": recording.seconds,
        "problem": recording.problem or None,
        "url": None if recording.state == "failed" else url,
        "url_until": None if recording.state == "failed" else iso(until),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "at": iso(entry.at),
        "stage": entry.stage,
        "code": entry.code,
        "text": entry.text,
        "step": entry.step,
        "evidence": entry.evidence,
    }


def _shorten(data: dict[str, Any], part: str, kept: int) -> None:
    """Leaves the beginning and the end, and says how much is left out of the middle."""
    whole = data[part]
    if len(whole) <= 2 * kept:
        return
    data[part] = whole[:kept] + whole[-kept:]
    data[f"{part}_left_out"] = data.get(f"{part}_left_out", 0) + len(whole) - 2 * kept


def _encoded(kind: str, now: datetime, data: dict[str, Any]) -> bytes:
    whole = {"type": kind, "timestamp": iso(now), "data": data}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
