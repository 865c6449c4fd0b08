"""The switch's channels as it tells them when it is asked, for who has missed events."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import NamedTuple

from exoflow.errors import UnsafeText
from exoflow.esl import safety
from exoflow.esl.link import SwitchLink

log = logging.getLogger("exoflow.lines")

LIST_SECONDS = 5.0  # for the list of a full box's channels (some 2 MB)
ASKED_AT_ONCE = 400  # questions in one packet; their replies are bounded by the wire


class Channel(NamedTuple):
    """A row of `show channels`."""

    uuid: str
    direction: str  # inbound | outbound
    dialled: str  # digits, as they were sent or came


def channels(link: SwitchLink) -> list[Channel]:
    """All that are listed; the list lags some 10 ms behind the truth (it is the core's database).

    Raises CommandRefused, DeadlineExceeded, Disconnected.
    """
    text = link.api("show channels as json", deadline=LIST_SECONDS)
    try:
        rows = json.loads(text).get("rows", [])  # an empty list has no rows at all
    except (ValueError, AttributeError):
        log.error("the switch's list of channels cannot be read: %r", text[:200])
        return []
    found = []
    for row in rows:
        try:
            found.append(Channel(safety.uuid(str(row["uuid"])), str(row["direction"]), str(row["dest"])))
        except (KeyError, TypeError, UnsafeText):
            log.warning("a channel without uuid, direction or digits: %r", row)
    return found


def existing(link: SwitchLink, uuids: Sequence[str]) -> set[str]:
    """Those that are there now: asked one by one, which knows also what the list has not yet, or no more.

    Raises DeadlineExceeded, Disconnected, UnsafeText.
    """
    found: set[str] = set()
    for at in range(0, len(uuids), ASKED_AT_ONCE):
        some = uuids[at : at + ASKED_AT_ONCE]
        replies = link.commands(*(f"api uuid_exists {safety.uuid(uuid)}" for uuid in some), deadline=LIST_SECONDS)
        found.update(uuid for uuid, reply in zip(some, replies, strict=True) if reply.data.strip() == "true")
    return found
