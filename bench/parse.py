"""An event of 3.6 kB: ours beside greenswitch's, both from bytes, in turns."""

from __future__ import annotations

import gc
import time
from pathlib import Path

from greenswitch.esl import ESLEvent

from exoflow.esl.codec import Event

[RECORDED] = (Path(__file__).parent / "frames").glob("*-execute-complete-playback.esl")
USED = ("Event-Name", "Unique-ID", "Application-UUID")  # what a session looks at


def ours(body: bytes) -> None:
    event = Event.from_plain(body)
    for name in USED:
        event.get(name)


def ours_whole(body: bytes) -> None:
    Event.from_plain(body).items()


def greenswitch(body: bytes) -> None:
    event = ESLEvent(body.decode("utf-8"))
    for name in USED:
        event.headers.get(name)


def seconds_per_event(*, rounds: int = 7, events: int = 3000) -> dict[str, list[float]]:
    """Once a round: parsing and reading three headers; `ours_whole` makes every header a text."""
    _, _, body = RECORDED.read_bytes().partition(b"\n\n")
    ways = (ours, greenswitch, ours_whole)
    found: dict[str, list[float]] = {way.__name__: [] for way in ways}
    gc.disable()
    for number in range(rounds):
        for way in (*ways[number % 3 :], *ways[: number % 3]):
            begun = time.process_time()
            for _ in range(events):
                way(body)
            found[way.__name__].append((time.process_time() - begun) / events)
    gc.enable()
    return found
