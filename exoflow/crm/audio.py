"""Audio that a CRM names by its URL, fetched and kept for the switch to play; and other sounds made during a call.

Exotel's rule (facts, exotel-dialect.md section 3): a WAV, 8 kHz, 16 bit, mono, cached by URL. Ours: whatever else it is
is refused with the cure; a file is at most 2 MB, as section 5 has it of `WaitUrl`; a copy younger than FRESH_SECONDS is
played unasked; later its server is asked by its own validators (ETag, Last-Modified); a server that does not answer, or
fails (5xx), leaves the copy in use. A copy belongs to one account: what one may reach is not another's.

Nothing here blocks the loop: the disk is touched, and sound is read, in a thread. Callers who want the same wait together.
"""

from __future__ import annotations

import io
import math
import struct
import time
import wave
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gevent
from gevent.lock import BoundedSemaphore
from gevent.threadpool import ThreadPool

from exoflow.crm.http import Answer, CrmClient, CrmFailure
from exoflow.crm.mask import mask_url
from exoflow.crm.shelf import MAX_BYTES, Shelf
from exoflow.errors import ExoflowError
from exoflow.linesound import RATE, wav
from exoflow.threads import in_thread

MAX_AUDIO_BYTES = 2 * 1024 * 1024  # facts, section 5: "wav < 2 MB"; 131 s
FRESH_SECONDS = 60.0  # a campaign's hundred callers a minute ask the server once; a new recording is heard a minute later
MAX_FETCHES = 8  # at once, each with MAX_AUDIO_BYTES in memory at most; more wait within their deadline
SERVERS_SHARE = 0.9  # of a deadline; the rest is for checking the sound and writing it
MAX_CHECKED = 10_000  # URLs whose last look is remembered; those forgotten are asked once more
MAX_VALIDATOR_CHARS = 1000  # servers' ETags have some 40
# what a server says of its file, and as what it is said back
_VALIDATORS = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
_CURE = "make it with: ffmpeg -i in.mp3 -ar 8000 -ac 1 -c:a pcm_s16le out.wav"

Came = Literal["fetched", "kept", "stale"]


class Audio(NamedTuple):
    """A sound file for the switch; `came`: just now, or it was there, or it was there and its server failed."""

    path: Path
    came: Came


class BadAudio(ExoflowError):
    """There is no sound under the URL, which is masked, that could be played."""

    def __init__(self, url: str, problem: str) -> None:
        self.url, self.problem = url, problem
        super().__init__(f"the audio {url} cannot be played: {problem}")


