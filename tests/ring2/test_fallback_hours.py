"""Whom FreeSWITCH rings by itself goes by its own clock: agents' hours, a flow's `timing`, holidays, in the account's zone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from exoflow.config.load import load
from exoflow.config.model import Config
from exoflow.lines.fallback import Available, everybody, publish
from exoflow.lines.lines import Lines
from ring2.agents import busy
from ring2.box import Box
from ring2.network import Exchange
from ring2.test_dialplan import SIT

DID = "8030752400"
NUMBERS = {"asha": "9876543210", "ravi": "9876543211", "meena": "9876543212"}
BYE: dict[str, Any] = {"hangup": {}}
RING = {"connect": {"group": "all"}, "answered": "bye", "unanswered": "bye"}
Publish = Callable[..., None]


def at_midnight() -> str:
    """A zone in which it is between half an hour before and half an hour after midnight, if there is one at any distance."""
    names = ["Asia/Kolkata", "Asia/Kathmandu", *(f"Etc/GMT{hours:+d}" for hours in range(-14, 13))]

    def away(name: str) -> int:
        now = datetime.now(ZoneInfo(name))
        minute = now.hour * 60 + now.minute
        return min(minute, 24 * 60 - minute)

    return min(names, key=away)


def span(zone: str, begins: int, ends: int) -> dict[str, list[str]]:
    """Weekly hours from and to so many minutes from now, over midnight if need be."""
    now = datetime.now(ZoneInfo(zone)).replace(second=0, microsecond=0, tzinfo=None)
    first, last = now + timedelta(minutes=begins), now + timedelta(minutes=ends)
    found: dict[str, list[str]] = {}
    while first < last:
        midnight = datetime(first.year, first.month, first.day) + timedelta(days=1)
        until = min(last, midnight)
        text = "24:00" if until == midnight else until.strftime("%H:%M")
        found[first.strftime("%a").lower()] = [f"{first:%H:%M}-{text}"]
        first = until
    return found


@pytest.fixture
def published(fs: Box, tmp_path: Path) -> Iterator[Publish]:
    """Publishes an account to the box; taken away behind the test."""
    folder = fs.conf / "dialplan" / "fallback"
    main = {
        "switch": {
            "fallback": str(folder),
            "recordings": str(fs.recordings / "own"),
            "event_socket": {"port": fs.event_port, "password": fs.password},
        },
        "trunks": {fs.trunk: {"gateway": fs.trunk, "std_code": "80", "outbound": {"cli": DID, "dial_prefix": "0"}}},
    }
    (tmp_path / "accounts").mkdir()
    (tmp_path / "exoflow.yaml").write_text(json.dumps(main))
    running: list[Lines] = []

    def make(zone: str, available: Available = everybody, steps: dict[str, Any] | None = None, **more: Any) -> None:
        hours = more.pop("hours", {})
        account = {
            "name": "Acme",
            "time_zone": zone,
            "numbers": [{"number": f"+91{DID}", "trunk": fs.trunk, "flow": "main"}],
            "agents": {
                name: {"number": f"+91{number}"} | ({"hours": hours[name]} if name in hours else {})
                for name, number in NUMBERS.items()
            },
            "groups": {"all": {"agents": list(NUMBERS)}},
            "fallback": {"ring_seconds": 5},
            "flows": {
                "main": {"start": next(iter(steps or {"ring": 1})), "steps": {**(steps or {}), "ring": RING, "bye": BYE}}
            },
            **more,
        }
        (tmp_path / "accounts" / "acme.yaml").write_text(json.dumps(account))
        loaded = load(tmp_path / "exoflow.yaml", {})
        assert loaded.config is not None, loaded.findings
        config: Config = loaded.config
        if not running:
            running.append(Lines(config.switch.event_socket))
            running[0].start()
        assert publish(config, running[0], available)

    try:
        yield make
    finally:
        for lines in running:
            lines.stop()
        (folder / "exoflow.xml").unlink()
        fs.api("reloadxml")


def rung(exchange: Exchange) -> list[str]:
    """Names of those who are rung for one call, which hears the announcement in the end."""
    before = len(exchange.attempts)
    for number in NUMBERS.values():
        exchange.agent(number).behave(busy())
    call = exchange.call(DID).wait_ended(30)
    heard = call.heard()
    assert max(heard.tone_blocks(SIT[0]), default=-120.0) > -25
    names = {number: name for name, number in NUMBERS.items()}
    return [names[attempt.number] for attempt in exchange.attempts[before:]]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", at_midnight()])
def test_agents_are_rung_within_their_hours(fs: Box, exchange: Exchange, published: Publish, zone: str) -> None:
    """One agent's hours are now, another's were a while ago, a third's come soon; each also over midnight."""
    published(zone, hours={"asha": span(zone, -90, -5), "ravi": span(zone, -40, 40), "meena": span(zone, 10, 90)})
    assert rung(exchange) == ["ravi"]


def test_who_is_off_is_not_rung_and_is_again_when_on(fs: Box, exchange: Exchange, published: Publish) -> None:
    published("Asia/Kolkata", available=lambda account, agent: agent != "asha")
    assert rung(exchange) == ["ravi", "meena"]
    published("Asia/Kolkata")
    assert rung(exchange) == ["asha", "ravi", "meena"]
    published("Asia/Kolkata", available=lambda account, agent: False)
    assert rung(exchange) == []


def test_nobody_is_rung_while_the_flow_is_closed_or_keeps_a_holiday(fs: Box, exchange: Exchange, published: Publish) -> None:
    zone = at_midnight()
    own = {"meena": span(zone, 10, 90)}
    opened = {"timing": {"hours": span(zone, -40, 40)}, "open": "ring", "closed": "bye"}
    closed = {"timing": {"hours": span(zone, 10, 90)}, "open": "ring", "closed": "bye"}
    published(zone, steps={"time": opened}, hours=own)
    assert rung(exchange) == ["asha", "ravi"]
    published(zone, steps={"time": closed}, hours=own)
    assert rung(exchange) == []
    days = {f"{datetime.now(ZoneInfo(zone)) + timedelta(minutes=at):%m-%d}": "Holiday" for at in (-5, 5)}
    published(zone, steps={"time": opened}, hours=own, holidays={"dates": days})
    assert rung(exchange) == []
    days = {f"{datetime.now(ZoneInfo(zone)) + timedelta(days=at):%Y-%m-%d}": "Holiday" for at in (-3, 3)}
    published(zone, steps={"time": opened}, hours=own, holidays={"dates": days})
    assert rung(exchange) == ["asha", "ravi"]
