"""The report that ring 2 writes itself: `pytest tests/ring2 --report FILE` (Markdown)."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

TELLING = (
    "uuid",
    "direction",
    "exo_trunk",
    "exo_did",
    "exo_call",
    "exo_entry",
    "sip_call_id",
    "start_uepoch",
    "progress_uepoch",
    "answer_uepoch",
    "bridge_uepoch",
    "end_uepoch",
    "billmsec",
    "hangup_cause",
    "hangup_cause_q850",
    "sip_hangup_disposition",
    "originate_disposition",
    "last_bridge_to",
    "bridge_hangup_cause",
)
"""Fields of a CDR that tell how the call went; those that a leg has not are left out."""

_versions: list[str] = []
_results: dict[str, str] = {}
_sections: list[str] = []


def keep_version(version: str) -> None:
    """What the switch says of itself."""
    _versions[:] = [version.strip()]


def keep_call(played: Any) -> None:
    """The first call whole (test_first_call.Played)."""
    state, visit, site = played.state, played.visit, played.site
    sound = played.sound
    legs = [played.visit.cdr()["variables"], *played.legs]
    talk = (int(played.legs[-1]["end_uepoch"]) - int(played.legs[-1]["answer_uepoch"])) / 1e6
    pairs = list(zip(played.agents, played.agents[1:], strict=False))
    measured = [
        ("length of the file", f"{sound.seconds:.3f} s"),
        ("talk in the agent's CDR", f"{talk:.3f} s"),
        *(
            (f"{name}, {hz} Hz", f"{side.tone(hz):.1f} dB")
            for name, side in (("caller's channel", sound.left), ("agent's channel", sound.right))
            for hz in (440, 880)
        ),
        (
            "from the exchange's answer to ours in the record",
            f"{state.answered_at.timestamp() - visit.phone.answered_at:.3f} s",
        ),
        (
            "from an agent's release to the next SETUP, at the exchange",
            ", ".join(f"{after.attempts[0].at - before.attempts[0].ended_at:.3f} s" for before, after in pairs),
        ),
    ]
    delivery = json.loads(json.dumps(played.delivery).replace(str(site.recordings), "<recordings>"))
    delivery["data"]["journey"] = f"{len(state.journey)} lines, above"
    requests = [
        line
        for request in site.crm.requests
        if request.get("CallSid") == state.facts.id
        for line in (f"{request.method} {request.path}", *(f"    {name}={value}" for name, value in request.params), "")
    ]
    _sections[:] = [
        f"## The first call\n\nCall {state.facts.id}, caller's channel {state.facts.channel}, outcome `{state.outcome}`.",
        "### Recording\n\n" + _table(("measured", "value"), measured),
        "### Journey\n\n"
        + _table(
            ("time (UTC)", "stage", "step", "code", "text"),
            (
                (f"{line.at:%H:%M:%S.%f}"[:-3], line.stage, line.step or "", f"`{line.code}`", line.text)
                for line in state.journey
            ),
        ),
        "### Legs in the record\n\n"
        + _table(
            ("number", "SETUP", "ALERTING", "CONNECT", "release", "Q.850", "cause", "outcome", "meaning"),
            (
                (
                    leg.number,
                    *map(_clock, (leg.setup_at, leg.alerting_at, leg.answered_at, leg.released_at)),
                    leg.q850,
                    leg.cause,
                    leg.outcome,
                    leg.meaning,
                )
                for leg in state.legs
            ),
        ),
        "### CDRs\n\nThe caller's leg, then the agents' in their order.\n\n"
        + _table(
            ("field", *(f"leg {number}" for number in range(len(legs)))),
            ((name, *(leg.get(name, "") for leg in legs)) for name in TELLING if any(leg.get(name) for leg in legs)),
        ),
        "### What the CRM was asked, as its server received it\n\n```text\n" + "\n".join(requests).rstrip() + "\n```",
        "### The delivery, its signature verified\n\n```json\n" + json.dumps(delivery, indent=1, ensure_ascii=False) + "\n```",
    ]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        worse = _results.get(report.nodeid) == "failed"
        _results[report.nodeid] = "failed" if worse else report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--report", default=None)
    if path is not None and _results:
        Path(path).write_text(_whole())


def _whole() -> str:
    count = {outcome: list(_results.values()).count(outcome) for outcome in ("passed", "failed", "skipped")}
    told = ", ".join(f"{number} {outcome}" for outcome, number in count.items() if number)
    head = (
        "# Ring 2: exoflow on a real FreeSWITCH\n\nWritten by `make integration`.\n\n"
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, Python {platform.python_version()}\n\n"
        f"{_versions[0] if _versions else 'No FreeSWITCH was found.'}\n\n{told}"
    )
    tests = _table(("test", "result"), ((f"`{name.removeprefix('tests/ring2/')}`", one) for name, one in _results.items()))
    return "\n\n".join([head, *_sections, "## Tests", tests]) + "\n"


def _clock(at: datetime | None) -> str:
    return "" if at is None else f"{at:%H:%M:%S.%f}"[:-3]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ([str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in (head, ["---"] * len(head), *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
