"""`exoflow serve` on a box where something is missing: what it says, with the cure, and never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.threadpool import ThreadPool

from exoflow.threads import in_thread

SECONDS = 60
MAIN: dict[str, Any] = {
    "trunks": {"PRI1": {"span": "PRI1", "std_code": "80"}},
    "prompts": {"engine": "text"},
    "switch": {"listen": "127.0.0.1:0", "event_socket": {"port": 1, "password": "x"}},
}
ACCOUNT = {
    "name": "Acme",
    "numbers": [{"number": "+918030752400", "trunk": "PRI1", "flow": "main"}],
    "flows": {"main": {"start": "hi", "steps": {"hi": {"greeting": {"say": "Hi."}, "next": "bye"}, "bye": {"hangup": {}}}}},
}
Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """What `exoflow serve` says until it ends, or until it has said the text."""

    def run(until: str = "", **changes: Any) -> str:
        main = MAIN | {key: value for key, value in changes.items() if key != "switch"}
        main["switch"] = MAIN["switch"] | changes.get("switch", {})
        (tmp_path / "accounts").mkdir(exist_ok=True)
        (tmp_path / "exoflow.yaml").write_text(json.dumps(main))
        (tmp_path / "accounts" / "acme.yaml").write_text(json.dumps(ACCOUNT))
        command = [sys.executable, "-c", "from exoflow.cli import main; main()", "serve", "-c", str(tmp_path / "exoflow.yaml")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = ""
        try:
            assert process.stdout is not None
            with gevent.Timeout(SECONDS):
                for line in process.stdout:
                    said += line
                    if until and until in line:
                        break
        finally:
            process.kill()
            process.wait()
        assert "Traceback" not in said
        assert until in said
        return said

    return run


def test_the_fallbacks_folder_is_missing(serve: Serve) -> None:
    said = serve("make the folder", switch={"fallback": "nowhere"})
    assert "ThreadPool" not in said
    serve("waits for calls", switch={"fallback": "nowhere"})


def test_the_cdr_folder_is_a_file(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "cdr").touch()
    serve("let exoflow's user into it", switch={"cdr": "cdr"})


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"switch": {"listen": "192.0.2.1:8084"}}, "write `switch.listen` as 127.0.0.1:8084"),
        ({"switch": {"listen": "no-such-host.invalid:8084"}}, "write `switch.listen` as 127.0.0.1:8084"),
        ({"store": "sqlite:///no/such/exoflow.db"}, "mkdir -p"),
        ({"store": "sqlite:///accounts"}, "is a folder"),
        ({"prompts": {"engine": "text", "folder": "exoflow.yaml"}}, "prompts.folder"),
        ({"web": {"public_url": "https://calls.example", "link_secret_file": "no/such"}}, "exoflow's user"),
    ],
)
def test_it_does_not_start_and_says_why(serve: Serve, changes: dict[str, Any], cure: str) -> None:
    assert "Error: cannot" in serve(cure, **changes)


def test_the_port_of_the_web_is_taken(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        serve("Address already in use", web={"listen": f"127.0.0.1:{port}"})


@pytest.mark.parametrize("pool", [None, 1])
def test_an_error_in_a_thread_comes_out_where_it_is_waited_for(pool: int | None, capfd: pytest.CaptureFixture[str]) -> None:
    threads = None if pool is None else ThreadPool(pool)
    with pytest.raises(FileNotFoundError):
        in_thread(Path("/no/such").read_text, pool=threads)
    assert in_thread(sum, (1, 2), pool=threads) == 3
    gevent.sleep(0)
    assert capfd.readouterr().err == ""
