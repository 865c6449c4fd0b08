"""Calls that ended without anybody telling: neither a session, nor a channel, nor a CDR is left of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import gevent
from gevent.event import Event

from exoflow.calls import wav
from exoflow.calls.book import CallBook
from exoflow.calls.model import CallState, Recording
from exoflow.calls.net import Net
from exoflow.config.model import Config
from exoflow.errors import ExoflowError
from exoflow.lines.listing import Channel

log = logging.getLogger("exoflow.net")

LOOK_SECONDS = 5.0  # between two looks at what may be lost: well below GONE_SECONDS, and one list of channels each
# without channel and CDR, before a call is lost: FreeSWITCH writes the file before the channel leaves its list
GONE_SECONDS = 12.0
UNBORN_SECONDS = 60.0  # a placed call whose channel nobody has seen: on a full CPU `originate` begins late
REENTRY_SECONDS = 5.0  # the same where CDRs are not read: the dialplan gives a call back within 0.1 s of its socket's end

RESTARTED = "FreeSWITCH ended during the call and was started again: look why in its log and in the system's"
NO_CDR = "FreeSWITCH no longer has the call and has written no CDR of it: it died, or it cannot write to {folder}; look at both"
SOCKET_LOST = (
    "The call's socket was lost, and the call ended on the switch without coming back: how it went on is unknown. "
    "FreeSWITCH's log and exoflow's tell why the socket went"
)
CUT_OFF = "FreeSWITCH ended while it recorded: {seconds:.1f} s are there, the last 2 s or so may be missing"
NOTHING_THERE = "FreeSWITCH ended while it recorded, and nothing is there"


class Switch(Protocol):
    """What is asked of the switch (lines.Lines)."""

    @property
    def up(self) -> bool: ...

    def exists(self, channel: str) -> bool: ...

    def channels(self) -> list[Channel]: ...

    def core(self) -> str: ...


class LostCalls:
    """Closes what is lost. `net` is None where no CDR files are read."""

    def __init__(
        self, net: Net | None, book: CallBook, switch: Switch, config: Callable[[], Config], held: Callable[[str], bool]
    ) -> None:
        self._net, self._book, self._switch, self._config, self._held = net, book, switch, config, held
        self._core = ""
        self._left: list[CallState] | None = None
        self._gone: dict[str, float] = {}  # since when a channel is known not to exist
        self._born: set[str] = set()  # channels without a session that a look has found
        self._wanted = Event()
        self._runner: gevent.Greenlet | None = None

    def start(self) -> None:
        self._runner = gevent.spawn(self._run)

    def stop(self) -> None:
        if self._runner is not None:
            self._runner.kill()

    def hurry(self) -> None:
        """The switch is there, perhaps anew: looks at once."""
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait(LOOK_SECONDS)
            self._wanted.clear()
            try:
                if self._switch.up:
                    self.look()
            except ExoflowError as error:
                log.warning("looking for lost calls: %s", error)
            except Exception:
                log.exception("looking for lost calls failed")

    def look(self) -> None:
        """One look at all calls that have no session. Raises ExoflowError when the switch or the store does not answer."""
        core = self._switch.core()
        restarted = bool(self._core) and core != self._core
        self._core = core
        now, gone = time.monotonic(), {}
        absent, there = [], set()
        for one in self._without_session():
            channel = one[0].facts.channel
            if self._switch.exists(channel):
                there.add(channel)
            else:
                absent.append(one)
        self._born = there | self._born.intersection(one[0].facts.channel for one in absent)
        # a channel that hangs up no longer exists, and its CDR comes when its thread gets to it: the list has it until then
        listed = {channel.uuid for channel in self._switch.channels()} if absent else set()
        for state, here in absent:
            channel = state.facts.channel
            if channel in listed:
                continue
            gone[channel] = self._gone.get(channel, now)
            patience = self._patience(state)
            # a look at the folder comes right before the end, for the file may just have been written
            if (restarted or now - gone[channel] >= patience) and self._nobody_has(channel):
                self._close(state, here=here, restarted=restarted)
        self._gone = gone

    def _patience(self, state: CallState) -> float:
        """For how long its channel must have been gone."""
        seen = state.ring_at is not None or state.answered_at is not None or state.facts.channel in self._born
        if state.facts.placed is not None and not seen:
            return UNBORN_SECONDS
        return REENTRY_SECONDS if self._net is None else GONE_SECONDS

    def _without_session(self) -> Iterator[tuple[CallState, bool]]:
        """With each whether this process had it."""
        for state in self._of_earlier_processes():
            if not self._held(state.facts.channel):
                yield state, False
        for call in list(self._book.live.values()):
            if not call.closed and not self._held(call.state.facts.channel):
                yield call.state, True

    def _of_earlier_processes(self) -> list[CallState]:
        """Read once: they can only become fewer, and each look at thousands of calls would cost."""
        if self._left is None and not self._book.store.behind:
            self._left = self._book.unfinished()
        self._left = None if self._left is None else [state for state in self._left if not self._book.ours(state.facts.id)]
        return self._left or []

    def _nobody_has(self, channel: str) -> bool:
        if self._net is not None and (self._net.busy(channel) or self._net.has_file(channel)):
            return False
        return not self._held(channel)

    def _close(self, state: CallState, *, here: bool, restarted: bool) -> None:
        if restarted:
            code, text = "switch_lost", RESTARTED
        elif self._net is not None:
            code, text = "switch_lost", NO_CDR.format(folder=self._net.folder)
        elif here:
            code, text = "socket_lost", SOCKET_LOST
        else:
            code, text = "app_restart", ""
        self._repair(state)
        _end_legs(self._book.adopt(state).state)
        if not self._held(state.facts.channel):
            self._book.close_lost(state, text, code=code)

    # --- recordings that were cut off ---------------------------------------------------------------

    def _repair(self, state: CallState) -> None:
        """Makes the recordings that ran playable, and notes how much of them is there."""
        call = self._book.adopt(state)
        pending = [one for one in call.state.recordings if one.state == "pending"]
        pending += _begun(call.state)
        for recording in pending:
            if not wav.is_recording(self._config().switch.recordings, recording.path):
                continue
            seconds = gevent.get_hub().threadpool.apply(wav.repair, (recording.path,))
            if seconds is None and recording not in call.state.recordings:
                continue  # nobody had talked yet
            recording.state = "failed"
            recording.seconds = None if seconds is None else round(seconds, 3)
            recording.problem = NOTHING_THERE if seconds is None else CUT_OFF.format(seconds=seconds)
            if recording not in call.state.recordings:
                call.add_recording(recording)
            call.update_recording(recording)
            call.note("H", "recording.cut_off", f"Recording failed: {recording.problem}", file=recording.path)


def _begun(state: CallState) -> list[Recording]:
    """The recording of a talk that was going on: its step keeps the path (flow/applets/connect.py)."""
    kept = state.progress.get("data") or {}
    path, channels = kept.get("recording"), kept.get("channels", 1)
    if not isinstance(path, str) or any(one.path == path for one in state.recordings):
        return []
    return [Recording("talk", path, channels)]


def _end_legs(state: CallState) -> None:
    for leg in state.legs:
        if leg.released_at is None and leg.answered_at is not None:
            leg.outcome, leg.meaning = "answered", "FreeSWITCH ended during the talk: how long it was is unknown."
