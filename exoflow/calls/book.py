"""The book of calls: those that are going on, by id and channel, and those that the store knows.

Memory decides and the store follows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.engine import Connection

from exoflow.calls import call_log, held, lookup, rows
from exoflow.calls.call import Call
from exoflow.calls.lately import Lately
from exoflow.calls.left import Left
from exoflow.calls.model import CallFacts, CallState, Entry, Stage
from exoflow.calls.tidings import SignedTidings, Source, Told
from exoflow.clock import utcnow
from exoflow.config.model import Account
from exoflow.errors import DeadlineExceeded, StoreError
from exoflow.store import tables as t
from exoflow.store.sqlite import Store

log = logging.getLogger(__name__)

RESUME_READ_SECONDS = 1.0  # a caller who came back hears nothing until his record is found
MAX_DELIVERIES = 1000  # of one call, that another process may have written; a flow's rounds make some ten
CLOSED_LATELY = 10_000  # calls; at 20 a second some 8 minutes, and a look into the store takes seconds at the worst

Listener = Callable[[CallState, Entry], None]


class CallBook:
    """Opens, resumes, finds and lists calls.

    `accounts` finds the account of a call that comes back from the store. `listeners` hear each journey entry as it is
    made (for live printing); `wake` is called when a delivery has been committed (set it to the sender's `wake`); `tidings`
    says what each account is told of its calls.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], datetime] = utcnow,
        accounts: Callable[[str], Account | None] = lambda account_id: None,
    ) -> None:
        self.store = store
        self.left = Left(store)
        self.clock = clock
        self.accounts = accounts
        self.listeners: list[Listener] = []
        self.wake: Callable[[], None] = lambda: None
        self.tidings: Source = SignedTidings()  # what of a call its account is told
        self.on_closed: list[Callable[[Call], None]] = []  # told of each call that is closed on disk; they never wait
        self.live: dict[str, Call] = {}  # by call id: not yet closed in the store
        self._by_channel: dict[str, Call] = {}  # of the live ones
        self._closed_lately = Lately(CLOSED_LATELY)
        store.on_tick = lambda: held.trim(call for call in self.live.values() if not call.on_its_way)
        store.on_reopened = self._write_whole

    def open(self, facts: CallFacts, account: Account | None) -> Call:
        """A new call; its row is queued, nothing is waited for."""
        call = self._enter(Call(self, CallState(facts), account))
        call.changed(whole=True)
        call_log.arrived(facts)
        return call

    def resume(self, channel: str) -> Call | None:
        """The call of a channel that comes again (its app died, or its socket): None if unknown or already closed."""
        if (running := self._running(channel)) is not None:
            return running
        of_channel = (t.calls.c.channel == channel, t.calls.c.closed_at.is_(None))

        def look(connection: Connection) -> list[CallState]:
            return rows.load(connection, *of_channel, limit=1, newest_first=True)

        try:
            found = self.store.read_left(look)
            known, one = (False, None) if found else self.left.of(channel, RESUME_READ_SECONDS)
            if known:
                # it may have come twice, or have been closed, while they were read
                return self.adopt(*one) if one is not None and not self.ours(one[0].facts.id) else self._running(channel)
            found = found or self.store.read(look, deadline=RESUME_READ_SECONDS)
            return self.adopt(found[0]) if found else None
        except (StoreError, DeadlineExceeded) as error:
            log.error("a call came back on %s and its record cannot be read: it begins anew: %s", channel, error)
            return None

    def _running(self, channel: str) -> Call | None:
        call = self._by_channel.get(channel)
        return None if call is None or call.closed else call

    def adopt(self, state: CallState, told: Told | None = None) -> Call:
        """Goes on with a call out of the store (of `unfinished()`). `told`: its deliveries there, if they are known."""
        known = self.live.get(state.facts.id)
        if known is not None:
            return known
        account = self.accounts(state.facts.account) if state.facts.account else None
        if told is not None:
            return self._enter(Call(self, state, account, told=told))
        told = self._told(state.facts.id)
        # somebody else may have adopted it during the read
        return self.live.get(state.facts.id) or self._enter(Call(self, state, account, told=told))

    def _told(self, call_id: str) -> Told:
        """What a call has told its account. A call that is open in the spill may have more rows there than in the store, which
        is not waited for then: its numbers go on behind all that can be there."""
        told = Told()
        spilled = self.store.read_left(lambda c: _deliveries_of(c, call_id))
        for seq, webhook_id in spilled:
            told.add(seq, webhook_id)
        if self.store.read_left(lambda c: rows.load(c, t.calls.c.id == call_id)):
            told.seq += MAX_DELIVERIES
            return told
        for seq, webhook_id in self.store.read(lambda c: _deliveries_of(c, call_id), deadline=RESUME_READ_SECONDS):
            told.add(seq, webhook_id)
        return told

    def unfinished(self) -> list[CallState]:
        """Calls that an earlier process left open, oldest first; none while the store cannot tell whether they are."""
        if self.store.behind:
            return []
        left = self.store.read(lambda c: rows.load(c, t.calls.c.closed_at.is_(None)))
        return [state for state in left if not self.ours(state.facts.id)]

    def ours(self, call_id: str) -> bool:
        """Is it a call of this process? What the store told of such a one is older than what is known here: it may have
        been closed since the look into the store began."""
        return call_id in self.live or call_id in self._closed_lately

    def close_lost(self, state: CallState, text: str = "", at: datetime | None = None, *, code: str = "app_restart") -> bool:
        """Closes a call whose channel is gone: outcome `lost`, with its delivery. `code`, and `text` for people, tell why.

        `at` is when the call ended, if anything tells; else the record leaves it open rather than invent a time.
        """
        if state.facts.id in self._closed_lately:
            return True
        call = self.adopt(state)
        if call.closed:
            return call.id not in self.live
        stage: Stage = state.journey[-1].stage if state.journey else "C"
        call.note(
            stage,
            code,
            text
            or "exoflow was restarted during the call, and the call had ended when it came back: how it went on is unknown",
        )
        return call.close("lost", code, at=at)

    def of_channel(self, channel: str) -> Call | None:
        """The call on a channel, if it is live here."""
        return self._by_channel.get(channel)

    def get(self, call_id: str) -> CallState | None:
        """One call, live or closed."""
        if call_id in self.live:
            return self.live[call_id].state
        found = self.store.read(lambda c: rows.load(c, t.calls.c.id == call_id))
        return found[0] if found else None

    def recent(self, limit: int = 20, *, account: str | None = None, outcome: str | None = None) -> list[CallState]:
        """The newest calls first."""
        return self.store.read(lambda c: lookup.recent(c, limit, account=account, outcome=outcome))

    def settled(self, call_id: str, webhook_id: str) -> None:
        """A delivery was taken, or given up (the sender's `on_settled`)."""
        call = self.live.get(call_id)
        if call is not None:
            call.settled(webhook_id)

    def forget(self, call: Call) -> None:
        """The call is closed on disk."""
        self._closed_lately.add(call.id)
        self.live.pop(call.id, None)
        if self._by_channel.get(call.state.facts.channel) is call:
            del self._by_channel[call.state.facts.channel]
        for told in self.on_closed:
            told(call)

    def _write_whole(self) -> None:
        """The store's file may be another one, which knows nothing of the calls that are going on."""
        for call in self.live.values():
            call.changed_all()

    def _enter(self, call: Call) -> Call:
        self.live[call.id] = self._by_channel[call.state.facts.channel] = call
        return call


def _deliveries_of(connection: Connection, call_id: str) -> list[tuple[int, str]]:
    chosen = select(t.deliveries.c.seq, t.deliveries.c.webhook_id).where(t.deliveries.c.call_id == call_id)
    return [(seq, webhook_id) for seq, webhook_id in connection.execute(chosen)]
