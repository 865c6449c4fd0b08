"""How many channels of each trunk are in use, and for how long all of them were: callers then hear engaged and send us nothing.

Counted from the channels' own events, both legs; at each connection to the switch from its list of channels.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from exoflow.config.model import Trunk
from exoflow.errors import UnsafeText
from exoflow.esl import safety
from exoflow.esl.codec import Event
from exoflow.esl.link import SwitchLink
from exoflow.lines import trunks

log = logging.getLogger("exoflow.lines")

LIST_SECONDS = 5.0  # for the list of a full box's channels (some 2 MB)
ASKED_AT_ONCE = 400  # variables in one packet; their replies are bounded by the wire
_SPAN = re.compile(r"FreeTDM/(\d{1,4}):")  # span:channel/number (mod_freetdm)
_PROFILE = re.compile(r"sofia/([A-Za-z0-9_.-]{1,64})/")
# who knows best first: our dialplan's, then what the channel drivers set
_NAMES = ("exo_trunk", "freetdm_span_name", "sip_gateway_name", "sip_gateway", "sofia_profile_name")


class Occupancy:
    """Which channel is on which trunk. A channel whose trunk is not known yet is looked at again at each of its events."""

    def __init__(self, configured: Callable[[], Mapping[str, Trunk]], clock: Callable[[], float] = time.monotonic) -> None:
        self._configured, self._clock = configured, clock
        self._on: dict[str, str | None] = {}  # channel's uuid: name of the trunk
        self._waiting: dict[str, str] = {}  # channels on a span whose name is not known yet: its number
        self._spans: dict[str, str] = {}  # number of a span: its name, as incoming calls tell it
        self._in_use: Counter[str] = Counter()
        self._full_since: dict[str, float] = {}
        self._full: defaultdict[str, float] = defaultdict(float)
        self._missing: set[str] = set()  # counted, and not in the last list
        self._heard: set[str] | None = None  # channels that changed while the list was asked for

    # --- what is asked --------------------------------------------------------------------------

    def in_use(self, trunk: str) -> int:
        """Channels of a configured trunk that calls and agents' legs are on."""
        return self._in_use[trunk]

    @property
    def all_busy_seconds(self) -> dict[str, float]:
        """Since the start, by trunk: how long all its channels were taken; up to this moment."""
        now = self._clock()
        return {
            name: self._full[name] + (now - self._full_since[name] if name in self._full_since else 0.0)
            for name in self._full.keys() | self._full_since.keys()
        }

    # --- what is heard --------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """An event of any channel."""
        uuid = event.get("Unique-ID")
        if event.name == "CHANNEL_HANGUP_COMPLETE":
            self._note(uuid)
            self._leave(uuid)
        elif self._on.get(uuid) is None:
            self._note(uuid)
            self._place(uuid, event.get("Channel-Name"), event.variable)

    def forget(self) -> None:
        """The connection is lost: nothing is known until the next list."""
        self._on.clear()
        self._waiting.clear()
        for trunk in list(self._in_use):
            self._in_use[trunk] = 0
            self._judge(trunk)

    def synchronize(self, link: SwitchLink) -> None:
        """Adds what the switch's own list has and we have not heard of, and drops what two lists did not have: a busy switch
        delivers events late and in any order. Events of this connection must come already.

        Raises CommandRefused, DeadlineExceeded, Disconnected.
        """
        self._heard = set()
        try:
            names = _listed(link.api("show channels as json", deadline=LIST_SECONDS))
            wanted = [uuid for uuid in names if uuid not in self._heard and self._on.get(uuid) is None]
            told = self._ask(link, wanted)
            for uuid in wanted:
                if uuid not in self._heard:
                    self._place(uuid, names[uuid], told.get(uuid, {}).get)
            missing = {uuid for uuid in self._on if uuid not in names and uuid not in self._heard}
            for uuid in missing & self._missing:
                self._leave(uuid)
            self._missing = missing
        finally:
            self._heard = None

    @staticmethod
    def _ask(link: SwitchLink, uuids: list[str]) -> dict[str, dict[str, str]]:
        """The variables that name the trunk of each channel."""
        asked = [(uuid, name) for uuid in uuids for name in (*_NAMES, "freetdm_span_number")]
        found: dict[str, dict[str, str]] = {}
        for at in range(0, len(asked), ASKED_AT_ONCE):
            some = asked[at : at + ASKED_AT_ONCE]
            replies = link.commands(*(f"api uuid_getvar {uuid} {name}" for uuid, name in some), deadline=LIST_SECONDS)
            for (uuid, name), reply in zip(some, replies, strict=True):
                if not reply.refused and reply.data != "_undef_":
                    found.setdefault(uuid, {})[name] = reply.data
        return found

    # --- the count ------------------------------------------------------------------------------

    def _note(self, uuid: str) -> None:
        if self._heard is not None:
            self._heard.add(uuid)

    def _place(self, uuid: str, channel: str, variable: Callable[[str, str], str]) -> None:
        number, name = variable("freetdm_span_number", ""), variable("freetdm_span_name", "")
        if number and name and number not in self._spans:
            self._spans[number] = name
            self._arrived_at(number)
        span, profile = _SPAN.match(channel), _PROFILE.match(channel)
        named = [variable(one, "") for one in _NAMES]
        if span:
            named.append(self._spans.get(span[1], ""))
            if not named[-1]:
                self._waiting[uuid] = span[1]
        elif profile:
            named.append(profile[1])
        configured = self._configured()
        trunk = next((found for one in named if one and (found := trunks.named(configured, one))), None)
        self._put(uuid, trunk)

    def _arrived_at(self, number: str) -> None:
        """The name of a span is known now, and so are the trunks of the channels that wait for it."""
        trunk = trunks.named(self._configured(), self._spans[number])
        for uuid in [uuid for uuid, waits_for in self._waiting.items() if waits_for == number]:
            self._put(uuid, trunk)

    def _put(self, uuid: str, trunk: str | None) -> None:
        if self._on.get(uuid) is not None:
            return  # the list had it, and its first event came behind
        self._on[uuid] = trunk
        if trunk is not None:
            self._waiting.pop(uuid, None)
            self._in_use[trunk] += 1
            self._judge(trunk)

    def _leave(self, uuid: str) -> None:
        self._waiting.pop(uuid, None)
        trunk = self._on.pop(uuid, None)
        if trunk is not None:
            self._in_use[trunk] -= 1
            self._judge(trunk)

    def _judge(self, trunk: str) -> None:
        configured = self._configured().get(trunk)
        full = configured is not None and self._in_use[trunk] >= configured.channels
        if full and trunk not in self._full_since:
            self._full_since[trunk] = self._clock()
        elif not full and trunk in self._full_since:
            self._full[trunk] += self._clock() - self._full_since.pop(trunk)


def _listed(text: str) -> dict[str, str]:
    """The channels' names by their uuids."""
    try:
        rows = json.loads(text).get("rows", [])
    except (ValueError, AttributeError):
        log.error("the switch's list of channels cannot be read: %r", text[:200])
        return {}
    names: dict[str, str] = {}
    for row in rows:
        try:
            names[safety.uuid(str(row["uuid"]))] = str(row["name"])
        except (KeyError, TypeError, UnsafeText):
            log.warning("a channel without uuid or name: %r", row)
    return names
