"""The last net: FreeSWITCH's CDR files close the records of calls that nobody had when they ended.

Each second the folder is looked through, also for what came while exoflow was away. A file is removed only when the record of
its call is closed on disk, so that a kill at any moment loses nothing: what is found again is known by its channel.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.threadpool import ThreadPool

from exoflow.calls import cdrfolder, door, wav
from exoflow.calls.book import CallBook
from exoflow.calls.call import Call
from exoflow.calls.cdr import CallEnd, LegEnd, read_leg
from exoflow.calls.cdrfolder import Found
from exoflow.calls.door import Served
from exoflow.calls.lookup import ends_of
from exoflow.calls.wav import is_recording
from exoflow.config.model import Config
from exoflow.errors import ExoflowError
from exoflow.lines import trunks
from exoflow.threads import in_thread

log = logging.getLogger("exoflow.net")

T = TypeVar("T")

SCAN_SECONDS = 1.0  # between two looks into the folder: a CRM hears of a call within seconds, and listing it costs some ms
FILES_A_SCAN = 100  # read in one go by a thread, some 30 ms of it
RECORDS_AT_ONCE = 20  # share a commit
ENDINGS_AT_ONCE = 50  # calls whose remaining steps run; a CRM that hangs must not take the net with it
ENDING_SECONDS = 300.0  # for a call's remaining steps, whose own limits are some 60 s each
WHOLE_SECONDS = 10.0  # a file is written at once; one that is no CDR by then never will be
LEGS_SECONDS = 3.0  # from the caller's file to those of his agents' legs, which are written at the same moment
# an app that has just accepted a caller who hung up may still open his record: esl/session.py gives it 5 s
ARRIVAL_SECONDS = 6.0
RETURN_SECONDS = 1.0  # the same of a call that was coming back when its caller hung up: its session hears that at once
STRANGER_SECONDS = 24 * 3600.0  # a leg of a call that is not ours is of no use to anybody after a day
LOOK_AGAIN_SECONDS = (1.0, 600.0)  # at files that can only be waited for: at first, and at the most
COMPLAINT_SECONDS = 60.0  # between two complaints of the same thing
STOP_SECONDS = 0.2  # a disk that hangs must not hold a hand-over up
CLOSED_KEPT = 50_000  # channels; their files are removed within a second or two

Finish = Callable[[Call, CallEnd], None]


class Net:
    """Takes in the CDR files. `held` says whether a channel has a session here; `finish` runs what remains of a call's flow
    without its caller, and closes its record."""

    def __init__(
        self, folder: Path, book: CallBook, config: Callable[[], Config], held: Callable[[str], bool], finish: Finish
    ) -> None:
        self.folder, self._book, self._config, self._held, self._finish = folder, book, config, held, finish
        self.counts = dict.fromkeys(("recorded", "finished", "removed", "strange", "failed"), 0)
        self._closed: dict[str, None] = {}  # channels and legs of calls that are closed on disk, oldest first
        self._listed: set[str] = set()  # the last look's files
        self._later: dict[str, float] = {}  # when to look at a file again
        self._busy: set[str] = set()  # channels whose record is being made or ended
        self._records, self._endings = Pool(RECORDS_AT_ONCE), Pool(ENDINGS_AT_ONCE)
        self._threads = ThreadPool(1)
        self._wanted = Event()
        self._complained: dict[str, float] = {}
        self._runner: gevent.Greenlet | None = None
        book.on_closed.append(self._call_closed)

    def start(self) -> None:
        self._runner = gevent.spawn(self._run)

    def stop(self) -> None:
        """What is under way is left to the next process: its files are still there."""
        if self._runner is not None:
            self._runner.kill()
        self._endings.kill(block=False)
        self._records.kill(block=False)
        with gevent.Timeout(STOP_SECONDS, False):
            self._threads.kill()  # waits for a look that is under way

    def hurry(self) -> None:
        """Looks at once."""
        self._wanted.set()

    def busy(self, channel: str) -> bool:
        """Is this call's record being made or ended at the moment?"""
        return channel in self._busy

    def has_file(self, channel: str) -> bool:
        """Is there a CDR of this channel, in whatever state?"""
        return self._in_thread(cdrfolder.there, self.folder, channel)

    # --- the look -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            more = False
            try:
                more = self.scan()
            except ExoflowError as error:
                self._complain("the CDR files wait: " + str(error))
            except Exception:
                log.exception("looking at the CDR files failed")
            if not more:
                self._wanted.wait(SCAN_SECONDS)
                self._wanted.clear()

    def scan(self) -> bool:
        """One look at the folder. True if there is more to do at once."""
        uuids, problem = self._in_thread(cdrfolder.listed, self.folder)
        if problem:
            self._complain(problem)
        self._listed = set(uuids)
        done, unread = self._sorted(uuids)
        self._remove(done)
        if not unread or self._book.store.behind:
            return False  # a store that has not taken all in yet would call known calls unknown
        found: list[Found] = self._in_thread(cdrfolder.read, self.folder, unread[:FILES_A_SCAN])
        self._take(found)
        return len(unread) > FILES_A_SCAN

    def _sorted(self, uuids: list[str]) -> tuple[list[str], list[str]]:
        """Which files can go, and which are to be read; those of calls that are going on are not looked into."""
        now = time.monotonic()
        self._later = {uuid: self._later[uuid] for uuid in uuids if self._later.get(uuid, 0.0) > now}
        legs = {leg.uuid for call in self._book.live.values() for leg in call.state.legs}
        done, unread = [], []
        for at, uuid in enumerate(uuids):
            if at % 1000 == 999:
                gevent.sleep(0)
            if uuid in self._later or uuid in self._busy or uuid in legs:
                continue
            if uuid in self._closed:
                done.append(uuid)
                continue
            call = self._book.of_channel(uuid)
            if call is None or not (call.closed or self._held(uuid)):
                unread.append(uuid)
        return done, unread

    def _remove(self, uuids: Iterable[str]) -> None:
        wanted = list(uuids)
        if not wanted:
            return
        kept = self._in_thread(cdrfolder.remove, self.folder, wanted)
        for uuid, problem in kept:
            self._wait(uuid, COMPLAINT_SECONDS)
            self._complain(problem)
        left = {uuid for uuid, _ in kept}
        for uuid in wanted:
            if uuid not in left:
                self._closed.pop(uuid, None)
                self.counts["removed"] += 1

    def _call_closed(self, call: Call) -> None:
        """A call's record is closed on disk: its files have served."""
        for uuid in (call.state.facts.channel, *(leg.uuid for leg in call.state.legs)):
            self._closed[uuid] = None
            self._later.pop(uuid, None)
        while len(self._closed) > CLOSED_KEPT:
            del self._closed[next(iter(self._closed))]

    # --- what was read ------------------------------------------------------------------------------

    def _take(self, found: list[Found]) -> None:
        self._put_aside(found)
        ends = [(one, one.end) for one in found if one.end is not None]
        channels = {end.channel if isinstance(end, CallEnd) else end.caller for _, end in ends}
        ids = {end.call_id for _, end in ends if isinstance(end, CallEnd) and end.call_id}
        if not ends:
            return
        stored = self._book.store.read(lambda connection: ends_of(connection, channels, ids))
        done = []
        # the callers' files first: an agent's leg is then known by its call
        for one, end in sorted(ends, key=lambda pair: isinstance(pair[1], LegEnd)):
            closed = stored.get(end.channel if isinstance(end, CallEnd) else end.caller)
            if closed:
                done.append(one.uuid)
            elif isinstance(end, LegEnd) or (closed is None and self._is_unknown(end)):
                if self._is_nobodys(one, end, known=closed is not None):
                    done.append(one.uuid)
            else:
                self._take_call(one, end, known=closed is not None, taken_ids=stored.keys() & ids)
        self._remove(done)

    def _is_unknown(self, end: CallEnd) -> bool:
        """Of a call that the store does not know: is there nothing to record by its CDR? Of one that we placed it has neither
        who was rung nor for what."""
        return not end.ours or (end.placed and self._book.of_channel(end.channel) is None)

    def _put_aside(self, found: list[Found]) -> None:
        strange = [one for one in found if one.problem and one.age > WHOLE_SECONDS]
        for one in found:
            if one.unreadable:
                self._complain(one.unreadable)
                self._wait(one.uuid, COMPLAINT_SECONDS)
            elif one.problem and one not in strange:
                self._wait(one.uuid, LOOK_AGAIN_SECONDS[0])
        if strange:
            self.counts["strange"] += len(strange)
            self._book.store.counts.add("cdr.strange", "", len(strange))
            self._complain(
                f"{self.folder}: {strange[0].uuid} is no CDR file ({strange[0].problem}), one of {self.counts['strange']} so "
                f"far; look into {self.folder / cdrfolder.STRANGE}"
            )
            self._in_thread(cdrfolder.put_aside, self.folder, [one.uuid for one in strange])

    def _is_nobodys(self, one: Found, end: CallEnd | LegEnd, *, known: bool) -> bool:
        """An agent's leg goes with its call; that of a call we never had is kept for a day, and so is a stranger's call."""
        caller = end.caller if isinstance(end, LegEnd) else end.channel
        if not known and self._book.of_channel(caller) is None and one.age > STRANGER_SECONDS:
            return True
        least, most = LOOK_AGAIN_SECONDS
        soon = known or (caller != one.uuid and caller in self._listed)
        self._wait(one.uuid, least if soon else min(max(least, one.age / 4), most))
        return False

    def _take_call(self, one: Found, end: CallEnd, *, known: bool, taken_ids: set[str]) -> None:
        if self._held(end.channel) or end.channel in self._busy:
            return
        known = known or self._book.of_channel(end.channel) is not None
        least = RETURN_SECONDS if known else 0.0 if door.closed_to(end) else ARRIVAL_SECONDS
        if one.age < least:
            self._wait(one.uuid, least - one.age)
        elif not known:
            self._busy.add(end.channel)
            # waits when all of them are at work, and the look with it
            self._records.spawn(self._guarded, end, self._record, end, taken_ids)
            gevent.sleep(0)
        elif self._endings.free_count() > 0:
            self._busy.add(end.channel)
            self._endings.spawn(self._guarded, end, self._end, end)
        else:
            self._wait(one.uuid, LOOK_AGAIN_SECONDS[0])

    def _guarded(self, end: CallEnd, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except ExoflowError as error:
            self.counts["failed"] += 1
            self._complain(f"call on channel {end.channel} is not closed yet: {error}")
        except Exception:
            self.counts["failed"] += 1
            log.exception("call on channel %s could not be closed by its CDR; it is tried again", end.channel)
            self._wait(end.channel, COMPLAINT_SECONDS)
        finally:
            self._busy.discard(end.channel)
            self._wanted.set()

    # --- a record made, or ended --------------------------------------------------------------------

    def _record(self, end: CallEnd, taken_ids: set[str]) -> None:
        if end.call_id in taken_ids:
            end = replace(end, call_id="")
        served = self._served(end)
        if self._held(end.channel) or self._book.of_channel(end.channel) is not None:
            return  # an app has it after all
        door.record(self._book, self._config(), end, served)
        self.counts["recorded"] += 1
        self._count(end)

    def _end(self, end: CallEnd) -> None:
        """The rest of a call that was ours: its flow's steps that need no caller, its record's end."""
        call = self._book.resume(end.channel)
        if call is None:
            return
        self._wait_for_legs(leg.uuid for leg in call.state.legs if leg.released_at is None)
        served = self._served(end)
        if self._held(end.channel) or call.closed:
            return  # it came back while its file was read
        if end.fallback:
            door.add_fallback(call, self._config(), end, served)
        self._finish_within(call, end)
        if not call.closed and not self._held(end.channel):
            self._settle_legs(call, end)
            door.close(call, end)
        self.counts["finished"] += 1
        self._count(end)

    def _count(self, end: CallEnd) -> None:
        """By the hour in which the call ended, which may be one while exoflow was away."""
        name = door.counted_as(end)
        if name:
            trunk = trunks.named(self._config().trunks, end.trunk) or end.trunk
            self._book.store.counts.add(name, trunk, at=end.ended_at)

    def _finish_within(self, call: Call, end: CallEnd) -> None:
        limit = gevent.Timeout(ENDING_SECONDS)
        limit.start()
        try:
            self._finish(call, end)
        except gevent.Timeout as timeout:
            if timeout is not limit:
                raise
            log.error("call %s: its remaining steps took more than %g s and were given up", call.id, ENDING_SECONDS)
        except ExoflowError as error:
            log.error("call %s: its remaining steps were given up: %s", call.id, error)
        except Exception:
            log.exception("call %s: its remaining steps were given up, by a fault of exoflow", call.id)
        finally:
            limit.close()

    def _settle_legs(self, call: Call, end: CallEnd) -> None:
        for leg in call.state.legs:
            told = self._leg(leg.uuid) if leg.released_at is None else None
            if told is not None:
                door.settle(leg, told, caller_left=end.caller_left)
                call.update_leg(leg)

    def _served(self, end: CallEnd) -> Served:
        """What the dialplan's fallback did: the legs are those that FreeSWITCH noted on the caller's own."""
        if not end.fallback:
            return Served()
        dialled = end.originated
        self._wait_for_legs(dialled)
        legs = [leg for uuid in dialled if (leg := self._leg(uuid)) is not None and leg.fallback]
        path = end.variables.get("exo_fallback_record", "")
        if not path or not is_recording(self._config().switch.recordings, path):
            return Served(legs)
        return Served(legs, path, self._in_thread(wav.repair, path))

    def _wait_for_legs(self, uuids: Iterable[str]) -> None:
        missing = list(uuids)
        with gevent.Timeout(LEGS_SECONDS, False):
            while missing := [uuid for uuid in missing if self._leg(uuid) is None]:
                gevent.sleep(0.1)

    def _leg(self, uuid: str) -> LegEnd | None:
        return self._in_thread(read_leg, self.folder, uuid)

    # --- inside -------------------------------------------------------------------------------------

    def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return in_thread(function, *arguments, pool=self._threads)

    def _wait(self, uuid: str, seconds: float) -> None:
        self._later[uuid] = time.monotonic() + seconds

    def _complain(self, text: str) -> None:
        now = time.monotonic()
        if now - self._complained.get(text, -COMPLAINT_SECONDS) >= COMPLAINT_SECONDS:
            self._complained = {said: at for said, at in self._complained.items() if now - at < COMPLAINT_SECONDS}
            self._complained[text] = now
            log.error("%s", text)
