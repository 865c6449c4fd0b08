"""Calls back who asked for it in a queue: in his turn, when an agent is free for him and the account's CRM lets us.

Each of them has a place in the queue, as old as he is, without a telephone line. When an agent is claimed for it, he is rung,
and hears that agent as soon as he has answered; nobody else gets that agent meanwhile. That somebody is being called is on
disk before his call's record is, and that before he is rung: what a dead process has left is settled from that record.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol

import gevent
from gevent.event import Event

from exoflow.agents.callbacks import CallBack, CallBacks
from exoflow.agents.groups import Candidate, of_target
from exoflow.agents.queue import Place
from exoflow.agents.staff import Picked, Seeker, Staff
from exoflow.calls.book import CallBook
from exoflow.calls.call import Call
from exoflow.calls.model import CalledBack, CallFacts, CallState, Placed
from exoflow.config.callbacks import CallBacks as Rules
from exoflow.config.model import Account, Config, Number
from exoflow.config.steps import MAX_TALK_SECONDS, Target
from exoflow.crm.dialect import parameters
from exoflow.crm.http import CrmClient, CrmFailure
from exoflow.errors import ExoflowError, StoreError, UnsafeText
from exoflow.flow import placed
from exoflow.flow.calledback import KEPT_SECONDS, within_hours
from exoflow.flow.placing import NotPlaced

log = logging.getLogger("exoflow.flow")

LOOK_SECONDS = 1.0  # between two looks at what no event tells: hours that begin, a time to breathe that is over
SOON_SECONDS = 60.0  # to the next try where not he was the reason: no channel free, his line busy with another call of ours
ASK_AGAIN_SECONDS = 60.0  # an answer of the do-not-call hook counts so long; who waited longer is asked for again, at his turn
RING_SECONDS = 30  # as agents are rung: an agent waits for him as long
# of a call to him, from its record to its end: its own limit, and what the reconciliation takes behind a death
FOLLOW_SECONDS = MAX_TALK_SECONDS + 600.0
# reasons of a call that he is not to blame for, and that is no try
NOT_HIS = frozenset({"placed.engaged", "placed.trunk", "placed.protocol", "call.placed", "calls.limit"})


class Dial(Protocol):
    """Placing.place."""

    def __call__(
        self,
        account_id: str,
        account: Account,
        number: Number,
        first: str,
        flow: str | None,
        asked: Placed,
        *,
        call_id: str | None = None,
    ) -> CallState: ...


class _Way(NamedTuple):
    """What the configuration says of one of them now."""

    account: Account
    rules: Rules
    number: Number
    candidates: list[Candidate]


class CallingBack:
    """Calls from `start()` to `stop()`."""

    def __init__(
        self,
        known: CallBacks,
        staff: Staff,
        book: CallBook,
        crm: CrmClient,
        config: Callable[[], Config],
        place: Dial,
    ) -> None:
        self._known, self._staff, self._book, self._crm, self._config = known, staff, book, crm, config
        self._place = place
        self._busy: dict[str, gevent.Greenlet] = {}  # by the wish's id
        self._followed: dict[str, Event] = {}  # by the id of the call to him: set when that is closed
        self.in_flight = 0  # what is under way and takes its own time: a rehearsal's clock must not overtake it
        self._runner: gevent.Greenlet | None = None
        book.on_closed.append(self._closed)

    def start(self) -> None:
        self._runner = gevent.spawn(self._run)

    def stop(self) -> None:
        """Calls that were placed go on, and are settled by the next process."""
        gevent.killall([one for one in (self._runner, *self._busy.values()) if one is not None])

    # --- who is due -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._known.changed.wait(LOOK_SECONDS)
            self._known.changed.clear()
            try:
                self.look()
            except ExoflowError as error:  # an ailing store says so itself, once
                log.info("callers who are to be called back wait: %s", error)
            except Exception:
                log.exception("nobody can be called back; trying on")

    def look(self) -> None:
        """Begins with each who is due. Raises StoreError."""
        if not self._known.ready and not self._known.read():
            return
        for wish in list(self._known.open.values()):
            if wish.id in self._busy:
                continue
            way = self._way(wish)
            if wish.state == "waiting" and way is None:
                self._known.end(wish, "gone")
            elif wish.state == "waiting" and way is not None and self._is_over(wish, way.rules):
                self._known.end(wish, "expired")
            elif wish.state == "dialling" or self._is_due(wish):
                self._busy[wish.id] = gevent.spawn(self._serve, wish)

    def _is_over(self, wish: CallBack, rules: Rules) -> bool:
        return self._staff.clock() >= wish.asked_at + timedelta(hours=rules.keep_hours)

    def _is_due(self, wish: CallBack) -> bool:
        """May he be called now, if an agent is free? Not while he is calling us himself."""
        now, way = self._staff.clock(), self._way(wish)
        if way is None or wish.ended_at is not None or now < wish.next_at or self._is_over(wish, way.rules):
            return False
        calls_us = any(call in self._book.live for call in self._staff.claims.calls_of(wish.caller))
        return within_hours(way.account, now) and not calls_us

    def _way(self, wish: CallBack) -> _Way | None:
        """None: he cannot be called any more, for account, number or step are not there, or offer it no more."""
        account = self._config().accounts.get(wish.account)
        if account is None or account.call_backs is None or placed.step_of(account, _going_on(wish)) is None:
            return None
        number = next((one for one in account.numbers if one.number == wish.number), None)
        if number is None or number.trunk not in self._config().trunks:
            return None
        return _Way(account, account.call_backs, number, of_target(account, Target(group=wish.team)))

    # --- one of them ------------------------------------------------------------------------------------

    def _serve(self, wish: CallBack) -> None:
        try:
            if wish.state == "dialling":
                self._settle(wish, self._followed_up(wish, None))
            elif self._may_be_called(wish):
                call_id, asked = uuid.uuid4().hex, time.monotonic()
                picked = self._in_line(wish, call_id)
                if picked:
                    self._ring(wish, call_id, picked, asked)
        except StoreError as error:  # it is ailing, or being closed: nothing of it is lost
            log.info("call-back %s waits for the store: %s", wish.id[:8], error)
            gevent.sleep(LOOK_SECONDS)
        except Exception:
            log.exception("call-back %s failed", wish.id[:8])
            wish.next_at = self._staff.clock() + timedelta(seconds=SOON_SECONDS)
        finally:
            del self._busy[wish.id]

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def _may_be_called(self, wish: CallBack) -> bool:
        """Asks the account's CRM. Raises StoreError."""
        with self._under_way():
            return self._crm_lets_us(wish)

    def _crm_lets_us(self, wish: CallBack) -> bool:
        way = self._way(wish)
        if way is None:
            return False
        state = self._book.get(wish.call) or _bare(wish, way.number)
        permission, why = ask_hook(self._crm, wish.account, way.account, way.rules, state, self._staff.clock())
        if permission == "never":
            self._known.end(wish, "refused", why)
        elif permission == "later":
            self._later(wish, why, timedelta(minutes=way.rules.again_minutes))
        return permission == "now"

    def _in_line(self, wish: CallBack, call_id: str) -> Sequence[Picked]:
        """Waits for his turn; who is claimed for him then. Nobody, if he may not be called any more. Raises StoreError."""
        way = self._way(wish)
        if way is None:
            return []
        seeker = Seeker(wish.account, way.account, wish.flow, call_id, wish.team)

        def claim(avoided: Collection[str]) -> Sequence[Picked]:
            return self._staff.choose(seeker, way.candidates, avoided).picked

        queues, key = self._staff.queues, (wish.account, wish.team)
        place = Place(call_id, wish.since, claim, on_line=False)
        queues.join(key, place)
        served = False
        try:
            while not (served := place.woken.wait(LOOK_SECONDS)):
                if not self._is_due(wish):
                    break
                if queues.position(key, place) == 1:
                    queues.wake()
        finally:
            queues.leave(key, place)
            picked = [one for one in place.picked if isinstance(one, Picked)]
            kept: list[Picked] = picked[:1] if served and self._is_due(wish) else []
            self._staff.give_back([one for one in picked if one not in kept])  # of a group that rings all at once
        return kept

    def _ring(self, wish: CallBack, call_id: str, picked: Sequence[Picked], asked: float) -> None:
        """Calls him; the agent is his until he has got him, or the call is over. Raises StoreError."""
        self._staff.reserved[call_id] = picked
        try:
            if time.monotonic() - asked >= ASK_AGAIN_SECONDS and not self._may_be_called(wish):
                return
            with self._under_way():
                going = self._placed(wish, call_id)
            self._settle(wish, None if going is None else self._followed_up(wish, going))
        finally:
            self._staff.give_back(self._staff.reserved.pop(call_id, ()))

    def _placed(self, wish: CallBack, call_id: str) -> CallState | None:
        """The call to him; None if it cannot be placed now."""
        way = self._way(wish)
        if way is None:
            return None
        wish.state, wish.placed = "dialling", call_id
        kept = self._known.keep(wish)
        kept.wait(KEPT_SECONDS)
        if not (kept.ready() and kept.successful()):
            wish.why = "the store cannot keep that he is called"
            return None
        asked = Placed(to=None, ring=RING_SECONDS, limit=MAX_TALK_SECONDS, custom_field=wish.call, call_back=_going_on(wish))
        try:
            return self._place(wish.account, way.account, way.number, wish.caller, way.number.flow, asked, call_id=call_id)
        except (NotPlaced, UnsafeText) as why:
            wish.why = str(why)
            return None

    def _followed_up(self, wish: CallBack, going: CallState | None) -> CallState | None:
        """How the call to him ended, whichever process had it; None if it was never placed. `going`: it is this process's."""
        closed = self._followed.setdefault(wish.placed, Event())
        until = time.monotonic() + FOLLOW_SECONDS
        try:
            while time.monotonic() < until:
                state = going or self._book.get(wish.placed)
                if state is None or state.outcome is not None:
                    return state
                closed.wait(LOOK_SECONDS)
                closed.clear()
            return going
        finally:
            del self._followed[wish.placed]

    # --- what came of it --------------------------------------------------------------------------------

    def _settle(self, wish: CallBack, state: CallState | None) -> None:
        rules = self._rules(wish)
        if state is None:
            self._later(wish, wish.why, timedelta(seconds=SOON_SECONDS))
        elif state.talk_leg is not None:
            self._known.end(wish, "talked")
        elif state.outcome == "voicemail":
            self._known.end(wish, "message")
        elif state.reason in NOT_HIS or (state.outcome == "lost" and state.ring_at is None and state.answered_at is None):
            self._later(wish, state.reason, timedelta(seconds=SOON_SECONDS))
        else:
            wish.tries += 1
            if rules is None or wish.tries >= rules.tries:
                self._known.end(wish, "given_up", f"not reached, {wish.tries} tries; the last one: {state.reason}")
            else:
                self._later(wish, state.reason, timedelta(minutes=rules.again_minutes))

    def _later(self, wish: CallBack, why: str, after: timedelta) -> None:
        if wish.ended_at is not None:
            return  # he has called himself meanwhile
        wish.state, wish.why, wish.next_at = "waiting", why, self._staff.clock() + after
        self._known.keep(wish)

    def _rules(self, wish: CallBack) -> Rules | None:
        account = self._config().accounts.get(wish.account)
        return None if account is None else account.call_backs

    def _closed(self, call: Call) -> None:
        """Of any call: one to who is called back; or his own, by which he may have got what he wanted."""
        if (followed := self._followed.get(call.id)) is not None:
            followed.set()
        facts, talk = call.state.facts, call.state.talk_leg
        if not self._known.open or facts.caller is None or facts.account is None:
            return
        for wish in self._known.of(facts.account, facts.caller):
            if wish.state == "waiting" and talk is not None and self._is_of(wish, talk.number):
                self._known.end(wish, "called_in")
        self._known.changed.set()  # he may be on the line no more

    def _is_of(self, wish: CallBack, number: str) -> bool:
        way = self._way(wish)
        return way is not None and any(one.number == number for one in way.candidates)


