"""A circuit breaker for each address of an account's CRM, and one for each host, so that a dead CRM does not hold every caller
for the whole deadline.

Closed: requests go out. After FAILURES of them in a row without an answer, within WINDOW_SECONDS, the circuit opens: whoever
would wait is refused at once. After OPEN_SECONDS one request goes out as a trial, one at a time; an answer closes the circuit.

* An address (host and path) that takes connections and does not answer (timeout, reset) opens its own circuit: one slow part
  of a CRM keeps no caller from another part that is well.
* A host to which no connection can be made (dns, refused, tls, timeout while connecting) opens the host's circuit, and with it
  all its addresses. A connection that was made shows that the host lives, whatever becomes of the request.
* Any status is an answer, a 5xx too, and so is what cannot be read (`body`): it comes from a living host, holds nobody, and may
  be about that one call. `url` and `address` say nothing about the host.
* By account: an account's own address, DNS view or proxy must not turn another's callers away.
* Only requests that a caller waits for pass here. Others always go out: deliveries have a schedule of their own, and what is
  sent behind a call is data that would be lost. Nor do their answers close: each refused call would have its delivery taken
  by another part of the CRM, and send the next caller into the part that is dead.

In memory, of one process; an address without failures takes no room.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from exoflow.clock import utcnow
from exoflow.crm.failures import FailureReason
from exoflow.crm.mask import mask_url

log = logging.getLogger(__name__)

FAILURES = 5  # in a row: fewer are a hiccup, or one call's own steps that ask a CRM which is down for this call alone
WINDOW_SECONDS = 60.0  # a CRM asked more rarely than that holds few callers, and each of them is worth the trial
OPEN_SECONDS = 10.0  # a CRM that restarts is back within it; meanwhile one caller in ten seconds waits for it, not each
MAX_CIRCUITS = 1000  # failing addresses that are remembered; above it the one unheard of for longest is forgotten
DETAIL_CHARS = 200  # of the last failure's sentence

_THE_HOSTS: frozenset[FailureReason] = frozenset({"timeout", "refused", "reset", "dns", "tls"})

WHOLE_HOST = ""  # in the place of a path


class Key(NamedTuple):
    """Whose circuit, and of what."""

    account: str
    origin: str
    path: str  # WHOLE_HOST for the host's own


class CircuitOpen(Exception):
    """The request is not to be sent. `detail` is the sentence, `evidence` for the journey."""

    def __init__(self, detail: str, evidence: dict[str, Any]) -> None:
        self.detail, self.evidence = detail, evidence
        super().__init__(detail)


@dataclass(slots=True)
class _Circuit:
    path: str  # as people may see it
    failed_at: deque[float] = field(default_factory=lambda: deque(maxlen=FAILURES))
    last: FailureReason = "timeout"
    detail: str = ""
    since: datetime | None = None  # None: closed
    opened_at: float = 0.0
    trial_at: float = 0.0
    trial: Passage | None = None  # the request that is out to try

    @property
    def state(self) -> str:
        return "closed" if self.since is None else "open" if self.trial is None else "half-open"

    @property
    def evidence(self) -> dict[str, Any]:
        since = None if self.since is None else self.since.isoformat(timespec="seconds").replace("+00:00", "Z")
        return {"circuit": self.state, "since": since, "last_failure": self.last}


class Passage:
    """One request that went out; `answered` or `failed` is called when it ends, neither if it was given up."""

    def __init__(self, breaker: Breaker, keys: tuple[Key, Key], shown: str) -> None:
        self._breaker = breaker
        self._host, self._address = keys
        self.shown = shown  # the address's path as people may see it
        self.evidence: dict[str, Any] = {}  # what the circuit was, if not simply closed

    def answered(self) -> None:
        self._breaker._answered(self._host)
        self._breaker._answered(self._address)

    def failed(self, reason: FailureReason, detail: str, *, reached: bool) -> None:
        """`detail` without secrets: others see it. `reached`: a connection was made."""
        if reason == "body":
            self.answered()
        elif reason in _THE_HOSTS and reached:
            self._breaker._answered(self._host)
            self._breaker._failed(self._address, self, reason, detail)
        elif reason in _THE_HOSTS:
            self._breaker._failed(self._host, self, reason, detail)


class Breaker:
    """All circuits of a process. `clock` in seconds; a rehearsal may give its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.forgotten = 0  # circuits dropped above MAX_CIRCUITS
        self._circuits: OrderedDict[Key, _Circuit] = OrderedDict()

    @contextmanager
    def passing(self, account: str, url: str, mask: Collection[str] = ()) -> Iterator[Passage]:
        """Around one request. `mask` as in `mask_url`. Raises CircuitOpen instead of letting it out."""
        origin = origin_of(url) or ""
        keys = Key(account, origin, WHOLE_HOST), Key(account, origin, _path_of(url))
        passage = Passage(self, keys, mask_url(keys[1].path, mask))
        opened = [one for key in keys if (one := self._circuits.get(key)) is not None and one.since is not None]
        for circuit in opened:
            self._refuse(circuit)
        for circuit in opened:
            circuit.trial, passage.evidence = passage, circuit.evidence | {"circuit": "half-open"}
        try:
            yield passage
        finally:
            for circuit in opened:  # given up, as its caller's socket was: the next one tries
                if circuit.trial is passage:
                    circuit.trial = None

    def state(self) -> list[dict[str, Any]]:
        """The circuits that are not closed, for people and programs."""
        return [
            {
                "account": key.account,
                "host": key.origin,
                "path": circuit.path,
                "state": circuit.state,
                "since": circuit.evidence["since"],
                "last_failure": circuit.last,
                "detail": circuit.detail,
                "trial_in_seconds": round(max(0.0, circuit.trial_at - self.clock()), 1),
            }
            for key, circuit in self._circuits.items()
            if circuit.since is not None
        ]

    def _refuse(self, circuit: _Circuit) -> None:
        """Raises CircuitOpen unless a trial is due."""
        now = self.clock()
        if circuit.trial is None and now >= circuit.trial_at:
            return
        again = "a trial is under way" if circuit.trial else f"the next trial is due in {circuit.trial_at - now:.0f} s"
        raise CircuitOpen(
            f"not asked for {now - circuit.opened_at:.0f} s now, after {FAILURES} requests in a row without an answer"
            f" (the last failure: {circuit.last}, {circuit.detail}); {again}",
            circuit.evidence,
        )

    def _answered(self, key: Key) -> None:
        circuit = self._circuits.pop(key, None)
        if circuit is not None and circuit.since is not None:
            log.warning("account %s: %s answers again and is asked as ever", key.account, key.origin + circuit.path)

    def _failed(self, key: Key, passage: Passage, reason: FailureReason, detail: str) -> None:
        now = self.clock()
        circuit = self._circuits.setdefault(key, _Circuit(passage.shown if key.path else WHOLE_HOST))
        self._circuits.move_to_end(key)
        circuit.last, circuit.detail = reason, detail[:DETAIL_CHARS]
        if circuit.since is not None:
            if circuit.trial is passage:
                circuit.trial, circuit.trial_at = None, now + OPEN_SECONDS
                passage.evidence = circuit.evidence
            return
        circuit.failed_at.append(now)
        if len(circuit.failed_at) == FAILURES and now - circuit.failed_at[0] <= WINDOW_SECONDS:
            circuit.since, circuit.opened_at, circuit.trial_at = utcnow(), now, now + OPEN_SECONDS
            passage.evidence = circuit.evidence
            what = key.origin + circuit.path
            text = "account %s: %s is not asked for %g s at a time: %s (%s)"
            log.warning(text, key.account, what, OPEN_SECONDS, reason, circuit.detail)
        self._forget()

    def _forget(self) -> None:
        while len(self._circuits) > MAX_CIRCUITS:
            self._circuits.popitem(last=False)
            self.forgotten += 1
            if self.forgotten == 1:
                log.warning("more than %d addresses of CRMs fail: some are asked although they are dead", MAX_CIRCUITS)


def origin_of(url: str) -> str | None:
    """Scheme, host and port; None for what is no such URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def _path_of(url: str) -> str:
    """The path alone: the parameters are each call's own."""
    try:
        return urlsplit(url).path or "/"
    except ValueError:
        return "/"
