"""Calls as text for a terminal: a list, and one call whole. Dated in the account's time zone, failures in words, no colour."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from exoflow.calls.lookup import Delivery
from exoflow.calls.model import CallState, Entry, Leg, Recording, in_order
from exoflow.calls.payload import reason_text
from exoflow.characters import one_line

SHORT_ID = 8  # digits of a call's id in the list; `exoflow calls` takes them
WIDTH = 100  # columns of the text of one call where there is no terminal
MIN_WIDTH = 72  # columns; a channel in the journey, indented, takes 68
STAGES = {"A": "dialled", "B": "line", "C": "ivr", "D": "to crm", "E": "in crm", "F": "answer", "G": "ringing", "H": "talk"}
_ENDED_BY = {"caller": "the caller hung up", "exoflow": "exoflow ended it", "switch": "the switch or the network ended it"}
_MARGIN = 2

ZoneOf = Callable[[str | None], tzinfo]


def call_list(states: Sequence[CallState], zone_of: ZoneOf, width: int | None = None, *, command: str = "exoflow calls") -> str:
    """One line a call, of at least one; `command` is named to show one whole.

    `width` cuts the reason's text to the terminal; None leaves it whole, for a pipe.
    """
    zones = {_zone_name(state, zone_of) for state in states}
    table: list[tuple[str, ...]] = [("WHEN", "CALL", "ACCOUNT", "FROM", "TO", "LASTED", "TALK", "OUTCOME", "WHY")]
    table += [_list_row(state, zone_of, with_zone=len(zones) > 1) for state in states]
    lines = _aligned(table, right={5, 6})
    example = next((state for state in states if state.reason), states[0])
    times = f"Times are {zones.pop()}. " if len(zones) == 1 else ""
    return "\n".join([*(_cut(line, width) for line in lines), "", f"{times}One call whole: {command} {_short(example)}"])


def call_sheet(
    state: CallState,
    zone: tzinfo,
    *,
    account_name: str = "",
    deliveries: Sequence[Delivery] = (),
    width: int | None = None,
) -> str:
    """One call: what it was, how it ended and why, its journey, legs, recordings and deliveries.

    `width` is the terminal's columns; None (a pipe) takes 100.
    """
    columns = WIDTH if width is None else max(width, MIN_WIDTH)
    blocks = [_head(state, zone, account_name, columns), _journey(state, zone, columns)]
    for title, items, lines_of in (
        ("Agents rung", state.legs, lambda leg: _leg(leg, zone)),
        ("Recordings", state.recordings, _recording),
        ("Deliveries to the CRM", deliveries, lambda delivery: _delivery(delivery, zone)),
    ):
        if items:
            blocks.append("\n".join([title, *_each(items, lines_of, columns)]))
    return "\n\n".join(blocks)


def journey_line(entry: Entry, zone: tzinfo, *, marked: bool = False, width: int = WIDTH) -> str:
    """One entry: time, stage, code, sentence; its evidence beneath. `marked`: this one explains the outcome."""
    sign = ">" if marked else " "
    lead = f"{sign} {_clock(entry.at, zone)}  {entry.stage} {STAGES[entry.stage]:<8}"
    where = f"[{clean(entry.step)}] " if entry.step else ""
    indent = " " * len(lead)
    facts = list(_facts(entry.evidence))
    if not facts:
        return _filled(f"{where}{clean(entry.text)} ({clean(entry.code)})", lead, indent, width)
    beneath = "  ".join((clean(entry.code), *facts))
    text = _filled(where + clean(entry.text), lead, indent, width)
    return text + "\n" + _filled(f"({beneath})", indent, indent + " ", width)


def clean(text: Any) -> str:
    """Text from callers and CRMs without what would move a terminal's cursor."""
    return one_line(str(text), "?")


# --- the list -----------------------------------------------------------------------------------