Permission = Literal["now", "later", "never"]


def ask_hook(
    crm: CrmClient, account_id: str, account: Account, rules: Rules, state: CallState, now: datetime
) -> tuple[Permission, str]:
    """May the caller of this call be called back? With the reason in words, of which CRM's answer it is."""
    sent = parameters(state, now=now, account=account, account_id=account_id)
    try:
        status = crm.get(
            rules.ask,
            sent,
            deadline=rules.timeout,
            allow_private=account.crm.allow_private,
            mask=account.crm.mask,
            account=account_id,
            status_only=True,
        ).status
    except CrmFailure as failure:
        return "later", f"the do-not-call hook gave no answer: {failure}"
    if status in (302, 404):
        return "never", f"the do-not-call hook answered {status}: he is not to be called"
    return "now" if status == 200 else "later", f"the do-not-call hook answered {status}"


def _going_on(wish: CallBack) -> CalledBack:
    return CalledBack(wish.flow, wish.step, wish.team, wish.since.isoformat(), wish.language, wish.recorded)


def _bare(wish: CallBack, number: Number) -> CallState:
    """For the hook, of a call whose record is gone."""
    facts = CallFacts(
        id=wish.call,
        channel="",
        created_at=wish.asked_at,
        trunk=wish.trunk,
        dialled_raw=wish.number.removeprefix("+"),
        caller_raw=wish.caller.removeprefix("+"),
        dialled=wish.number,
        caller=wish.caller,
        account=wish.account,
        flow=number.flow,
    )
    # who asked for it was on the line, and waited for an agent
    return CallState(facts, answered_at=wish.asked_at, ended_at=wish.asked_at, wanted_agent=True)
