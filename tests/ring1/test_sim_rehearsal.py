"""The demo's files, and a configuration with the embedded switch around it."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import replace
from pathlib import Path

from simclient import event_socket

from exoflow.config.load import load
from exoflow.config.model import Config
from exoflow.sim.rehearsal import Rehearsal, crm_port, write_demo
from exoflow.sim.scenarios import NUMBER, SCENARIOS


def demo(folder: Path) -> Config:
    loaded = load(write_demo(folder), {})
    assert loaded.errors == []
    assert loaded.config is not None
    return loaded.config


def test_the_demo_is_a_good_configuration_with_a_secret_of_its_own(tmp_path: Path) -> None:
    config, other = demo(tmp_path / "a"), demo(tmp_path / "b")
    assert config.route(NUMBER.removeprefix("+91"), "PRI1") is not None
    secrets = [c.accounts["acme"].deliveries.secret_text() for c in (config, other) if c.accounts["acme"].deliveries]
    assert len(set(secrets)) == 2
    assert (tmp_path / "a" / "accounts" / "acme.secret").stat().st_mode & 0o077 == 0


def test_what_an_engineer_changed_in_the_demo_stays(tmp_path: Path) -> None:
    demo(tmp_path)
    account = tmp_path / "accounts" / "acme.yaml"
    account.write_text(account.read_text().replace("Acme Appliances", "Mine"))
    secret = (tmp_path / "accounts" / "acme.secret").read_text()
    assert demo(tmp_path).accounts["acme"].name == "Mine"
    assert (tmp_path / "accounts" / "acme.secret").read_text() == secret


def test_the_demos_crm_takes_a_free_port_when_its_own_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # taken by somebody else: just as good
            taken.bind(("127.0.0.1", 8085))
        port = crm_port(demo(tmp_path))
    assert port != 8085
    assert crm_port(demo(tmp_path)) == port, "and keeps it"


def test_nothing_uses_the_addresses_or_folders_of_a_server_that_runs_here(tmp_path: Path) -> None:
    config, scratch = demo(tmp_path / "demo"), tmp_path / "scratch"
    rehearsal = Rehearsal(config, scratch=scratch)
    try:
        changed = rehearsal.config
        assert changed.switch.listen_address.port == 0
        assert changed.switch.event_socket.port == rehearsal.switch.event_socket_address[1]
        assert str(scratch) in changed.store
        assert changed.switch.recordings.is_relative_to(scratch)
        assert (config.switch.fallback is None, changed.switch.fallback) == (False, None)
        assert (changed.prompts.folder, changed.prompts.engine) == (scratch / "prompts", "text")
        assert changed.accounts is config.accounts
        event_socket(rehearsal.switch.event_socket_address, changed.switch.event_socket.password_text())
    finally:
        rehearsal.stop()


def test_a_trunk_bears_the_name_of_its_span_or_gateway(tmp_path: Path) -> None:
    config = demo(tmp_path)
    trunk = config.trunks["PRI1"]
    trunks = {
        "first": trunk.model_copy(update={"span": "wp1", "channels": 15}),
        "second": trunk.model_copy(update={"span": None, "gateway": "carrier"}),
    }
    rehearsal = Rehearsal(replace(config, trunks=trunks))
    rehearsal.stop()
    assert {name: t.channels for name, t in rehearsal.switch.trunks.items()} == {"wp1": 15, "carrier": 30}


def test_the_scripted_calls_cover_the_outcomes_a_caller_can_have() -> None:
    assert {scenario.outcome for scenario in SCENARIOS} == {"answered", "voicemail", "abandoned", "missed"}
    assert len({scenario.caller for scenario in SCENARIOS}) == len(SCENARIOS)