def _list_row(state: CallState, zone_of: ZoneOf, *, with_zone: bool) -> tuple[str, ...]:
    facts = state.facts
    zone = zone_of(facts.account)
    when = facts.created_at.astimezone(zone).strftime("%d %b %H:%M:%S %Z" if with_zone else "%d %b %H:%M:%S")
    talk = sum(leg.talk_seconds for leg in state.legs)
    return (
        when,
        _short(state),
        clean(facts.account or "-"),
        _caller(state),
        clean((facts.placed.to if facts.placed is not None else None) or facts.dialled or facts.dialled_raw or "-"),
        _length((state.ended_at - facts.created_at).total_seconds()) if state.ended_at else "-",
        _length(talk) if talk else "-",
        state.outcome or "going on",
        clean(reason_text(state) or state.reason),
    )


def _zone_name(state: CallState, zone_of: ZoneOf) -> str:
    return state.facts.created_at.astimezone(zone_of(state.facts.account)).strftime("%Z")


def _short(state: CallState) -> str:
    return state.facts.id[:SHORT_ID]


def _aligned(table: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _cut(line: str, width: int | None) -> str:
    return line if width is None or len(line) <= width else line[: width - 1] + "…"


# --- one call -----------------------------------------------------------------------------------


def _head(state: CallState, zone: tzinfo, account_name: str, width: int) -> str:
    facts = state.facts
    account = "nobody's number" if facts.account is None else clean(facts.account)
    if account_name:
        account += f" ({clean(account_name)})"
    sent = f"the exchange sent {clean(facts.dialled_raw) or 'no number'}"
    to = f"{clean(facts.dialled or 'unknown number')} on {clean(facts.trunk)}, {sent}"
    if facts.placed is not None:
        then = clean(facts.placed.to) if facts.placed.to is not None else "nobody: the flow took the call"
        who = "by the account" if facts.placed.call_back is None else "as a call-back"
        to = f"{then}; placed {who} as {clean(facts.dialled)} on {clean(facts.trunk)}"
    lines = [
        ("account", account + (f", flow {clean(facts.flow)}" if facts.flow else "")),
        ("from", _caller(state)),
        ("to", to),
        ("diverted from", clean(facts.diverted_from or "")),
        ("arrived", facts.created_at.astimezone(zone).strftime("%a %d %b %Y %H:%M:%S %Z")),
        ("rang", _after(state.ring_at, facts.created_at, zone)),
        ("answered", _after(state.answered_at, facts.created_at, zone)),
        ("ended", _end(state, zone)),
        ("keys", clean(state.digits)),
        ("outcome", state.outcome or "none yet: the call is going on, or exoflow was stopped during it"),
        ("why", _why(state)),
    ]
    shown = [_wrapped(name, text, width) for name, text in lines if text]
    return "\n".join([f"Call {facts.id}", *shown])


def _why(state: CallState) -> str:
    if not state.reason:
        return ""
    text = reason_text(state)
    return f"{clean(text)} ({clean(state.reason)})" if text else clean(state.reason)


def _end(state: CallState, zone: tzinfo) -> str:
    if state.ended_at is None:
        return "unknown" if state.outcome else ""
    parts = [_after(state.ended_at, state.facts.created_at, zone), _ENDED_BY.get(state.ended_by, "")]
    parts.append(_cause(state.q850, state.cause))
    return ", ".join(part for part in parts if part)


def _journey(state: CallState, zone: tzinfo, width: int) -> str:
    explaining = next((e.seq for e in reversed(state.journey) if state.reason and e.code == state.reason), None)
    lines = [journey_line(entry, zone, marked=entry.seq == explaining, width=width) for entry in in_order(state.journey)]
    return "\n".join(["Journey", *(lines or ["  nothing is noted yet"])])


def _leg(leg: Leg, zone: tzinfo) -> list[str]:
    who = f"{clean(leg.agent)} {clean(leg.number)}" if leg.agent else clean(leg.number)
    begun = leg.setup_at or leg.dialled_at
    first = f"{_clock(begun, zone) if begun else '-':<12}  {who} on {clean(leg.trunk)}: {leg.outcome.replace('_', ' ')}"
    cause = _cause(leg.q850, leg.cause)
    facts = [
        f"phone rang after {_gap(begun, leg.alerting_at)}" if leg.alerting_at and begun else "",
        f"answered after {_gap(begun, leg.answered_at)}" if leg.answered_at and begun else "",
        f"talked {_length(leg.talk_seconds)}" if leg.talk_seconds else "",
        f"released {_clock(leg.released_at, zone)}" if leg.released_at else "",
        cause,
        "" if leg.seen else "known from the caller's side only",
    ]
    lines = [first, "; ".join(fact for fact in facts if fact)]
    return [line for line in (*lines, clean(leg.meaning)) if line]


def _recording(recording: Recording) -> list[str]:
    sound = {1: "mono", 2: "stereo"}.get(recording.channels, f"{recording.channels} channels")
    seconds = f", {recording.seconds:.1f} s" if recording.seconds is not None else ""
    lines = [f"{recording.kind}, {sound}{seconds}, {recording.state}", clean(recording.path)]
    return [line for line in (*lines, clean(recording.problem)) if line]


def _delivery(delivery: Delivery, zone: tzinfo) -> list[str]:
    state = {"leased": "being sent now", "dead": "given up"}.get(delivery.state, delivery.state)
    if delivery.delivered_at is not None:
        state += f" {_clock(delivery.delivered_at, zone)}"
    elif delivery.state == "pending" and delivery.attempts:
        state += f", next attempt {delivery.next_at.astimezone(zone).strftime('%d %b %H:%M:%S')}"
    lines = [f"{delivery.type}, {state}   {delivery.webhook_id}"]
    for attempt in delivery.attempts:
        answer = str(attempt.status) if attempt.status is not None else attempt.reason.replace("_", " ")
        said = f'  "{clean(attempt.answer)}"' if attempt.answer else ""
        at = attempt.at.astimezone(zone).strftime("%d %b %H:%M:%S")
        lines.append(f"{at}  {answer}  {attempt.ms} ms  {clean(attempt.url)}{said}")
    return [*lines, clean(delivery.problem)] if delivery.problem else lines


def _each(items: Iterable[Any], lines_of: Callable[[Any], list[str]], width: int) -> list[str]:
    """Numbered blocks: the first line of each bears the number, the others are indented beneath it."""
    shown = []
    for number, item in enumerate(items, 1):
        lead = f"{number:>{_MARGIN + 1}}  "
        for i, line in enumerate(lines_of(item)):
            first = lead if i == 0 else " " * len(lead)
            shown.append(_filled(line, first, " " * len(lead), width))
    return shown


# --- words and figures ----------------------------------------------------------------------------


def _wrapped(name: str, text: str, width: int) -> str:
    lead = f"{'':{_MARGIN}}{name:<13}  "
    return _filled(text, lead, " " * len(lead), width)


def _filled(text: str, first: str, then: str, width: int) -> str:
    """Wrapped between words only: a path or a URL stays whole, to be copied."""
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )


