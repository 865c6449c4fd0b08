"""Calls that an earlier process left open, read once: after a restart they come back all together, and looks of their own
would wait for each other until the callers' time is over."""

from __future__ import annotations

import logging
import time

import gevent
from sqlalchemy import select
from sqlalchemy.engine import Connection

from exoflow.calls import rows
from exoflow.calls.model import CallState
from exoflow.calls.tidings import Told
from exoflow.errors import ExoflowError
from exoflow.store import tables as t
from exoflow.store.sqlite import Store

log = logging.getLogger(__name__)

KEPT_SECONDS = 60.0  # calls come back within seconds; those that did not are closed, or looked for one by one

Known = tuple[CallState, Told]  # and the deliveries that it has had


class Left:
    """Known from `read` on, for KEPT_SECONDS."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reading: gevent.Greenlet | None = None
        self._by_channel: dict[str, Known] | None = None
        self._until = 0.0

    def read(self) -> None:
        """Begins to read them; nothing is waited for."""
        self._until = time.monotonic() + KEPT_SECONDS
        self._reading = gevent.spawn(self._read)

    def of(self, channel: str, deadline: float) -> tuple[bool, Known | None]:
        """Is it known which there are (waits `deadline` seconds for it), and the one on this channel, told once."""
        if self._reading is None:
            return False, None
        self._reading.join(deadline)
        if time.monotonic() > self._until:
            self._reading = self._by_channel = None
        if self._by_channel is None:
            return False, None
        return True, self._by_channel.pop(channel, None)

    def states(self) -> list[CallState]:
        """Those that have not come back yet; waits until they are read. None of them if the store cannot tell."""
        if self._reading is not None:
            self._reading.join()
        return [state for state, _ in (self._by_channel or {}).values()]

    def _read(self) -> None:
        try:
            found = self._store.read(_open_calls)
        except ExoflowError as error:
            log.warning("calls that were left open are looked for one by one: %s", error)
            return
        self._by_channel = {state.facts.channel: (state, told) for state, told in found}


def _open_calls(connection: Connection) -> list[Known]:
    """Oldest first: of two on one channel the newer one counts."""
    states = rows.load(connection, t.calls.c.closed_at.is_(None))
    table = t.deliveries
    chosen = (
        select(table.c.call_id, table.c.seq, table.c.webhook_id)
        .join(t.calls, t.calls.c.id == table.c.call_id)
        .where(t.calls.c.closed_at.is_(None))
    )
    told: dict[str, Told] = {}
    for call_id, seq, webhook_id in connection.execute(chosen):
        told.setdefault(call_id, Told()).add(seq, webhook_id)
    return [(state, told.get(state.facts.id, Told())) for state in states]
