"""Callers who asked in a queue to be called back: who they are, in which order they asked, and what came of it.

In the memory of the one process, and in the store: one is told that he will be called when that is on disk. The calls
themselves are made in flow/callingback.py.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Literal

from gevent.event import AsyncResult, Event
from sqlalchemy import select
from sqlalchemy.engine import Connection

from exoflow.clock import utcnow
from exoflow.store import tables as t
from exoflow.store.rows import Rows
from exoflow.store.sqlite import Store

log = logging.getLogger("exoflow.agents")

# of one account that are open: each is looked at once a second, and more people nobody calls back in a day
MAX_OPEN = 200

Done = Literal["talked", "message", "called_in", "refused", "expired", "given_up", "gone", "not_kept"]
State = Literal["waiting", "dialling", Done]

WORDS: dict[State, str] = {
    "waiting": "waits for his turn",
    "dialling": "is being called",
    "talked": "talked with an agent",
    "message": "left a message",
    "called_in": "called again himself, and talked with an agent",
    "refused": "not to be called, by the do-not-call hook",
    "expired": "not called in time",
    "given_up": "not reached",
    "gone": "the configuration has his step no more",
    "not_kept": "was told that it could not be kept",
}


@dataclass(slots=True)
class CallBack:
    """One caller's wish. Times are aware."""

    id: str
    account: str
    caller: str  # E.164
    number: str  # of ours, that he had dialled: he sees it again
    trunk: str
    flow: str  # as it is run
    step: str
    team: str  # the group for which he waits
    language: str
    recorded: bool  # False: he refused it in the call in which he asked
    call: str  # id of that call
    since: datetime  # how old his place in the queue is
    asked_at: datetime
    next_at: datetime  # he is not called before
    state: State = "waiting"
    why: str = ""  # what came of it last, in words
    tries: int = 0  # times that his telephone was rung
    placed: str = ""  # id of the call to him, the last one
    ended_at: datetime | None = None  # None: he may yet be called


_COLUMNS = tuple(field.name for field in fields(CallBack))


class CallBacks:
    """All of this process. `ready` once it is known what an earlier one has left; nothing is offered before."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = utcnow) -> None:
        self._store, self._clock = store, clock
        self.ready = False
        self.changed = Event()  # somebody asked, or what decides about one is new
        self.open: dict[str, CallBack] = {}  # by id, the oldest wish first
        self._rows = Rows(store)

    # --- what is asked ------------------------------------------------------------------------------

    def of(self, account: str, caller: str) -> list[CallBack]:
        """The open ones of a caller."""
        return [one for one in self.open.values() if (one.account, one.caller) == (account, caller)]

    def has_room(self, account: str) -> bool:
        return self.ready and sum(one.account == account for one in self.open.values()) < MAX_OPEN

    # --- what changes -------------------------------------------------------------------------------

    def ask(self, wish: CallBack) -> AsyncResult:
        """From now on he is called back; the result is set when that is on disk. Raises StoreError."""
        self.open[wish.id] = wish
        return self.keep(wish)

    def keep(self, wish: CallBack) -> AsyncResult:
        """Writes how it stands; the result is set when that is on disk. Raises StoreError."""
        self.changed.set()
        return self._rows.keep(t.call_backs, asdict(wish))

    def end(self, wish: CallBack, state: Done, why: str = "") -> None:
        """Nobody is called any more. Raises StoreError."""
        if wish.ended_at is not None:
            return
        wish.state, wish.why, wish.ended_at = state, why or WORDS[state], self._clock()
        self.open.pop(wish.id, None)
        log.info("call-back %s of %s: %s", wish.id[:8], wish.account, wish.why)
        self.keep(wish)

    def read(self) -> bool:
        """What an earlier process has left; False while the store cannot tell. Raises StoreError."""
        if self._store.behind:
            return False
        left = self._store.read(left_open)
        self.open = {one.id: one for one in left} | self.open
        self.ready = True
        self.changed.set()
        return True


def new_id() -> str:
    return uuid.uuid4().hex


# --- what is read ---------------------------------------------------------------------------------


def left_open(connection: Connection) -> list[CallBack]:
    """Runs in a thread, or in another process; the oldest wish first."""
    found = select(t.call_backs).where(t.call_backs.c.ended_at.is_(None)).order_by(t.call_backs.c.asked_at)
    return _read(connection.execute(found).mappings())


def since(connection: Connection, asked: datetime, account: str | None, most: int) -> list[CallBack]:
    """The open ones, and those that were asked for since then; the newest first."""
    c = t.call_backs.c
    found = select(t.call_backs).where(c.ended_at.is_(None) | (c.asked_at >= asked))
    if account is not None:
        found = found.where(c.account == account)
    return _read(connection.execute(found.order_by(c.asked_at.desc()).limit(most)).mappings())


def _read(rows: Iterable[Any]) -> list[CallBack]:
    return [CallBack(**{name: row[name] for name in _COLUMNS}) for row in rows]
