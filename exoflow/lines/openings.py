"""When FreeSWITCH may ring somebody by itself, and how its dialplan is told.

Spans of the week are in minutes since Monday 00:00, their end not included. FreeSWITCH knows the
box's time zone, or a distance from UTC in whole hours (`tod_tz_offset`, mod_dialplan_xml.c:80), and
India is 5:30 away. So its conditions are written in UTC. Where clocks are changed twice a year they
are right until the next change, and written again behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise
from zoneinfo import ZoneInfo

from exoflow.config.hours import MIDNIGHT, DaySpans, Span, day_spans
from exoflow.config.model import Account
from exoflow.config.people import Agent
from exoflow.config.steps import ConnectStep, Step, TimingStep, TransferStep

Spans = tuple[Span, ...]
Node = tuple[str, str]  # flow and step

WEEK = 7 * MIDNIGHT
ALWAYS: Spans = ((0, WEEK),)
HOLIDAYS_AHEAD = timedelta(days=400)  # that are written: a year, should exoflow never come back
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Opening:
    """When the callers of a number may reach agents, on working days and on holidays."""

    ordinary: Spans = ALWAYS
    holiday: Spans = ALWAYS


def of_agent(agent: Agent) -> Spans:
    """When groups ring this agent."""
    return ALWAYS if agent.hours is None else _week(day_spans(agent.hours))


def of_flow(account: Account, entry: str) -> Opening:
    """When the steps of a flow can lead to a `connect`; always if they never do, for then they say nothing of it.

    Time decides at `timing` steps alone: of all other steps every branch counts.
    """
    if entry not in account.flows:
        return Opening()
    start = (entry, account.flows[entry].start)
    nodes = _reached(account, start, lambda step: list(step.branches().values()))
    timings = [step for step in nodes.values() if isinstance(step, TimingStep)]
    if not timings or not _connects(nodes):
        return Opening()
    spans = {id(step): _week(step.timing.spans()) for step in timings}
    edges = sorted({0, WEEK, *(edge for some in spans.values() for span in some for edge in span)})

    def open_spans(holiday: bool) -> Spans:
        found = []
        for begins, ends in pairwise(edges):
            taken = partial(_taken, spans=spans, minute=begins, holiday=holiday)
            if _connects(_reached(account, start, taken)):
                found.append((begins, ends))
        return _joined(found)

    return Opening(open_spans(holiday=False), open_spans(holiday=True))


def meet(one: Spans, other: Spans) -> Spans:
    """The minutes that are in both."""
    both = [(max(a, c), min(b, d)) for a, b in one for c, d in other]
    return _joined((begins, ends) for begins, ends in sorted(both) if begins < ends)


def time_conditions(spans: Spans, zone: ZoneInfo, now: datetime) -> list[dict[str, str]]:
    """Attributes of FreeSWITCH's conditions, of which one must be met; none for ALWAYS."""
    if spans == ALWAYS:
        return []
    ahead = _minutes(now.astimezone(zone))
    days: dict[Span, list[str]] = {}
    for begins, ends in _moved(spans, -ahead):
        for day in range(begins // MIDNIGHT, (ends - 1) // MIDNIGHT + 1):
            inside = max(0, begins - day * MIDNIGHT), min(MIDNIGHT, ends - day * MIDNIGHT)
            days.setdefault(inside, []).append(_DAYS[day])
    return [{"wday": ",".join(names)} | _time_of_day(span) for span, names in sorted(days.items())]


def holiday_conditions(account: Account, now: datetime) -> list[dict[str, str]]:
    """As `time_conditions`, of the account's holidays from yesterday on. Raises what `holidays.library` does."""
    zone = ZoneInfo(account.time_zone)
    today = now.astimezone(zone).date()
    found = []
    for at in range(-1, HOLIDAYS_AHEAD.days):
        day = today + timedelta(days=at)
        for span in account.holidays.closed_on(day):
            found += [_on_day(utc, inside) for utc, inside in _in_utc(day, span, zone)]
    return found


# --- flows ----------------------------------------------------------------------------------------


def _reached(account: Account, start: Node, taken: Callable[[Step], Sequence[str]]) -> dict[Node, Step]:
    """The steps that callers can come to."""
    found: dict[Node, Step] = {}
    todo = [start]
    while todo:
        flow, name = todo.pop()
        step = account.flows[flow].steps.get(name) if flow in account.flows else None
        if step is None or (flow, name) in found:
            continue
        found[flow, name] = step
        if isinstance(step, TransferStep):
            target = account.flows.get(step.transfer.entry)
            todo += [] if target is None else [(step.transfer.entry, target.start)]
        else:
            todo += [(flow, target) for target in taken(step)]
    return found


def _taken(step: Step, spans: dict[int, Spans], minute: int, holiday: bool) -> Sequence[str]:
    """The steps that can follow at this minute of the week."""
    if not isinstance(step, TimingStep):
        return list(step.branches().values())
    if holiday and step.timing.holidays:
        return [step.holiday or step.closed]
    is_open = any(begins <= minute < ends for begins, ends in spans[id(step)])
    return [step.open if is_open else step.closed]


def _connects(nodes: dict[Node, Step]) -> bool:
    return any(isinstance(step, ConnectStep) for step in nodes.values())


# --- minutes --------------------------------------------------------------------------------------


def _week(spans: DaySpans) -> Spans:
    return _joined((day * MIDNIGHT + begins, day * MIDNIGHT + ends) for day in range(7) for begins, ends in spans[day])


def _joined(spans: Sequence[Span] | Iterator[Span]) -> Spans:
    """Those that touch become one. They come in their order."""
    found: list[Span] = []
    for begins, ends in spans:
        if found and found[-1][1] >= begins:
            found[-1] = found[-1][0], max(found[-1][1], ends)
        else:
            found.append((begins, ends))
    return tuple(found)


def _moved(spans: Spans, minutes: int) -> Spans:
    found = []
    for begins, ends in spans:
        first, last = (begins + minutes) % WEEK, (begins + minutes) % WEEK + ends - begins
        found += [(first, min(last, WEEK))] + ([(0, last - WEEK)] if last > WEEK else [])
    return _joined(sorted(found))


def _minutes(local: datetime) -> int:
    """How far a local time is ahead of UTC."""
    return int((local.utcoffset() or timedelta()).total_seconds() // 60)


def _in_utc(day: date, span: Span, zone: ZoneInfo) -> Iterator[tuple[date, Span]]:
    """A span of a local day, as spans of days in UTC."""
    midnight = datetime(day.year, day.month, day.day)
    begins, ends = ((midnight + timedelta(minutes=minute)).replace(tzinfo=zone).astimezone(UTC) for minute in span)
    while begins < ends:
        next_day = datetime(begins.year, begins.month, begins.day, tzinfo=UTC) + timedelta(days=1)
        until = min(ends, next_day)
        yield begins.date(), (_of_day(begins), _of_day(until) or MIDNIGHT)
        begins = until


def _of_day(at: datetime) -> int:
    return at.hour * 60 + at.minute


def _on_day(day: date, span: Span) -> dict[str, str]:
    return {"year": str(day.year), "mon": str(day.month), "mday": str(day.day)} | _time_of_day(span)


def _time_of_day(span: Span) -> dict[str, str]:
    """FreeSWITCH's own ends are included (switch_tod_cmp, switch_utils.c:4066)."""
    if span == (0, MIDNIGHT):
        return {}
    (hour, minute), (to_hour, to_minute) = divmod(span[0], 60), divmod(span[1] - 1, 60)
    return {"time-of-day": f"{hour:02d}:{minute:02d}:00-{to_hour:02d}:{to_minute:02d}:59"}
