"""The lease of a call: a transfer that the switch makes unless the app that has the call keeps putting it off.

Without it a dead or frozen app would leave a caller in endless music or silence: the switch never notices a frozen process,
and what plays without end never gives the call back (docs/freeswitch-quirks.md).
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import Protocol

from exoflow.errors import ExoflowError
from exoflow.esl.wire import Reply

log = logging.getLogger("exoflow.esl")

LEASE_SECONDS = 20  # what a caller is left in at most; FreeSWITCH's scheduler counts whole seconds, so up to one less
RENEW_SECONDS = 7.0  # two renewals may come to nothing before the call is lost
# a socket that closes between `connect` and our first application's end leaves its caller in silence until the lease runs out:
# the first one is short
FIRST_SECONDS = 8
FIRST_RENEW_SECONDS = 2.0  # for it; a process that stands still for the 6 s between them loses its calls anyway
TARGET = "exoflow_lease XML from-pri"  # dialplan/from-pri: counts as a death, and gives the call to a living app


def argument() -> str:
    """Of the application `sched_transfer`."""
    return f"+{LEASE_SECONDS:g} {TARGET}"


def first_argument() -> str:
    """The same at a call's beginning."""
    return f"+{min(FIRST_SECONDS, LEASE_SECONDS):g} {TARGET}"


def renewal(uuid: str) -> bytes:
    """Two `api` commands in one packet: they do not wait behind the application that runs.

    `sched_del` comes first, for it deletes whatever is scheduled for the channel; who dies between the two has sent both.
    """
    return f"api sched_del {uuid}\n\napi sched_transfer +{LEASE_SECONDS:g} {uuid} {TARGET}\n\n".encode()


class Leased(Protocol):
    """A call, to whom renews its lease."""

    def renew_lease(self, answered: object) -> bool:
        """False: could not be sent now."""


class Leases:
    """All calls whose lease is kept. `renew_due` is to be called often, from one greenlet; it never waits."""

    def __init__(self) -> None:
        self._new: OrderedDict[Leased, float] = OrderedDict()  # the next one first: all have the same time to go
        self._due: OrderedDict[Leased, float] = OrderedDict()  # the same of those that have been renewed
        self._again: set[Leased] = set()  # due, and their sockets took nothing
        self.renewed = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._new) + len(self._due) + len(self._again)

    def begin(self, call: Leased) -> None:
        """Its first lease has just been armed (`first_argument`)."""
        self._new[call] = time.monotonic() + min(FIRST_RENEW_SECONDS, RENEW_SECONDS)

    def keep(self, call: Leased) -> None:
        """Its lease has just been armed, and is renewed from now on."""
        self._new.pop(call, None)
        self._due[call] = time.monotonic() + RENEW_SECONDS
        self._due.move_to_end(call)

    def drop(self, call: Leased) -> None:
        """It has none any more, or has ended."""
        self._new.pop(call, None)
        self._due.pop(call, None)
        self._again.discard(call)

    def renew_due(self) -> None:
        now = time.monotonic()
        due, self._again = list(self._again), set()
        for calls in (self._new, self._due):
            while calls and next(iter(calls.values())) <= now:
                due.append(calls.popitem(last=False)[0])
        for call in due:
            if call.renew_lease(self._answered):
                self.renewed += 1
                self.keep(call)
            else:
                self._again.add(call)

    def _answered(self, reply: Reply | ExoflowError) -> None:
        if isinstance(reply, Reply) and reply.refused:
            # of a call that has just hung up; else the switch has not what it would take the call away with
            self.refused += 1
            log.info("the lease of a call was not renewed: %s", reply.data.strip())
