"""`exoflow deliveries` beside a running exoflow: the list, one with its attempts, and sending again by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
import pytest
from click.testing import CliRunner
from hall import BYE, Hall, eventually, say

from exoflow.cli import main
from exoflow.commands import deliveries as command
from exoflow.crm import resend
from exoflow.crm.resend import folder_of, wish
from exoflow.sim.crm import Reply
from exoflow.store import open_store, tables

Start = Callable[..., Hall]
FLOW = {"hello": say("Hi."), "bye": BYE}
NOBODY = "msg_" + "0" * 32


def run(site: Hall, *arguments: str, code: int = 0) -> str:
    """In a thread, as another process: the service runs on meanwhile."""

    def invoke() -> Any:
        return CliRunner().invoke(main, ["deliveries", "-c", str(site.folder / "exoflow.yaml"), *arguments])

    done = gevent.get_hub().threadpool.apply(invoke)
    assert done.exit_code == code, done.output
    return str(done.output)


def data(site: Hall, *arguments: str) -> Any:
    return json.loads(run(site, "--json", *arguments))


def settled(site: Hall, state: str = "delivered") -> str:
    """A call's only delivery, once it has come to this; its id."""
    call = site.ended(site.call())
    eventually(lambda: [one.state for one in site.deliveries(call)] == [state])
    return site.deliveries(call)[0].webhook_id


@pytest.fixture
def site(hall: Start) -> Hall:
    return hall(FLOW)


@pytest.fixture
def down(hall: Start) -> tuple[Hall, str]:
    """A site whose CRM wants no more deliveries, and one that was given up."""
    site = hall(FLOW)
    site.crm.script("/deliveries", Reply(410, b"gone away\x1b[2J"))
    return site, settled(site, "dead")


def test_the_list_and_its_filters(down: tuple[Hall, str]) -> None:
    site, dead = down
    site.crm.script("/deliveries", Reply(204))
    good = settled(site)
    assert [one["webhook_id"] for one in data(site)] == [good, dead]
    assert [one["webhook_id"] for one in data(site, "-n", "1")] == [good]
    assert [one["webhook_id"] for one in data(site, "--state", "dead")] == [dead]
    assert [one["webhook_id"] for one in data(site, "--type", "call.ended", "--since", "1h")] == [good, dead]
    assert data(site, "--type", "call.missed") == data(site, "--account", "bank") == data(site, "--since", "2999-01-01") == []
    lines = run(site).splitlines()
    assert lines[0].split() == ["MADE", "DELIVERY", "ACCOUNT", "CALL", "TYPE", "STATE", "TRIES", "WHY"]
    assert lines[1].split()[3] == good[:12]
    assert "given up" in lines[2]
    assert "answered 410" in lines[2]
    assert lines[-1].endswith(f"send {dead[:12]}")
    assert run(site, "--state", "leased") == "No deliveries are as wanted.\n"


def test_one_with_its_attempts(down: tuple[Hall, str]) -> None:
    site, dead = down
    shown = run(site, dead[4:12])
    assert dead in shown
    assert "call.ended, number 1 of call" in shown
    assert "given up" in shown
    assert "410" in shown
    assert "gone away" in shown
    assert "\x1b" not in shown
    one = data(site, dead)
    assert one["body"]["type"] == "call.ended"
    assert [attempt["status"] for attempt in one["attempts"]] == [410]


def test_sending_again_bears_the_same_id_and_the_running_exoflow_does_it(down: tuple[Hall, str]) -> None:
    site, dead = down
    site.crm.script("/deliveries", Reply(204))
    assert "1 deliveries are due now" in run(site, "send", dead[:12])
    eventually(lambda: data(site, dead)["state"] == "delivered")
    assert [request.headers["webhook-id"] for request in site.crm.to("/deliveries")] == [dead, dead]
    assert [attempt["status"] for attempt in data(site, dead)["attempts"]] == [410, 204]


