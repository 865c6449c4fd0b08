"""What befalls an exoflow, its store, its CRM and its sockets in the soak, drawn by a seed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress

import gevent
from gevent import socket

from exoflow.sim.crm import Reply
from faults.replace import LOOKED_UP, Box

APART = (6.0, 10.0)  # seconds from the end of one trouble to the next
LOCKED = (1.0, 8.0)
CRM_AWAY = (2.0, 6.0)
SLOW_SECONDS = 8.0  # longer than exoflow waits for a CRM
REFUSING_SECONDS = 3.0  # less than the first retry's 5 s, jitter included: the second comes after minutes only
FROZEN = (0.5, 3.0)  # shorter than the lease's tenure (4 s) and the watchdog (5 s)
SOCKETS = 10


class Trouble:
    """Begins at `start`, ends at `stop`; `counts` has how often each kind was."""

    def __init__(self, box: Box, seed: int) -> None:
        self.box, self.chance = box, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.mood: Reply | None = None  # what the CRM answers to all but deliveries, if not what it should
        self.refuses = False  # deliveries
        self._over = False
        self._greenlet: gevent.Greenlet | None = None
        box.crm.script("/lookup", lambda request: self.mood or LOOKED_UP)
        box.crm.script("/agents", lambda request: self.mood or box.agents_of(request))
        box.crm.script("/deliveries", lambda request: Reply(503) if self.refuses else Reply(204 if request.signed else 401))

    def start(self, *, deadly: bool) -> None:
        """`deadly`: exoflow dies of some of it."""
        self._over = False
        self._greenlet = gevent.spawn(self._run, BEARABLE + (DEADLY if deadly else ()))

    def stop(self) -> None:
        """Returns when what has begun has ended: no trouble is left behind. Raises what the trouble itself met."""
        self._over = True
        if self._greenlet is not None:
            self._greenlet.get()

    def _run(self, kinds: tuple[Callable[[Trouble], None], ...]) -> None:
        while True:
            gevent.sleep(self.chance.uniform(*APART))
            if self._over:
                return
            kind = self.chance.choice(kinds)
            kind(self)
            self.counts[kind.__name__.replace("_", " ")] += 1


# --- of which exoflow dies --------------------------------------------------------------------------


def kill(trouble: Trouble) -> None:
    _next_life(trouble, signal.SIGKILL)


def restart(trouble: Trouble) -> None:
    trouble.box.supervisor.restart()


def freeze_until_the_watchdog(trouble: Trouble) -> None:
    _next_life(trouble, signal.SIGSTOP)


def _next_life(trouble: Trouble, number: int) -> None:
    lives = len(trouble.box.supervisor.lives)
    trouble.box.supervisor.kill(number)
    trouble.box.supervisor.wait_ready(60, lives=lives + 1)


# --- and of which it does not -----------------------------------------------------------------------


def short_freeze(trouble: Trouble) -> None:
    life = trouble.box.supervisor.kill(signal.SIGSTOP)
    gevent.sleep(trouble.chance.uniform(*FROZEN))
    with suppress(ProcessLookupError):
        os.kill(life.pid, signal.SIGCONT)


def store_locked(trouble: Trouble) -> None:
    with closing(sqlite3.connect(trouble.box.database, isolation_level=None, timeout=10)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        gevent.sleep(trouble.chance.uniform(*LOCKED))
        foreign.rollback()


def crm_500(trouble: Trouble) -> None:
    _crm(trouble, Reply(500, b"no"))


def crm_slow(trouble: Trouble) -> None:
    _crm(trouble, Reply(200, b"OK", delay=SLOW_SECONDS))


def crm_nonsense(trouble: Trouble) -> None:
    _crm(trouble, Reply(200, b'{"destination": {"numbers": ["${system(id)}", "+1900123456', "application/json"))


def _crm(trouble: Trouble, reply: Reply) -> None:
    trouble.mood = reply
    gevent.sleep(trouble.chance.uniform(*CRM_AWAY))
    trouble.mood = None


def deliveries_refused(trouble: Trouble) -> None:
    trouble.refuses = True
    gevent.sleep(REFUSING_SECONDS)
    trouble.refuses = False


def calls_sockets_cut(trouble: Trouble) -> None:
    mine = [one for one in trouble.box.switch.bus.listeners if one.session is not None]
    _cut([one.sock for one in trouble.chance.sample(mine, min(SOCKETS, len(mine)))])


def event_socket_cut(trouble: Trouble) -> None:
    _cut([one.sock for one in trouble.box.switch.bus.listeners if one.session is None])


def _cut(socks: list[socket.socket]) -> None:
    for sock in socks:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def reload(trouble: Trouble) -> None:
    trouble.box.supervisor.kill(signal.SIGHUP)


DEADLY = (kill, kill, restart, freeze_until_the_watchdog)
BEARABLE = (
    short_freeze,
    store_locked,
    crm_500,
    crm_slow,
    crm_nonsense,
    deliveries_refused,
    calls_sockets_cut,
    event_socket_cut,
    reload,
)
