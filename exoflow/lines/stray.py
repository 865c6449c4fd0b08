"""Legs that FreeSWITCH dials because a SIP phone asked it to, past exoflow and the dialplan: ended at once.

REFER with Replaces of a call that FreeSWITCH does not know makes it dial the address in it, abroad too (sofia.c:9420). Only
`disable-transfer` of the SIP profile prevents that; where it is not set, the leg is ended while it is being set up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import gevent

from exoflow.errors import ExoflowError
from exoflow.esl.codec import Event

log = logging.getLogger("exoflow.lines")

CAUSE = "CALL_REJECTED"
LATELY_SECONDS = 60.0  # what has happened since is still worth a look
CURE = "set `disable-transfer` to `true` in its SIP profile (docs/freeswitch-conf.md)"
_BY_TRANSFER = "sip_h_X-FS-Refer-From"  # set on such a leg alone, before CHANNEL_CREATE (sofia.c:9585)


class Switch(Protocol):
    """What is asked of it."""

    def kill(self, channel: str, cause: str) -> None: ...


class StrayLegs:
    """Hears of each channel; ends those that a phone's transfer made."""

    def __init__(self, switch: Switch, now: Callable[[], float] | None = None) -> None:
        self._switch, self._now = switch, now or (lambda: gevent.get_hub().loop.now())
        self._seen_at: float | None = None
        self.ended = 0

    def hear(self, event: Event) -> None:
        """In the event socket's reader: never waits."""
        if event.name != "CHANNEL_CREATE" or not event.variable(_BY_TRANSFER):
            return
        self.ended += 1
        self._seen_at = self._now()
        gevent.spawn(self._end, event.get("Unique-ID"), event.get("Caller-Destination-Number"))

    def _end(self, channel: str, number: str) -> None:
        text = "a SIP phone had FreeSWITCH dial %r by a transfer: the leg is ended; %s"
        log.error(text, number, CURE)
        try:
            self._switch.kill(channel, CAUSE)
        except ExoflowError as error:
            log.error("the leg %s that a SIP phone had FreeSWITCH dial could not be ended: %s", channel, error)

    def problem(self) -> str:
        """For a while after one was seen."""
        if self._seen_at is None or self._now() - self._seen_at > LATELY_SECONDS:
            return ""
        return f"a SIP phone had FreeSWITCH dial a number by a transfer, which was ended; {CURE}"
