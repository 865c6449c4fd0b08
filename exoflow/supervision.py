"""What a supervisor and exoflow say to each other: systemd's socket activation, notifications and watchdog.

sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). Without a supervisor nothing is said and nothing is missing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

import gevent
from gevent import socket

log = logging.getLogger("exoflow")

FIRST_FD = 3  # SD_LISTEN_FDS_START
CALLS = "calls"  # FileDescriptorName in deploy/exoflow.socket
FEED_SECONDS = 1.0  # at most between two words to the watchdog, whose patience is 5 s
FEEDS = 4  # words within the watchdog's patience where that is shorter: a late one is no reason to be killed
READY_TRIES, TRY_SECONDS = 100, 0.05  # without this word systemd would end us after TimeoutStartSec; its queue may be full
_OURS = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Supervisor:
    """The one that started us, or nobody. Its words to us are taken out of the environment, which our children inherit."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        told = {name: environ.pop(name) for name in _OURS if name in environ}
        self._sockets = _sockets(told)
        self._notify = told.get("NOTIFY_SOCKET", "")
        self._patience = _patience(told)
        self._feeder: gevent.Greenlet | None = None

    def listener(self) -> Any:
        """The listening socket for calls that the supervisor keeps over our restarts; None: we have to make our own."""
        return self._sockets.get(CALLS)

    @property
    def watches(self) -> bool:
        """Does it kill a process that stands still?"""
        return self._patience is not None

    # --- what we tell it ------------------------------------------------------------------------

    def ready(self, status: str) -> None:
        """Calls are accepted, and from here on the watchdog is fed."""
        self._say(f"READY=1\nSTATUS={_line(status)}", tries=READY_TRIES)
        if self._patience is not None and self._feeder is None:
            self._feeder = gevent.spawn(self._feed, min(FEED_SECONDS, self._patience / FEEDS))

    def reloading(self) -> None:
        """The configuration is read again; `ready` follows, whether the new one is taken or not."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1\nSTATUS=handing the calls over")

    def _feed(self, every: float) -> None:
        """A timer of the loop that the calls run on: when that stands still, nothing is said any more."""
        while True:
            self._say("WATCHDOG=1")
            gevent.sleep(every)

    def _say(self, message: str, tries: int = 1) -> None:
        if not self._notify:
            return
        for _ in range(tries):
            if self._said(message):
                return
            gevent.sleep(TRY_SECONDS)
        log.error("the supervisor at %s is not reached: %s is not told", self._notify, message.partition("\n")[0])

    def _said(self, message: str) -> bool:
        address = "\0" + self._notify[1:] if self._notify.startswith("@") else self._notify
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)  # a supervisor that does not read must not hold the calls up
                out.sendto(message.encode(), address)
        except OSError:
            return False
        return True


def _sockets(told: Mapping[str, str]) -> dict[str, Any]:
    """The sockets passed to us by their names; a single one without a name is that for calls."""
    count = _number(told.get("LISTEN_FDS"))
    if not count or _number(told.get("LISTEN_PID")) != os.getpid():
        return {}
    names = told.get("LISTEN_FDNAMES", "").split(":") if told.get("LISTEN_FDNAMES") else [CALLS]
    found: dict[str, Any] = {}
    for fd in range(FIRST_FD, FIRST_FD + count):
        os.set_inheritable(fd, False)
        index = fd - FIRST_FD
        name = names[index] if index < len(names) else ""
        if name == CALLS and CALLS not in found:
            found[CALLS] = socket.socket(fileno=fd)
        else:
            log.warning("the supervisor passes a socket named %r, which exoflow has no use for", name)
            os.close(fd)
    return found


def _patience(told: Mapping[str, str]) -> float | None:
    """Seconds of silence after which the watchdog kills us; None if there is none, or it watches another process."""
    if _number(told.get("WATCHDOG_PID")) not in (None, os.getpid()):
        return None
    microseconds = _number(told.get("WATCHDOG_USEC"))
    return microseconds / 1e6 if microseconds else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None


def _line(text: str) -> str:
    return " ".join(text.split())
