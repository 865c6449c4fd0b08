"""Whom FreeSWITCH rings by itself while no exoflow is there: those who are switched on, at times when they may be rung."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hall import BYE, WAIT, Hall, eventually
from test_fallback import ACME, ASHA, FROM, RAVI, RELOAD, config, indian_box, serve

from exoflow.config.hours import Holidays
from exoflow.config.model import Config, Flow
from exoflow.config.people import Agent
from exoflow.lines import fallback, publisher
from exoflow.lines.fallback import FILE
from exoflow.sim import EmbeddedSwitch
from exoflow.sim.dialplan import CONTEXT

__all__ = ["config", "indian_box"]

# --- on and off -----------------------------------------------------------------------------------


def test_it_is_written_again_when_an_agent_is_switched_and_after_a_restart(hall: Callable[..., Hall], tmp_path: Path) -> None:
    folder = tmp_path / "fallback"
    folder.mkdir()
    running = hall({"bye": BYE}, switch={"fallback": str(folder)})
    path = folder / FILE
    eventually(lambda: path.is_file() and ASHA.encode() in path.read_bytes())
    running.service.staff.switch("acme", "asha", False, "test").get(timeout=WAIT)
    eventually(lambda: ASHA.encode() not in path.read_bytes())
    assert RAVI.encode() in path.read_bytes()
    eventually(lambda: running.switch.api_calls.count(RELOAD) == 2)
    running.service.stop()
    path.unlink()
    running.serve()
    eventually(path.is_file)
    assert ASHA.encode() not in path.read_bytes()
    running.service.staff.switch("acme", "asha", True, "test")
    eventually(lambda: ASHA.encode() in path.read_bytes())


def test_what_was_switched_just_before_the_end_is_written(hall: Callable[..., Hall], tmp_path: Path) -> None:
    folder = tmp_path / "fallback"
    folder.mkdir()
    running = hall({"bye": BYE}, switch={"fallback": str(folder)})
    eventually(lambda: running.switch.api_calls.count(RELOAD) == 1)
    running.service.staff.switch("acme", "asha", False, "test")
    running.service.stop()
    assert ASHA.encode() not in (folder / FILE).read_bytes()


def test_a_write_that_failed_is_tried_again(
    hall: Callable[..., Hall], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(publisher, "AGAIN_SECONDS", 0.05)
    folder = tmp_path / "fallback"
    hall({"bye": BYE}, switch={"fallback": str(folder)})
    eventually(lambda: "make the folder" in caplog.text)
    folder.mkdir()
    eventually((folder / FILE).is_file)


# --- by the clock -------------------------------------------------------------------------------

OFFICE = {"mon-fri": ["09:00-13:00", "14:00-18:00"]}
NIGHT = {"mon": ["22:00-24:00"], "tue-fri": ["00:00-06:00", "22:00-24:00"], "sat": ["00:00-06:00"]}
DAYS = {"2026-11-04": "Diwali", "2026-11-05": {"name": "Bhai Dooj", "open": ["09:00-11:00"]}}
TIMED = {
    "opened": {"timing": {"hours": OFFICE}, "open": "ring", "closed": "bye"},
    "ring": {"connect": {"group": "first ones"}, "answered": "bye", "unanswered": "bye"},
    "bye": BYE,
}


def at_work(config: Config, *, zone: str = "Asia/Kolkata", steps: dict[str, Any] | None = None, **hours: Any) -> Config:
    acme = config.accounts["acme"]
    agents = {name: Agent(number=agent.number, hours=hours.get(name)) for name, agent in acme.agents.items()}
    flows = {"main": Flow.model_validate({"start": next(iter(steps)), "steps": steps})} if steps else acme.flows
    changes = {"time_zone": zone, "agents": agents, "flows": flows, "holidays": Holidays.model_validate({"dates": DAYS})}
    return replace(config, accounts={"acme": acme.model_copy(update=changes)})


def rung_at(switch: EmbeddedSwitch, monkeypatch: pytest.MonkeyPatch, local: str, zone: str = "Asia/Kolkata") -> list[str]:
    """Whom the dialplan would ring at that time, as it is hunted."""
    at = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone))
    monkeypatch.setattr(switch, "spawn", lambda *_: None)
    session = switch.call(ACME, FROM, variables={"exo_trunk": "PRI1", "exo_did": ACME, "exo_entry": "1"}).session
    assert session is not None
    with monkeypatch.context() as patch:
        patch.setattr(switch.clock, "micros", lambda: int(at.timestamp() * 1e6))
        route = switch.dialplan.hunt(session, "exoflow_fallback", CONTEXT)
    assert route is not None
    assert route.actions[-1].application == "hangup", "behind nobody stands the announcement"
    assert "tod_tz_offset" not in session.channel.variables
    return [action.data[-10:] for action in route.actions if action.application == "bridge"]


@pytest.mark.parametrize(
    ("local", "rung"),
    [
        ("2026-11-02 08:59:59", []),
        ("2026-11-02 09:00:00", [ASHA]),
        ("2026-11-02 12:59:59", [ASHA]),
        ("2026-11-02 13:30:00", []),
        ("2026-11-02 21:59:59", []),
        ("2026-11-02 22:00:00", [RAVI]),
        ("2026-11-03 00:00:00", [RAVI]),
        ("2026-11-03 05:29:59", [RAVI]),
        ("2026-11-03 05:30:00", [RAVI]),
        ("2026-11-03 06:00:00", []),
        ("2026-11-04 10:00:00", [ASHA]),  # holidays are not an agent's, but a flow's business
        ("2026-11-07 05:59:59", [RAVI]),
        ("2026-11-07 22:00:00", []),
    ],
)
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu"])
def test_agents_are_rung_within_their_hours_alone(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: str, rung: list[str], zone: str
) -> None:
    own = at_work(config, zone=zone, asha=OFFICE, ravi=NIGHT)
    with serve(own, tmp_path, {}) as switch:
        assert rung_at(switch, monkeypatch, local, zone) == rung


@pytest.mark.parametrize(
    ("local", "rung"),
    [
        ("2026-11-02 03:00:00", []),
        ("2026-11-02 09:00:00", [ASHA, RAVI]),
        ("2026-11-02 17:00:00", [ASHA]),
        ("2026-11-02 18:00:00", []),
        ("2026-11-03 23:59:00", []),
        ("2026-11-04 00:00:00", []),
        ("2026-11-04 10:00:00", []),  # a holiday
        ("2026-11-05 10:00:00", [ASHA, RAVI]),  # the open hours of a short one
        ("2026-11-05 11:00:00", []),
        ("2026-11-06 10:00:00", [ASHA, RAVI]),
        ("2026-11-07 10:00:00", []),  # Saturday
    ],
)
def test_nobody_is_rung_while_the_flow_leads_to_nobody(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: str, rung: list[str]
) -> None:
    own = at_work(config, steps=TIMED, ravi={"mon-sun": ["00:00-16:00"]})
    monkeypatch.setattr(fallback, "datetime", _Then)
    with serve(own, tmp_path, {}) as switch:
        assert rung_at(switch, monkeypatch, local) == rung


class _Then(datetime):
    """The moment at which the file is written."""

    @classmethod
    def now(cls, tz: Any = None) -> _Then:
        return cls(2026, 11, 1, 12, tzinfo=tz)


def test_a_caller_at_night_hears_the_announcement(config: Config, tmp_path: Path) -> None:
    later = datetime.now(ZoneInfo("Asia/Kolkata")) + timedelta(days=3)
    hours = {later.strftime("%a").lower(): ["00:00-24:00"]}
    with serve(at_work(config, asha=hours, ravi=hours), tmp_path, {}) as switch:
        phone = switch.call(ACME, FROM)
        assert phone.wait(20)
        assert switch.attempts == []
    assert "loops=2" in phone.texts[-1]
