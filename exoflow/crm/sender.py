"""Sends deliveries to the accounts' CRMs: at least once, signed, in order per call, over more than three days.

Facts: faults-security-status.md sections 1 and 2. Success is a 2xx and nothing else; 410 ends a row at once; any other end is
tried again. A row that was sent but whose settling was lost with the process is sent again under the same `webhook-id`.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import gevent
from gevent.event import Event
from gevent.pool import Pool
from sqlalchemy.engine import Connection

from exoflow.clock import utcnow
from exoflow.config.model import Account
from exoflow.crm import signing
from exoflow.crm.http import Answer, CrmFailure
from exoflow.crm.mask import mask_url
from exoflow.crm.outgoing import BUSY, DIAL, FREE, Client, NoEndpoint, outgoing
from exoflow.errors import ExoflowError, StoreError
from exoflow.store import outbox
from exoflow.store.outbox import Attempt, Claimed
from exoflow.store.sqlite import Store

log = logging.getLogger(__name__)

# Standard Webhooks 1.0.0, "Retry schedule": seconds before each attempt; after the last one a row is dead (75.6 h)
SCHEDULE = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
# the same of a dial event, which tells of a phone that rings now; and what is behind it waits no longer than this
DIAL_SCHEDULE = (0.0, 1.0, 4.0, 10.0)
JITTER = 0.2  # so that a CRM that comes back does not meet all rows at once
LEASE_SECONDS = 60.0  # longer than the longest HTTP deadline (30 s) and a slow commit together
POLL_SECONDS = 1.0  # in case a wake-up was missed, and for rows whose time has come
MAX_IN_FLIGHT = 200  # of all accounts: fifty slow CRMs at once
PER_ACCOUNT = 4  # of one account at once: a slow CRM holds back its own rows only
PER_AILING_ACCOUNT = 1  # as long as its last attempt failed: a CRM that is down is asked by one row at a time
MAX_RETRY_AFTER = 86400.0  # a day; a CRM may not put a delivery off for longer
MAX_ANSWER = 200  # bytes of the answer that are kept


Lane = tuple[str, bool]  # an account, and whether it is its dial events: one address that is dead does not hold the other back


def _lane(row: Claimed) -> Lane:
    return row.account, row.type.startswith(DIAL)


class Sender:
    """Runs in greenlets of its own from `start()` to `stop()`; `wake()` after a commit spares it the poll's second."""

    def __init__(
        self,
        store: Store,
        client: Client,
        accounts: Callable[[str], Account | None],
        schedule: tuple[float, ...] = SCHEDULE,
        *,
        clock: Callable[[], datetime] = utcnow,
        jitter: Callable[[], float] = lambda: random.uniform(-JITTER, JITTER),
    ) -> None:
        """`accounts` is asked at each attempt, so that a corrected URL counts from the next one."""
        self._store = store
        self._client = client
        self._accounts = accounts
        self._schedule = schedule
        self._clock = clock
        self._jitter = jitter
        self.on_settled: Callable[[str, str], None] = lambda call_id, webhook_id: None  # taken, or given up
        self._woken = Event()
        self._stopping = False
        self._pool = Pool(MAX_IN_FLIGHT)
        self._in_flight: Counter[Lane] = Counter()
        self._ailing: set[Lane] = set()
        self._loop: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begins; an ailing store is waited for in the background."""
        self._loop = gevent.spawn(self._run)

    def wake(self) -> None:
        """A delivery has been committed."""
        self._woken.set()

    def stop(self, deadline: float = 5.0) -> None:
        """Claims no more, gives those under way `deadline` seconds, leaves the rest to the next start."""
        self._stopping = True
        self._woken.set()
        if self._loop is not None:
            self._loop.join(deadline)
        self._pool.join(timeout=deadline)
        self._pool.kill()

    def drain(self) -> int:
        """Sends all that is due by the clock now, and waits for it; how many attempts that were."""
        made = 0
        while started := self._round():
            made += started
            self._pool.join()
        return made

    # --- the queue -----------------------------------------------------------------------------

    def _take_over(self) -> None:
        """What a dead process had leased is free. The store has one writing process, so all leases are old."""
        taken = self._store.write(lambda c: outbox.release(c, self._clock()))
        if taken:
            log.info("%d deliveries were under way when exoflow stopped; they are sent again under the same ids", taken)

    def _run(self) -> None:
        while not self._stopping and not self._done(self._take_over):
            pass
        while not self._stopping:
            self._woken.clear()
            if self._done(self._round):
                self._woken.wait(POLL_SECONDS)

    @staticmethod
    def _done(work: Callable[[], object]) -> bool:
        """False if it failed, POLL_SECONDS ago: it is to be tried again."""
        try:
            work()
        except StoreError as error:  # an ailing store says so itself, once
            log.info("deliveries wait for the store: %s", error)
        except Exception:
            log.exception("deliveries cannot be claimed; trying again")
        else:
            return True
        gevent.sleep(POLL_SECONDS)
        return False

    def _round(self) -> int:
        """Claims what is due and starts it; the number of rows claimed."""
        now = self._clock()
        due = self._store.read(lambda c: outbox.due_accounts(c, now))
        free = self._pool.free_count()
        if not due or not free:
            return 0
        lease_until = now + timedelta(seconds=LEASE_SECONDS)

        def claimed(connection: Connection) -> list[Claimed]:
            found: list[Claimed] = []
            for urgent in (True, False):
                limits = {account: self._limit((account, urgent)) for account in due}
                total = free - len(found)
                found += outbox.claim(connection, limits, now=now, lease_until=lease_until, total=total, urgent=urgent)
            return found

        if all(self._limit((account, urgent)) <= 0 for account in due for urgent in (True, False)):
            return 0
        rows = self._store.write(claimed)
        for row in rows:
            self._in_flight[_lane(row)] += 1
            self._pool.spawn(self._send, row)
        return len(rows)

    def _limit(self, lane: Lane) -> int:
        """How many more of it may be under way."""
        return (PER_AILING_ACCOUNT if lane in self._ailing else PER_ACCOUNT) - self._in_flight[lane]

    def _send(self, row: Claimed) -> None:
        try:
            attempt, problem, wait_at_least = self._attempt(row)
            if attempt.reason:
                self._ailing.add(_lane(row))
            else:
                self._ailing.discard(_lane(row))
            self._settle(row, attempt, problem, wait_at_least)
        except StoreError as error:
            log.warning("delivery %s of call %s: not settled, and sent again later: %s", row.webhook_id, row.call_id, error)
        except Exception:
            # the lease ends by itself and the row is sent again
            log.exception("delivery %s of call %s: not settled", row.webhook_id, row.call_id)
        finally:
            self._in_flight[_lane(row)] -= 1
            self._woken.set()

    # --- one attempt ---------------------------------------------------------------------------

    def _attempt(self, row: Claimed) -> tuple[Attempt, str, float]:
        """How it went, the problem in words, and the seconds the CRM asked us to wait."""
        at = self._clock()
        account, url = self._accounts(row.account), ""
        try:
            ready = outgoing(row, account, self._client, at)
            url = mask_url(ready.url, account.crm.mask if account is not None else ())
            return _told(ready.send(), at, url)
        except CrmFailure as failure:
            return Attempt(at, url, failure.status, failure.ms, "", failure.reason), str(failure), 0.0
        except NoEndpoint as error:
            return Attempt(at, "", None, 0, "", "no_endpoint"), str(error), 0.0
        except signing.BadSecret as error:
            return Attempt(at, url, None, 0, "", "secret"), str(error), 0.0
        except Exception as error:
            # an attempt that nothing counts would come again for ever, and hold the call's later events back
            if not isinstance(error, ExoflowError):
                log.exception("delivery %s of call %s: the attempt failed within exoflow", row.webhook_id, row.call_id)
            return Attempt(at, url, None, 0, "", "internal"), f"{type(error).__name__}: {error}", 0.0

    def _settle(self, row: Claimed, attempt: Attempt, problem: str, wait_at_least: float) -> None:
        now = self._clock()
        failures = row.failures + 1
        schedule = DIAL_SCHEDULE if row.type.startswith(DIAL) else self._schedule
        if not attempt.reason:
            changes = {"state": "delivered", "delivered_at": now, "problem": ""}
        elif row.type == BUSY and self._store.read(lambda c: outbox.is_followed(c, row, FREE)):
            changes = {"state": "dead", "failures": failures, "problem": f"{problem}; given up, for a phone is free again"}
        elif attempt.reason == "gone" or failures >= len(schedule):
            changes = {"state": "dead", "failures": failures, "problem": problem}
            log.error("delivery %s of call %s (account %s) is given up: %s", row.webhook_id, row.call_id, row.account, problem)
        else:
            wait = self._wait(schedule[failures], wait_at_least)
            next_at = now + timedelta(seconds=wait)
            changes = {"state": "pending", "next_at": next_at, "lease_until": now, "failures": failures, "problem": problem}
            log.warning("delivery of call %s (account %s) failed: %s; again in %.0f s", row.call_id, row.account, problem, wait)
        if not self._store.write(lambda c: outbox.settle(c, row, attempt, **changes)):
            log.info("delivery %s: its lease was taken over; attempt %d counts no more", row.webhook_id, row.attempt)
        elif changes["state"] != "pending":
            self.on_settled(row.call_id, row.webhook_id)

    def _wait(self, planned: float, wait_at_least: float) -> float:
        """Seconds before the next attempt; what the CRM asked for is never undercut, jitter only adds to it."""
        jitter = self._jitter()
        return max(planned * (1 + jitter), wait_at_least * (1 + abs(jitter)))


def _told(answer: Answer, at: datetime, url: str) -> tuple[Attempt, str, float]:
    """What an answer makes of the attempt; the rest as `Sender._attempt`."""
    kept = (answer.excerpt or answer.unread).encode()[:MAX_ANSWER].decode("utf-8", "ignore")
    reason, problem = judged(answer, url)
    wait = retry_after(answer.headers, at) if reason else 0.0
    return Attempt(at, url, answer.status, answer.ms, kept, reason), problem, wait


def judged(answer: Answer, url: str) -> tuple[str, str]:
    """Reason (empty for a success) and the problem in words."""
    if 200 <= answer.status < 300:
        return "", ""
    if answer.status == 410:
        return "gone", f"{url}: answered 410, the CRM wants this delivery no more; correct `deliveries.url` if it should"
    if 300 <= answer.status < 400:
        return "status", f"{url}: answered {answer.status}; redirects are not followed, configure the final URL"
    return "status", f"{url}: answered {answer.status}, only 2xx counts as received; look into the CRM's own log"


def retry_after(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds that `Retry-After` asks for (RFC 9110 section 10.2.3: seconds or a date); 0 if it says nothing usable, as a date
    that no calendar has."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        try:
            date = parsedate_to_datetime(text)
            seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
        except (ValueError, OverflowError, TypeError, IndexError):
            return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
