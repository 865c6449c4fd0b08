"""`exoflow call` asks what the flow has to know, and shows everything else instead of sending it, unless `--real`."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from exoflow.commands.call import call

SECONDS = 90  # for one run of the command; it takes two
MAIN = """\
trunks:
  PRI0: {span: PRI0}
  PRI1: {span: PRI1, std_code: "80", outbound: {cli: "8030752400"}}
prompts: {engine: text}
mail: {smtp: "127.0.0.1:PORT", from: "pbx@clinic.example"}
web: {listen: "127.0.0.1:8099", public_url: "https://calls.example.in"}
"""
ACCOUNT = """\
name: Clinic
time_zone: Asia/Dubai
contacts: [desk@clinic.example]
numbers:
  - {number: "+918030752400", trunk: PRI1, flow: main}
agents:
  reception: {number: "+919876543210"}
groups:
  desk: {agents: [reception]}
crm:
  allow_private: [127.0.0.1/32]
  dial_events: {url: "http://127.0.0.1:PORT/dial"}
  status_callback: {url: "http://127.0.0.1:PORT/status"}
deliveries: {url: "http://127.0.0.1:PORT/deliveries"}
flows:
  main:
    start: ask
    steps:
      ask: {passthru: {url: "http://127.0.0.1:PORT/passthru"}, ok: when, redirect: when, failed: bye}
      when: {timing: {hours: {sun: ["19:00-21:00"]}}, open: sms, closed: bye}
      sms:
        sms: {url: "http://127.0.0.1:PORT/sms", form: {to: "{caller}", text: "It is {time}", apikey: abcdef}}
        next: mail
        failed: bye
      mail: {mail: {subject: "Missed {caller}", text: "Line one\\nline two"}, next: page}
      page: {page: {url: "http://127.0.0.1:PORT/page", text: "Call from {caller}"}, next: desk}
      desk: {connect: {group: desk, record: dual}, answered: bye, unanswered: bye}
      bye: {hangup: {}}
"""
AT = ("--at", "2026-11-08 20:00", "--keys", "-", "--speed", "20", "--talk", "2", "--from", "+919811111111")


class World:
    """A server that all addresses of the configuration lead to."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                world.paths.append(self.path.partition("?")[0])
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    (tmp_path / "accounts").mkdir()
    (tmp_path / "exoflow.yaml").write_text(MAIN.replace("PORT", str(world.port)))
    (tmp_path / "accounts" / "clinic.yaml").write_text(ACCOUNT.replace("PORT", str(world.port)))
    return tmp_path


def ran(folder: Path, *options: str) -> str:
    command = [sys.executable, "-c", "from exoflow.cli import main; main()", "call", "-c", "exoflow.yaml", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_is_sent_and_all_is_shown(world: World, folder: Path) -> None:
    """The only number is called on its own trunk, at a time of the account's zone."""
    shown = ran(folder, *AT)
    assert set(world.paths) == {"/passthru"}
    lines = [line.strip() for line in shown.splitlines()]
    for line in (
        "to: +919811111111",
        "text: It is 2026-11-08 20:00",
        "apikey: ***",
        "to: desk@clinic.example",
        "subject: Missed +919811111111",
        "text: line two",
        "text: Call from +919811111111",
        f"url: http://127.0.0.1:{world.port}/page",
        "Not sent to the CRM (--real sends it)",
        f"call.ended to http://127.0.0.1:{world.port}/deliveries",
        f"dial.busy to http://127.0.0.1:{world.port}/dial",
    ):
        assert line in lines, shown
    assert "Sun 08 Nov 2026 20:00:0" in shown
    assert "status." in shown
    assert ".wav" not in shown
    assert "exoflow-call-" not in shown
    live = shown.partition("Journey")[0]  # it appears while the call goes on
    assert live.splitlines()[0] == "Ctrl-C hangs up."
    assert live.index("(call.arrived)") < live.index("(sms.unsent)") < live.index("reception talks")


def test_real_sends_all_of_it_and_keep_keeps_recordings(world: World, folder: Path) -> None:
    shown = ran(folder, *AT, "--real", "--keep", "kept")
    assert {"/passthru", "/sms", "/page", "/deliveries", "/dial", "/status"} <= set(world.paths)
    assert "really sent" in shown
    assert "(mail." in shown
    assert "Not sent" not in shown
    found = list((folder / "kept").rglob("*.wav"))
    assert len(found) == 1
    assert str(found[0]) in re.sub(r"\n +", "", shown)


TWO = """\
  - {number: "+918030752400", trunk: PRI1, flow: main}
  - {number: "+918030752401", trunk: PRI1, flow: main}
"""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "which number is called?"),
        (["--to", "+918030752409"], "is no number of ours"),
        (["--to", "+918030752400", "--at", "tomorrow"], '"2026-11-08 20:00"'),
        (["--to", "+918030752400", "--at", "9999-12-31 23:59"], "is no time"),
        (["--to", "+918030752400", "--keep", "new\nline"], "cannot hold recordings"),
        (["--to", "+918030752400", "--keep", "exoflow.yaml/x"], "cannot hold recordings"),
    ],
)
def test_what_cannot_be_called_is_told_with_the_cure(
    options: list[str], told: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "accounts" / "clinic.yaml"
    file.write_text(file.read_text().replace(TWO.splitlines(keepends=True)[0], TWO))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("gevent.monkey.patch_all", lambda: None)
    done = CliRunner().invoke(call, ["--from", "+919811111111", "--keys", "-", *options])
    assert done.exit_code == 2, done.output
    assert told in done.output
    if "number" in told:
        for number in ("+918030752400", "+918030752401"):
            assert f"{number}  Clinic (clinic), flow main" in done.output
