"""A caller who waits because every agent of his group is talking: what he hears, when he is put through, and how else it ends.

He hears the queue's words once, then music, which is broken off when an agent is his and for announcements; all of it under
the call's lease (esl/lease.py), so that a dead app leaves nobody in it. His place is kept with the call: who comes back has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

import gevent

from exoflow.agents.queue import Place
from exoflow.agents.staff import Picked, Seeker
from exoflow.config.actions import blocks
from exoflow.config.queue import MAX_SAID_MINUTES, Figure
from exoflow.config.queue import Queue as QueueSettings
from exoflow.config.spoken import spoken_language, words
from exoflow.config.steps import Prompt
from exoflow.errors import Disconnected, ExoflowError
from exoflow.flow import hold
from exoflow.flow.here import PROMPT_MARGIN, Here
from exoflow.flow.plan import Plan

LOOK_SECONDS = 1.0  # between two looks of the first in line at what no event tells: a time to breathe that is over
AGAIN_SECONDS = 15.0  # an agent who was not reached is not rung for the same caller again within so many
MUSIC_ROUNDS = 20  # of one file in one playback: `file_string` takes 128 files (mod_dptools.c), and a command has its bounds
FAILED_SECONDS = 1.0  # before what could not be played is followed by something else

Ring = Callable[[Sequence[Picked]], None]


def ring_in_turn(here: Here, settings: QueueSettings, plan: Plan, ring: Ring) -> str:
    """Rings the plan's group, when it is the caller's turn; returns the branch of a queue that was left without that, or "".

    `ring` gets who is claimed for him already. Who was not reached puts the caller back to his place, which is as old as he is.
    """
    turn = _Turn(here, settings, plan)
    while True:
        picked: Sequence[Picked] = ()
        if not (here.has_ended or "tried" in here.data):
            end = turn.wait()
            if end:
                return end
            picked = turn.take()
        try:
            ring(picked)
        finally:
            here.parts.staff.give_back(picked)
        if here.at.talked or not turn.comes_again():
            return ""


def gone(here: Here) -> None:
    """The caller has left; the journey's line if that was in the queue."""
    kept = here.data.get("queue")
    if kept is None or "tried" in here.data:
        return
    left = here.call.state.ended_at or here.parts.staff.clock()
    waited = _seconds(left - datetime.fromisoformat(kept["since"]))
    here.failed("G", "queue.abandoned", f"The caller left the queue by hanging up, after {waited} s", waited=waited)


