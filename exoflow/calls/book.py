"""The book of calls: each running call's record in memory, mirrored into the store, closed together with its delivery.

Memory decides and the store follows: nothing here holds a call up but `add_leg` and `close`, each for a bounded time.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import gevent
from gevent.event import AsyncResult
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from exoflow.calls import held, lookup, rows
from exoflow.calls.left import Left
from exoflow.calls.model import CallFacts, CallOutcome, CallState, Entry, Leg, Recording, Stage
from exoflow.calls.payload import delivery_body, delivery_type
from exoflow.calls.pending import MAX_TEXT, Pending, plain
from exoflow.config.model import Account
from exoflow.errors import DeadlineExceeded, StoreError
from exoflow.store import tables as t
from exoflow.store.changes import Change
from exoflow.store.sqlite import Store
from exoflow.store.waiting import Mirror

log = logging.getLogger(__name__)

LEG_COMMIT_SECONDS = 0.5  # a caller waits in silence for no longer than this before the agent is dialled
RESUME_READ_SECONDS = 1.0  # a caller who came back hears nothing until his record is found
CLOSE_COMMIT_SECONDS = 5.0  # the call's greenlet goes after it; a slower store is written to in the background
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # a record that the tables refuse; an ailing store is the store's own business
BARE_AFTER = 3  # refusals after which the record is tried without its journey
GIVEN_UP_AFTER = 10  # refusals, some three minutes
MAX_ENTRIES = 1000  # a caller who presses keys for an hour must not fill memory and disk
CLOSED_LATELY = 10_000  # calls; at 20 a second some 8 minutes, and a look into the store takes seconds at the worst

Listener = Callable[[CallState, Entry], None]


def utcnow() -> datetime:
    return datetime.now(UTC)


class CallBook:
    """Opens, resumes, finds and lists calls.

    `accounts` finds the account of a call that comes back from the store. `listeners` hear each journey entry as it is
    made (for live printing); `wake` is called when a delivery has been committed (set it to the sender's `wake`).
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
        self.on_closed: Callable[[Call], None] = lambda call: None  # told of each call that is closed on disk
        self.live: dict[str, Call] = {}  # by call id: not yet closed in the store
        self._by_channel: dict[str, Call] = {}  # of the live ones
        self._closed_lately: deque[str] = deque(maxlen=CLOSED_LATELY)
        store.on_tick = lambda: held.trim(call for call in self.live.values() if not call.on_its_way)
        store.on_reopened = self._write_whole

    def open(self, facts: CallFacts, account: Account | None) -> Call:
        """A new call; its row is queued, nothing is waited for."""
        call = self._enter(Call(self, CallState(facts), account))
        call.changed(whole=True)
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

    def adopt(self, state: CallState, sent: int | None = None) -> Call:
        """Goes on with a call out of the store (of `unfinished()`). `sent`: its deliveries there, if that is known."""
        known = self.live.get(state.facts.id)
        if known is not None:
            return known
        account = self.accounts(state.facts.account) if state.facts.account else None
        if sent is not None:
            return self._enter(Call(self, state, account, deliveries=sent))
        # a call that is open in the spill was open in the store before
        in_store = not self.store.read_left(lambda c: rows.load(c, t.calls.c.id == state.facts.id))
        sent = self.store.read(lambda c: _deliveries_of(c, state.facts.id), deadline=RESUME_READ_SECONDS) if in_store else 0
        # somebody else may have adopted it during the read
        return self.live.get(state.facts.id) or self._enter(Call(self, state, account, deliveries=sent))

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

    def forget(self, call: Call) -> None:
        """The call is closed on disk."""
        self._closed_lately.append(call.id)
        self.live.pop(call.id, None)
        if self._by_channel.get(call.state.facts.channel) is call:
            del self._by_channel[call.state.facts.channel]
        self.on_closed(call)

    def _write_whole(self) -> None:
        """The store's file may be another one, which knows nothing of the calls that are going on."""
        for call in self.live.values():
            call.changed_all()

    def _enter(self, call: Call) -> Call:
        self.live[call.id] = self._by_channel[call.state.facts.channel] = call
        return call


class Call(Mirror):
    """One call's record. Only the greenlets of the call itself change it."""

    def __init__(self, book: CallBook, state: CallState, account: Account | None, *, deliveries: int = 0) -> None:
        self.book = book
        self.state = state
        self.account = account
        self.closed_at: datetime | None = None
        self._deliveries = deliveries
        self._next_entry = max((entry.seq for entry in state.journey), default=0) + 1
        if state.journey and book.store.behind:  # an earlier process's lines may wait in the spill
            self._next_entry += MAX_ENTRIES
        self._pending = Pending()
        self._writing = Pending()  # collected for the store
        self._spilling = Pending()  # collected for the spill
        self._failures = 0

    @property
    def id(self) -> str:
        return self.state.facts.id

    @property
    def closed(self) -> bool:
        return self.closed_at is not None

    # --- what happens to the call ---------------------------------------------------------------

    def note(
        self, stage: Stage, code: str, text: str, *, step: str | None = None, at: datetime | None = None, **evidence: Any
    ) -> Entry:
        """A line of the journey: in memory and with the listeners at once, in the store soon. Never waits."""
        shown = {key: plain(value) for key, value in evidence.items()}
        entry = Entry(self._next_entry, at or self.book.clock(), stage, code, text[:MAX_TEXT], step, shown)
        if len(self.state.journey) < MAX_ENTRIES or self.state.ended_at is not None:
            self._keep(entry)
        elif self.state.journey[-1].code != "journey.full":
            self._keep(
                Entry(entry.seq, entry.at, stage, "journey.full", f"more than {MAX_ENTRIES} lines: the next are left out")
            )
        for listener in self.book.listeners:
            try:
                listener(self.state, entry)
            except Exception:
                log.exception("a listener of call %s failed", self.id)
        return entry

    def on_disk(self) -> bool:
        """Waits until all that is known so far is committed, LEG_COMMIT_SECONDS at most; not at all while the store is
        ailing. False if that was too short."""
        return self._waited(self.changed(), 0.0 if self.book.store.trouble else LEG_COMMIT_SECONDS)

    def ringing(self, at: datetime | None = None) -> None:
        """ALERTING was sent to the caller."""
        self.state.ring_at = at or self.book.clock()
        self.changed(whole=True)

    def answered(self, at: datetime | None = None) -> None:
        """CONNECT was sent to the caller, who pays from here."""
        self.state.answered_at = at or self.book.clock()
        self.changed(whole=True)

    def digits(self, text: str) -> None:
        """The last digits collected."""
        self.state.digits = text
        self.changed(whole=True)

    def wants_agent(self) -> None:
        """A connect step was entered: from here a call that ends without talk is a missed one."""
        if not self.state.wanted_agent:
            self.state.wanted_agent = True
            self.changed(whole=True)

    def add_leg(self, leg: Leg) -> bool:
        """An attempt is about to be dialled: waits for its commit as `on_disk` does. False if it is not there."""
        self.state.legs.append(leg)
        self._pending.legs[leg.uuid] = leg
        if self.on_disk():
            return True
        why = str(self.book.store.trouble or f"it took longer than {LEG_COMMIT_SECONDS:g} s; look at disk and load")
        self.note("G", "store.slow", f"dialled before the attempt was on disk: {why}", leg=leg.uuid)
        return False

    def update_leg(self, leg: Leg) -> None:
        """Also after the call's end: the release of an agent's leg may be heard late."""
        self._pending.legs[leg.uuid] = leg
        self.changed()

    def add_recording(self, recording: Recording) -> None:
        self.state.recordings.append(recording)
        self.update_recording(recording)

    def update_recording(self, recording: Recording) -> None:
        seq = next(i for i, known in enumerate(self.state.recordings, 1) if known is recording)
        self._pending.recordings[seq] = recording
        self.changed()

    def caller_gone(
        self,
        at: datetime | None = None,
        cause: str = "",
        q850: int | None = None,
        ended_by: Literal["", "caller", "exoflow", "switch"] = "caller",
    ) -> None:
        """The caller's channel has ended. Steps that need no caller go on."""
        state = self.state
        state.ended_at, state.cause, state.q850 = at or self.book.clock(), cause, q850
        state.ended_by = ended_by
        state.caller_left = ended_by == "caller"
        self.changed(whole=True)

    def close(self, outcome: CallOutcome, reason: str = "", at: datetime | None = None) -> bool:
        """Closes the call and commits its delivery in one transaction; waits CLOSE_COMMIT_SECONDS at most.

        False: not on disk yet (the store is slow, or its disk full); it is written as soon as it can be. A second close
        changes nothing.
        """
        if self.closed:
            return self.id not in self.book.live
        state = self.state
        now = self.book.clock()
        state.outcome, state.reason = outcome, reason
        if state.ended_at is None:
            state.ended_at = at if outcome == "lost" else at or now
        self.closed_at = now
        if self.account is not None and self.account.deliveries is not None:
            self._pending.delivery = self._delivery(now)
        # all of them once more: the store then has what the delivery says, whatever was told or not told before
        self._add_legs_and_recordings()
        nobody_takes_it = self.book.store.trouble is not None and not self.book.store.spills
        return self._waited(self.changed(whole=True), 0.0 if nobody_takes_it else CLOSE_COMMIT_SECONDS)

    # --- the mirror in the store ------------------------------------------------------------------

    def changed(self, *, whole: bool = False) -> AsyncResult:
        """Queues the changes made so far; `whole`: the call's own row too. The result is set after their commit."""
        self._pending.call = self._pending.call or whole
        return self.book.store.mirror(self)

    def changed_all(self) -> None:
        """Queues all that is known, as if nothing of it were on disk."""
        self._add_legs_and_recordings()
        self._pending.entries.update({entry.seq: entry for entry in self.state.journey})
        self.changed(whole=True)

    def collect(self) -> Change:
        self._writing = self._taken()
        return self._change(self._writing)

    def collect_whole(self) -> Change:
        self._add_legs_and_recordings()
        self._pending.call = True
        self._pending.take_back(self._writing)
        self._spilling = self._taken()
        return self._change(self._spilling)

    def committed(self) -> None:
        written, self._writing = self._writing, Pending()
        self._failures = 0
        self._on_disk(written)

    def spilled(self, *, durable: bool) -> None:
        spilled, self._spilling = self._spilling, Pending()
        if durable:
            self._on_disk(spilled)
        else:
            self._pending.take_back(spilled)

    def _on_disk(self, written: Pending) -> None:
        # a row that was on its way to the disk when the call ended does not close it
        if written.closing:
            self.book.forget(self)
        if written.delivery is not None:
            self.book.wake()

    def _taken(self) -> Pending:
        taken, self._pending = self._pending, Pending()
        taken.closing = taken.call and self.closed
        return taken

    def _change(self, taken: Pending) -> Change:
        changes = [
            (t.calls, [rows.call_row(self.state, self.closed_at)] if taken.call else []),
            (t.legs, [rows.leg_row(self.id, leg) for leg in taken.legs.values()]),
            (t.recordings, [rows.recording_row(self.id, seq, recording) for seq, recording in taken.recordings.items()]),
            (t.entries, [rows.entry_row(self.id, entry) for entry in taken.entries.values()]),
            (t.deliveries, [taken.delivery] if taken.delivery is not None else []),
        ]
        return Change(changes)

    def put_back(self) -> None:
        self._pending.take_back(self._writing)
        self._writing = Pending()

    def failed(self, error: Exception) -> None:
        """The tables refuse this record: it is tried again, then without its journey, and in the end given up."""
        self.put_back()
        self._failures += 1
        if self._failures >= GIVEN_UP_AFTER:
            log.error("call %s: its record is given up after %d refusals: %s", self.id, self._failures, error)
            self.drop()
            return
        if self._failures >= BARE_AFTER:
            self.drop_lines()
        wait = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1]
        log.error("call %s: record not written, trying again in %g s: %s", self.id, wait, error)
        gevent.spawn_later(wait, self._retry)

    @property
    def lines_waiting(self) -> int:
        """Journey lines that only memory has."""
        return len(self._pending.entries)

    @property
    def on_its_way(self) -> bool:
        """Is something of it under way, and may yet be written?"""
        return bool(self._writing or self._spilling)

    def drop_lines(self) -> None:
        """The journey's lines that are not on disk are given up; of a call that is over, from memory too."""
        self.book.store.drop("lines", self.lines_waiting)
        self._pending.entries.clear()
        if self.closed:
            self.state.journey.clear()

    def drop(self) -> None:
        """The whole record is given up, and its delivery."""
        self.book.store.drop("calls")
        if self._pending.delivery is not None:
            self.book.store.drop("deliveries")
        self.drop_lines()
        self._pending = Pending()
        self.book.store.forget(self, StoreError(f"call {self.id}: its record was given up"))
        if self.closed:
            self.book.forget(self)

    def _retry(self) -> None:
        if self._pending:
            self.changed()

    def _waited(self, result: AsyncResult, seconds: float) -> bool:
        self.book.store.hurry()
        result.wait(seconds)
        return bool(result.ready() and result.successful())

    def _add_legs_and_recordings(self) -> None:
        self._pending.legs.update({leg.uuid: leg for leg in self.state.legs})
        self._pending.recordings.update(enumerate(self.state.recordings, 1))

    def _keep(self, entry: Entry) -> None:
        self._next_entry = entry.seq + 1
        self.state.journey.append(entry)
        self._pending.entries[entry.seq] = entry
        self.changed()

    def _delivery(self, now: datetime) -> dict[str, Any]:
        self._deliveries += 1
        kind = delivery_type(self.state)
        return {
            "webhook_id": f"msg_{uuid.uuid4().hex}",
            "call_id": self.id,
            "seq": self._deliveries,
            "account": self.state.facts.account,
            "type": kind,
            "body": delivery_body(self.state, kind=kind, seq=self._deliveries, now=now).decode(),
            "state": "pending",
            "created_at": now,
            "next_at": now,
            "lease_until": now,
            "attempts": 0,
            "failures": 0,
            "problem": "",
        }


def _deliveries_of(connection: Connection, call_id: str) -> int:
    highest = connection.execute(select(func.max(t.deliveries.c.seq)).where(t.deliveries.c.call_id == call_id)).scalar()
    return int(highest or 0)
