"""A small systemd for tests: keeps the listening socket over restarts, hears notifications, and kills what stands still.

The deploy units' behaviour in some lines: LISTEN_FDS, Type=notify, WatchdogSec with SIGKILL, Restart=always after RestartSec.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket as plain
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import gevent
from gevent import socket

RESTART_SECONDS = 0.1  # RestartSec in deploy/exoflow.service
WATCHDOG_SECONDS = 5.0  # WatchdogSec
STOP_SECONDS = 5.0  # TimeoutStopSec
LOOK_SECONDS = 0.01
EXOFLOW = Path(sys.executable).with_name("exoflow")
# LISTEN_PID is the process's own id, which only that process knows; this one becomes exoflow
_AS_SYSTEMD = """
import os, sys
fd = int(sys.argv[1])
if fd != 3:
    os.dup2(fd, 3)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class Life:
    """One process from start to exit. Times are of the monotonic clock."""

    process: subprocess.Popen[bytes]
    started_at: float
    ready_at: float | None = None
    stopping_at: float | None = None
    ended_at: float | None = None
    starved: bool = False  # the watchdog killed it
    fed_at: float | None = None
    said: list[tuple[float, dict[str, str]]] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.returncode


class Supervisor:
    """Runs `command` (default: `exoflow serve -c CONFIG`) until `stop`. What it prints goes to `log`."""

    def __init__(
        self,
        config: Path | None = None,
        *,
        command: Sequence[str | Path] = (),
        log: Path,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        backlog: int = 4096,
        watchdog: float = WATCHDOG_SECONDS,
        restart_after: float | None = RESTART_SECONDS,
        environ: Mapping[str, str] = {},
    ) -> None:
        """`restart_after=None`: what has ended stays so until `start_process`."""
        self.command = [str(word) for word in command or (EXOFLOW, "serve", "-v", "-c", config)]
        self.log = log
        self.watchdog, self.restart_after = watchdog, restart_after
        self.lives: list[Life] = []
        self._environ = {**os.environ, "PYTHONUNBUFFERED": "1", **environ}
        self._folder = Path(mkdtemp(prefix="sup-"))  # a socket's path has at most 108 characters
        self._hearing = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._hearing.bind(str(self._folder / "notify"))
        self._hearing.setsockopt(plain.SOL_SOCKET, plain.SO_PASSCRED, 1)
        self.listening = plain.create_server(listen, backlog=backlog)
        self._greenlets: list[gevent.Greenlet] = []
        self._stopping = False

    # --- life ---

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listening.getsockname()[:2]
        return str(host), int(port)

    @property
    def life(self) -> Life:
        """The process that runs, or ran last."""
        return self.lives[-1]

    def start(self) -> Supervisor:
        self.start_process()
        self._greenlets = [gevent.spawn(self._hear), gevent.spawn(self._keep)]
        return self

    def start_process(self) -> Life:
        fd = os.dup(self.listening.fileno())
        os.set_inheritable(fd, True)
        told = {
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "calls",
            "NOTIFY_SOCKET": str(self._folder / "notify"),
            "WATCHDOG_USEC": str(round(self.watchdog * 1e6)),
        }
        try:
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _AS_SYSTEMD, str(fd), *self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**self._environ, **told},
                    pass_fds=(fd,),
                )
        finally:
            os.close(fd)
        self.lives.append(Life(process, time.monotonic()))
        return self.life

    def wait_ready(self, seconds: float = 20, *, lives: int | None = None) -> Life:
        """The process that accepts calls: the `lives`th, or the present one."""
        wanted = len(self.lives) if lives is None else lives
        latest = time.monotonic() + seconds
        while len(self.lives) < wanted or self.lives[wanted - 1].ready_at is None:
            if time.monotonic() > latest:
                raise TimeoutError(f"not ready in {seconds:g} s: {self.log_text()[-2000:]}")
            gevent.sleep(LOOK_SECONDS)
        return self.lives[wanted - 1]

    def wait_ended(self, life: Life, seconds: float = 20) -> Life:
        with gevent.Timeout(seconds, TimeoutError(f"process {life.pid} still runs after {seconds:g} s")):
            while life.ended_at is None:
                gevent.sleep(LOOK_SECONDS)
        return life

    def kill(self, number: int = signal.SIGKILL) -> Life:
        """Sends a signal to the process that runs; it is restarted when it ends."""
        life = self.life
        os.kill(life.pid, number)
        return life

    def restart(self, seconds: float = 20) -> Life:
        """As `systemctl restart` does: SIGTERM, SIGKILL if that was not enough, the next start. The life that then accepts."""
        life = self.kill(signal.SIGTERM)
        try:
            self.wait_ended(life, STOP_SECONDS)
        except TimeoutError:
            life.process.kill()
        return self.wait_ready(seconds, lives=len(self.lives) + 1)

    def stop(self) -> None:
        """Ends everything; leaves no process behind."""
        self._stopping = True
        gevent.killall(self._greenlets)
        for life in self.lives:
            if life.process.poll() is None:
                self._end(life)
        self._hearing.close()
        self.listening.close()
        shutil.rmtree(self._folder)

    def log_text(self) -> str:
        """What all its processes said."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # --- what a supervisor does ---

    def _end(self, life: Life) -> None:
        with suppress(ProcessLookupError):
            life.process.send_signal(signal.SIGCONT)
            life.process.send_signal(signal.SIGTERM)
        try:
            life.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            life.process.kill()
            life.process.wait()

    def _hear(self) -> None:
        while True:
            message, ancillary, _, _ = self._hearing.recvmsg(4096, plain.CMSG_SPACE(12))
            at = time.monotonic()
            pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder) if ancillary else 0
            told = dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)
            for life in self.lives:
                if life.pid == pid:
                    _note(life, at, told)

    def _keep(self) -> None:
        """Looks after the present process: starves it, and starts the next."""
        while True:
            gevent.sleep(LOOK_SECONDS)
            life, now = self.life, time.monotonic()
            if life.process.poll() is None:
                if life.fed_at is not None and now - life.fed_at > self.watchdog and not life.starved:
                    life.starved = True
                    life.process.kill()
            elif life.ended_at is None:
                life.ended_at = now
            elif self.restart_after is not None and now - life.ended_at >= self.restart_after:
                self.start_process()


def _note(life: Life, at: float, told: dict[str, str]) -> None:
    life.said.append((at, told))
    if "READY" in told:
        life.ready_at = life.ready_at or at
        life.fed_at = at
    if "STOPPING" in told:
        life.stopping_at = at
    if "WATCHDOG" in told:
        life.fed_at = at
