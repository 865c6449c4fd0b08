"""Looks up CRMs' host names so that a hanging name server holds nobody else.

gevent's own resolver has 10 threads for the whole process: ten hanging look-ups block every other one (facts,
dependencies.md section 5). Here a host occupies one thread at most, answers are kept for a minute, and the last good answer
serves while the name server is away.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from exoflow.store.writer import Done, caught

TTL_SECONDS = 60.0  # getaddrinfo does not tell the record's own TTL; a moved CRM is found within a minute
STALE_AFTER_SECONDS = 1.0  # wait for a fresh answer so long before the last good one serves
THREADS = 32  # so many different hosts may hang at once

# family and socket address, as getaddrinfo gives them
Target = tuple[int, Any]
Lookup = Callable[[str, int], list[Target]]

_getaddrinfo = get_original("socket", "getaddrinfo")


def _system_lookup(host: str, port: int) -> list[Target]:
    """Blocks; runs in a thread. Raises OSError (gaierror)."""
    found = _getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


class Resolver:
    """Host names to addresses, cached for all accounts together."""

    def __init__(self, lookup: Lookup = _system_lookup, *, ttl: float = TTL_SECONDS, threads: int = THREADS) -> None:
        self._lookup, self._ttl = lookup, ttl
        self._pool = ThreadPool(threads)
        self._known: dict[tuple[str, int], tuple[float, list[Target]]] = {}
        self._under_way: dict[tuple[str, int], AsyncResult] = {}

    def resolve(self, host: str, port: int) -> list[Target]:
        """Where to connect to, best first. Raises OSError; the caller brings the deadline (gevent.Timeout)."""
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            return [(socket.AF_INET if ip.version == 4 else socket.AF_INET6, (host, port))]
        key = (host.lower().rstrip("."), port)
        at, targets = self._known.get(key, (0.0, []))
        if targets and time.monotonic() - at < self._ttl:
            return targets
        under_way = self._begin(key)
        if not targets:
            return list(under_way.get())
        under_way.wait(timeout=STALE_AFTER_SECONDS)
        return list(under_way.value) if under_way.successful() else targets

    def _begin(self, key: tuple[str, int]) -> AsyncResult:
        """The look-up of this host that is under way, begun now if there is none."""
        if key not in self._under_way:
            self._under_way[key] = AsyncResult()
            gevent.spawn(self._look_up, key, self._under_way[key])
        return self._under_way[key]

    def _look_up(self, key: tuple[str, int], result: AsyncResult) -> None:
        # a greenlet of its own: it outlives the caller whose deadline ran out, and waits for a thread in his place
        try:
            done: Done[list[Target]] = self._pool.apply(caught, (self._lookup, *key))
            if done.error is not None:
                raise done.error
            targets = done.value
            if not targets:
                raise socket.gaierror(socket.EAI_NONAME, "no address")
            self._known[key] = (time.monotonic(), targets)
            result.set(targets)
        except Exception as problem:
            result.set_exception(problem)
        finally:
            del self._under_way[key]