def test_sending_by_filter(down: tuple[Hall, str]) -> None:
    site, dead = down
    site.crm.script("/deliveries", Reply(204))
    good = settled(site)
    assert data(site, "send", "--state", "dead") == {"sent_again": [dead], "waiting": [], "being_sent": []}
    eventually(lambda: data(site, dead)["state"] == "delivered")
    ids = [request.headers["webhook-id"] for request in site.crm.to("/deliveries")]
    assert ids == [dead, good, dead]
    assert "No deliveries are as wanted." in run(site, "send", "--state", "dead")


def test_without_a_running_exoflow_it_waits_for_the_next_start(down: tuple[Hall, str], monkeypatch: pytest.MonkeyPatch) -> None:
    site, dead = down
    site.service.stop()
    monkeypatch.setattr(command, "TAKEN_SECONDS", 0.1)
    assert "sent as soon as `exoflow serve` runs" in run(site, "send", dead)
    site.crm.script("/deliveries", Reply(204))
    site.serve()
    eventually(lambda: data(site, dead)["state"] == "delivered")
    assert list(folder_of(site.service.store.path).iterdir()) == []


def test_what_is_being_sent_is_left_as_it_is(site: Hall) -> None:
    site.crm.script("/deliveries", Reply(204, delay=5.0))
    call = site.ended(site.call())
    eventually(lambda: [one.state for one in site.deliveries(call)] == ["leased"])
    (one,) = site.deliveries(call)
    assert "is being sent just now" in run(site, "send", one.webhook_id)
    wish(folder_of(site.service.store.path), one.webhook_id)  # as if it had begun in the meantime
    eventually(lambda: not list(folder_of(site.service.store.path).iterdir()))
    assert [one.state for one in site.deliveries(call)] == ["leased"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["send"], "needs an ID, or a filter"),
        (["send", "abcd", "--state", "dead"], "either IDs or filters"),
        (["abcd", "abce"], "one ID is shown at a time"),
        (["--since", "yesterday"], "write for example 30m"),
    ],
)
def test_what_cannot_be_meant(site: Hall, arguments: list[str], said: str) -> None:
    assert said in run(site, *arguments, code=2)


def test_ids_that_are_nobodys_or_several(site: Hall) -> None:
    assert "no delivery's id begins with 'ffff'" in run(site, "send", "ffff", code=1)
    assert "no delivery's id begins with '%'" in run(site, "%", code=1)
    row = {"call_id": site.ended(site.call()).facts.id, "account": "acme", "type": "call.ended", "body": "{}", "state": "dead"}
    now = datetime.now(UTC)
    row |= {"created_at": now, "next_at": now, "lease_until": now, "attempts": 0, "failures": 0, "problem": ""}
    rows = [{**row, "seq": 10 + at, "webhook_id": f"msg_{'a' * 31}{at}"} for at in range(2)]
    site.service.store.write(lambda c: c.execute(tables.deliveries.insert(), rows))
    assert "several deliveries' ids begin with 'aaaa'" in run(site, "aaaa", code=1)


def test_a_store_that_nobody_ever_served(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/calls.db").close()
    with pytest.raises(FileNotFoundError):
        wish(folder_of(tmp_path / "calls.db"), NOBODY)
    done = CliRunner().invoke(main, ["deliveries", "--store", f"sqlite:///{tmp_path}/calls.db"])
    assert done.output == "No deliveries yet.\n"


def test_strange_files_go_and_harm_nothing(site: Hall, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(site.service.store.path)
    eventually(folder.is_dir)
    assert folder.stat().st_mode & 0o777 == resend.FOLDER_MODE
    (folder / "msg_'; DROP TABLE calls").touch()
    wish(folder, NOBODY)
    eventually(lambda: not list(folder.iterdir()))
    assert "1 files that name no delivery are removed" in caplog.text
    settled(site)


def test_a_folder_that_is_none_is_said_once_and_calls_go_on(site: Hall, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(site.service.store.path)
    eventually(folder.is_dir)
    shutil.rmtree(folder)
    folder.touch()
    eventually(lambda: "cannot be sent again by hand" in caplog.text)
    settled(site)
    folder.unlink()
    eventually(folder.is_dir)
    assert caplog.text.count("cannot be sent again by hand") == 1
