"""Recordings by their signed addresses, `/r/<token>.mp3` or `.wav` (docs/deliveries.md), as a WSGI application.

A token leads to a call's record and the record to the file: nothing of a path comes from outside, and a file that is not
within `switch.recordings` is not sent whatever a record says.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore

from exoflow.calls import rows
from exoflow.calls.links import BadLink, Ending, Link, Links
from exoflow.calls.model import CallState, Recording
from exoflow.calls.wav import is_recording
from exoflow.config.model import Config
from exoflow.errors import DeadlineExceeded, StoreError
from exoflow.store import tables as t
from exoflow.store.sqlite import Store
from exoflow.web.answers import STATUS, Refusal
from exoflow.web.gate import Gate
from exoflow.web.mp3 import ENCODE_SECONDS, Encoder
from exoflow.web.ranges import Body, OpenFile, Part, Unsatisfiable, part_of

log = logging.getLogger("exoflow.web")

PREFIX = "/r/"
DOWNLOADS = 10  # at once, of the server's 50 connections: the Calls API and /livez find one free
DOWNLOAD_SECONDS = 600.0  # an hour's talk in two channels as WAV has 115 MB, which 2 Mbit/s take 460 s for
READ_SECONDS = 4.0  # for the record
KINDS: dict[Ending, str] = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_COMMON = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("Connection", "close")]

_PATH = re.compile(r"/r/(?P<token>[A-Za-z0-9_-]{1,100})\.(?P<ending>mp3|wav)", re.ASCII)

MoreTime = Callable[[float], None]


class RecordingPages:
    """`environ["exoflow.more_time"]` gives a request more than the server's usual seconds."""

    def __init__(
        self,
        links: Links,
        store: Store,
        config: Callable[[], Config],
        gate: Gate,
        encoder: Encoder,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._links, self._store, self._config, self._gate = links, store, config, gate
        self._encoder, self._clock = encoder, clock
        self._turns = BoundedSemaphore(DOWNLOADS)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not self._turns.acquire(blocking=False):
            return _refused(start_response, Refusal(503, f"{DOWNLOADS} are fetched just now", [("Retry-After", "10")]), environ)
        try:
            return self._answer(environ, start_response)
        except Refusal as refusal:
            self._turns.release()
            return _refused(start_response, refusal, environ)
        except BaseException:
            self._turns.release()
            raise

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Gives the turn back by the body's end, or by raising Refusal."""
        asked = _PATH.fullmatch(environ["PATH_INFO"])
        if asked is None:
            raise Refusal(404, "there is no such recording")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            raise Refusal(405, "GET or HEAD", [("Allow", "GET, HEAD")])
        link = self._link(asked["token"])
        recording = self._recording(link, environ.get("HTTP_AUTHORIZATION", ""))
        more_time: MoreTime = environ["exoflow.more_time"]
        more_time(ENCODE_SECONDS + DOWNLOAD_SECONDS)
        file, ending = self._file(recording, asked["ending"])
        try:
            status, part, headers = _chosen(file, environ)
        except BaseException:
            file.close()
            raise
        name = f'inline; filename="{link.call_id}-{link.seq}.{ending}"'
        headers += [("Content-Type", KINDS[ending]), ("Content-Disposition", name), ("Cache-Control", "private"), *_COMMON]
        start_response(status, [("Content-Length", str(part.end - part.begin)), *headers])
        return Body(file, part if environ["REQUEST_METHOD"] == "GET" else Part(0, 0), self._turns.release)

    def _link(self, token: str) -> Link:
        try:
            return self._links.read(token, self._clock())
        except BadLink as bad:
            raise Refusal(410 if bad.expired else 404, str(bad)) from None

    def _recording(self, link: Link, authorization: str) -> Recording:
        """What the link names, if whoever asks may have it and if it is whole."""
        call = self._read(link.call_id)
        account_id = "" if call is None else call.facts.account or ""
        account = self._config().accounts.get(account_id)
        if call is None or account is None or link.seq > len(call.recordings):
            raise Refusal(404, "there is no such recording")
        if account.recordings.access == "key" and not link.free:
            self._gate.enter(account_id, authorization)
        recording = call.recordings[link.seq - 1]
        if recording.state == "pending" and call.outcome is None:
            raise Refusal(503, "it is not finished; try again", [("Retry-After", "5")])
        return recording

    def _read(self, call_id: str) -> CallState | None:
        try:
            found = self._store.read(lambda c: rows.load(c, t.calls.c.id == call_id, journey=False), deadline=READ_SECONDS)
        except (StoreError, DeadlineExceeded) as error:
            log.error("a recording cannot be looked up: %s", error)
            raise Refusal(503, "the store cannot be read just now", [("Retry-After", "5")]) from None
        return found[0] if found else None

    def _file(self, recording: Recording, wanted: str) -> tuple[OpenFile, Ending]:
        """As it is wanted, if there is a way; else the WAV. Raises Refusal."""
        folder, path = self._config().switch.recordings, Path(recording.path)
        if not gevent.get_hub().threadpool.apply(is_recording, (folder, recording.path)):
            log.error("%s: is not in switch.recordings, so it is not sent", path)
            raise Refusal(404, "there is no such recording")
        mp3 = self._encoder.mp3_of(path, recording.channels) if wanted == "mp3" else None
        try:
            return OpenFile(mp3 or path), "wav" if mp3 is None else "mp3"
        except OSError as error:
            log.warning("%s: cannot be sent: %s", mp3 or path, error.strerror or error)
            raise Refusal(404, "there is no such recording") from None


def _chosen(file: OpenFile, environ: dict[str, Any]) -> tuple[str, Part, list[tuple[str, str]]]:
    """Status, the part that is sent, and the headers that say so. Raises Refusal (416)."""
    headers = [("Accept-Ranges", "bytes"), ("ETag", file.version)]
    wanted = environ.get("HTTP_RANGE", "") if environ["REQUEST_METHOD"] == "GET" else ""
    if environ.get("HTTP_IF_RANGE", file.version) != file.version:
        wanted = ""
    try:
        part = part_of(file.size, wanted)
    except Unsatisfiable:
        raise Refusal(416, "the recording is shorter", [("Content-Range", f"bytes */{file.size}")]) from None
    if part is None:
        return STATUS[200], Part(0, file.size), headers
    return STATUS[206], part, [*headers, ("Content-Range", part.shown(file.size))]


def _refused(start_response: Callable[..., Any], refusal: Refusal, environ: dict[str, Any]) -> list[bytes]:
    body = f"{refusal}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    start_response(STATUS[refusal.status], [*headers, *_COMMON, *refusal.headers])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]
