"""exoflow is killed at random moments under calls on a real FreeSWITCH: silence, keys, talks, records and deliveries.

`python -m faults kills`; by itself with other figures: `python -m faults.kills KILLS [SEED]`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()

import random
import sys
import time
from collections.abc import Iterator

import gevent

from faults import FREESWITCH, Row
from faults.callers import Kind, Told, begin, call, live, plan
from faults.judge import Findings, judge, percentile, rests, unsent
from faults.killed import Killed
from faults.switches import switches

SEED = 4
KILLS = 200
# seconds from one to the next: a call's third death within 10 s would be its last (dialplan/from-pri/40-died.xml)
APART = (5.2, 7.2)
GAP_KILLS, TYPISTS = 30, 4  # a kill, and callers who meet it
LAST_KEY = (2.5, 5.0)  # seconds from SETUP to a question's last key: six keys, 0.4 s each at least
STREAMS: tuple[Kind, ...] = ("prompts", "prompts", "keys", "keys", "whole", "whole", "whole")
PAUSE = (0.0, 1.0)  # seconds between two calls of a stream
SETTLE_SECONDS = 40.0
SILENCE_SECONDS = 2.0  # wanted of 99 in 100


def play(site: Killed, kills: int, seed: int) -> list[Told]:
    """Streams of calls, one after another in each, until exoflow was killed so often."""
    over: list[bool] = []
    calls: list[Told] = []

    def stream(number: int, kind: Kind) -> None:
        chance = random.Random(f"{seed}/{number}")
        while not over:
            gevent.sleep(chance.uniform(*PAUSE))
            calls.append(call(site, plan(chance, kind)))

    streams = [gevent.spawn(stream, number, kind) for number, kind in enumerate(STREAMS)]
    chance = random.Random(seed)
    for number in range(kills):
        gevent.sleep(chance.uniform(*APART))
        site.kill()
        if number % 20 == 19:
            print(f"    {number + 1} kills, {len(calls)} calls", flush=True)
    over.append(True)
    gevent.joinall(streams, raise_error=True)
    settle(site, calls)
    return calls


def types_in_gap(site: Killed, kills: int, seed: int) -> list[Told]:
    """Callers who type on while exoflow is dead; it is killed around their last key of a question."""
    chance, calls = random.Random(f"{seed}/gap"), list[Told]()
    for _ in range(kills):
        now = [begin(site, plan(chance, "keys")) for _ in range(TYPISTS)]
        living = [gevent.spawn(live, told) for told in now]
        gevent.sleep(chance.uniform(*LAST_KEY))
        site.kill()
        gevent.joinall(living, raise_error=True)
        calls += now
    return calls


def settle(site: Killed, calls: list[Told]) -> None:
    """Until every call's record is closed and delivered; what is not by then is found by the judge."""
    deadline = time.monotonic() + SETTLE_SECONDS
    for told in calls:
        while ((state := site.stored(told.channel)) is None or state.outcome is None) and time.monotonic() < deadline:
            gevent.sleep(0.1)
    while (list(rests(site)) or unsent(site)) and time.monotonic() < deadline:
        gevent.sleep(0.2)


def rows(site: Killed, found: Findings, kills: int, seed: int) -> Iterator[Row]:
    counts, phases = found.counts, found.phases
    met = ", ".join(f"{count} in {name}" for name, count in phases.most_common())
    held = f"seed {seed}, {kills} kills, {counts['calls']} calls, {phases.total()} meetings of the two ({met})"
    violations = [*found.violations, *rests(site)]
    for line in [*violations[:40], *found.long]:
        print("   ", line)
    yield Row.judged("kill -9 at random moments: nothing lost, nothing twice", FREESWITCH, len(violations), held)
    yield _silence(found, [life.ready_at - life.started_at for life in site.supervisor.lives[1:] if life.ready_at])
    yield from _keys(found)
    lost = counts["bridges lost"]
    told = (
        f"{counts['talks that met a kill']} talks met a kill, {counts['attempts that met a kill while it rang']} while it rang"
    )
    yield Row.judged("bridges", FREESWITCH, lost, f"{told}: {lost} lost")
    lost = counts["deliveries lost"]
    told = f"{counts['records']} records of {counts['calls']} calls, {lost} deliveries lost"
    yield Row.judged("deliveries", FREESWITCH, lost, told)


def _keys(found: Findings) -> Iterator[Row]:
    counts = found.counts
    gap = counts["keys lost while nothing asked"]
    lost = counts["keys lost"] - gap
    told = f"{counts['keys within 3 s of a kill']} keys of {counts['calls with keys within 3 s of a kill']} calls: {lost} lost"
    yield Row.judged("keys within 3 s of a kill", FREESWITCH, lost, told)
    told = f"{counts['keys typed while it was dead and nothing asked']} keys: {gap} lost"
    yield Row.judged("keys while exoflow is dead and nothing asks for them", FREESWITCH, gap, told)


def _silence(found: Findings, starts: list[float]) -> Row:
    met, usual = found.silences, found.usual
    if not met:
        return Row("silence behind a prompt", FREESWITCH, "NOT SHOWN", "no kill met one")
    p50, p99 = percentile(met, 0.5), percentile(met, 0.99)
    told = (
        f"{len(met)} with a kill: p50 {p50:.2f} s, p99 {p99:.2f} s, longest {max(met):.2f} s; "
        f"{len(usual)} without: p50 {percentile(usual, 0.5):.2f} s, p99 {percentile(usual, 0.99):.2f} s; "
        f"from a start of exoflow until it accepts: p50 {percentile(starts, 0.5):.2f} s, p99 {percentile(starts, 0.99):.2f} s"
    )
    return Row.judged("silence behind a prompt", FREESWITCH, int(p99 > SILENCE_SECONDS), told)


def run(kills: int = KILLS, seed: int = SEED) -> Iterator[Row]:
    with switches() as running:
        if running is None:
            yield Row("kill -9 at random moments", FREESWITCH, "NOT SHOWN", "no FreeSWITCH found")
            return
        box, exchange = running
        site = Killed(box, exchange, box.folder.parent / "exoflow")
        try:
            site.start()
            print(f"    in {site.folder}")
            calls = types_in_gap(site, min(kills, GAP_KILLS), seed) + play(site, kills, seed)
            kills += min(kills, GAP_KILLS)
            yield from rows(site, judge(site, calls), kills, seed)
        finally:
            site.stop()


if __name__ == "__main__":
    for row in run(*map(int, sys.argv[1:])):
        print(row)
