"""Finds, configures, starts and stops a FreeSWITCH of the tests' own: loopback only, own folders, free ports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import gevent
from support.esl import EventSocket, Gone

START_SECONDS = 40.0
"""FreeSWITCH is ready some 4 s after its start; two at once on a busy machine need more."""

PLACES = ("/usr/local/freeswitch/bin", "/opt/freeswitch/bin", "/opt/freeswitch", "/usr/bin")


def find_freeswitch() -> Path | None:
    """The binary: from the environment's FREESWITCH (a file or the folder it is in), PATH, or the usual places."""
    named = os.environ.get("FREESWITCH")
    if named:
        path = Path(named)
        for candidate in (path, path / "freeswitch", path / "bin" / "freeswitch"):
            if candidate.is_file():
                return candidate
        raise FileNotFoundError(f"FREESWITCH={named} names no freeswitch binary")
    found = shutil.which("freeswitch") or shutil.which("freeswitch", path=os.pathsep.join(PLACES))
    return Path(found) if found else None


class FreeSwitch:
    """One running FreeSWITCH. `conf` must hold a whole configuration whose event socket is on 127.0.0.1:`event_port`."""

    def __init__(self, binary: Path, folder: Path, *, event_port: int, password: str) -> None:
        self.folder, self.conf, self.log = folder, folder / "conf", folder / "log"
        self.recordings = folder / "recordings"
        self.event_port, self.password = event_port, password
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process without waiting for it; `wait_ready` does."""
        folders = {name: self.folder / name for name in ("log", "db", "run", "storage", "recordings")}
        for path in folders.values():
            path.mkdir(parents=True, exist_ok=True)
        options = [part for name, path in folders.items() for part in (f"-{name}", str(path))]
        with (self.folder / "stdout").open("wb") as stdout:
            self._process = subprocess.Popen(
                [str(self._binary), "-conf", str(self.conf), *options, "-np", "-nonat", "-nf", "-nc"],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Until the event socket answers and says that the switch is ready."""
        with gevent.Timeout(START_SECONDS, TimeoutError(f"FreeSWITCH not ready in {START_SECONDS:g} s; see {self.folder}")):
            while True:
                if self._process is not None and self._process.poll() is not None:
                    raise ChildProcessError(f"FreeSWITCH ended with {self._process.returncode}; see {self.folder}")
                try:
                    link = self.connect()
                except (ConnectionError, PermissionError):
                    gevent.sleep(0.1)
                    continue
                ready = "is ready" in link.api("status")
                link.close()
                if ready:
                    return
                gevent.sleep(0.1)

    def connect(self, *events: str) -> EventSocket:
        """A new connection to the event socket, subscribed to `events`."""
        return EventSocket("127.0.0.1", self.event_port, self.password, *events)

    def stop(self) -> None:
        """Orderly, so that CDRs are written; by force when that takes longer than 10 s."""
        if self._process is None or self._process.poll() is not None:
            return
        try:
            self.connect().api("fsctl shutdown now", deadline=2)
        except Gone:
            # that is how it answers
            pass
        except (OSError, gevent.Timeout):
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)

    def version(self) -> str:
        """What `version` says, for reports."""
        link = self.connect()
        try:
            return link.api("version")
        finally:
            link.close()

    def log_lines(self, *, containing: str = "") -> list[str]:
        path = self.log / "freeswitch.log"
        if not path.exists():
            return []
        return [line for line in path.read_text(errors="replace").splitlines() if containing in line]


def replace_once(path: Path, old: str, new: str) -> None:
    """Replaces a text that must be there exactly once: a substitution that no longer fits must fail, not pass unseen."""
    text = path.read_text()
    if text.count(old) != 1:
        raise ValueError(f"{path}: {old!r} is there {text.count(old)} times, not once")
    path.write_text(text.replace(old, new))


def fill(template: Path, target: Path, values: Mapping[str, object]) -> None:
    """Writes `template` to `target` with each @NAME@ replaced."""
    text = template.read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    target.write_text(text)
