"""exoflow as a process under a supervisor: socket activation, notifications, the watchdog, hand-over, and reload."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent import socket
from hall import BYE, CALLER, OURS, Hall, eventually, menu, say
from support.supervisor import EXOFLOW, Supervisor

from exoflow.sim import EmbeddedSwitch

TRUNKS = {"PRI1": {"span": "PRI1", "std_code": "80", "outbound": {"cli": "8030752400"}}}
WAITING = {"choose": menu({"1": "bye"}, timeout=60), "bye": BYE}


class Site:
    """The embedded switch at the wall clock's pace, a CRM, and exoflow as a process."""

    def __init__(self, folder: Path) -> None:
        self.hall = Hall(folder)
        self.folder = folder
        self.switch = EmbeddedSwitch(("127.0.0.1", 1), trunk={"PRI1": 2000}, recordings=folder / "recordings", speed=1.0)
        self.switch.start()
        self.supervisors: list[Supervisor] = []

    def write(self, steps: Any = WAITING, *, switch: Any = None, account: Any = None, main: Any = None) -> Path:
        """The configuration's files; returns the main one."""
        self.hall.write(steps, TRUNKS, self.switch.event_socket_address, switch or {}, account or {}, main=main)
        return self.folder / "exoflow.yaml"

    def start(self, steps: Any = WAITING, **options: Any) -> Supervisor:
        return self.supervise(self.write(steps), **options)

    def supervise(self, config: Path, **options: Any) -> Supervisor:
        one = Supervisor(config, log=self.folder / "exoflow.log", **options)
        self.supervisors.append(one)
        one.start().wait_ready()
        self.switch.connect_to(one.address)
        return one

    def call(self, **options: Any) -> Any:
        return self.switch.call(OURS, CALLER, **options)

    def stop(self) -> None:
        for one in self.supervisors:
            one.stop()
        self.switch.stop()
        self.hall.crm.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()


# --- the supervisor's side ---------------------------------------------------------------------


def test_the_supervisors_socket_is_taken_and_readiness_told(site: Site) -> None:
    supervisor = site.start({"hello": say("Hello."), "bye": BYE})
    life = supervisor.life
    assert life.ready_at is not None
    assert supervisor.address[1] != 0
    phone = site.call()
    assert phone.wait(10)
    assert phone.texts == ["Hello."]
    assert any("waits for calls on 127.0.0.1:" in told.get("STATUS", "") for _, told in life.said)


def test_without_a_supervisor_it_listens_itself(site: Site) -> None:
    config = site.write(switch={"listen": "127.0.0.1:0"})
    process = subprocess.Popen([EXOFLOW, "serve", "-c", config], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        port = int(line.split("127.0.0.1:")[1].split(";")[0])
        socket.create_connection(("127.0.0.1", port), 5).close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_port_that_is_taken_is_said_with_the_cure(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = site.write(switch={"listen": f"127.0.0.1:{port}"})
        ended = subprocess.run([EXOFLOW, "serve", "-c", config], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: another process does" in ended.stderr
    assert "systemctl stop exoflow.socket" in ended.stderr


def test_the_watchdog_is_fed_from_the_loop_and_kills_what_stands_still(site: Site) -> None:
    supervisor = site.start(watchdog=1.0)
    life = supervisor.life
    eventually(lambda: len([1 for _, told in life.said if "WATCHDOG" in told]) >= 4)
    assert life.ended_at is None
    supervisor.kill(signal.SIGSTOP)
    stopped = time.monotonic()
    supervisor.wait_ended(life)
    assert life.starved
    assert life.returncode == -signal.SIGKILL
    assert life.ended_at is not None
    assert life.ended_at - stopped < 1.5
    assert supervisor.wait_ready(lives=2).started_at - life.ended_at < 0.3
