"""The table of a run, as bench/RESULTS.md has it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "RESULTS.md"
BY_FAULTS = "## Nothing drops a call"  # what `make faults` measured; it stays as it is
NAMES = {"stock": "stock greenswitch 0.0.19", "minimum": "hand-written minimum", "exoflow_esl": "exoflow's esl layer"}
MILLI, MICRO, KIB = 1e3, 1e6, 1 / 1024


def spread(values: Sequence[float], unit: float, digits: int = 2) -> str:
    """`median (least-most)`."""
    low, middle, high = (f"{value * unit:.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low}-{high})"


def verdict(value: float, reach: float, unit: str) -> str:
    """`reach | met`, the value's own digits beside what it had to stay under."""
    return f"at most {reach:g}{unit} | {'**met**' if value <= reach else '**not met**'}"


def machine(freeswitch: str) -> list[str]:
    """What it ran on: no names, no paths."""
    cpu = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    mhz = next((line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "cpu MHz" in line), "?")
    linux = ".".join(platform.release().split(".")[:2])
    virtual = "hypervisor" in Path("/proc/cpuinfo").read_text()
    return [
        f"- CPU: {cpu}, {mhz} MHz, {os.cpu_count()} cores{', virtual machine' if virtual else ''}; Linux {linux}",
        f"- Python {platform.python_version()}, gevent {version('gevent')}, greenswitch {version('greenswitch')}, "
        f"FreeSWITCH {freeswitch}",
    ]


def contestants(title: str, figures: dict[str, list[float]], unit: float, digits: int, *, less: bool = True) -> list[str]:
    """A table of the three, with their ratios taken from the medians."""
    middle = {name: median(values) for name, values in figures.items()}
    lines = [f"| {title} | median (least-most) | to stock | to minimum |", "| --- | --- | --- | --- |"]
    for name, values in figures.items():
        stock, minimum = middle[name] / middle["stock"], middle[name] / middle["minimum"]
        lines.append(f"| {NAMES[name]} | {spread(values, unit, digits)} | {stock:.2f} | {minimum:.2f} |")
    if less:
        reach = [
            verdict(middle["exoflow_esl"] / middle["stock"], 0.5, " of stock"),
            verdict(middle["exoflow_esl"] / middle["minimum"], 1.4, " of the minimum"),
        ]
        lines += ["", f"Reach: {'; '.join(one.replace(' | ', ': ') for one in reach)}."]
    return lines


def write(sections: Sequence[str], *, freeswitch: str, minutes: float, load: tuple[float, float]) -> None:
    """RESULTS.md; `load` is the load average of one minute before and after."""
    head = [
        "# What exoflow costs",
        "",
        "Written by `make bench` (`python -m bench`). All figures are measured in one run: a table's contestants in turns,",
        "each in a process of its own, their order rotated from round to round.",
        "CPU is the process's own clock (user and system, all threads).",
        "",
        f"- {date.today():%d %B %Y}; {minutes:.1f} minutes; load average {load[0]:.2f} before, {load[1]:.2f} after the run",
        *machine(freeswitch),
        "",
    ]
    _, kept, by_faults = RESULTS.read_text().partition(BY_FAULTS) if RESULTS.exists() else ("", "", "")
    RESULTS.write_text("\n".join([*head, *sections]) + "\n" + (f"\n{kept}{by_faults}" if kept else ""))
