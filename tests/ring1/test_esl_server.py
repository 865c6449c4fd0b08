"""What a crowd does to the server: a thousand connects at once, more than there are descriptors, peers that say nothing."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from eslpeer import Peer
from gevent import socket
from hall import eventually

SCRIPT = Path(__file__).parent / "small_server.py"
CROWD = 1000
WAIT = 60.0  # wall seconds for a thousand calls on a busy machine


class Server:
    """The process."""

    def __init__(self, log: Path, max_calls: int, descriptors: int, connect_seconds: float) -> None:
        self.log = log
        arguments = [sys.executable, str(SCRIPT), str(max_calls), str(descriptors), str(connect_seconds)]
        with log.open("wb") as errors:
            self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def counters(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        found = json.loads(self.process.stdout.readline())
        assert isinstance(found, dict)
        return found

    def dial(self) -> Peer:
        return Peer(socket.create_connection(("127.0.0.1", self.port)))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    servers: list[Server] = []

    def start(max_calls: int, descriptors: int = 4096, connect_seconds: float = 5.0) -> Server:
        servers.append(Server(tmp_path / "log", max_calls, descriptors, connect_seconds))
        return servers[0]

    yield start
    for server in servers:
        server.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def causes(peers: list[Peer]) -> Counter[str]:
    """How each call was hung up, once all have been played to their ends."""
    playing = [gevent.spawn(peer.serve) for peer in peers]
    assert len(gevent.joinall(playing, timeout=WAIT)) == len(peers), "a call was left alone"
    hangups = [[command.argument for command in peer.commands if command.application == "hangup"] for peer in peers]
    return Counter(one[0] if one else "none" for one in hangups)


def test_a_thousand_connects_at_once(serving: Callable[..., Server]) -> None:
    server = serving(max_calls=2 * CROWD)
    assert causes([server.dial() for _ in range(CROWD)]) == {"NORMAL_CLEARING": CROWD}
    eventually(lambda: server.counters()["active"] == 0)
    assert causes([server.dial()]) == {"NORMAL_CLEARING": 1}


def test_a_thousand_connects_at_once_above_the_limit(serving: Callable[..., Server]) -> None:
    server = serving(max_calls=50)
    found = causes([server.dial() for _ in range(CROWD)])
    assert set(found) == {"NORMAL_CLEARING", "USER_BUSY"}
    assert found.total() == CROWD
    assert found["NORMAL_CLEARING"] >= 50
    assert server.counters()["refused"] == found["USER_BUSY"]
    assert causes([server.dial()]) == {"NORMAL_CLEARING": 1}


def test_no_descriptor_is_left(serving: Callable[..., Server]) -> None:
    server = serving(max_calls=1000, descriptors=40)
    silent = [server.dial() for _ in range(100)]
    eventually(lambda: server.counters()["emfile"] > 3)
    began, before = time.monotonic(), server.counters()
    gevent.sleep(1.0)
    after = server.counters()
    seconds = time.monotonic() - began
    assert after["emfile"] - before["emfile"] <= 12 * seconds, "it pauses between two looks"
    assert after["cpu"] - before["cpu"] < 0.3 * seconds, "nor does it spin"
    complaints = server.log.read_text().count("no call can be accepted")
    assert 1 <= complaints <= 3 + seconds
    assert "Traceback" not in server.log.read_text()
    for peer in silent:
        peer.close()
    assert causes([server.dial() for _ in range(5)]) == {"NORMAL_CLEARING": 5}


def test_silent_peers_go_and_are_counted(serving: Callable[..., Server]) -> None:
    server = serving(max_calls=10, connect_seconds=0.3)
    silent = [server.dial() for _ in range(300)]
    assert causes([server.dial() for _ in range(5)]) == {"NORMAL_CLEARING": 5}, "they took the places of calls"
    assert all(peer.eof(WAIT) for peer in silent)
    assert server.counters()["silent"] == 300
    assert server.counters()["refused"] == 0
