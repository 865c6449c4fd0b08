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
from exoflow.config.callbacks import Offer
from exoflow.config.queue import MAX_SAID_MINUTES, Figure
from exoflow.config.queue import Queue as QueueSettings
from exoflow.config.spoken import spoken_language, words
from exoflow.config.steps import Prompt
from exoflow.errors import Disconnected, ExoflowError
from exoflow.flow import calledback, hold
from exoflow.flow.here import PROMPT_MARGIN, Here
from exoflow.flow.plan import Plan

LOOK_SECONDS = 1.0  # between two looks of the first in line at what no event tells: a time to breathe that is over
AGAIN_SECONDS = 15.0  # an agent who was not reached is not rung for the same caller again within so many
MUSIC_ROUNDS = 20  # of one file in one playback: `file_string` takes 128 files (mod_dptools.c), and a command has its bounds
FAILED_SECONDS = 1.0  # before what could not be played is followed by something else

LEFT, CALL_BACK = "left_queue", "call_back"  # branches

Ring = Callable[[Sequence[Picked]], None]


def ring_in_turn(here: Here, settings: QueueSettings, plan: Plan, ring: Ring) -> str:
    """Rings the plan's group, when it is the caller's turn; returns the branch of a queue that was left without that, or "".

    `ring` gets who is claimed for him already. Who was not reached puts the caller back to his place, which is as old as he is.
    """
    turn = _Turn(here, settings, plan)
    if turn.is_called_back:
        return turn.told_so()
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


def gone(here: Here) -> str:
    """The caller has left; the journey's line if that was in the queue. The branch of who will be called back, or ""."""
    kept = here.data.get("queue")
    if kept is None or "tried" in here.data:
        return ""
    if kept.get("called_back"):
        return CALL_BACK
    left = here.call.state.ended_at or here.parts.staff.clock()
    waited = _seconds(left - datetime.fromisoformat(kept["since"]))
    here.failed("G", "queue.abandoned", f"The caller left the queue by hanging up, after {waited} s", waited=waited)
    return ""