class _Turn:
    """One caller's way through the queue of one step."""

    def __init__(self, here: Here, settings: QueueSettings, plan: Plan) -> None:
        self._here, self._settings, self._plan = here, settings, plan
        self._staff, self._queues = here.parts.staff, here.parts.staff.queues
        self._key = (here.account_id, str(plan.team))
        self._seeker = Seeker(here.account_id, here.account, here.flow_name, here.call.id, plan.team)
        kept = here.data.get("queue")
        since = self._staff.clock() if kept is None else datetime.fromisoformat(kept["since"])
        self._place = Place(here.call.id, since, self._claim)
        self._announce_at = since
        self._said: tuple[int, int | None] | None = None
        self._silent = False  # was it said that a sound could not be played?

    # --- the turn -----------------------------------------------------------------------------------

    def wait(self) -> str:
        """Until an agent is claimed for him, which `take` gives; at once if somebody is free. Else the branch that ends it.

        Raises CallEnded, Disconnected.
        """
        here, known = self._here, "queue" in self._here.data
        here.session.raise_if_disconnected()
        if not known:
            busy = self._staff.busyness(self._seeker, self._plan.candidates)
            ahead = self._queues.waiting(self._key)
            if not busy.reachable or not (busy.all_talking or ahead):
                return ""
            self._place.since = self._announce_at = self._staff.clock()
            if ahead >= self._settings.size:
                here.failed("G", "queue.full", f"Every agent is talking, and {ahead} callers wait already", waiting=ahead)
                return "queue_full"
        self._queues.join(self._key, self._place)
        end = "queue_timeout"
        try:
            end = "" if self._place.woken.is_set() else self._stand(known)
        finally:
            self._queues.leave(self._key, self._place)
            if end:
                self._staff.give_back(self.take())
        return end

    def take(self) -> Sequence[Picked]:
        """Those who are claimed for him."""
        picked, self._place.picked = [one for one in self._place.picked if isinstance(one, Picked)], ()
        return picked

    def comes_again(self) -> bool:
        """Nobody was reached: may he wait for the others? Makes the step ready for it."""
        here = self._here
        waits = "queue" in here.data or here.has_ended
        if not waits and not self._staff.busyness(self._seeker, self._plan.candidates).all_talking:
            return False
        until = self._staff.clock() + timedelta(seconds=AGAIN_SECONDS)
        self._place.avoided |= dict.fromkeys(here.data.get("tried", ()), until)
        stays = {name: here.data[name] for name in ("plan", "queue") if name in here.data}
        here.keep(**{**dict.fromkeys(here.data), **stays})
        return True

    def _claim(self, avoided: Collection[str]) -> Sequence[Picked]:
        return self._staff.choose(self._seeker, self._plan.candidates, avoided, self._plan.how.at_once).picked

    # --- what he hears -------------------------------------------------------------------------------

    def _stand(self, known: bool) -> str:
        """In the queue, until he is served ("") or a branch ends it."""
        here = self._here
        position = self._queues.position(self._key, self._place)
        if not known:
            text = f"Every agent of {self._plan.team} is talking: the caller waits, {position} in line"
            here.note("G", "queue.entered", text, group=self._plan.team, position=position)
            here.keep(queue={"since": self._place.since.isoformat()})
        else:
            here.came_back("he had been waiting in the queue")
        here.session.take_keys()
        if known and self._typed_meanwhile():
            return self._left()
        while True:
            if self._place.woken.is_set():
                here.note("G", "queue.served", f"An agent is free for him, after {self._waited} s", waited=self._waited)
                return ""
            if self._staff.clock() >= self._over_at:
                here.failed("G", "queue.timeout", f"Nobody was free within {self._waited} s", waited=self._waited)
                return "queue_timeout"
            if self._hear_next():
                return self._left()

    def _hear_next(self) -> bool:
        """Words, an announcement, or music; True: the key that leaves was pressed."""
        here, settings = self._here, self._settings
        if settings.is_given and not here.data["queue"].get("words"):
            here.keep(queue={**here.data["queue"], "words": True})
            return self._play(here.sound(settings), here.length(settings))
        if settings.announce is not None and self._staff.clock() >= self._announce_at:
            self._announce_at = self._staff.clock() + timedelta(seconds=settings.announce.every)
            if told := self._announced():
                return self._play(here.sounds(told), sum(map(here.length, told)))
        until = self._over_at if settings.announce is None else min(self._over_at, self._announce_at)
        seconds = max(1.0, (until - self._staff.clock()).total_seconds())
        if settings.music is not None:
            seconds = min(seconds, max(1.0, here.length(settings.music)) * MUSIC_ROUNDS)
        return self._play(hold.sound(here, settings.music, seconds), seconds, until)

    def _announced(self) -> list[Prompt]:
        announce, position = self._settings.announce, self._queues.position(self._key, self._place)
        if announce is None or not position:
            return []
        seconds = self._queues.expected(self._key, self._place)
        minutes = None if seconds is None else min(MAX_SAID_MINUTES, max(1, math.ceil(seconds / 60)))
        if announce.wait is None:
            minutes = None
        told = [] if announce.position is None else self._figure(announce.position, position)
        if announce.wait is not None and minutes is not None:
            told += self._figure(announce.wait, minutes)
        if told and self._said != (position, minutes):
            self._said = position, minutes
            text = f"He is told that he is {position} in line" + ("" if minutes is None else f", for about {minutes} min")
            self._here.note("G", "queue.announced", text, position=position, minutes=minutes)
        return told

    def _figure(self, figure: Figure, number: int) -> list[Prompt]:
        language = spoken_language(self._here.language, self._here.account.language)
        around = [[] if one is None else [one] for one in (figure.before, figure.after)]
        return [*around[0], *blocks(words("number", number, language), language), *around[1]]

    def _play(self, sound: str, seconds: float, until: datetime | None = None) -> bool:
        """To its end, to `until`, until he is served or has pressed the key that leaves (True)."""
        here, session = self._here, self._here.session
        player = gevent.spawn(self._playing, sound, seconds)
        leaves = False
        while not (player.ready() or self._place.woken.is_set() or session.closed.is_set() or leaves):
            left = LOOK_SECONDS if until is None else (until - self._staff.clock()).total_seconds()
            if left <= 0:
                break
            gevent.wait([player, self._place.woken, session.closed, session.keyed], min(LOOK_SECONDS, left), 1)
            leaves = self._leaves()
            if self._queues.position(self._key, self._place) == 1:
                self._queues.wake()
        hold.stop(here, player)
        session.raise_if_disconnected()
        return leaves

    def _playing(self, sound: str, seconds: float) -> None:
        """In a greenlet of its own."""
        here = self._here
        try:
            event = here.session.execute("playback", sound, deadline=seconds + 2 * hold.HOLD_TONE_PERIOD + PROMPT_MARGIN)
            said = event.get("Application-Response")
        except ExoflowError as error:
            if error.call_over or isinstance(error, Disconnected):
                return
            said = str(error)
        if said.startswith("FILE PLAYED") or here.caller_gone:
            return
        if not self._silent:
            self._silent = True
            here.note("G", "queue.silent", f"The caller could not be given a sound of the queue: {said}")
        here.session.ended.wait(FAILED_SECONDS)  # or it would be tried without end

    # --- the key that leaves ----------------------------------------------------------------------------

    def _leaves(self) -> bool:
        pressed = self._here.session.take_keys()
        return self._settings.leave_key is not None and self._settings.leave_key in pressed

    def _typed_meanwhile(self) -> bool:
        """Was it pressed while no app had the call?"""
        here = self._here
        here.end_gap()
        typed, here.at.typed = here.keys_typed[here.at.typed :], len(here.keys_typed)
        return self._settings.leave_key is not None and self._settings.leave_key in typed

    def _left(self) -> str:
        key, waited = self._settings.leave_key, self._waited
        self._here.failed(
            "G", "queue.left", f"The caller left the queue by key {key}, after {waited} s", key=key, waited=waited
        )
        return "left_queue"

    # --- times ------------------------------------------------------------------------------------------

    @property
    def _over_at(self) -> datetime:
        return self._place.since + timedelta(seconds=self._settings.max_seconds)

    @property
    def _waited(self) -> int:
        return _seconds(self._staff.clock() - self._place.since)


def _seconds(time: timedelta) -> int:
    return max(0, round(time.total_seconds()))