def _caller(state: CallState) -> str:
    if state.facts.caller_withheld:
        return "withheld"
    return clean(state.facts.caller or state.facts.caller_raw or "unknown")


def _clock(at: datetime, zone: tzinfo) -> str:
    return at.astimezone(zone).strftime("%H:%M:%S.") + f"{at.microsecond // 1000:03d}"


def _after(at: datetime | None, start: datetime, zone: tzinfo) -> str:
    return "" if at is None else f"{at.astimezone(zone).strftime('%H:%M:%S')}, {_gap(start, at)} after it arrived"


def _gap(start: datetime | None, end: datetime | None) -> str:
    seconds = (end - start).total_seconds() if start and end else 0.0
    return f"{seconds:.1f} s" if abs(seconds) < 60 else _length(seconds)


def _length(seconds: float) -> str:
    """m:ss, or h:mm:ss."""
    whole = round(max(0.0, seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def _cause(q850: int | None, name: str) -> str:
    return " ".join(part for part in (f"cause {q850}" if q850 is not None else "", clean(name)) if part)


def _facts(evidence: Mapping[str, Any]) -> Iterator[str]:
    """`key=value` for each fact that is known; a mapping's entries stand for themselves."""
    for key, value in evidence.items():
        if isinstance(value, Mapping):
            yield from _facts(value)
        elif value is not None and value != []:
            yield f"{clean(key)}={_value(value)}"


def _value(value: Any) -> str:
    """As an engineer writes it, never as Python does."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    text = ",".join(_value(part) for part in value) if isinstance(value, list) else clean(value)
    return f'"{text}"' if " " in text and not text.startswith('"') else text
