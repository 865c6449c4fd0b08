"""When a business is open: weekly hours and holidays. Pure rules; who asks says what time it is.

Spans are in minutes of the day, the end not included. `24:00` and `23:59` both mean midnight: the dialect's Timing knows no
24:00 and writes 23:59 (facts, exotel-dialect.md section 3). A span over midnight is two spans, on two days.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from exoflow.config.stepbase import ALTERNATIVE, Label, Strict

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT = 24 * 60

Span = tuple[int, int]
DaySpans = tuple[tuple[Span, ...], ...]  # of each day, Monday first

_SPAN = re.compile(r"([0-9]{1,2}):([0-9]{2}) ?- ?([0-9]{1,2}):([0-9]{2})")


def day_spans(hours: Mapping[str, list[str]]) -> DaySpans:
    """The spans of each day of the week. Raises ValueError, whose text is for the engineer."""
    found: dict[int, tuple[Span, ...]] = {}
    for names, texts in hours.items():
        spans = _spans(names, texts)
        for day in _days(names):
            if day in found:
                raise ValueError(f"names {DAYS[day]} twice; write all its spans in one list")
            found[day] = spans
    return tuple(found.get(day, ()) for day in range(7))


def _week(hours: dict[str, list[str]]) -> dict[str, list[str]]:
    try:
        day_spans(hours)
    except ValueError as problem:
        raise PydanticCustomError("hours", "{problem}", {"problem": str(problem)}) from None
    return hours


WeekHours = Annotated[dict[str, list[str]], AfterValidator(_week)]


def is_open(spans: DaySpans, local: datetime) -> bool:
    """Is it open at this local time?"""
    return _within(spans[local.weekday()], local)


def _within(spans: tuple[Span, ...], local: datetime) -> bool:
    minute = local.hour * 60 + local.minute
    return any(begins <= minute < ends for begins, ends in spans)


def _spans(name: str, texts: list[str]) -> tuple[Span, ...]:
    """In their order. Raises ValueError, whose text is for the engineer."""
    spans = tuple(sorted(_span(text) for text in texts))
    for (_, ends), (begins, _) in pairwise(spans):
        if begins < ends:
            raise ValueError(f"has spans on `{name}` that overlap")
    return spans


def _span(text: str) -> Span:
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"has the span `{text}`; write it as 09:30-18:00")
    hour, minute, to_hour, to_minute = (int(part) for part in found.groups())
    begins, ends = hour * 60 + minute, to_hour * 60 + to_minute
    if minute > 59 or to_minute > 59 or begins >= MIDNIGHT or ends > MIDNIGHT:
        raise ValueError(f"has the span `{text}`, which is no time of day; the last is 24:00")
    if begins >= ends:
        raise ValueError(
            f"has the span `{text}`, which ends before it begins; over midnight write two: until 24:00, from 00:00"
        )
    return begins, MIDNIGHT if ends == MIDNIGHT - 1 else ends


def _days(names: str) -> list[int]:
    found: list[int] = []
    for part in names.lower().split(","):
        first, dash, last = (piece.strip()[:3] if piece.strip()[:3] in DAYS else piece.strip() for piece in part.partition("-"))
        ends = [first, last] if dash else [first]
        for end in ends:
            if end not in DAYS:
                raise ValueError(f"has the day `{end}`; days are {', '.join(DAYS)}, `mon-fri` or `sat,sun`")
        begin, end_day = DAYS.index(ends[0]), DAYS.index(ends[-1])
        # sat-mon goes over the week's end
        found += [(begin + step) % 7 for step in range((end_day - begin) % 7 + 1)]
    return found


# --- holidays -------------------------------------------------------------------------------------


def _known_dates(dates: Any) -> Any:
    for text in dates:
        if not _is_date(text):
            raise PydanticCustomError(
                "hours", "has `{given}`, which is no date; write 2026-11-08, or 01-26 for every year", {"given": text}
            )
    return dates


def _is_date(text: str) -> bool:
    try:
        # in a leap year, so that 02-29 is one
        date.fromisoformat(text if len(text) == 10 else f"2024-{text}")
    except ValueError:
        return False
    return re.fullmatch(r"([0-9]{4}-)?[0-9]{2}-[0-9]{2}", text) is not None


def _spans_of_day(texts: list[str]) -> list[str]:
    try:
        _spans("open", texts)
    except ValueError as problem:
        raise PydanticCustomError("hours", "{problem}", {"problem": str(problem)}) from None
    return texts


class ShortDay(Strict):
    """A holiday for a part of the day."""

    name: Label = Field(description="the day's name")
    open: Annotated[list[str], AfterValidator(_spans_of_day)] = Field(
        min_length=1, description="spans in which it is a day as any other: [09:30-13:00]; the rest of it is holiday"
    )


_TEXT, _SHORT = ALTERNATIVE + "text", ALTERNATIVE + "short"


def _kind_of_day(value: Any) -> str:
    return _SHORT if isinstance(value, (dict, ShortDay)) else _TEXT


Day = Annotated[Annotated[Label, Tag(_TEXT)] | Annotated[ShortDay, Tag(_SHORT)], Discriminator(_kind_of_day)]


class Holidays(Strict):
    """Days on which the account is closed. Its own lists win over the library's."""

    dates: Annotated[dict[str, Day], AfterValidator(_known_dates)] = Field(
        default_factory=dict,
        max_length=1000,
        description="2026-11-08, or 01-26 for every year, to the day's name; "
        "with hours of work: {name: Diwali, open: [09:30-13:00]}",
    )
    working: Annotated[list[str], AfterValidator(_known_dates)] = Field(
        default_factory=list, max_length=1000, description="days on which the account works although the library has them"
    )
    country: Annotated[str, Field(pattern=r"^[A-Z]{2,3}$")] | None = Field(
        None, description="country in the `holidays` library, e.g. IN; needs `pip install holidays`"
    )
    region: Annotated[str, Field(pattern=r"^[A-Z0-9]{1,6}$")] | None = Field(
        None, description="its state or province there, e.g. KA"
    )

    @model_validator(mode="after")
    def _fits(self) -> Holidays:
        if self.region is not None and self.country is None:
            raise ValueError("has a `region` without a `country`")
        twice = next((day for day in self.working if day in self.dates), None)
        if twice is not None:
            raise ValueError(f"has {twice} as a holiday and as a working day")
        return self

    def name_at(self, local: datetime) -> str | None:
        """The name of the holiday that it is at this local time; None at other times. The own list first, each day before its
        yearly entry. Raises what `library` does."""
        day = local.date()
        for text in (day.isoformat(), day.isoformat()[5:]):
            if (found := self.dates.get(text)) is not None:
                if isinstance(found, str):
                    return found
                return None if _within(_spans("open", found.open), local) else found.name
            if text in self.working:
                return None
        return None if self.country is None else library(self.country, self.region, day.year).get(day)

    def closed_on(self, day: date) -> tuple[Span, ...]:
        """The spans of a day that are holiday. Raises what `library` does."""
        for text in (day.isoformat(), day.isoformat()[5:]):
            if (found := self.dates.get(text)) is not None:
                return ((0, MIDNIGHT),) if isinstance(found, str) else _between(_spans("open", found.open))
            if text in self.working:
                return ()
        known = {} if self.country is None else library(self.country, self.region, day.year)
        return ((0, MIDNIGHT),) if day in known else ()


def _between(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """The rest of the day."""
    edges = [0, *(edge for span in spans for edge in span), MIDNIGHT]
    rest = zip(edges[::2], edges[1::2], strict=True)
    return tuple((begins, ends) for begins, ends in rest if begins < ends)


@lru_cache(maxsize=100)
def library(country: str, region: str | None, year: int) -> dict[date, str]:
    """The year's public holidays as the `holidays` package has them, in English where it can.

    Raises ImportError without the package, NotImplementedError for a country or region it does not know. Takes some 30 ms
    the first time: the checks ask for this year and the next, so that no call waits for it.
    """
    import holidays  # type: ignore[import-not-found,unused-ignore]  # optional, and 0.2 s to import

    found = holidays.country_holidays(country, subdiv=region, years=year, language="en_US")
    return {day: str(name) for day, name in found.items()}
