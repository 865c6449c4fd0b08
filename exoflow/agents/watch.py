"""Holds the claims against FreeSWITCH: at the start, at each connection of the event socket, and while some have no owner."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import gevent
from gevent.event import Event

from exoflow.agents.claims import Claim, Claims
from exoflow.calls.model import CallState
from exoflow.errors import ExoflowError
from exoflow.lines.listing import Channel

log = logging.getLogger("exoflow.agents")

LOOK_SECONDS = 5.0  # between two looks while a claim has no owner: so long an agent is engaged for nothing if events are lost
LIST_AGAIN_SECONDS = 2.0  # the switch's list lags behind a connection (lines/lines.py)
OPEN_CALLS_SECONDS = 0.5  # the start waits no longer for the store; what it tells later counts then


class Switch(Protocol):
    """What is asked of the switch (lines.Lines). All raise ExoflowError when it does not answer."""

    @property
    def up(self) -> bool: ...

    def channels(self) -> list[Channel]: ...

    def existing(self, channels: list[str]) -> set[str]: ...


class Watch:
    """Looks from `start()` to `stop()`."""

    def __init__(self, claims: Claims, switch: Switch, open_calls: Callable[[], Iterable[CallState]]) -> None:
        """`open_calls` are those that an earlier process left; it may wait for the store, and raise ExoflowError."""
        self._claims, self._switch, self._open_calls = claims, switch, open_calls
        self._wanted = Event()
        self._running: list[gevent.Greenlet] = []

    def start(self) -> None:
        """When it returns, legs that live on the switch have their claims, those of a process before this one, too; what the
        store knows is waited for OPEN_CALLS_SECONDS."""
        self._look(listed=True)
        remembering = gevent.spawn(self._remember)
        remembering.join(OPEN_CALLS_SECONDS)
        self._running = [remembering, gevent.spawn(self._run)]

    def stop(self) -> None:
        gevent.killall(self._running)

    def hurry(self) -> None:
        """The event socket is connected: what it told before is not all."""
        self._wanted.set()

    def _run(self) -> None:
        again = True  # at the start, too: the list lags
        while True:
            connected = self._wanted.wait(LIST_AGAIN_SECONDS if again else LOOK_SECONDS)
            self._wanted.clear()
            if connected or again or self._claims.unowned:
                self._look(listed=connected or again)
            again = connected

    def _look(self, *, listed: bool) -> None:
        """One look. What the switch does not answer is asked again at the next."""
        if not self._switch.up:
            return
        try:
            for channel in self._switch.channels() if listed else ():
                if channel.direction == "outbound":
                    self._claims.listed(channel.uuid, channel.dialled)
            asked = list(self._claims.unowned)
            there = self._living(asked)
            # asked for after that: it keeps a channel that hangs up, whose phone may ring until its end is done
            left = {channel.uuid for channel in self._switch.channels()} if _missing(asked, there) else set()
        except ExoflowError as error:
            log.warning("claims are held against the switch later: %s", error)
            return
        before = self._claims.found_over
        for claim in asked:
            self._claims.looked(claim, there, left)
        if over := self._claims.found_over - before:
            log.info("%d claims end: the switch has no channel of them any more, nor one that could dial them", over)

    def _living(self, asked: Sequence[Claim]) -> set[str]:
        """Those of their channels that live; callers first: one that is gone dials nothing more."""
        diallers = {claim.dialler for claim in asked if claim.dialler and not claim.seen}
        channels = [*diallers, *(claim.channel for claim in asked)]
        return self._switch.existing(channels) if channels else set()

    def _remember(self) -> None:
        """Legs that may yet be dialled by their calls when those come back, and callers who are on the line."""
        try:
            states = list(self._open_calls())
        except ExoflowError as error:
            log.warning("claims are known from the switch alone: %s", error)
            return
        for state in states:
            facts = state.facts
            for leg in state.legs:
                if leg.outcome == "ringing" and leg.released_at is None:
                    self._claims.recall(leg.number, leg.uuid, facts.id, seen=leg.seen, dialler=facts.channel)
            if facts.caller is not None and state.ended_at is None:
                # of a call that we place the channel may not have begun
                seen = facts.placed is None or state.ring_at is not None or state.answered_at is not None
                self._claims.recall(facts.caller, facts.channel, facts.id, seen=seen, calls_us=True)
        if states:
            self._look(listed=False)


def _missing(asked: Sequence[Claim], there: set[str]) -> bool:
    """Is the list needed: does the switch show no channel of one of them?"""
    return any(claim.channel not in there and (claim.seen or claim.dialler not in there) for claim in asked)
