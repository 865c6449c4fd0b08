"""docs/schemas is what the command prints, bodies are held against it, and the example receiver takes what is signed."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from gevent import socket, subprocess
from hall import BYE, SECRET, eventually, say
from pydantic import ValidationError
from support import bodies
from support.ports import free_port

from exoflow.calls.schemas import MODELS
from exoflow.cli import main

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "schemas"
RECEIVER = ROOT / "examples" / "receiver" / "receiver.py"


@pytest.mark.parametrize("kind", MODELS)
def test_docs_have_each_schema_as_the_command_prints_it(kind):
    printed = CliRunner().invoke(main, ["schema", "--delivery", kind])
    assert printed.exit_code == 0, printed.output
    assert (SCHEMAS / f"{kind}.json").read_text() == printed.output


def test_docs_have_no_other_schema():
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(MODELS)


def test_a_body_with_an_unknown_or_a_wrong_key_is_told(hall):
    found = hall({"hello": say("Hello."), "bye": BYE})
    found.run()
    (sent,) = found.crm.wait_for_deliveries(1)
    bodies.check(sent.body)
    more = sent.event
    more["data"]["more"] = 1
    with pytest.raises(AssertionError, match=r"data\.more"):
        bodies.check(json.dumps(more))
    wrong = sent.event
    wrong["data"]["call"] = "no id"
    with pytest.raises(ValidationError, match=r"data\.call"):
        bodies.check(json.dumps(wrong))


def test_the_page_shows_each_kind_and_the_receiver_as_it_is():
    page = (ROOT / "docs" / "deliveries.md").read_text()
    assert f"```python\n{RECEIVER.read_text().strip()}\n```" in page
    assert [kind for kind in MODELS if f"](schemas/{kind}.json)" not in page] == []


@pytest.fixture
def receiver():
    """Starts the example; its port, and what it prints."""
    port = free_port()
    started = subprocess.Popen(
        [sys.executable, str(RECEIVER), str(port)],
        env={**os.environ, "SECRET": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    eventually(lambda: _listens(port), 30)
    yield port, started.stdout
    started.kill()
    started.wait()


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("signed_with", [SECRET, "whsec_" + "b3RoZXJz" * 5])
def test_the_example_receiver_takes_what_is_signed_and_nothing_else(hall, receiver, signed_with):
    port, printed = receiver
    where = {"url": f"http://127.0.0.1:{port}/", "secret": signed_with}
    found = hall({"hello": say("Hello."), "bye": BYE}, account={"deliveries": where})
    _, call = found.run()

    eventually(lambda: found.deliveries(call)[0].attempts)
    (sent,) = found.deliveries(call)
    if signed_with == SECRET:
        assert sent.state == "delivered"
        assert printed.readline().split() == [sent.webhook_id, "call.ended", call.facts.id]
    else:
        assert (sent.state, sent.attempts[-1].status) == ("pending", 401)
