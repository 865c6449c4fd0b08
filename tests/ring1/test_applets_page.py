"""docs/applets.md: made from the models, the docstrings and the examples, each of which is checked and called."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hall import BYE, Hall, visited
from support.mailbox import MailBox

from exoflow.cli import main
from exoflow.commands.applets_page import EXAMPLES, SAID, limits, page, sections
from exoflow.config.load import load
from exoflow.config.steps import MODELS, STEPS
from exoflow.config.yaml12 import read
from exoflow.flow.applets import APPLETS
from exoflow.sim.crm import Reply

ROOT = Path(__file__).parents[2]
PRESSED: dict[str, Any] = {
    "agent": "1",
    "menu": "1",
    "gather": ["123456", "654321"],
    "consent": "1",
    "language": "2",
    "transfer": "1",
    "back": ["1", "2"],
}


@pytest.fixture
def mail_server() -> Iterator[str]:
    with MailBox() as box:
        yield box.address


def test_the_page_is_up_to_date() -> None:
    written = (ROOT / "docs/applets.md").read_text()
    assert written == page(), "run `exoflow schema --applets > docs/applets.md`"
    assert CliRunner().invoke(main, ["schema", "--applets"]).output == written


def test_every_applet_has_its_model_its_class_and_its_example() -> None:
    assert set(STEPS) == set(APPLETS) == {file.stem for file in EXAMPLES.glob("*.yaml")}


@pytest.mark.parametrize("name", STEPS)
def test_an_applet_tells_everything_about_itself(name: str) -> None:
    description, said = sections(name)
    assert description
    assert tuple(said) == SAID
    assert all(said.values())
    for branch in {branch for model in MODELS.values() if model.applet == name for branch in model.BRANCHES}:
        assert f"`{branch}`" in said["Branches"], branch


_CODE = re.compile(r"""(?:\.note|\.failed)\(\s*"[A-H]",\s*f?"([a-z_]+(?:\.[a-z_]+)?)["{]""")


@pytest.mark.parametrize("name", STEPS)
def test_an_applet_names_the_entries_it_writes(name: str) -> None:
    source = inspect.getsource(sys.modules[type(APPLETS[name]).__module__])
    said = sections(name)[1]["Journey"]
    assert [code for code in _CODE.findall(source) if code not in said] == []


@pytest.mark.parametrize("name", STEPS)
def test_an_example_is_checked_and_called(hall: Callable[..., Hall], name: str, mail_server: str) -> None:
    example = to_our_crm(read(EXAMPLES / f"{name}.yaml").value)  # as exoflow reads it: `on` is a text in YAML 1.2
    account = {"flows": example["flows"]} if "flows" in example else {}
    mail = {"smtp": mail_server, "from": "calls@acme.example"}
    prompts = {"engine": "text", "voices": {"hi": "hi"}}
    h = hall({"unused": BYE} if account else example, account=account, main={"mail": mail, "prompts": prompts})
    for path in ("/sms", "/page"):
        h.crm.script(path, Reply(200))
    h.crm.script("/orders", Reply(200, b'{"customer": {"due": 1250}}', "application/json"))
    found = load(h.folder / "exoflow.yaml", {}).findings
    assert {finding.code for finding in found} <= {"W603", "W707"}, [str(finding) for finding in found]
    _, state = h.run(keys=PRESSED.get(name, ""))
    assert name in {h.config.accounts["acme"].flows[flow].steps[step].applet for flow, step in places(h, visited(state))}
    assert state.outcome in ("served", "answered", "voicemail")
    assert [one.code for one in state.journey if one.code.endswith((".unfit", ".missing", ".failed"))] == []
    assert h.switch.violations == []


def to_our_crm(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: to_our_crm(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_our_crm(item) for item in value]
    return value.replace("https://crm.example", "crm:") if isinstance(value, str) else value


def places(h: Hall, steps: list[str]) -> list[tuple[str, str]]:
    flows = h.config.accounts["acme"].flows
    return [(flow, step) for step in steps for flow in flows if step in flows[flow].steps]


def test_every_limit_says_why() -> None:
    found = list(limits())
    assert len(found) > 50
    assert [f"{where}: {name}" for name, _, where, why in found if not why] == []
