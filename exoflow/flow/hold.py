"""A caller who waits for somebody else's answer hears that he is not forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent

from exoflow.config.steps import Prompt
from exoflow.errors import Disconnected, ExoflowError
from exoflow.flow.here import PROMPT_MARGIN, Here, joined

HOLD_AFTER = 0.4  # seconds of silence before hold audio: most CRMs answer faster, and a caller must hear something within 1 s
HOLD_TONE_PERIOD = 3.0  # seconds: 0.3 on, 2.7 off
HOLD_TONE_ONCE = "tone_stream://v=-24;%(300,2700,425);loops={loops}"
BREAK_EVERY = 0.1  # seconds; a break that comes before the application has begun is lost, so it is said again
BREAK_SECONDS = 3.0  # an application that does not end by then is left to its own deadline


def while_asking(here: Here, ask: Callable[[], Any], hold: str, seconds: float) -> Any:
    """Runs `ask`, which ends by itself within `seconds`, in its own greenlet; an answered caller hears `hold` meanwhile.

    Returns or raises what `ask` does, also when the caller leaves meanwhile: who asked wants to know. Raises Disconnected
    as soon as the socket is lost: whoever gets the call next asks anew.
    """
    asking = gevent.spawn(ask)
    try:
        gevent.wait([asking, here.session.closed], HOLD_AFTER, 1)
        with here.minding_keys():
            if not asking.ready() and here.answered and not here.session.ended.is_set():
                _hold_until(here, asking, hold, seconds)
            gevent.wait([asking, *([] if here.caller_gone else [here.session.closed])], count=1)
        if not asking.ready() and not here.caller_gone:
            raise Disconnected("an answer from elsewhere", str(here.session.close_reason))
        return asking.get()
    finally:
        asking.kill(block=False)


def _hold_until(here: Here, asking: gevent.Greenlet, hold: str, seconds: float) -> None:
    player = gevent.spawn(_hold, here, hold, seconds)
    gevent.wait([asking, here.session.closed], count=1)
    stop(here, player)


def stop(here: Here, player: gevent.Greenlet) -> None:
    """Ends what a greenlet is playing to the caller; never raises."""
    with gevent.Timeout(BREAK_SECONDS, False), suppress(ExoflowError):
        while not player.ready():
            here.break_off()
            player.join(BREAK_EVERY)


def _hold(here: Here, hold: str, seconds: float) -> None:
    try:
        here.session.execute("playback", hold, deadline=seconds + PROMPT_MARGIN)
    except ExoflowError as error:
        if not (error.call_over or isinstance(error, Disconnected)):
            here.note("D", "hold.failed", f"The caller could not be given hold audio: {error}")


def sound(here: Here, prompt: Prompt | None, seconds: float) -> str:
    """Audio for a caller who waits `seconds`; of bounded length, so that a dead app leaves nobody in endless music."""
    if prompt is None:
        return HOLD_TONE_ONCE.format(loops=math.ceil(seconds / HOLD_TONE_PERIOD) + 1)
    sound = here.sound(prompt)
    times = math.ceil(seconds / max(1.0, here.length(prompt))) + 1
    return joined([sound] * times)
