"""Both rings side by side: starting FreeSWITCH for scenarios, and comparing what was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import gevent
import yaml
from ring2.box import Box
from ring2.freeswitch import find_freeswitch
from ring2.network import Exchange

from scenarios.freeswitch import OnFreeSwitch
from scenarios.script import HERE, Scenario
from scenarios.told import Told, differences

KNOWN = HERE / "differences.yaml"


@contextmanager
def both_switches(folder: Path) -> Iterator[Callable[[Sequence[Scenario]], OnFreeSwitch]]:
    """The box and the exchange, running; what is given makes a stage of scenarios on them."""
    binary = find_freeswitch()
    if binary is None:
        raise FileNotFoundError("no FreeSWITCH found; set FREESWITCH to its binary")
    exchange = Exchange(binary, folder / "exchange")
    box = Box(binary, folder / "box", exchange_sip_port=exchange.sip_port)
    try:
        exchange.start()
        box.start()
        exchange.wait_ready()
        box.wait_ready()
        box.listen()
        exchange.listen(box.sip_port)
        yield lambda scenarios: OnFreeSwitch(folder / "exoflow", scenarios, box, exchange)
    finally:
        gevent.joinall([gevent.spawn(box.stop), gevent.spawn(exchange.stop)])


@dataclass
class Compared:
    same: int = 0
    different: dict[str, list[str]] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    """listed in differences.yaml, and still different"""
    mended: list[str] = field(default_factory=list)


def compared(one: dict[str, Told], other: dict[str, Told]) -> Compared:
    """By scenario: does the embedded switch tell what FreeSWITCH tells?"""
    listed = known()
    found = Compared()
    for name in one:
        lines = differences(one[name], other[name])
        if not lines:
            found.same += 1
            found.mended += [name] if name in listed else []
        elif name in listed:
            found.known.append(name)
        else:
            found.different[name] = lines
    return found


def known() -> dict[str, str]:
    """Differences that are not mended yet, by scenario, with what is wrong."""
    return (yaml.safe_load(KNOWN.read_text(encoding="utf-8")) or {}) if KNOWN.exists() else {}
