"""The programs that are measured: started, told apart, and read from outside."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
START_SECONDS = 20.0


def free_port() -> int:
    """A port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Program:
    """A running program and where it listens."""

    process: subprocess.Popen[str]
    port: int

    def cpu(self) -> float:
        """Seconds of CPU (user and system, all threads) since its start, to the nanosecond: the process's own CPU clock."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def memory(self) -> int:
        """Bytes resident."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(self.process.pid)


@contextmanager
def program(*command: str, port: int, ready: str) -> Iterator[Program]:
    """Runs a Python program of the project until the block ends; it is ready when it prints a line with `ready` in it."""
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=PROJECT
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if ready in line:
                break
        else:
            raise ChildProcessError(f"{' '.join(command)} ended with {process.wait(START_SECONDS)}")
        yield Program(process, port)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@contextmanager
def app(name: str, port: int | None = None) -> Iterator[Program]:
    """One of bench.apps."""
    at = port or free_port()
    with program("-m", f"bench.apps.{name}", str(at), port=at, ready="ready") as running:
        yield running


def load(way: str, port: int, count: int, *options: str) -> dict[str, Any]:
    """Runs bench.load to its end; what it found."""
    command: Sequence[str] = [sys.executable, "-m", "bench.load", way, str(port), str(count), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=120, check=False)
    if done.returncode:
        raise ChildProcessError(f"bench.load {way}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
