"""timing: hours, shifts, midnight and holidays, by a clock that a test sets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hall import BYE, Hall, entry, say, visited
from pydantic import ValidationError

from exoflow.config import hours
from exoflow.config.hours import MIDNIGHT, Holidays, day_spans, is_open
from exoflow.config.turns import Timing

Start = Callable[..., Hall]
INDIA = ZoneInfo("Asia/Kolkata")
HOURS = {"mon-fri": ["09:30-13:00", "14:00-18:00"], "sat": ["10:00-14:00"]}
STEPS: dict[str, Any] = {
    "now": {"timing": {"hours": HOURS}, "open": "in", "closed": "out"},
    "in": say("We are open."),
    "out": say("We are closed."),
    "bye": BYE,
}


def at(text: str, zone: ZoneInfo = INDIA) -> Callable[[], datetime]:
    return lambda: datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("local", "branch"),
    [
        ("2026-11-23T09:29:59", "out"),  # a Monday
        ("2026-11-23T09:30:00", "in"),
        ("2026-11-23T12:59:59", "in"),
        ("2026-11-23T13:00:00", "out"),
        ("2026-11-23T14:00:00", "in"),
        ("2026-11-23T18:00:00", "out"),
        ("2026-11-28T13:59:00", "in"),  # Saturday
        ("2026-11-28T14:00:00", "out"),
        ("2026-11-29T11:00:00", "out"),  # Sunday
    ],
)
def test_hours_of_the_week(hall: Start, local: str, branch: str) -> None:
    h = hall(STEPS)
    h.service._parts.clock = at(local)
    _, state = h.run()
    assert visited(state) == ["now", branch, "bye"]
    told = entry(state, "timing.open" if branch == "in" else "timing.closed")
    assert told.evidence["local"].startswith(local[:16])


def test_the_time_is_the_accounts(hall: Start) -> None:
    h = hall(STEPS, account={"time_zone": "America/New_York"})
    h.service._parts.clock = at("2026-11-23T20:30:00")  # 10:00 there
    _, state = h.run()
    assert visited(state) == ["now", "in", "bye"]
    assert entry(state, "timing.open").evidence == {"local": "2026-11-23T10:00-05:00"}


@pytest.mark.parametrize(
    ("local", "step", "name"),
    [
        ("2026-11-24T10:00", "feast", "Founders' day"),
        ("2027-01-26T10:00", "feast", "Republic Day"),  # every year
        ("2026-11-25T10:00", "in", None),
    ],
)
def test_the_accounts_own_holidays(hall: Start, local: str, step: str, name: str | None) -> None:
    steps = STEPS | {"now": STEPS["now"] | {"holiday": "feast"}, "feast": say("It is a holiday.")}
    h = hall(steps, account={"holidays": {"dates": {"2026-11-24": "Founders' day", "01-26": "Republic Day"}}})
    h.service._parts.clock = at(local)
    _, state = h.run()
    assert visited(state) == ["now", step, "bye"]
    if name is not None:
        assert entry(state, "timing.holiday").evidence["holiday"] == name


@pytest.mark.parametrize(("settings", "branch"), [({}, "out"), ({"holidays": False}, "in")])
def test_a_holiday_is_closed_unless_the_step_does_not_mind(hall: Start, settings: dict[str, Any], branch: str) -> None:
    steps = STEPS | {"now": STEPS["now"] | {"timing": {"hours": HOURS, **settings}}}
    h = hall(steps, account={"holidays": {"dates": {"2026-11-24": "Founders' day"}}})
    h.service._parts.clock = at("2026-11-24T10:00")
    _, state = h.run()
    assert visited(state) == ["now", branch, "bye"]


@pytest.mark.parametrize(
    ("local", "step"),
    [
        ("2026-11-06T09:15", "feast"),  # before the day's own hours
        ("2026-11-06T09:30", "in"),
        ("2026-11-06T12:59", "in"),
        ("2026-11-06T13:00", "feast"),
        ("2026-11-06T17:00", "feast"),
        ("2026-11-07T09:45", "out"),  # a Saturday: the day's hours widen no others
        ("2026-11-07T10:30", "in"),
        ("2026-11-07T13:30", "feast"),
        ("2026-11-09T17:00", "in"),
    ],
)
def test_a_holiday_for_a_part_of_the_day(hall: Start, local: str, step: str) -> None:
    steps = STEPS | {"now": STEPS["now"] | {"holiday": "feast"}, "feast": say("It is a holiday.")}
    short = {"name": "Diwali", "open": ["09:30-13:00"]}
    h = hall(steps, account={"holidays": {"dates": {"2026-11-06": short, "2026-11-07": short}}})
    h.service._parts.clock = at(local)
    _, state = h.run()
    assert visited(state) == ["now", step, "bye"]
    if step == "feast":
        assert entry(state, "timing.holiday").evidence["holiday"] == "Diwali"


def test_it_runs_before_the_call_is_answered(hall: Start) -> None:
    steps = STEPS | {"now": STEPS["now"] | {"open": "bye", "closed": "busy"}, "busy": {"hangup": {"cause": "USER_BUSY"}}}
    del steps["in"], steps["out"]
    h = hall(steps)
    h.service._parts.clock = at("2026-11-29T11:00")
    phone, state = h.run()
    assert phone.cause == "USER_BUSY"
    assert state.answered_at is None


# --- the rules alone --------------------------------------------------------------------------------


def open_at(week: dict[str, list[str]], local: str) -> bool:
    return is_open(day_spans(week), datetime.fromisoformat(local))


@pytest.mark.parametrize("end", ["24:00", "23:59"])
def test_midnight(end: str) -> None:
    week = {"mon": [f"22:00-{end}"], "tue": ["00:00-06:00"]}
    assert open_at(week, "2026-11-23T23:59:59")
    assert open_at(week, "2026-11-24T00:00:00")
    assert not open_at(week, "2026-11-24T06:00:00")
    assert day_spans(week)[0] == ((22 * 60, MIDNIGHT),)


@pytest.mark.parametrize(
    ("names", "days"),
    [
        ("mon-sun", {0, 1, 2, 3, 4, 5, 6}),
        ("sat,sun", {5, 6}),
        ("sat-mon", {5, 6, 0}),
        ("Mon, Wed-Fri", {0, 2, 3, 4}),
        ("monday-wednesday", {0, 1, 2}),
    ],
)
def test_names_of_days(names: str, days: set[int]) -> None:
    found = day_spans({names: ["09:00-10:00"]})
    assert {day for day in range(7) if found[day]} == days


@pytest.mark.parametrize(
    ("week", "problem"),
    [
        ({"mon": ["18:00-09:00"]}, "ends before it begins"),
        ({"mon": ["09:00-09:00"]}, "ends before it begins"),
        ({"mon": ["09:00-13:00", "12:59-14:00"]}, "overlap"),
        ({"mon-fri": ["09:00-13:00"], "wed": []}, "wed twice"),
        ({"mon": ["9-18"]}, "09:30-18:00"),
        ({"mon": ["09:60-10:00"]}, "no time of day"),
        ({"mon": ["23:00-24:01"]}, "no time of day"),
        ({"mon": ["24:00-24:00"]}, "no time of day"),
        ({"mon": ["०९:००-१०:००"]}, "09:30-18:00"),
        ({"funday": ["09:00-10:00"]}, "funday"),
        ({"mon-": ["09:00-10:00"]}, "the day ``"),
    ],
)
def test_hours_that_cannot_be(week: dict[str, list[str]], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Timing.model_validate({"hours": week})


def test_the_own_list_wins_over_the_library() -> None:
    pytest.importorskip("holidays")
    known = Holidays(country="IN", region="KA", working=["2026-10-02"], dates={"2026-08-15": "Flag day", "12-24": "Eve"})
    assert known.name_at(datetime(2026, 1, 26)) == "Republic Day"
    assert known.name_at(datetime(2026, 8, 15)) == "Flag day"
    assert known.name_at(datetime(2026, 10, 2)) is None
    assert known.name_at(datetime(2027, 10, 2)) is not None
    assert known.name_at(datetime(2026, 12, 24)) == "Eve"
    assert known.name_at(datetime(2026, 11, 23)) is None


@pytest.mark.parametrize(
    ("spans", "at", "name"),
    [
        (["00:00-24:00"], "00:00", None),
        (["00:00-23:59"], "23:59", None),
        (["09:00-11:00", "14:00-16:00"], "12:00", "Feast"),
        (["14:00-16:00", "09:00-11:00"], "14:00", None),
    ],
)
def test_the_hours_of_a_holiday(spans: list[str], at: str, name: str | None) -> None:
    known = Holidays.model_validate({"dates": {"11-06": {"name": "Feast", "open": spans}}})
    assert known.name_at(datetime.fromisoformat(f"2026-11-06T{at}")) == name
    assert known.name_at(datetime.fromisoformat(f"2026-11-07T{at}")) is None


def test_without_the_library_the_own_list_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)
    hours.library.cache_clear()
    assert Holidays(dates={"02-29": "Leap day"}).name_at(datetime(2028, 2, 29)) == "Leap day"
    with pytest.raises(ImportError):
        Holidays(country="IN").name_at(datetime(2026, 8, 15))


@pytest.mark.parametrize(
    "wrong",
    [
        {"dates": {"2026-02-29": "x"}},
        {"dates": {"20261108": "x"}},
        {"dates": {"13-01": "x"}},
        {"dates": {"11-06": {"name": "x"}}},
        {"dates": {"11-06": {"name": "x", "open": []}}},
        {"dates": {"11-06": {"open": ["09:00-13:00"]}}},
        {"dates": {"11-06": {"name": "x", "open": ["13:00-09:00"]}}},
        {"dates": {"11-06": {"name": "x", "open": ["09:00-13:00", "12:00-14:00"]}}},
        {"region": "KA"},
        {"dates": {"01-26": "x"}, "working": ["01-26"]},
    ],
)
def test_holidays_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Holidays.model_validate(wrong)
