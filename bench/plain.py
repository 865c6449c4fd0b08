"""The plain call: the contestants side by side, interleaved, on recorded frames and on a real FreeSWITCH."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import quantiles

from bench.processes import PROJECT, app, load

CONTESTANTS = ("stock", "minimum", "exoflow_esl")
WARM_UP = 100  # calls before each measurement: imports, caches, allocator


Figures = dict[str, list[float]]  # by contestant, once a round


def _rotated(number: int) -> list[str]:
    """Each contestant goes first, in the middle and last."""
    shift = number % len(CONTESTANTS)
    return [*CONTESTANTS[shift:], *CONTESTANTS[:shift]]


def cpu_per_call(*, rounds: int, calls: int, at_once: int) -> Figures:
    """Seconds of the app's CPU for one call, at a switch's own pace."""
    figures: Figures = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name in _rotated(number):
            with app(name) as running:
                load("closed", running.port, WARM_UP, "--at-once", str(at_once))
                before = running.cpu()
                load("closed", running.port, calls, "--at-once", str(at_once))
                figures[name].append((running.cpu() - before) / calls)
    return figures


def calls_per_second(*, rounds: int, calls: int, at_once: int) -> Figures:
    """Calls in a second of the wall clock when the switch takes no time."""
    figures: Figures = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name in _rotated(number):
            with app(name) as running:
                load("closed", running.port, WARM_UP, "--at-once", str(at_once), "--no-pauses")
                found = load("closed", running.port, calls, "--at-once", str(at_once), "--no-pauses")
                figures[name].append(calls / found["seconds"])
    return figures


def first_command(*, calls: int, rate: float) -> dict[str, tuple[float, float]]:
    """Seconds from the switch's connect to the app's first bytes at a steady rate: median and 99th percentile."""
    found = {}
    for name in ("stock", "exoflow_esl"):
        with app(name) as running:
            load("closed", running.port, WARM_UP, "--at-once", "20")
            steps = quantiles(load("steady", running.port, calls, "--rate", str(rate))["latencies"], n=100)
            found[name] = (steps[49], steps[98])
    return found


def memory_per_call(*, calls: int) -> dict[str, float]:
    """Resident bytes for one idle call, so many of them at once, on the wire's layer alone."""
    found = {}
    for name in ("stock", "exoflow_esl"):
        with app(name) as running:
            load("closed", running.port, WARM_UP, "--at-once", "20")
            before = running.memory()
            command = [sys.executable, "-m", "bench.load", "hold", str(running.port), str(calls)]
            holding = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
            assert holding.stdout is not None
            if holding.stdout.readline().strip() != "held":
                raise ChildProcessError("bench.load could not hold its calls")
            found[name] = (running.memory() - before) / calls
            holding.communicate("\n", timeout=20)
    return found


def on_freeswitch(*, rounds: int, calls: int, rate: float) -> tuple[str, Figures] | None:
    """FreeSWITCH's version and the CPU for one call behind it; None where there is none."""
    # imported here: its harness changes the module path
    from bench.freeswitch import Callers, find_freeswitch, freeswitch

    if find_freeswitch() is None:
        return None
    figures: Figures = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder, freeswitch(Path(folder)) as box:
        version = box.version().split(" ")[2].partition("-")[0]
        for number in range(rounds):
            for name in _rotated(number):
                with app(name, box.exoflow_hosts.port) as running:
                    callers = Callers(box)
                    callers.run(20, rate)
                    before = running.cpu()
                    ended = callers.run(calls, rate)
                    figures[name].append((running.cpu() - before) / ended)
                    callers.close()
    return version, figures
