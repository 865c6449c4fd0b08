"""A process that stood still touches no call that it had: what it has not lost comes back, what others have is left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from eslpeer import WAIT, Peer, channel_data, notice, tcp_pair
from gevent import socket
from hall import eventually

from exoflow.errors import Disconnected
from exoflow.esl import heart as heart_module
from exoflow.esl.heart import Heart
from exoflow.esl.session import CallSession

STILL, BEAT = 0.6, 0.05  # seconds, for 4 and 0.5
SCRIPT = Path(__file__).parent / "stood_still.py"


class App:
    """The process."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as errors:
            arguments = [sys.executable, str(SCRIPT), str(STILL), str(BEAT)]
            self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        """Stands still from here on."""
        self.process.send_signal(signal.SIGSTOP)
        eventually(lambda: Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
        self.stopped = time.monotonic()

    def wake(self) -> None:
        """After long enough."""
        gevent.sleep(max(0.0, self.stopped + 1.5 * STILL - time.monotonic()))
        self.process.send_signal(signal.SIGCONT)

    def dial(self) -> Peer:
        return Peer(socket.create_connection(("127.0.0.1", self.port)))

    def in_endless_audio(self) -> Peer:
        """A call of its own, seen from the switch."""
        peer = self.dial()
        assert peer.command().line == "connect"
        peer.send(channel_data())
        while (command := peer.command()).application != "playback":
            peer.reply()
            if command.application in ("sched_cancel", "answer"):
                peer.complete(command)
        peer.reply()
        return peer


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    app = App(tmp_path / "log")
    yield app
    app.process.send_signal(signal.SIGCONT)
    app.process.kill()
    app.process.wait()


def arrived(peer: Peer, seconds: float = 0.3) -> bytes | None:
    """What came; nothing at its end; None when nothing came and the connection is still there."""
    peer.sock.settimeout(seconds)
    try:
        return peer.sock.recv(65536)
    except TimeoutError:
        return None


def test_a_process_that_stood_still_writes_nothing_to_any_call_it_had(app: App) -> None:
    still_its_own, another_s, ended = (app.in_endless_audio() for _ in range(3))
    app.stop()
    # what the switch does meanwhile
    another_s.event("CHANNEL_EXECUTE_COMPLETE", {"Application": "playback", "Caller-Destination-Number": "exoflow_lease"})
    ended.event("CHANNEL_HANGUP", {"Hangup-Cause": "NORMAL_CLEARING"})
    ended.send(notice("linger"))
    backlog = app.dial()
    app.wake()
    assert arrived(still_its_own, WAIT) == b"", "closed without a command: the dialplan gives the call back at once"
    assert arrived(another_s) is None, "closing it would end the other's socket"
    assert arrived(ended, WAIT) == b""
    another_s.send(notice("linger"))
    assert arrived(another_s, WAIT) == b""
    # who came while it stood still is new to it
    assert backlog.command().line == "connect"
    assert "3 calls are given back" in app.log.read_text()
    assert app.in_endless_audio(), "and it goes on"


def test_calls_that_come_while_it_stands_still_and_fall_to_the_fallback(app: App) -> None:
    app.stop()
    peer = app.dial()
    app.wake()
    assert peer.command().line == "connect"
    away = b"Caller-Destination-Number: exoflow_fallback\nvariable_exo_fallback: guard\nvariable_uuid"
    peer.send(channel_data().replace(b"variable_uuid", away))
    assert arrived(peer) is None


def test_a_short_stop_is_nothing(app: App) -> None:
    peer = app.in_endless_audio()
    app.stop()
    app.process.send_signal(signal.SIGCONT)
    assert arrived(peer, 4 * BEAT) is None
    assert "stood still" not in app.log.read_text()


# --- in this process -----------------------------------------------------------------------------------


@pytest.fixture
def beating(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heart]:
    monkeypatch.setattr(heart_module, "STILL_SECONDS", STILL)
    monkeypatch.setattr(heart_module, "BEAT_SECONDS", BEAT)
    heart = Heart()
    heart.start()
    yield heart
    heart.stop()


def stand_still(seconds: float) -> None:
    """The loop does not turn."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_the_first_write_behind_a_stop_finds_out_before_the_next_beat(beating: Heart) -> None:
    ours, theirs = tcp_pair()
    session, peer = CallSession(("127.0.0.1", 0), ours, beating), Peer(theirs)
    stand_still(1.1 * STILL)
    with pytest.raises(Disconnected, match="stood still"):
        session.write(b"api status\n\n")
    assert peer.eof()
    assert peer._buffer == b""
    assert beating.stops == 1
    ours, theirs = tcp_pair()
    newer = CallSession(("127.0.0.1", 0), ours, beating)
    newer.write(b"api status\n\n")
    assert Peer(theirs).command().line == "api status"
    newer.stop()


def test_a_failing_task_of_the_heartbeat_does_not_stop_it(beating: Heart, caplog: pytest.LogCaptureFixture) -> None:
    beats: list[int] = []

    def fail() -> None:
        beats.append(1)
        raise ValueError("a fault of ours")

    beating.each_beat.append(fail)
    eventually(lambda: len(beats) > 2)
    assert "a fault of ours" in caplog.text


def test_a_heart_that_does_not_beat_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of a program without a server of ours."""
    monkeypatch.setattr(heart_module, "STILL_SECONDS", 0.0)
    heart = Heart()
    heart.check()
    assert heart.stops == 0
