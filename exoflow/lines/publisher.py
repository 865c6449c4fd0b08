"""Keeps the dialplan's fallback as the configuration and the agents are, as long as this process lives."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from gevent.event import Event

from exoflow.config.model import Config
from exoflow.lines import fallback
from exoflow.lines.fallback import Available
from exoflow.lines.lines import Lines

KNOWN_SECONDS = 10.0  # at the start, for the store to tell who is switched off; then it is written without
PAUSE_SECONDS = 0.5  # between two writes: a whole team that goes home is one or two
REVIEW_SECONDS = 3600.0  # holidays and changed clocks come by themselves
AGAIN_SECONDS = 60.0  # after a write that failed
STOP_SECONDS = 0.3  # for a change that is not written yet, when the process ends


class FallbackPublisher:
    """Writes it at `start()`, at each `wake()`, and by itself when the time has changed it; until `stop()`."""

    def __init__(self, config: Callable[[], Config], lines: Lines, available: Available, known: Event) -> None:
        """`available` tells who is switched on; it is right once `known` is set."""
        self._config, self._lines, self._available, self._known = config, lines, available, known
        self._wanted = Event()
        self._loop: gevent.Greenlet | None = None

    def start(self) -> None:
        self.wake()
        self._loop = gevent.spawn(self._run)

    def stop(self) -> None:
        if self._loop is not None:
            self._loop.kill()
        if self._wanted.is_set():
            with gevent.Timeout(STOP_SECONDS, False):
                self._publish()

    def wake(self) -> None:
        """Something has changed. Never waits."""
        self._wanted.set()

    def _run(self) -> None:
        self._known.wait(KNOWN_SECONDS)
        while True:
            pause = PAUSE_SECONDS if self._publish() else AGAIN_SECONDS
            gevent.sleep(pause)
            self._wanted.wait(REVIEW_SECONDS if pause == PAUSE_SECONDS else 0)

    def _publish(self) -> bool:
        """False: it could not be written."""
        asked = self._wanted.is_set()
        self._wanted.clear()
        written = fallback.publish(self._config(), self._lines, self._available, reload=asked)
        if not written:
            self._wanted.set()
        return written
