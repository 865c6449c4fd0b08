"""One call's record in memory, mirrored into the store, closed together with its delivery.

Nothing here holds a call up but `add_leg` and `close`, each for a bounded time.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import gevent
from gevent.event import AsyncResult, Event

from exoflow.calls import call_log, rows
from exoflow.calls.model import CallOutcome, CallState, Entry, Leg, Recording, Stage
from exoflow.calls.pending import MAX_TEXT, Pending, plain
from exoflow.calls.tidings import Told
from exoflow.config.model import Account
from exoflow.errors import StoreError
from exoflow.store import tables as t
from exoflow.store.changes import Change
from exoflow.store.waiting import Mirror

if TYPE_CHECKING:
    from exoflow.calls.book import CallBook

log = logging.getLogger(__name__)

LEG_COMMIT_SECONDS = 0.5  # a caller waits in silence for no longer than this before the agent is dialled
CLOSE_COMMIT_SECONDS = 5.0  # the call's greenlet goes after it; a slower store is written to in the background
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # a record that the tables refuse; an ailing store is the store's own business
BARE_AFTER = 3  # refusals after which the record is tried without its journey
GIVEN_UP_AFTER = 10  # refusals, some three minutes
MAX_ENTRIES = 1000  # a caller who presses keys for an hour must not fill memory and disk


class Call(Mirror):
    """One call's record. Only the greenlets of the call itself change it."""

    def __init__(self, book: CallBook, state: CallState, account: Account | None, *, told: Told | None = None) -> None:
        self.book = book
        self.state = state
        self.account = account
        self.closed_at: datetime | None = None
        self._told = told or Told()
        self._events: set[str] = set()  # dial events of this process that are on their way
        self._events_taken = Event()
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

    def on_disk(self, seconds: float = LEG_COMMIT_SECONDS) -> bool:
        """Waits until all that is known so far is committed, so many seconds at most; not at all while the store is ailing.
        False if that was too short."""
        return self._waited(self.changed(), 0.0 if self.book.store.trouble else seconds)

    def ringing(self, at: datetime | None = None) -> None:
        """ALERTING was sent to the caller."""
        self.state.ring_at = at or self.book.clock()
        self._tell()
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

    def add_leg(self, leg: Leg, *others: Leg) -> bool:
        """They are about to be dialled: waits for their commit as `on_disk` does. False if it is not there."""
        for one in (leg, *others):
            self.state.legs.append(one)
            self._pending.legs[one.uuid] = one
        self._tell()
        if self.on_disk():
            return True
        why = str(self.book.store.trouble or f"it took longer than {LEG_COMMIT_SECONDS:g} s; look at disk and load")
        self.note("G", "store.slow", f"dialled before the attempt was on disk: {why}", leg=leg.uuid)
        return False

    def update_leg(self, leg: Leg) -> None:
        """Also after the call's end: the release of an agent's leg may be heard late."""
        self._pending.legs[leg.uuid] = leg
        self._tell()
        self.changed()

    def add_recording(self, recording: Recording) -> None:
        self.state.recordings.append(recording)
        self.update_recording(recording)

    def update_recording(self, recording: Recording) -> None:
        seq = next(i for i, known in enumerate(self.state.recordings, 1) if known is recording)
        self._pending.recordings[seq] = recording
        self._tell()
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
        """Closes the call and commits its deliveries in one transaction; waits CLOSE_COMMIT_SECONDS at most.

        False: not on disk yet (the store is slow, or its disk full); it is written as soon as it can be. A second close
        changes nothing.
        """
        if self.closed:
            return self.id not in self.book.live
        state = self.state
        now = self.book.clock()
        self._tell(now)  # what is told only while a call goes on, and was not: its process may have died
        state.outcome, state.reason = outcome, reason
        if state.ended_at is None:
            state.ended_at = at if outcome == "lost" else at or now
        self.closed_at = now
        call_log.ended(state)
        self._tell(now)
        # all of them once more: the store then has what the deliveries say, whatever was told or not told before
        self._add_legs_and_recordings()
        nobody_takes_it = self.book.store.trouble is not None and not self.book.store.spills
        return self._waited(self.changed(whole=True), 0.0 if nobody_takes_it else CLOSE_COMMIT_SECONDS)

    def settled(self, webhook_id: str) -> None:
        """One of its deliveries was taken, or given up."""
        self._events.discard(webhook_id)
        if not self._events:
            self._events_taken.set()

    def events_taken(self, seconds: float) -> bool:
        """Waits until the dial events that were told so far are taken or given up; not at all while the store is ailing. False
        if that takes longer."""
        if not self._events:
            return True
        if self.book.store.trouble:
            return False
        self._events_taken.clear()
        self.book.store.hurry()
        return bool(self._events_taken.wait(seconds))

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
        if written.deliveries:
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
            (t.deliveries, [taken.deliveries[seq] for seq in sorted(taken.deliveries)]),
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
        """The whole record is given up, and its deliveries."""
        self.book.store.drop("calls")
        if self._pending.deliveries:
            self.book.store.drop("deliveries", len(self._pending.deliveries))
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

    def _tell(self, now: datetime | None = None) -> None:
        """Queues what is to be told to the account and has not been: it is committed with what it tells of."""
        if self.account is None:
            return
        now = now or self.book.clock()
        for tiding in self.book.tidings(self.state, self.account, now, self._told):
            row = self._told.next(self.state, tiding, now)
            if row is not None:
                self._pending.deliveries[row["seq"]] = row
                if tiding.type.startswith("dial."):
                    self._events.add(row["webhook_id"])
