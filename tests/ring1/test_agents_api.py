"""Agents over HTTP beside a running exoflow; the forms of requests and answers are in tests/dialect/api."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ailing import Stall, locked
from callsapi import KEY, TOKEN, TOKEN_HASH, Api, exchange, the_calls
from hall import ASHA, BYE, Hall, eventually

from exoflow.sim import AgentScript
from exoflow.web import agentpages
from exoflow.web.gate import Rate

Start = Callable[..., Hall]
STEPS = {"agents": {"connect": {"group": "support"}, "answered": "bye", "unanswered": "bye"}, "bye": BYE}
SITE: dict[str, Any] = {
    "main": {"web": {"listen": "127.0.0.1:0"}},
    "account": {"api": {"keys": [{"key": KEY, "token_hash": TOKEN_HASH}]}},
}
BASIC = b64encode(f"{KEY}:{TOKEN}".encode()).decode()


def request(method: str, path: str, form: str = "") -> bytes:
    kind = "Content-Type: application/x-www-form-urlencoded\r\n"
    head = f"{method} /v1/Accounts/acme/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {BASIC}\r\n{kind}"
    return f"{head}Content-Length: {len(form)}\r\n\r\n{form}".encode()


def asked(site: Hall, method: str, path: str, form: str = "") -> tuple[int, dict[str, str], Any]:
    assert site.service.web is not None
    assert site.service.web.address is not None
    status, headers, body = exchange(site.service.web.address, request(method, path, form))
    return status, headers, json.loads(body)


def on_disk(site: Hall) -> list[tuple[str, bool, str]]:
    with closing(sqlite3.connect(site.folder / "exoflow.db")) as connection:
        return connection.execute("SELECT agent, available, changed_by FROM agent_states ORDER BY agent").fetchall()


def rung(site: Hall) -> list[str | None]:
    return [leg.agent for leg in site.run()[1].legs]


def test_who_is_switched_off_is_on_disk_with_the_answer_and_rung_no_more(hall: Start) -> None:
    site = hall(STEPS, **SITE)
    status, _, answer = asked(site, "POST", "Agents/asha.json", "available=false")
    assert on_disk(site) == [("asha", False, "api")]
    assert (status, answer["Agent"]["State"], answer["Agent"]["Available"]) == (200, "off", False)
    assert rung(site) == ["Ravi"]
    assert asked(site, "PUT", "Agents/asha.json", "available=true")[0] == 200
    assert on_disk(site) == [("asha", True, "api")]
    assert rung(site) == ["Asha"]


def test_the_list_shows_what_the_next_call_would_meet(hall: Start) -> None:
    groups = {"support": {"agents": ["asha", "ravi"], "wrap_up_seconds": 3600}}
    account = SITE["account"] | {"groups": groups}
    site = hall(STEPS, main=SITE["main"], account=account, agents={ASHA: AgentScript.answers(1, None)})
    asked(site, "POST", "Agents/meena.json", "available=false")
    phone = site.call()
    site.until(lambda: phone.talked_at)
    with site.switch.clock.held():
        agents = {one["Name"]: one for one in asked(site, "GET", "Agents.json")[2]["Agents"]}
        assert {name: one["State"] for name, one in agents.items()} == {"asha": "engaged", "ravi": "free", "meena": "off"}
        assert agents["asha"]["CallSid"] == site.states[phone.uuid].facts.id
    phone.hangup()
    site.ended(phone)
    asha = asked(site, "GET", "Agents/asha.json")[2]["Agent"]
    assert (asha["State"], asha["PausedBy"], asha["CallSid"]) == ("wrap_up", ["support"], None)
    assert asha["LastTalkEnd"] is not None


def test_a_store_that_cannot_be_written_is_told_and_holds_nobody(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch counts at once; it is on disk when the store is well again."""
    monkeypatch.setattr(agentpages, "DISK_SECONDS", 0.1)
    site = hall(STEPS, **SITE)
    assert asked(site, "GET", "Agents.json")[0] == 200  # the token is known from here on
    with locked(site.folder / "exoflow.db"):
        with Stall() as stall:
            status, headers, answer = asked(site, "POST", "Agents/asha.json", "available=false")
        assert (status, headers["retry-after"]) == (503, "5")
        told = answer["RestException"]["Message"]
        assert "takes no more calls" in told
        assert "Send it again" in told
        assert stall.longest < 1.0  # the lock outlasts it
        assert asked(site, "GET", "Agents/asha.json")[2]["Agent"]["State"] == "off"
        assert on_disk(site) == []
    eventually(lambda: on_disk(site) == [("asha", False, "api")])
    assert asked(site, "POST", "Agents/asha.json", "available=false")[0] == 200


def test_agents_and_calls_are_asked_for_at_one_rate(tmp_path: Path) -> None:
    api = Api(tmp_path, the_calls())
    try:
        api.gate._requests = Rate(2, lambda: 1000.0)
        answers = [api.sent(request("GET", path)) for path in ("Agents.json", "Calls.json", "Agents/asha.json")]
    finally:
        api.stop()
    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert answers[2][1]["retry-after"] == "30"