class AudioCache:
    """One for the process. `folder` must be readable for FreeSWITCH."""

    def __init__(
        self, folder: Path, crm: CrmClient, *, most_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._crm, self._clock = crm, clock
        self._shelf = Shelf(folder, most_bytes)
        self._disk: ThreadPool | None = None  # of one thread: the shelf's own order
        self._slots = BoundedSemaphore(MAX_FETCHES)
        self._under_way: dict[str, gevent.Greenlet] = {}
        self._checked: OrderedDict[str, float] = OrderedDict()  # when the file was last known to be its URL's
        self._came: Counter[str] = Counter()

    @property
    def in_flight(self) -> int:
        """Sounds that are being fetched or made: a rehearsal's clock must not overtake them."""
        return len(self._under_way)

    @property
    def counters(self) -> dict[str, int]:
        """By name, since the start: how audio came, and what the folder's bound cost."""
        return {
            **{f"audio.{came}": count for came, count in self._came.items()},
            "audio.dropped": self._shelf.dropped,
            "audio.no_room": self._shelf.refused,
        }

    def fetch(
        self, url: str, *, account: str, deadline: float, allow_private: Sequence[str] = (), mask: Collection[str] = ()
    ) -> Audio:
        """The sound under `url`, whole and checked, within `deadline` seconds. The rest is as in CrmClient.get.

        Raises BadAudio, CrmFailure, ShelfFull.
        """
        key, shown = f"{account}\0{url}", mask_url(url, mask)

        def ask(headers: Mapping[str, str]) -> Answer:
            return self._crm.get(
                url,
                deadline=deadline * SERVERS_SHARE,
                allow_private=allow_private,
                headers=headers,
                mask=mask,
                account=account,
                waits=True,
                most_bytes=MAX_AUDIO_BYTES,
            )

        late = BadAudio(shown, f"it did not come within {deadline:g} s; make its server answer sooner")
        return self._together(key, lambda: self._fetch(key, ask, shown), deadline, late)

    def made(self, name: str, make: Callable[[], bytes], *, text: str, deadline: float) -> Path:
        """The WAV that `make` gives, kept under `name`; made once, in a greenlet, so `make` must not block. `text` is what is
        heard in it, for people.

        Raises BadAudio if it is not made within `deadline` seconds, ShelfFull, and the ExoflowErrors of `make`.
        """
        key = f"\0{name}"

        def once() -> Audio:
            if (path := self._on_disk(self._shelf.take, key)) is not None:
                return Audio(path, "kept")
            return Audio(self._on_disk(self._shelf.put, key, make(), None, text), "fetched")

        return self._together(key, once, deadline, BadAudio("of a text", f"it was not made within {deadline:g} s")).path

    # --- one for all who want the same --------------------------------------------------------------

    def _together(self, key: str, work: Callable[[], Audio], deadline: float, late: BadAudio) -> Audio:
        """Runs `work` in its own greenlet, which a caller's hangup does not end; who comes meanwhile waits for the same."""

        def bounded() -> Audio | ExoflowError:
            try:
                with gevent.Timeout(deadline, late), self._slots:
                    return work()
            except OSError as problem:
                return BadAudio(late.url, f"{self._shelf.folder} cannot be written: {problem}; let this user write there")
            except ExoflowError as error:  # as a value: gevent would print it as an unhandled exception of its greenlet
                return error
            finally:
                del self._under_way[key]

        if (running := self._under_way.get(key)) is None:
            running = self._under_way[key] = gevent.spawn(bounded)
        with gevent.Timeout(deadline, late):
            found: Audio | ExoflowError = running.get()
        if isinstance(found, ExoflowError):
            raise found
        self._came[found.came] += 1
        return found

    def _on_disk(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._disk is None:
            self._disk = ThreadPool(1)
        return in_thread(function, *arguments, pool=self._disk)

    # --- from a URL ---------------------------------------------------------------------------------

    def _fetch(self, key: str, ask: Callable[[Mapping[str, str]], Answer], url: str) -> Audio:
        """`url` is masked."""
        kept: Path | None = self._on_disk(self._shelf.take, key)
        if kept is not None and self._clock() - self._checked.get(key, -math.inf) < FRESH_SECONDS:
            return Audio(kept, "kept")
        notes = self._on_disk(self._shelf.notes, key) if kept is not None else {}
        try:
            answer = ask({asks: notes[name] for name, asks in _VALIDATORS.items() if name in notes})
        except CrmFailure:
            if kept is None:
                raise
            return Audio(kept, "stale")
        if kept is not None and answer.status >= 500:
            return Audio(kept, "stale")
        if kept is not None and answer.status == 304:
            self._is_checked(key)
            return Audio(kept, "kept")
        if answer.status != 200:
            raise BadAudio(url, f"the server answered {answer.status}; the CRM must name a URL that leads to a sound")
        try:
            sound = self._on_disk(line_sound, answer.body)
        except ValueError as problem:
            raise BadAudio(url, f"{problem}; {_CURE}") from None
        validators = {name: text for name in _VALIDATORS if _is_sendable(text := answer.headers.get(name, ""))}
        path = self._on_disk(self._shelf.put, key, sound, validators)
        self._is_checked(key)
        return Audio(path, "fetched")

    def _is_checked(self, key: str) -> None:
        self._checked[key] = self._clock()
        self._checked.move_to_end(key)
        while len(self._checked) > MAX_CHECKED:
            self._checked.popitem(last=False)


def _is_sendable(text: str) -> bool:
    """May a server's own validator be sent back to it as a header?"""
    return 0 < len(text) <= MAX_VALIDATOR_CHARS and text.isascii() and text.isprintable()


def line_sound(body: bytes) -> bytes:
    """A WAV of 8 kHz, 16 bit, mono as a plain one: header and samples, nothing else. Raises ValueError for anything else."""
    try:
        with wave.open(io.BytesIO(body)) as sound:
            rate, bits, channels = sound.getframerate(), 8 * sound.getsampwidth(), sound.getnchannels()
            # a header written before the length was known may promise hours
            samples = sound.readframes(min(sound.getnframes(), MAX_AUDIO_BYTES))
    except (wave.Error, EOFError, struct.error, RuntimeError) as problem:
        raise ValueError(f"it is no WAV of PCM samples ({str(problem)[:60] or 'it ends too early'})") from None
    if (rate, bits, channels) != (RATE, 16, 1):
        raise ValueError(f"it has {rate} Hz, {bits} bit, {channels} channels, not 8000 Hz, 16 bit, 1 channel")
    samples = samples[: len(samples) // 2 * 2]
    if not samples:
        raise ValueError("there is no sound in it")
    return wav(samples)
