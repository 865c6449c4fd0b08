"""The lines as the switch shows them: one connection to its event socket, kept up, and what is watched through it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import gevent
from gevent.event import AsyncResult

from exoflow.config.model import EventSocket, Trunk
from exoflow.errors import Disconnected, ExoflowError
from exoflow.esl.codec import Event
from exoflow.esl.link import SwitchLink
from exoflow.lines import dialling, listing
from exoflow.lines.dialling import Jobs
from exoflow.lines.legs import EVENTS, LegEvents, RecordingEvents
from exoflow.lines.listing import Channel
from exoflow.lines.occupancy import Occupancy

log = logging.getLogger("exoflow.lines")

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)  # a restarting FreeSWITCH listens again after some 4 s
ASK_SECONDS = 2.0  # for what a call waits for; FreeSWITCH answers within a millisecond
RELOAD_SECONDS = 10.0  # a configuration of some hundred kB is read within 0.1 s; a busy box needs more
LIST_AGAIN_SECONDS = 2.0  # the switch's list lags: a channel made right before we connected is not in it (core database)
RECOUNT_SECONDS = 60.0  # what events told is compared with the list now and then
MAX_KEYS = 1000  # of all calls, the newest; asked for within a second of a call's return
LATE_SECONDS = 30.0  # a leg's release may be heard after its call's end; then it is forgotten


class Lines:
    """Keeps the connection; hands each event to whom it concerns."""

    def __init__(self, event_socket: EventSocket, trunks: Callable[[], Mapping[str, Trunk]] = dict) -> None:
        """`trunks` are those whose channels are counted: of the configuration that is in force when it is asked."""
        self._where = event_socket
        self._occupancy = Occupancy(trunks)
        self._link: SwitchLink | None = None
        self._keeper: gevent.Greenlet | None = None
        self._legs: dict[str, LegEvents] = {}
        self._recordings: dict[str, RecordingEvents] = {}
        self._keys: deque[tuple[str, int, str]] = deque(maxlen=MAX_KEYS)  # channel, sequence, key
        self._jobs = Jobs()
        self._reload_owed = False
        self.problem = "not connected yet"
        self.connections = 0  # so far: who sees another number than before has missed events
        self.on_up: list[Callable[[], None]] = []  # told of each connection
        self.on_channel: list[Callable[[Event], None]] = []  # told of each channel's events, in the reader: must not wait

    def start(self) -> None:
        """Connects, and again whenever the connection is lost. Waits for the first attempt only."""
        self._try()
        self._keeper = gevent.spawn(self._keep)

    def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.kill()
        if self._link is not None:
            self._link.stop()
        self._jobs.lost("closed by us")

    @property
    def up(self) -> bool:
        return self._link is not None and self._link.connected

    def busy(self, trunk: str) -> int:
        """Channels of a trunk in use, as the switch tells; 0 while it is not connected."""
        return self._occupancy.in_use(trunk)

    @property
    def all_busy_seconds(self) -> dict[str, float]:
        """By trunk, since the start: how long all its channels were taken, when further callers hear engaged and send us
        nothing."""
        return self._occupancy.all_busy_seconds

    # --- what calls ask -------------------------------------------------------------------------

    def interrupt(self, channel: str) -> None:
        """Ends the application that runs on a channel. Raises CommandRefused, DeadlineExceeded, Disconnected."""
        self._up_link().api(f"uuid_break {channel}", deadline=ASK_SECONDS)

    def exists(self, channel: str) -> bool:
        """Does the switch still have this channel? Raises CommandRefused, DeadlineExceeded, Disconnected."""
        return self._up_link().exists(channel)

    def channels(self) -> list[Channel]:
        """All that the switch lists. Raises CommandRefused, DeadlineExceeded, Disconnected."""
        return listing.channels(self._up_link())

    def existing(self, channels: Sequence[str]) -> set[str]:
        """Those of them that the switch has now. Raises DeadlineExceeded, Disconnected."""
        return listing.existing(self._up_link(), channels)

    def kill(self, channel: str, cause: str) -> None:
        """Ends a channel. Raises CommandRefused (it has ended), DeadlineExceeded, Disconnected."""
        self._up_link().kill(channel, cause)

    def no_room(self, trunk: str, waiting: int) -> str:
        """As dialling.no_room."""
        return dialling.no_room(self._up_link(), trunk, waiting)

    @contextmanager
    def originate(self, dial_string: str, number: str, channel: str) -> Iterator[AsyncResult]:
        """Has a leg rung that is a call of its own, as dialling.originate; the result is what that prints at its end."""
        with self._jobs.begun(channel) as result:
            dialling.originate(self._up_link(), dial_string, number, channel)
            yield result

    def core(self) -> str:
        """The switch's own uuid, another after each start. Raises CommandRefused, DeadlineExceeded, Disconnected."""
        return self._up_link().api("global_getvar core_uuid").strip()

    def reload_dialplan(self) -> None:
        """Has the switch read its configuration files again; without a connection as soon as there is one.

        Raises CommandRefused (FreeSWITCH keeps what it had), DeadlineExceeded, Disconnected.
        """
        self._reload_owed = True
        self._up_link().api("reloadxml", deadline=RELOAD_SECONDS)
        self._reload_owed = False

    def keys(self, channel: str, since: int) -> str:
        """Keys that the switch took from a channel behind that event (its sequence), oldest first.

        The channel of a call that comes back may park, and take the first ones, before the call's own socket hears of any.
        """
        return "".join(key for whose, sequence, key in self._keys if whose == channel and sequence > since)

    @contextmanager
    def leg(self, uuid: str, on_change: Callable[[LegEvents], None]) -> Iterator[LegEvents]:
        """Watches a B leg by the uuid that we give it; its release is still heard for a while after the block."""
        events = self._legs[uuid] = LegEvents(uuid, on_change)
        try:
            yield events
        finally:
            if events.released.is_set():
                del self._legs[uuid]
            else:
                gevent.spawn_later(LATE_SECONDS, self._legs.pop, uuid, None)

    @contextmanager
    def recording(self, path: str) -> Iterator[RecordingEvents]:
        """Watches a recording by its file's path."""
        events = self._recordings[path] = RecordingEvents(path)
        try:
            yield events
        finally:
            del self._recordings[path]

    # --- the connection -------------------------------------------------------------------------

    def _up_link(self) -> SwitchLink:
        if self._link is None or not self._link.connected:
            raise Disconnected("the event socket", self.problem)
        return self._link

    def _keep(self) -> None:
        failures = 0
        while True:
            link = self._link
            if link is not None and link.connected:
                failures = 0
                link.closed.wait()
                self.problem = str(link.close_reason)
                self._occupancy.forget()
                self._jobs.lost(self.problem)
                log.error("event socket lost: %s", self.problem)
            gevent.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1
            self._try()

    def _try(self) -> None:
        where = self._where
        link = SwitchLink(where.host, where.port, where.password_text(), self._hear)
        try:
            link.connect()
            link.subscribe(*EVENTS)
        except ExoflowError as error:
            link.stop()
            if str(error) != self.problem:
                log.error("event socket: %s", error)
            self.problem = str(error)
            return
        self._link, self.problem = link, ""
        self.connections += 1
        log.info("event socket of %s:%d connected", where.host, where.port)
        gevent.spawn(self._count_channels, link)  # nobody waits for it
        self._reload_if_owed()
        for told in self.on_up:
            told()

    def _count_channels(self, link: SwitchLink) -> None:
        pause = 0.0
        while not link.closed.wait(pause):
            pause = RECOUNT_SECONDS if pause else LIST_AGAIN_SECONDS
            try:
                self._occupancy.synchronize(link)
            except ExoflowError as error:
                log.warning("channels in use are known from events only: %s", error)

    def _reload_if_owed(self) -> None:
        if self._reload_owed:
            try:
                self.reload_dialplan()
            except ExoflowError as error:
                log.error("reloading FreeSWITCH's dialplan: %s", error)

    def _hear(self, event: Event) -> None:
        if event.name.startswith("RECORD_"):
            recording = self._recordings.get(event.get("Record-File-Path"))
            if recording is not None:
                recording.hear(event)
            return
        if event.name == "BACKGROUND_JOB":
            self._jobs.hear(event)
            return
        if event.name == "DTMF":
            self._keys.append((event.get("Unique-ID"), event.sequence, event.get("DTMF-Digit")))
            return
        self._occupancy.hear(event)
        for told in self.on_channel:
            told(event)
        leg = self._legs.get(event.get("Bridge-B-Unique-ID" if event.name == "CHANNEL_BRIDGE" else "Unique-ID"))
        if leg is not None:
            leg.hear(event)
