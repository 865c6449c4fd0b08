"""When FreeSWITCH may ring somebody by itself: hours and a flow's `timing`, as conditions of its dialplan."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from exoflow.agents.standing import off_hours
from exoflow.config.hours import Holidays
from exoflow.config.model import Account
from exoflow.config.people import Agent
from exoflow.lines.openings import ALWAYS, WEEK, Opening, holiday_conditions, meet, of_agent, of_flow, time_conditions
from exoflow.sim.times import met

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
KOLKATA = ZoneInfo("Asia/Kolkata")
NIGHT = {"mon": ["22:00-24:00"], "tue-sun": ["00:00-06:00", "22:00-24:00"]}
BYE: dict[str, Any] = {"hangup": {}}
RING = {"connect": {"numbers": ["+919876543210"]}, "answered": "bye", "unanswered": "bye"}


def account(steps: dict[str, Any] | None = None, **more: Any) -> Account:
    flows = {"main": {"start": next(iter(steps or {"bye": BYE})), "steps": {**(steps or {}), "bye": BYE}}}
    return Account.model_validate({"name": "Acme", "flows": flows, **more})


def is_met(conditions: list[dict[str, str]], at: datetime) -> bool:
    """As the dialplan finds it with `tod_tz_offset=0`."""
    return any(met(one, int(at.timestamp() * 1e6), "0") for one in conditions)


def timing(hours: dict[str, list[str]], **more: Any) -> dict[str, Any]:
    return {"timing": {"hours": hours}, "open": "ring", "closed": "bye", **more}


# --- agents' hours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "zone", ["Asia/Kolkata", "UTC", "Asia/Kathmandu", "Pacific/Kiritimati", "Etc/GMT+12", "America/St_Johns"]
)
@pytest.mark.parametrize(
    "hours",
    [
        {"mon-fri": ["09:00-18:00"]},
        {"mon-sun": ["09:00-13:00", "14:00-23:59"]},
        NIGHT,
        {"sun": ["23:59-24:00"]},
        {"mon": ["00:00-00:01"]},
        {"sat-mon": ["00:00-24:00"]},
    ],
)
def test_freeswitch_rings_an_agent_when_exoflow_would(zone: str, hours: dict[str, list[str]]) -> None:
    agent, of = Agent(number="+919876543210", hours=hours), account(time_zone=zone)
    conditions = time_conditions(of_agent(agent), ZoneInfo(zone), MONDAY)
    for minute in range(-1, WEEK, 7):
        for second in (0, 59):
            at = MONDAY + timedelta(minutes=minute, seconds=second)
            assert is_met(conditions, at) is not off_hours(agent, of, at), at


def test_a_shift_over_midnight_is_one_condition_a_day_in_utc() -> None:
    spans = of_agent(Agent(number="+919876543210", hours=NIGHT))
    assert time_conditions(spans, KOLKATA, MONDAY) == [
        {"wday": "tue,wed,thu,fri,sat,sun", "time-of-day": "00:00:00-00:29:59"},
        {"wday": "sun", "time-of-day": "16:30:00-18:29:59"},
        {"wday": "mon,tue,wed,thu,fri,sat", "time-of-day": "16:30:00-23:59:59"},
    ]


def test_an_agent_without_hours_is_rung_always() -> None:
    assert of_agent(Agent(number="+919876543210")) == ALWAYS
    assert time_conditions(ALWAYS, KOLKATA, MONDAY) == []


def test_whole_days_have_no_time() -> None:
    spans = of_agent(Agent(number="+919876543210", hours={"sat,sun": ["00:00-24:00"]}))
    assert time_conditions(spans, ZoneInfo("UTC"), MONDAY) == [{"wday": "sat,sun"}]


def test_minutes_that_two_have_in_common() -> None:
    assert meet(((0, 10), (20, 30)), ((5, 25),)) == ((5, 10), (20, 25))
    assert meet(((0, 10),), ((10, 20),)) == ()
    assert meet(ALWAYS, ((5, 25),)) == ((5, 25),)


# --- a flow's timing ----------------------------------------------------------------------------------


def test_agents_are_reached_while_the_flow_leads_to_them() -> None:
    opening = of_flow(account({"opened": timing({"mon": ["09:00-18:00"]}), "ring": RING}), "main")
    assert opening == Opening(((540, 1080),), ())


def test_the_night_shifts_own_group_is_a_way_to_agents_too() -> None:
    steps = {
        "opened": timing({"mon": ["09:00-18:00"]}, closed="night"),
        "night": timing({"mon": ["20:00-24:00"]}, holiday="ring"),
        "ring": RING,
    }
    assert of_flow(account(steps), "main") == Opening(((540, 1080), (1200, 1440)), ALWAYS)


def test_a_step_that_keeps_no_holidays() -> None:
    step = {"timing": {"hours": {"mon": ["09:00-18:00"]}, "holidays": False}, "open": "ring", "closed": "bye"}
    assert of_flow(account({"opened": step, "ring": RING}), "main") == Opening(((540, 1080),), ((540, 1080),))


@pytest.mark.parametrize(
    "steps",
    [
        {"hello": {"greeting": {"say": "Hi."}, "next": "bye"}},  # rings nobody at any time
        {"opened": timing({"mon": ["09:00-18:00"]}, open="bye")},
        {"ring": RING},
    ],
)
def test_a_flow_whose_timing_decides_nothing_of_agents(steps: dict[str, Any]) -> None:
    assert of_flow(account(steps), "main") == Opening()


def test_the_way_through_another_flow() -> None:
    steps = {"go": {"transfer": {"flow": "team"}}}
    other = {"start": "opened", "steps": {"opened": timing({"tue": ["09:00-18:00"]}), "ring": RING, "bye": BYE}}
    both = account(steps).model_dump(by_alias=True, exclude_unset=True)["flows"] | {"team": other}
    assert of_flow(account(flows=both), "main").ordinary == ((1440 + 540, 1440 + 1080),)


# --- holidays -----------------------------------------------------------------------------------------


def test_holidays_are_days_of_the_accounts_time() -> None:
    days = {"2026-11-08": "Diwali", "01-26": "Republic Day", "2026-12-25": {"name": "Christmas", "open": ["09:30-13:00"]}}
    of = account(holidays={"dates": days})
    conditions = holiday_conditions(of, MONDAY)
    at = MONDAY
    while at < MONDAY + timedelta(days=390):
        assert is_met(conditions, at) is (of.holidays.name_at(at.astimezone(KOLKATA)) is not None), at
        at += timedelta(minutes=10)
    assert {"year": "2027", "mon": "1", "mday": "25", "time-of-day": "18:30:00-23:59:59"} in conditions


def test_a_working_day_and_the_rest_of_a_short_day() -> None:
    holidays = Holidays.model_validate({"dates": {"12-25": {"name": "X", "open": ["00:00-09:00", "12:00-13:00"]}}})
    assert holidays.closed_on(date(2026, 12, 25)) == ((540, 720), (780, 1440))
    assert holidays.closed_on(date(2026, 12, 26)) == ()
    assert Holidays(dates={"12-25": "X"}).closed_on(date(2027, 12, 25)) == ((0, 1440),)
