"""exoflow dead, frozen, or dying again and again under calls on a real FreeSWITCH: what each call meets, and its record.

`python -m faults away`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import gevent
from ring2.site import wait_for
from support.supervisor import RESTART_SECONDS, WATCHDOG_SECONDS

from faults import FREESWITCH, Row
from faults.callers import Kind, Plan, Telephone, Told, begin, leave, live, plan
from faults.judge import Findings, judge_all, judge_each, rests
from faults.killed import Killed
from faults.kills import settle
from faults.switches import switches

SEED = 5
RECORD_SECONDS = 30.0  # from the restart to a closed record, as promised
STARVED_SECONDS = 9.0  # of silence: the watchdog, the restart, and a question's own 0.6 s more
FROZEN_SECONDS = 28.0  # until a frozen app's call is somebody else's: lease and guard (docs/freeswitch-conf.md)
DEATHS_SECONDS = 3.5  # from the third death until somebody is rung
GUARD_SECONDS = 6.5  # the socket is kept for a process that does not come (docs/freeswitch-conf.md)
HELD_SECONDS = 0.3  # an app that had the call for less than 0.1 s counts as not there (dialplan/from-pri/40-died.xml)
NO_WATCHDOG = 3600.0
MENU = ((0.3, "1"),)
TALKS, RINGS = Telephone("answers", 0.5, 60.0), Telephone("nothing", 0.5, 0.0)


@dataclass(frozen=True)
class Rounds:
    """How often each experiment is done."""

    left: int = 5
    talked: int = 5
    starved: int = 5
    frozen: int = 2
    deaths: int = 3


# --- the caller leaves while no exoflow is there ---------------------------------------------------

LEAVERS: list[tuple[Plan, Callable[[Told], object]]] = [
    # a call, and when it is in its phase
    (Plan("prompts"), lambda told: told.phone.answered_at),
    (Plan("prompts"), lambda told: told.visit.requests("/idle")),
    (Plan("keys", ((0.2, "1"), (0.2, "2"))), lambda told: len(told.pressed) == 2),
    (Plan("whole", MENU, (RINGS,)), lambda told: told.attempts and told.attempts[0].alerting_at),
    (Plan("whole", MENU, (TALKS,)), lambda told: told.talk),
    (Plan("whole"), lambda told: told.phone.answered_at),
]


def leaves(site: Killed, chance: random.Random, took: list[float]) -> list[Told]:
    """A call in each phase; exoflow is killed and kept away, all leave, it comes back. `took`: from then to a closed record."""
    calls = [begin(site, one) for one, _ in LEAVERS]
    living = [gevent.spawn(live, told) for told in calls]
    for told, (_, there) in zip(calls, LEAVERS, strict=True):
        wait_for(lambda told=told, there=there: there(told), 15, f"{told.plan.kind} in its phase")
    site.supervisor.restart_after = None
    site.kill()
    gevent.joinall([gevent.spawn_later(chance.uniform(0.1, 1.9), leave, told) for told in calls], raise_error=True)
    gevent.joinall(living, raise_error=True)
    gevent.sleep(chance.uniform(0.2, 3.0))
    begun = time.monotonic()
    site.supervisor.restart_after = RESTART_SECONDS
    for told in calls:
        closed = lambda told=told: (state := site.stored(told.channel)) and state.outcome  # noqa: E731
        wait_for(closed, 2 * RECORD_SECONDS, f"the record of {told.channel}")
        took.append(time.monotonic() - begun)
    return calls


def talks_on(site: Killed, chance: random.Random) -> list[Told]:
    """exoflow is killed in a talk and kept away until the call is over: the agent hangs up, the fallback takes the caller."""
    told = begin(site, Plan("whole", MENU, (Telephone("answers", 0.5, chance.uniform(2.0, 6.0)),)))
    living = gevent.spawn(live, told)
    wait_for(lambda: told.talk, 15, "the talk")
    site.supervisor.restart_after = None
    site.kill()
    living.get()
    site.supervisor.restart_after = RESTART_SECONDS
    return [told]


# --- exoflow freezes ------------------------------------------------------------------------------


def starves(site: Killed, chance: random.Random) -> list[Told]:
    """Calls of all kinds; exoflow stands still in them until its watchdog ends it."""
    kinds: list[Kind] = ["prompts", "prompts", "keys", "whole", "whole", "whole"]
    calls = [begin(site, replace(plan(chance, kind), leaves="")) for kind in kinds]
    living = [gevent.spawn(live, told) for told in calls]
    gevent.sleep(chance.uniform(1.0, 5.0))
    site.freeze()
    gevent.joinall(living, raise_error=True)
    return calls


def freezes_for_good(site: Killed) -> list[Told]:
    """Without a watchdog: prompts, a question, and a talk that ends behind it. The frozen process is killed in the end."""
    talks = Plan("whole", MENU, (Telephone("answers", 0.5, 4.0),))
    calls = [begin(site, one) for one in (Plan("prompts"), Plan("prompts"), Plan("keys", ((0.2, "1"),)), talks)]
    living = [gevent.spawn(live, told) for told in calls]
    wait_for(lambda: calls[-1].talk, 15, "the talk")
    site.supervisor.watchdog = NO_WATCHDOG
    site.freeze()
    try:
        gevent.joinall(living, raise_error=True)
    finally:
        site.supervisor.watchdog = WATCHDOG_SECONDS
    site.supervisor.wait_ready(20, lives=len(site.supervisor.lives) + 1)
    return calls


# --- exoflow dies again and again -------------------------------------------------------------------


def dies_thrice(site: Killed) -> list[Told]:
    """Two calls in prompts, whose app is killed each time that it has them."""
    calls = [begin(site, Plan("prompts")) for _ in range(2)]
    living = [gevent.spawn(live, told) for told in calls]
    for told in calls:
        told.phone.wait_answered()
    gevent.sleep(2.0)
    for death in range(1, 4):
        gevent.sleep(HELD_SECONDS)
        lives = len(site.supervisor.lives)
        site.kill()
        site.supervisor.wait_ready(20, lives=lives + 1)
        if death < 3:
            wait_for(lambda death=death: all(_returns(site, told) >= death for told in calls), 15, f"return {death}")
    gevent.joinall(living, raise_error=True)
    return calls


def _returns(site: Killed, told: Told) -> int:
    state = site.stored(told.channel)
    return sum(line.code == "call.resumed" for line in state.journey) if state is not None else 0


# --- the table ------------------------------------------------------------------------------------


def run() -> Iterator[Row]:
    with switches() as running:
        if running is None:
            yield Row("exoflow dead or frozen", FREESWITCH, "NOT SHOWN", "no FreeSWITCH found")
            return
        box, exchange = running
        site = Killed(box, exchange, box.folder.parent / "exoflow")
        try:
            site.start()
            print(f"    in {site.folder}")
            yield from rows(site)
        finally:
            site.stop()


def rows(site: Killed, rounds: Rounds = Rounds()) -> Iterator[Row]:
    """Each experiment's row, and one of all their calls together."""
    chance = random.Random(SEED)
    took: list[float] = []
    left = [told for _ in range(rounds.left) for told in leaves(site, chance, took)]
    told = f"from the restart to a closed record at most {max(took):.1f} s"
    yield _row(site, "the caller leaves while no exoflow is there", left, told, max(took), RECORD_SECONDS)
    talked = [told for _ in range(rounds.talked) for told in talks_on(site, chance)]
    yield _silent(site, "an agent hangs up while no exoflow is there", talked, GUARD_SECONDS, served=True)
    starved = [told for _ in range(rounds.starved) for told in starves(site, chance)]
    yield _silent(site, "exoflow stands still until its watchdog kills it", starved, STARVED_SECONDS)
    frozen = [told for _ in range(rounds.frozen) for told in freezes_for_good(site)]
    yield _silent(site, "exoflow stands still and nobody kills it", frozen, FROZEN_SECONDS, served=True)
    dead = [told for _ in range(rounds.deaths) for told in dies_thrice(site)]
    yield _silent(site, "exoflow dies three times within 10 s", dead, DEATHS_SECONDS, served=True)
    calls, found = [*left, *talked, *starved, *frozen, *dead], Findings()
    settle(site, calls)
    judge_all(site, calls, found)
    found.violations += rests(site)
    _print(found)
    told = f"{len(calls)} calls, {found.counts['records']} records, {found.counts['deliveries lost']} deliveries lost"
    yield Row.judged("these calls: one record and one delivery each", FREESWITCH, len(found.violations), told)


def _silent(site: Killed, name: str, calls: list[Told], bound: float, *, served: bool = False) -> Row:
    """With the longest silence that one of these callers heard; who types hears nothing anyhow."""
    longest = max(told.visit.heard().longest_silence() for told in calls if told.plan.kind != "keys")
    return _row(site, name, calls, f"silence at most {longest:.1f} s", longest, bound, served=served)


def _row(site: Killed, name: str, calls: list[Told], told: str, figure: float, bound: float, *, served: bool = False) -> Row:
    settle(site, calls)
    found = judge_each(site, calls, served=served)
    _print(found)
    whom = ", ".join(f"{count} in {what}" for what, count in found.phases.most_common())
    violations = len(found.violations) + (figure > bound)
    return Row.judged(name, FREESWITCH, violations, f"{len(calls)} calls ({whom}): {told} (bound {bound:g} s)")


def _print(found: Findings) -> None:
    for line in found.violations:
        print("   ", line)
