"""An installation that was not finished, and a machine without FreeSWITCH."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import gevent
import pytest
from support.esl import EventSocket

from ring2.box import PROJECT, Box
from ring2.freeswitch import find_freeswitch


def test_without_secrets_the_event_socket_has_no_known_password(freeswitch: Path, tmp_path: Path) -> None:
    """An empty password would become mod_event_socket's well-known default."""
    box = Box(freeswitch, tmp_path, exchange_sip_port=9)
    (box.conf / "secrets.xml").unlink()
    box.start()
    try:
        deadline = time.monotonic() + 20
        for password in ("ClueCon", "CHANGE-ME", "$${exoflow_no_password}"):
            while True:
                try:
                    EventSocket("127.0.0.1", box.event_port, password)
                except PermissionError:
                    break
                except ConnectionError:
                    assert time.monotonic() < deadline
                    gevent.sleep(0.1)
                else:
                    pytest.fail(f"the event socket takes {password!r}")
    finally:
        box.stop()


def test_the_binary_is_looked_for_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "bin" / "freeswitch"
    binary.parent.mkdir()
    binary.write_text("")
    for named in (binary, binary.parent, tmp_path):
        monkeypatch.setenv("FREESWITCH", str(named))
        assert find_freeswitch() == binary
    monkeypatch.setenv("FREESWITCH", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="names no freeswitch binary"):
        find_freeswitch()


@pytest.mark.parametrize(("required", "status"), [("", 0), ("required", 1)])
def test_without_freeswitch_ring_2_says_so_loudly(required: str, status: int) -> None:
    """Skipped with a line nobody can miss; a failure where it is required."""
    run = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from gevent import monkey; monkey.patch_all()\n"
        "import pytest, ring2.freeswitch\n"
        "ring2.freeswitch.PLACES = ()\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'tests/ring2/test_dialplan.py', '-k', 'ends_it']))\n"
    )
    environment = {"PATH": "", "EXOFLOW_RING2": required, "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run([sys.executable, "-c", run], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stdout
    assert "RING 2 NOT RUN: no FreeSWITCH found" in done.stdout
