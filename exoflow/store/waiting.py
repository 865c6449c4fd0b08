"""What waits to be written: sources of changes, each once, in the order in which they came. In the loop's thread only."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gevent.event import AsyncResult
from sqlalchemy.engine import Connection

from exoflow.store.changes import Change


class Mirror:
    """Something in memory whose changes are collected only when the writer is free, so that many become one write."""

    def collect(self) -> Callable[[Connection], Any]:
        """Called in the loop's thread just before the batch is written; must not switch greenlets."""
        raise NotImplementedError

    def committed(self) -> None:
        """The collected changes are on disk."""

    def put_back(self) -> None:
        """The store is ailing: the collected changes were not written, and will be collected again."""

    def failed(self, error: Exception) -> None:
        """The collected changes were refused; called before anything else of this mirror is collected."""

    def collect_whole(self) -> Change:
        """As `collect`, for the spill, also while what was collected for the store hangs: with that, and with all that the
        rows refer to, for they may be applied to another file."""
        raise NotImplementedError

    def spilled(self, *, durable: bool) -> None:
        """What `collect_whole` gave is on disk, or is to be collected again."""


@dataclass(slots=True)
class Waiter:
    """A source in the queue. `since` is monotonic; `results` are set when its changes are on disk."""

    source: Mirror
    since: float
    results: list[AsyncResult]

    def end(self, value: Any = None, error: Exception | None = None) -> None:
        for result in self.results:
            if error is None:
                result.set(value)
            else:
                result.set_exception(error)


class Waiting:
    """A queue that holds each source once, with the results of all who asked."""

    def __init__(self) -> None:
        self._waiters: OrderedDict[Mirror, Waiter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, source: Mirror) -> AsyncResult:
        waiter = self._waiters.get(source)
        if waiter is None:
            waiter = self._waiters[source] = Waiter(source, time.monotonic(), [AsyncResult()])
        return waiter.results[-1]

    def take(self, most: int, wanted: Callable[[Waiter], bool]) -> list[Waiter]:
        """The oldest that are wanted, out of the queue."""
        taken: list[Waiter] = []
        for waiter in self._waiters.values():
            if len(taken) == most:
                break
            if wanted(waiter):
                taken.append(waiter)
        for waiter in taken:
            del self._waiters[waiter.source]
        return taken

    def put_back(self, waiters: Iterable[Waiter]) -> None:
        """In front, in their order."""
        for waiter in reversed(list(waiters)):
            newer = self._waiters.get(waiter.source)
            if newer is not None:
                waiter.results += newer.results
            self._waiters[waiter.source] = waiter
            self._waiters.move_to_end(waiter.source, last=False)

    def remove(self, source: Mirror) -> Waiter | None:
        return self._waiters.pop(source, None)

    def lag(self) -> float:
        """Seconds that the oldest has waited."""
        first = next(iter(self._waiters.values()), None)
        return 0.0 if first is None else time.monotonic() - first.since