class _Turn:
    """One caller's way through the queue of one step."""

    def __init__(self, here: Here, settings: QueueSettings, plan: Plan) -> None:
        self._here, self._settings, self._plan = here, settings, plan
        self._staff, self._queues = here.parts.staff, here.parts.staff.queues
        self._key = (here.account_id, str(plan.team))
        self._seeker = Seeker(here.account_id, here.account, here.flow_name, here.call.id, plan.team, channel=here.session.uuid)
        kept = here.data.get("queue")
        self._entered = self._staff.clock() if kept is None else datetime.fromisoformat(kept["since"])
        self._older = _place_before(here, plan)
        self._place = Place(here.call.id, self._older or self._entered, self._claim)
        self._announce_at = self._entered
        self._said: tuple[int, int | None] | None = None
        self._silent = False  # was it said that a sound could not be played?

    # --- the turn -----------------------------------------------------------------------------------

    def wait(self) -> str:
        """Until an agent is claimed for him, which `take` gives; at once if somebody is free. Else the branch that ends it.

        Raises CallEnded, Disconnected.
        """
        here, known = self._here, "queue" in self._here.data
        here.session.raise_if_disconnected()
        if kept_for_him := self._staff.reserved.pop(here.call.id, ()):
            self._place.picked = kept_for_him
            here.note("G", "queue.served", "An agent was kept for him while he was called", waited=self._waited)
            return ""
        if not known:
            busy = self._staff.busyness(self._seeker, self._plan.candidates)
            ahead = self._queues.waiting(self._key)
            on_line = self._queues.on_line(self._key)
            if not busy.reachable or not (busy.all_talking or ahead):
                return ""
            self._entered = self._announce_at = self._staff.clock()
            self._place.since = self._older or self._entered
            if on_line >= self._settings.size and self._older is None:
                here.failed("G", "queue.full", f"Every agent is talking, and {on_line} callers wait already", waiting=on_line)
                return "queue_full"
        self._queues.join(self._key, self._place)
        end = "queue_timeout"
        try:
            end = "" if self._place.woken.is_set() else self._stand(known)
        finally:
            self._queues.leave(self._key, self._place)
            if end:
                self._staff.give_back(self.take())
        if end == "queue_timeout":
            here.drop_typing()
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
            here.end_gap()
            here.hear_keys()
            here.keep(queue={"since": self._entered.isoformat(), "typed": len(here.keys_typed)})
        else:
            here.came_back("he had been waiting in the queue")
            here.end_gap()
        way = self._way()
        while True:
            if self._place.woken.is_set():
                here.note("G", "queue.served", f"An agent is free for him, after {self._waited} s", waited=self._waited)
                return ""
            if self._staff.clock() >= self._over_at:
                here.failed("G", "queue.timeout", f"Nobody was free within {self._waited} s", waited=self._waited)
                return "queue_timeout"
            if way == LEFT:
                return self._left()
            if way == CALL_BACK and self._asked():
                return self.told_so()
            way = self._hear_next()

    def _hear_next(self) -> str:
        """Words, an announcement, or music; the branch whose key was pressed, or ""."""
        here, settings = self._here, self._settings
        if settings.is_given and not here.data["queue"].get("words"):
            here.keep(queue={**here.data["queue"], "words": True})
            return self._play(here.sound(settings), here.length(settings))
        if (offer := self._offer) is not None and offer.offer is not None and not here.data["queue"].get("offered"):
            here.keep(queue={**here.data["queue"], "offered": True})
            return self._play(here.sound(offer.offer), here.length(offer.offer))
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
        # no more numbers than the queue's size are rendered; who waits to be called back may be before him, too
        tells = announce.position is not None and position <= self._settings.size
        told = self._figure(announce.position, position) if announce.position is not None and tells else []
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

    def _play(self, sound: str, seconds: float, until: datetime | None = None) -> str:
        """To its end, to `until`, until he is served or has pressed a key of the queue: its branch."""
        here, session = self._here, self._here.session
        player = gevent.spawn(self._playing, sound, seconds)
        way = ""
        while not (player.ready() or self._place.woken.is_set() or session.closed.is_set() or way):
            left = LOOK_SECONDS if until is None else (until - self._staff.clock()).total_seconds()
            if left <= 0:
                break
            gevent.wait([player, self._place.woken, session.closed, session.keyed], min(LOOK_SECONDS, left), 1)
            way = self._way()
            if self._queues.position(self._key, self._place) == 1:
                self._queues.wake()
        hold.stop(here, player)
        session.raise_if_disconnected()
        return way

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

    # --- keys -------------------------------------------------------------------------------------------

    def _way(self) -> str:
        """The branch of the first key pressed in the queue that has a meaning here, or "". What comes behind it is for the next
        question."""
        here, offer = self._here, self._offer
        here.hear_keys()
        keys = {self._settings.leave_key: LEFT, None if offer is None else offer.key: CALL_BACK}
        for at in range(max(here.at.typed, here.data["queue"].get("typed", 0)), len(here.keys_typed)):
            if (way := keys.get(here.keys_typed[at])) is not None:
                here.at.typed = at + 1
                return way
        return ""

    def _left(self) -> str:
        key, waited = self._settings.leave_key, self._waited
        self._here.failed(
            "G", "queue.left", f"The caller left the queue by key {key}, after {waited} s", key=key, waited=waited
        )
        return "left_queue"

    # --- being called back ------------------------------------------------------------------------------

    @property
    def _offer(self) -> Offer | None:
        """What he is offered at this moment."""
        offer = self._settings.call_back
        return offer if offer is not None and calledback.is_offered(self._here) else None

    @property
    def is_called_back(self) -> bool:
        """Has he asked for it, in an earlier life of this call?"""
        return bool(self._here.data.get("queue", {}).get("called_back"))

    def _asked(self) -> bool:
        here, team = self._here, str(self._plan.team)
        if not calledback.ask(here, team, self._place.since):
            here.note("G", "queue.no_call_back", "He asked to be called back, which cannot be kept now; he waits on")
            return False
        text = f"He asked to be called back for {team}, after {self._waited} s"
        here.failed("G", "queue.call_back", text, waited=self._waited, group=team)
        here.keep(queue={**here.data["queue"], "called_back": True})
        return True

    def told_so(self) -> str:
        """He hears that he will be called. Raises CallEnded, Disconnected."""
        if self._settings.call_back is not None:
            self._here.play(self._settings.call_back.confirm)
        return CALL_BACK

    # --- times ------------------------------------------------------------------------------------------

    @property
    def _over_at(self) -> datetime:
        return self._entered + timedelta(seconds=self._settings.max_seconds)

    @property
    def _waited(self) -> int:
        return _seconds(self._staff.clock() - self._entered)


def _place_before(here: Here, plan: Plan) -> datetime | None:
    """How old the place is of who is called back, in the step in which he asked for it."""
    placed = here.call.state.facts.placed
    back = None if placed is None else placed.call_back
    return None if back is None or back.team != plan.team else datetime.fromisoformat(back.since)


def _seconds(time: timedelta) -> int:
    return max(0, round(time.total_seconds()))
