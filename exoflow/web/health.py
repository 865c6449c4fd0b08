"""`/livez`: the event loop turns. `/readyz`: calls are answered and all that is theirs is kept; else why not, and the cure.

Looks at memory are made in the loop; looks at disks in one thread, each round within DISK_SECONDS, and kept for KEPT_SECONDS.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool

from exoflow.store.sqlite import Health as StoreHealth

DISK_SECONDS = 2.0  # a file system that does not answer within it is a reason itself
KEPT_SECONDS = 5.0  # whoever asks more often gets the last round's findings: asking costs no disk
LATELY_SECONDS = 60.0  # what has happened since is still worth a look
LAG_SECONDS = 10.0  # changes that wait longer than a slow commit and a spill take
FREE_BYTES = 512 * 1024 * 1024  # some nine hours of talk recorded in mono
FREE_SHARE = 0.05  # of a disk so small that it never has as much


@dataclass(frozen=True)
class Reason:
    """Why exoflow is not ready: which part, and what to do about it."""

    part: str
    text: str


@dataclass(frozen=True)
class Folders:
    """What is looked at on disks. None: not configured."""

    store: Path
    recordings: Path
    cdr: Path | None = None
    spill: Path | None = None


@dataclass
class Sources:
    """Where the looks into memory come from; each is asked at every request and must not wait."""

    store: Callable[[], StoreHealth]
    event_socket: Callable[[], str]  # why it is down; empty if it is up
    calls: Callable[[], tuple[int, int]]  # active, and the most there may be
    no_descriptor: Callable[[], int] = lambda: 0  # times since the start that a call could not be accepted for want of one
    reload_refused: Callable[[], str] = lambda: ""
    transfers: Callable[[], str] = lambda: ""  # that SIP phones have FreeSWITCH dial; empty: none did lately
    prompts: Callable[[], str] = lambda: ""  # sounds that callers should have heard; empty: all were played
    folders: Callable[[], Folders | None] = lambda: None
    crm: Callable[[], list[dict[str, Any]]] = list  # CRM hosts that are not asked at present; an account's trouble, not ours


@dataclass
class State:
    """What `/readyz` answers."""

    reasons: list[Reason]
    store: StoreHealth
    active: int
    most: int
    crm: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return not self.reasons

    def data(self) -> dict[str, Any]:
        return {
            "ready": self.ready,
            "reasons": [asdict(reason) for reason in self.reasons],
            "calls": {"active": self.active, "limit": self.most},
            "store": asdict(self.store),
            "crm": self.crm,
        }

    def text(self) -> str:
        lines = ["ready" if self.ready else "not ready"]
        lines += [f"{reason.part}: {' '.join(reason.text.split())}" for reason in self.reasons]
        lines.append(f"calls: {self.active} of {self.most}")
        store = self.store
        lines.append(f"store: {store.waiting} changes wait, the oldest {store.lag:.1f} s; {store.spilled} bytes in the spill")
        return "\n".join(lines) + "\n"


class Readiness:
    """Puts the looks together."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._thread = ThreadPool(1)
        self._round: AsyncResult | None = None
        self._found: list[Reason] = []
        self._looked_at = 0.0
        self._times, self._lacked_at = 0, 0.0

    def state(self) -> State:
        """As it is now. Waits for disks, DISK_SECONDS at most."""
        on_disks = self._disks()
        store = self._sources.store()
        active, most = self._sources.calls()
        reasons = [*_of_store(store), *self._of_calls(active, most), *on_disks]
        return State(reasons, store, active, most, self._sources.crm())

    def stop(self) -> None:
        self._thread.kill()

    def _of_calls(self, active: int, most: int) -> Iterable[Reason]:
        event_socket, refused = self._sources.event_socket(), self._sources.reload_refused()
        if self._lacked_descriptors():
            yield Reason("calls", "some could not be accepted lately for want of descriptors; raise LimitNOFILE of the service")
        if active >= most:
            yield Reason(
                "calls", f"{active} calls are the limit, more are refused; raise switch.max_calls if the machine bears it"
            )
        if event_socket:
            cure = "is FreeSWITCH running, and is switch.event_socket as its event_socket.conf says?"
            yield Reason("event_socket", f"{event_socket}; {cure}")
        if unplayable := self._sources.prompts():
            yield Reason("prompts", unplayable)
        if transfers := self._sources.transfers():
            yield Reason("transfers", transfers)
        if refused:
            cure = "`exoflow check` shows the findings; the configuration from before stays"
            yield Reason("configuration", f"the last reload was refused: {refused}; {cure}")

    def _lacked_descriptors(self) -> bool:
        times, now = self._sources.no_descriptor(), gevent.get_hub().loop.now()
        if times > self._times:
            self._times, self._lacked_at = times, now
        return self._times > 0 and now - self._lacked_at < LATELY_SECONDS

    def _disks(self) -> list[Reason]:
        """One round at a time; who comes meanwhile waits for the same one."""
        folders = self._sources.folders()
        if folders is None:
            return []
        now = gevent.get_hub().loop.now()
        if self._round is None:
            if self._looked_at and now - self._looked_at < KEPT_SECONDS:
                return self._found
            self._round = self._thread.spawn(look_at, folders)
        round_ = self._round
        round_.wait(DISK_SECONDS)
        if not round_.ready():
            text = f"disks do not answer within {DISK_SECONDS:g} s; look at dmesg and at network file systems"
            return [Reason("disk", text)]
        if self._round is round_:
            self._round, self._looked_at = None, gevent.get_hub().loop.now()
            self._found = round_.get()
        return self._found


