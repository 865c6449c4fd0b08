"""The systemd units: nothing in them is unknown to systemd, and they say what code and tests rely on."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from support import supervisor

from exoflow.config.load import load
from exoflow.config.model import Switch
from exoflow.supervision import CALLS

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = ("exoflow.service", "exoflow.socket")


def unit(name: str) -> ConfigParser:
    parsed = ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read(DEPLOY / name)
    return parsed


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_knows_every_word_of_them(tmp_path: Path) -> None:
    for name in UNITS:
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/exoflow/bin/exoflow", str(supervisor.EXOFLOW)))
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    ours = [line for line in (said.stdout + said.stderr).splitlines() if "exoflow" in line]
    assert (said.returncode, ours) == (0, [])


def test_they_say_what_the_tests_supervisor_does() -> None:
    service = unit("exoflow.service")["Service"]
    assert (service["Type"], service["Restart"], service["WatchdogSignal"]) == ("notify", "always", "SIGKILL")
    assert float(service["WatchdogSec"]) == supervisor.WATCHDOG_SECONDS
    assert service["RestartSec"] == f"{supervisor.RESTART_SECONDS * 1000:.0f}ms"
    assert unit("exoflow.service")["Unit"]["StartLimitIntervalSec"] == "0"
    assert float(service["TimeoutStopSec"]) >= supervisor.STOP_SECONDS
    assert int(service["LimitNOFILE"]) > 3 * 5000  # switch.max_calls at its most: two sockets and some files a call


def test_the_socket_is_the_one_that_exoflow_takes() -> None:
    socket = unit("exoflow.socket")["Socket"]
    assert socket["FileDescriptorName"] == CALLS
    assert socket["ListenStream"] == Switch().listen
    assert socket["TriggerLimitIntervalSec"] == "0"


def test_the_installation_page_has_a_configuration_that_is_good_and_folders_that_are_there(tmp_path: Path) -> None:
    page = (DEPLOY.parent / "docs" / "install.md").read_text()
    written = re.search(r"# /etc/exoflow/exoflow.yaml\n(.*?)       …\n", page, re.DOTALL)
    assert written is not None
    (tmp_path / "exoflow.yaml").write_text(f"{written[1]}       trunks: {{PRI1: {{span: PRI1}}}}\n")
    (tmp_path / "esl.password").write_text("long and secret")
    shutil.copytree(DEPLOY.parent / "examples/clinic/accounts", tmp_path / "accounts")
    config = load(tmp_path / "exoflow.yaml", {}).config
    assert config is not None, [str(found) for found in load(tmp_path / "exoflow.yaml", {}).errors]
    made = {path for line in page.splitlines() if "install -d" in line for path in re.findall(r"(?<= )/[\w/.-]+", line)}
    service = unit("exoflow.service")["Service"]
    writable = ["/var/lib/exoflow", *(path.lstrip("-") for path in service["ReadWritePaths"].split())]
    for path in (config.switch.recordings, config.switch.cdr, config.switch.fallback, config.spill, config.prompts.folder):
        assert str(path) in made
        assert any(Path(one) in (path, *path.parents) for one in writable), f"{path} is read-only to the unit"
