"""The people who can be rung, of all accounts: whom a call rings next, who is passed over and why, who is free and since when.

All of it is decided in memory, at once; the store hears of it and tells it again after a restart. Without the store the
staff is as at a first start: everybody is on, nobody was tried.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import gevent
from gevent.event import AsyncResult, Event

from exoflow.agents.claims import Claims
from exoflow.agents.groups import Candidate
from exoflow.agents.memory import Known, Memory, State
from exoflow.agents.order import arranged
from exoflow.agents.queue import Queues
from exoflow.agents.standing import Standings, Why, off_hours
from exoflow.agents.watch import Switch, Watch
from exoflow.calls.model import CallState, Leg
from exoflow.clock import utcnow
from exoflow.config.model import Account
from exoflow.config.people import Agent, Ring
from exoflow.errors import ExoflowError, StoreError
from exoflow.telephony.dialstring import MAX_AT_ONCE

log = logging.getLogger("exoflow.agents")

RECALL_SECONDS = 0.3  # the start waits no longer for the store; what it tells later counts then
STICKY_SECONDS = 0.3  # a caller hears nothing until it is known who talked with him last

Person = tuple[str, Agent]  # with his name in the account's file


@dataclass(frozen=True, slots=True)
class Seeker:
    """A call that wants an agent."""

    account_id: str
    account: Account
    flow: str
    call: str  # its id
    team: str | None = None  # the group that is rung; None: numbers that the CRM or the step names
    first: str | None = None  # who is tried before all others: the caller's last agent
    channel: str = ""  # the caller's, which dials; empty: it is not there yet


class PassedOver(NamedTuple):
    """Who is not rung now."""

    number: str
    agent: str | None
    why: Why


class Picked(NamedTuple):
    """Who is rung next, claimed for a leg that is to get this uuid."""

    candidate: Candidate
    leg: str


class Choice(NamedTuple):
    """Who is rung next, nobody if nobody is left; and whom the look passed over."""

    picked: list[Picked]
    passed_over: list[PassedOver]


class Busyness(NamedTuple):
    """How a group stands, for who would wait for it."""

    reachable: int  # agents who are on, within their hours and not left alone behind an attempt in vain
    talking: int  # those of them who are engaged by us, or were a moment ago (`wrap_up_seconds`)
    freed_at: datetime | None  # when a talk of one of them last ended

    @property
    def all_talking(self) -> bool:
        """A queue is for a group whose every reachable agent talks through us (facts, exotel-dialect.md section 4.5)."""
        return 0 < self.reachable == self.talking


class Staff:
    """Asked by every call; started and stopped with the process."""

    def __init__(
        self,
        switch: Switch,
        open_calls: Callable[[], Iterable[CallState]],
        memory: Memory,
        clock: Callable[[], datetime] = utcnow,
    ) -> None:
        self.clock = clock
        self.claims = Claims()
        self.watch = Watch(self.claims, switch, open_calls)
        self.standings = Standings()
        self.queues = Queues(lambda: self.clock())
        self.claims.let_go = self.queues.let_go
        self.known = Event()  # set when the store has told, or will not, who is switched off
        self.on_switched: Callable[[], None] = lambda: None  # told when somebody is on or off who was not
        self.reserved: dict[str, Sequence[Picked]] = {}  # by the id of the call to who is called back: who is claimed for it
        self._memory = memory
        self._marked: dict[tuple[str, str], str] = {}  # account and flow: the number tried last
        self._states: dict[tuple[str, str], State] = {}  # account and agent's name; who is not here is on
        self._recalling: gevent.Greenlet | None = None

    def start(self) -> None:
        self._recalling = gevent.spawn(self._recall)
        self.watch.start()
        self._recalling.join(RECALL_SECONDS)

    def stop(self) -> None:
        self.watch.stop()
        if self._recalling is not None:
            self._recalling.kill()

    # --- whom to ring -----------------------------------------------------------------------------

    def choose(self, seeker: Seeker, candidates: Sequence[Candidate], tried: Collection[str], most: int = 1) -> Choice:
        """Claims the next one, or as many, of those who were not tried. Never waits, so that no two calls get one phone."""
        people, now = _people(seeker.account), self.clock()
        most = MAX_AT_ONCE if _ring(seeker) == "all_at_once" else most
        picked: list[Picked] = []
        passed_over: list[PassedOver] = []
        for one in self._arranged(seeker, candidates):
            if len(picked) == most:
                break
            if one.number in tried:
                continue
            leg = str(uuid.uuid4())
            why = self._why_not(seeker, one.number, people.get(one.number), now)
            if why is None and self.claim(seeker, one.number, leg):
                self._mark(seeker, one.number)
                picked.append(Picked(one, leg))
            else:
                passed_over.append(PassedOver(one.number, one.agent, why or "engaged"))
        return Choice(picked, passed_over)

    def claim(self, seeker: Seeker, number: str, leg: str) -> bool:
        """This one, for this leg; False if he is engaged."""
        lines = _lines(_people(seeker.account).get(number))
        return self.claims.claim(number, leg, seeker.call, lines, dialler=seeker.channel)

    def ended(self, legs: Sequence[Leg]) -> None:
        """An attempt is over, with its talk."""
        for leg in legs:
            if leg.agent is not None:  # numbers that only a CRM names are of no group, which alone asks how one stands
                self.standings.ended(leg.number, leg.outcome, leg.released_at or self.clock())
        self.queues.settled([leg.number for leg in legs])
        self.queues.wake()

    def give_back(self, picked: Sequence[Picked]) -> None:
        """Those of them that no attempt has taken over, because there was none: others may have them."""
        for candidate, leg in picked:
            claim = self.claims.of(leg)
            if claim is not None and claim.owned:
                self.claims.release(leg)
                self.queues.settled([candidate.number])
        self.queues.wake()

    def last_agent(self, seeker: Seeker, candidates: Sequence[Candidate], caller: str | None) -> str | None:
        """Who of the group talked with this caller last, within its `sticky_days`; waits STICKY_SECONDS for the store.

        None if nobody did, or the store does not tell: then the group is rung as ever.
        """
        days = None if seeker.team is None else seeker.account.groups[seeker.team].sticky_days
        if days is None or caller is None:
            return None
        numbers, since = [one.number for one in candidates], self.clock() - timedelta(days=days)
        try:
            return self._memory.last_agent(seeker.account_id, caller, numbers, since, STICKY_SECONDS)
        except ExoflowError as error:
            log.warning("the last agent of call %s's caller is not known: %s", seeker.call, error)
            return None

    def _arranged(self, seeker: Seeker, candidates: Sequence[Candidate]) -> list[Candidate]:
        marked = self._marked.get((seeker.account_id, seeker.flow))
        found = arranged(_ring(seeker), candidates, marked=marked, freed_at=self.standings.freed.get)
        return sorted(found, key=lambda one: one.number != seeker.first)

    def _mark(self, seeker: Seeker, number: str) -> None:
        """Who is tried for being the caller's own agent is no turn of the others'."""
        if _ring(seeker) != "equally" or number == seeker.first:
            return
        self._marked[seeker.account_id, seeker.flow] = number
        try:
            self._memory.marked(seeker.account_id, seeker.flow, number)
        except StoreError:  # it is being closed
            log.warning("whom %s tried last is not kept", seeker.flow)

    def _why_not(self, seeker: Seeker, number: str, known: Person | None, now: datetime) -> Why | None:
        """Hours and time to breathe are the group's business: whom a CRM names it names now. Who has switched himself off
        is off for both."""
        if known is not None and not self.state(seeker.account_id, known[0]).available:
            return "off"
        if seeker.team is None:
            return None
        if known is not None and off_hours(known[1], seeker.account, now):
            return "hours"
        return self.standings.left_alone(number, seeker.account.groups[seeker.team], now)

    # --- how they stand ---------------------------------------------------------------------------

    def busyness(self, seeker: Seeker, candidates: Sequence[Candidate]) -> Busyness:
        """Is every agent who could be reached talking, and when was one freed?"""
        people, now = _people(seeker.account), self.clock()
        reachable = talking = 0
        for one in candidates:
            known = people.get(one.number)
            why = self._why_not(seeker, one.number, known, now)
            if why in (None, "wrap_up"):
                reachable += 1
                engaged = len(self.claims.holders(one.number)) >= _lines(known)
                talking += engaged or why == "wrap_up"
        freed = [at for one in candidates if (at := self.standings.freed.get(one.number)) is not None]
        return Busyness(reachable, talking, max(freed, default=None))

    def state(self, account_id: str, agent: str) -> State:
        """Does he take calls? `agent` is his name in the account's file."""
        return self.switched(account_id, agent) or State(True, datetime.min.replace(tzinfo=UTC), "")

    def switched(self, account_id: str, agent: str) -> State | None:
        """How he was switched last; None: nobody ever did, he is on."""
        return self._states.get((account_id, agent))

    def switch(self, account_id: str, agent: str, available: bool, by: str) -> AsyncResult:
        """He takes calls from now on, or no more; the result is set when that is on disk. Raises StoreError."""
        state = State(available, self.clock(), by)
        self._states[account_id, agent] = state
        log.info("agent %s of %s is %s, by %s", agent, account_id, "on" if available else "off", by)
        self.queues.wake()
        self.on_switched()
        return self._memory.switched(account_id, agent, state)

    def available(self, account_id: str, agent: str) -> bool:
        """Is the agent, by the name in the account's file, switched on?"""
        return self.state(account_id, agent).available

    def _recall(self) -> None:
        try:
            self._take(self._memory.read(self.clock()))
        except ExoflowError as error:
            log.error("how the agents stood is not known, everybody counts as on: %s", error)
        finally:
            self.known.set()
            self.on_switched()

    def _take(self, known: Known) -> None:
        # what happened here meanwhile is newer
        self._marked = known.marks | self._marked
        self._states = known.states | self._states
        self.standings = known.standings.followed_by(self.standings)


def _people(account: Account) -> dict[str, Person]:
    """The account's agents by their numbers; of two with one number the first."""
    return {agent.number: (name, agent) for name, agent in reversed(account.agents.items())}


def _ring(seeker: Seeker) -> Ring:
    return "in_order" if seeker.team is None else seeker.account.groups[seeker.team].ring


def _lines(known: Person | None) -> int:
    return 1 if known is None else known[1].lines
