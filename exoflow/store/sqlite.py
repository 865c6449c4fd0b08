"""The store under gevent: what is to be written waits in memory, one thread writes it, readers look beside it.

A connection used from greenlets stalls the loop for as long as a lock or an fsync takes (up to seconds), so no greenlet ever
touches one. Changes that wait are committed together: `BEGIN IMMEDIATE`, a savepoint each, one `COMMIT`. While the store
cannot be written they wait on, are coalesced, and after SPILL_SECONDS go into the spill; nothing newer passes them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gevent
from gevent.event import AsyncResult, Event
from gevent.threadpool import ThreadPool
from sqlalchemy.engine import Connection

from exoflow.errors import DeadlineExceeded, StoreError
from exoflow.store.counts import Counts
from exoflow.store.readers import Readers
from exoflow.store.troubles import REOPENED, StoreTrouble, slow, trouble
from exoflow.store.waiting import Mirror, Waiter, Waiting
from exoflow.store.writer import Closure, Done, Writer, caught

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 200  # closures in one commit: measured 38,000 rows/s with a longest stall of 2.7 ms
LINGER_SECONDS = 0.01  # changes nobody waits for gather that long: a lone fsync for each would cost more than the writing
SPILL_SECONDS = 5.0  # a store that cannot be written for so long is ailing: what waits goes into the spill
PULSE_SECONDS = 10.0  # an idle store is written to so often, to know that it can be
RETRY_SECONDS = 1.0  # between two tries of an ailing store
REOPEN_SECONDS = 5.0  # between two looks at a file that was refused: each checks all of it
GIVEN_SECONDS = 30.0  # a closure somebody gave cannot be spilled: after so long behind a lock it fails
WRITE_SECONDS = 60.0  # for who names no time: longer than GIVEN_SECONDS, so that only a commit that hangs is given up
GIVEN_AT_ONCE = 1000  # that fail in one try
LOOK_SECONDS = 0.25  # how soon a commit that hangs is noticed beyond SPILL_SECONDS, and what waits is spilled meanwhile
CLOSE_SECONDS = 10.0  # to write what is queued


@dataclass(slots=True)
class Health:
    """What an engineer must know of the store."""

    trouble: str = ""  # why it cannot be written, with the cure; empty if it can
    lag: float = 0.0  # seconds that the oldest change has been waiting
    waiting: int = 0  # changes in memory
    spill: str = ""  # why nothing can be spilled; empty if it can, or none is configured
    spilled: int = 0  # bytes not yet applied
    unusable: int = 0  # lines of the spill that were damaged or refused
    dropped: dict[str, int] = field(default_factory=dict)  # what was lost since the start, by kind


class Store:
    """`write`, `post` and `mirror` for changes, `read` for looks. Closures must not return live cursors."""

    def __init__(
        self,
        writer: Writer,
        connect_reader: Callable[[], Connection],
        release: Callable[[], None],
        *,
        trouble: StoreTrouble | None = None,
        wants_spill: bool = False,
        left: Connection | None = None,
    ) -> None:
        """`trouble`: it could not be opened, and is as soon as it can be. `left`: of the spill, see store/leftover.py."""
        self.path = writer.path
        self.counts = Counts(self._count)
        self.dropped: dict[str, int] = {}
        self.on_tick: Callable[[], None] = lambda: None  # while the store is ailing, once a try: to bound what waits
        self.on_reopened: Callable[[], None] = lambda: None  # another file may be there: all that lives is to be written whole
        self._writing = writer
        self._release = release
        self._waiting = Waiting()
        self._wanted = Event()
        self._hurried = Event()
        self._closing = False
        self._trouble = trouble
        self._since = time.monotonic()  # of the trouble
        self._spill_again_at = 0.0
        self._spill_problem = "the spill could not be opened: see the log" if wants_spill and writer.spill is None else ""
        self._writer = ThreadPool(1)
        self._spilling = ThreadPool(1)
        self._readers = Readers(self.path, connect_reader)
        self._left = left
        self._opened = writer.opened
        self._batcher = gevent.spawn(self._run)
        if trouble is not None:
            log.error("%s", trouble)
            self._wanted.set()

    # --- for calls ----------------------------------------------------------------------------

    def post(self, fn: Callable[[Connection], Any]) -> AsyncResult:
        """Queues `fn`; the result is set after its commit. Raises StoreError if the store is closed."""
        result = self._queue(_Given(fn))
        self.hurry()
        return result

    def mirror(self, source: Mirror) -> AsyncResult:
        """Queues `source`, whose changes are collected when its turn comes, LINGER_SECONDS later or as soon as one hurries.

        The result is set when they are on disk: in the store, or in the spill.
        """
        return self._queue(source)

    def forget(self, source: Mirror, error: Exception) -> None:
        """What waits of `source` is given up."""
        waiter = self._waiting.remove(source)
        if waiter is not None:
            waiter.end(error=error)

    def hurry(self) -> None:
        """Somebody waits for what is queued."""
        self._hurried.set()

    def write(self, fn: Callable[[Connection], T], *, deadline: float = WRITE_SECONDS) -> T:
        """Runs `fn` in the next transaction and waits for its commit, `deadline` seconds at most.

        Raises DeadlineExceeded (the write still happens), what `fn` raised, or StoreError if it could not be committed.
        """
        result = self.post(fn)
        result.wait(deadline)
        if not result.ready():
            raise DeadlineExceeded(f"commit to {self.path.name}", deadline)
        value: T = result.get()
        return value

    def read(self, fn: Callable[[Connection], T], *, deadline: float | None = None) -> T:
        """What `fn` reads on a read-only connection, all of one moment, in a thread.

        Raises StoreError if the file cannot be read, DeadlineExceeded after `deadline` seconds.
        """
        return self._readers.read(fn, deadline)

    def read_left(self, fn: Callable[[Connection], list[T]]) -> list[T]:
        """What `fn` finds of calls that an earlier process left open in the spill, while the store is behind it."""
        return [] if self._left is None else fn(self._left)

    @property
    def trouble(self) -> StoreTrouble | None:
        """Why the store cannot be written now. What is mirrored goes into memory and spill; nobody should wait for it."""
        return self._trouble

    @property
    def spills(self) -> bool:
        """Does the ailing store's spill take what is mirrored?"""
        return self._writing.spill is not None and not self._spill_problem

    @property
    def behind(self) -> bool:
        """Are there changes that a look into the store does not show, because they wait in the spill?"""
        return self._trouble is not None or self._spilled > 0

    def drop(self, kind: str, amount: int = 1) -> None:
        """Something is lost for good: counted, shown."""
        self.dropped[kind] = self.dropped.get(kind, 0) + amount
        self.counts.add(f"dropped.{kind}", "", amount)

    def health(self) -> Health:
        spill = self._writing.spill
        return Health(
            trouble="" if self._trouble is None else str(self._trouble),
            lag=self._waiting.lag(),
            waiting=len(self._waiting),
            spill=self._spill_problem,
            spilled=self._spilled,
            unusable=0 if spill is None else spill.unusable,
            dropped=dict(self.dropped),
        )

    def close(self, deadline: float = CLOSE_SECONDS) -> None:
        """Writes or spills what is queued (`deadline` seconds at most), then lets the file and its lock go."""
        if self._closing:
            return
        self.counts.stop()
        self._closing = True
        self._wanted.set()
        self._hurried.set()
        self._batcher.join(deadline)
        if not self._batcher.dead:
            self._batcher.kill()
            log.error("%s: %d writes could not be finished in %g s", self.path, len(self._waiting), deadline)
            return  # a thread still writes: the end of the process lets the file go, and not before
        self._readers.close()
        self._writer.apply(caught, (self._writing.close,))
        self._writer.kill()
        self._spilling.kill()
        if self._writing.spill is not None:
            self._writing.spill.close()
        self._release()

    @property
    def _spilled(self) -> int:
        """Bytes that are in the spill and not yet in the store."""
        return 0 if self._writing.spill is None else self._writing.spill.size

    # --- in the loop's thread -----------------------------------------------------------------

    def _count(self, counts: Mirror) -> None:
        """Counting never fails; what is counted while the store closes is in the log alone."""
        if not self._closing:
            self._queue(counts)

    def _queue(self, source: Mirror) -> AsyncResult:
        if self._closing:
            raise StoreError(f"{self.path}: the store is closed")
        result = self._waiting.add(source)
        self._wanted.set()
        return result

    def _run(self) -> None:
        while True:
            idle = not self._wanted.wait(PULSE_SECONDS)
            self._wanted.clear()
            while self._waiting or self.behind or idle:
                idle = False
                self._hurried.wait(LINGER_SECONDS)
                self._hurried.clear()
                self._attempt()
                if self._trouble is None:
                    continue
                if self._closing:
                    self._give_up()
                    return
                self._bear()
            if self._closing:
                return

    def _attempt(self) -> None:
        """Writes a batch; once the spill takes over, only what cannot go there."""
        batch: list[Waiter] = []
        closures: list[Closure] = []
        spilled = self._spilled
        for waiter in self._next_batch():
            try:
                closures.append(waiter.source.collect())
            except Exception as error:
                log.exception("changes could not be collected")
                waiter.end(error=error)
            else:
                batch.append(waiter)
        job = self._writer.spawn(caught, self._writing.commit, closures, spilled > 0)
        if not _ready(job, SPILL_SECONDS):
            if self._trouble is None:
                self._ails(slow(self.path, SPILL_SECONDS, spilled), SPILL_SECONDS)
            while not _ready(job, LOOK_SECONDS):
                self._spill()
                self._fail_given()
                self._tick()
        whole: Done[list[Done[Any]]] = job.get()
        ends = whole.value if batch and whole.value is not None else [Done(error=whole.error)] * len(batch)
        ailing = trouble(self.path, whole.error)
        if whole.error is not None and ailing is None:
            log.error("%s: %s", self.path, whole.error)
        unwritten = []
        for waiter, end in zip(batch, ends, strict=True):
            ails = trouble(self.path, end.error)
            ailing = ailing or ails
            if ails is not None and (not _is_given(waiter) or ails.kind == "locked"):
                unwritten.append(waiter)
            else:
                _tell(waiter, end if ails is None else Done(error=ails))
        self._put_back(unwritten)
        if ailing is not None:
            self._ails(ailing)
        else:
            self._is_well()

    def _next_batch(self) -> list[Waiter]:
        if self._trouble is not None and self._trouble.kind in REOPENED:
            return []  # another file may be there, which must be told first whose changes these are: on_reopened
        # changes of records are newer than what is spilled, or will be when it has been applied
        only_given = self._spilled > 0 or self._spill_is_due()
        return self._waiting.take(BATCH, _is_given if only_given else _any)

    def _put_back(self, waiters: list[Waiter]) -> None:
        for waiter in waiters:
            waiter.source.put_back()
        self._waiting.put_back(waiters)

    def _ails(self, ailing: StoreTrouble, already: float = 0.0) -> None:
        if self._trouble is None:
            self._since = time.monotonic() - already
        if self._trouble is None or self._trouble.kind != ailing.kind:
            log.error("%s", ailing)
        self._trouble = ailing

    def _is_well(self) -> None:
        if self._trouble is not None:
            log.warning("%s: can be written again, after %.1f s", self.path, time.monotonic() - self._since)
            self._trouble = None
        if self._left is not None:
            self._left.close()
            self._left = None
        if self._opened != self._writing.opened:
            self._opened = self._writing.opened
            self._readers.renew()
            self.on_reopened()

    # --- while the store is ailing --------------------------------------------------------------

    def _bear(self) -> None:
        """Until the next try: what waits is spilled, or bounded."""
        assert self._trouble is not None
        pause = REOPEN_SECONDS if self._trouble.kind in REOPENED else RETRY_SECONDS
        until = time.monotonic() + pause
        self._fail_given()
        self._tick()
        while (left := until - time.monotonic()) > 0 and not self._closing:
            self._spill()
            self._hurried.wait(min(left, RETRY_SECONDS))
            self._hurried.clear()

    def _tick(self) -> None:
        try:
            self.on_tick()
        except Exception:
            log.exception("what waits could not be bounded")

    def _spill_is_due(self) -> bool:
        return self._trouble is not None and time.monotonic() - self._since >= SPILL_SECONDS and self.spills

    def _spill(self, *, now: bool = False) -> None:
        """Moves what waits and can be kept as lines into the spill, once the store has been ailing long enough."""
        spill = self._writing.spill
        moved = 0
        due = time.monotonic() >= max(self._since + SPILL_SECONDS, self._spill_again_at)
        while spill is not None and (now or due):
            batch = self._waiting.take(BATCH, lambda waiter: not _is_given(waiter))
            if not batch:
                break
            changes = [waiter.source.collect_whole() for waiter in batch]
            end: Done[None] = self._spilling.apply(caught, (spill.append, changes))
            if end.error is not None:
                self._spill_again_at = time.monotonic() + RETRY_SECONDS
                self._cannot_spill(end.error)
                for waiter in batch:
                    waiter.source.spilled(durable=False)
                self._waiting.put_back(batch)
                break
            self._spill_problem = ""
            moved += sum(waiter.source is not self.counts for waiter in batch)
            for waiter in batch:
                waiter.source.spilled(durable=True)
                waiter.end()
        self.counts.add("spilled.changes", "", moved)

    def _cannot_spill(self, error: Exception) -> None:
        if str(error) != self._spill_problem:
            log.error("%s", error)
        self._spill_problem = str(error)

    def _fail_given(self) -> None:
        """A lock passes, and closures are tried again behind it; but whoever waits for one is not kept for ever."""
        assert self._trouble is not None
        late = time.monotonic() - (0.0 if self._trouble.kind in REOPENED else GIVEN_SECONDS)
        for waiter in self._waiting.take(GIVEN_AT_ONCE, lambda waiter: _is_given(waiter) and waiter.since <= late):
            _tell(waiter, Done(error=self._trouble))

    def _give_up(self) -> None:
        """The process ends, and the store cannot be written: what the spill does not take is lost."""
        self._spill(now=True)
        assert self._trouble is not None
        lost = self._waiting.take(len(self._waiting), _any)
        if lost:
            log.error("%s: %d changes are lost with this process: %s", self.path, len(lost), self._trouble)
        for waiter in lost:
            waiter.end(error=self._trouble)


class _Given(Mirror):
    """A closure that somebody gave: it cannot be kept as a line."""

    def __init__(self, fn: Closure) -> None:
        self._fn = fn

    def collect(self) -> Closure:
        return self._fn


def _is_given(waiter: Waiter) -> bool:
    return isinstance(waiter.source, _Given)


def _any(waiter: Waiter) -> bool:
    return True


def _ready(job: AsyncResult, seconds: float) -> bool:
    job.wait(seconds)
    return bool(job.ready())


def _tell(waiter: Waiter, end: Done[Any]) -> None:
    try:
        if end.error is None:
            waiter.source.committed()
        else:
            waiter.source.failed(end.error)
    except Exception:
        log.exception("a writer's listener failed")
    waiter.end(end.value, end.error)
