"""docs/moving-from-exotel.md: its configuration is good and serves a call, and what it names is there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hall import ASHA, BYE, Hall, codes, visited
from test_applets_page import to_our_crm

from exoflow.config.steps import STEPS
from exoflow.config.yaml12 import read
from exoflow.sim import AgentScript
from exoflow.sim.crm import Reply

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/moving-from-exotel.md").read_text()


def account(folder: Path) -> dict[str, Any]:
    (written,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    path = folder / "acme.yaml"
    path.write_text(written)
    found = read(path)
    assert found.findings == []
    ours = json.loads(json.dumps(found.value).replace("https://crm.acme.example", "https://crm.example"))
    whole: dict[str, Any] = to_our_crm(ours)
    return whole | {"crm": {**whole["crm"], "allow_private": ["127.0.0.1/32"]}}


def test_its_account_serves_a_call(hall: Callable[..., Hall], tmp_path: Path) -> None:
    agents = {ASHA: AgentScript.answers(1.0, talks=5.0)}
    h = hall({"bye": BYE}, accounts={"acme": account(tmp_path)}, agents=agents)
    h.crm.script("/dial", Reply(200))
    h.crm.script("/gather", Reply.gather("Your order?", max_input_digits=6))
    _, state = h.run(keys=["123456"])
    # what is told beside the flow is noted at its step when it was told
    assert visited(state)[:6] == ["hello", "order", "lookup", "agents", "log", "bye"]
    assert state.outcome == "answered"
    assert [request.path for request in h.crm.requests if request.path not in ("/deliveries", "/dial")] == [
        "/greeting",
        "/greeting",
        "/gather",
        "/passthru",
        "/connect",
        "/passthru",
    ]
    assert {request.get("key") for request in h.crm.requests if request.path != "/deliveries"} == {"K"}
    assert h.crm.to("/passthru")[0].get("digits") == '"123456"'
    assert [request.get("Status") for request in h.crm.to("/dial")] == ["busy", "free"]
    assert "crm.prompt" in codes(state)


def test_its_links_and_applets_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    table = PAGE.partition("| at Exotel |")[2].partition("## What stays")[0]
    named = {word for word in re.findall(r"`([a-z_]+)`", table) if word in STEPS}
    assert {
        "greeting",
        "menu",
        "gather",
        "connect",
        "passthru",
        "timing",
        "voicemail",
        "transfer",
        "sms",
        "mail",
        "hangup",
    } <= named