def _of_store(store: StoreHealth) -> Iterable[Reason]:
    if store.trouble:
        yield Reason("store", store.trouble)
    if store.lag > LAG_SECONDS and not store.trouble:
        yield Reason("store", f"changes have been waiting for {store.lag:.0f} s; look at the disk's load (iostat)")
    if store.spill:
        yield Reason("spill", store.spill)
    if store.dropped:
        what = ", ".join(f"{amount} {kind}" for kind, amount in sorted(store.dropped.items()))
        yield Reason("store", f"lost since the start: {what}; `exoflow counts` has the hours, a restart clears this line")
    if store.unusable:
        yield Reason("spill", f"{store.unusable} lines of the spill were damaged or refused; the log and *.refused have them")


def look_at(folders: Folders) -> list[Reason]:
    """In a thread: file systems may hang."""
    reasons = []
    if folders.cdr is not None and not (folders.cdr.is_dir() and _usable(folders.cdr, os.R_OK | os.W_OK | os.X_OK)):
        text = f"{folders.cdr}: cannot be read and emptied; give exoflow's user the rights of FreeSWITCH's group (switch.cdr)"
        reasons.append(Reason("cdr", text))
    if not _usable(folders.recordings, os.W_OK | os.X_OK):
        text = f"{folders.recordings}: cannot be written to; make it, for exoflow's and FreeSWITCH's users (switch.recordings)"
        reasons.append(Reason("recordings", text))
    seen: set[int] = set()
    for folder in (folders.store.parent, folders.recordings, folders.spill, folders.cdr):
        reasons += [] if folder is None else _space(folder, seen)
    return reasons


def _usable(folder: Path, how: int) -> bool:
    """A folder that is not there yet is made when it is needed, in the one above it."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return there.is_dir() and os.access(there, how)


def _space(folder: Path, seen: set[int]) -> list[Reason]:
    """Is there room on the folder's file system? Each is looked at once."""
    try:
        folder = next(path for path in (folder, *folder.parents) if path.exists())
        device = os.stat(folder).st_dev
        if device in seen:
            return []
        seen.add(device)
        disk = shutil.disk_usage(folder)
    except OSError as error:
        return [Reason("disk", f"{folder}: {error.strerror}; is its file system mounted?")]
    if disk.free >= min(FREE_BYTES, disk.total * FREE_SHARE):
        return []
    return [Reason("disk", f"{folder}: {disk.free >> 20} MiB are left; free space on its file system")]


@dataclass
class HealthPages:
    """The WSGI application."""

    state: Callable[[], State]
    headers: list[tuple[str, str]] = field(
        default_factory=lambda: [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("Connection", "close")]
    )

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        extra: list[tuple[str, str]] = []
        kind = "text/plain; charset=utf-8"
        if path not in ("/livez", "/readyz"):
            status, body = "404 Not Found", "there are /livez and /readyz\n"
        elif method not in ("GET", "HEAD"):
            status, body, extra = "405 Method Not Allowed", "GET or HEAD\n", [("Allow", "GET, HEAD")]
        elif path == "/livez":
            status, body = "200 OK", "alive\n"
        else:
            state = self.state()
            status = "200 OK" if state.ready else "503 Service Unavailable"
            body = state.text()
            if "application/json" in environ.get("HTTP_ACCEPT", ""):
                kind, body = "application/json", json.dumps(state.data()) + "\n"
        data = body.encode("utf-8", "replace")
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data))), *self.headers, *extra])
        return [b"" if method == "HEAD" else data]
