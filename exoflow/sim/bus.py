"""Events: built once, only when somebody listens, and handed to each listener whose subscription and filters let them pass."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exoflow.sim.clock import Clock
from exoflow.sim.frames import json_frame, plain_frame

if TYPE_CHECKING:
    from exoflow.sim.channel import Channel
    from exoflow.sim.listener import Listener

HOSTNAME = "embedded"
# where FreeSWITCH 1.10.12 fires each event: some clients look at it
_ORIGIN = {
    "CHANNEL_EXECUTE": ("switch_core_session.c", "switch_core_session_exec", 2931),
    "CHANNEL_EXECUTE_COMPLETE": ("switch_core_session.c", "switch_core_session_exec", 2967),
    "CHANNEL_CREATE": ("switch_core_state_machine.c", "switch_core_session_run", 626),
    "CHANNEL_HANGUP": ("switch_channel.c", "switch_channel_perform_hangup", 3445),
    "CHANNEL_HANGUP_COMPLETE": ("switch_core_state_machine.c", "switch_core_session_reporting_state", 943),
    "CHANNEL_BRIDGE": ("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge", 1689),
    "CHANNEL_UNBRIDGE": ("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge", 1804),
    "CHANNEL_DATA": ("mod_event_socket.c", "parse_command", 2021),
    "RECORD_START": ("switch_ivr_async.c", "record_callback", 1481),
    "RECORD_STOP": ("switch_ivr_async.c", "send_record_stop_event", 1182),
    "HEARTBEAT": ("switch_core.c", "send_heartbeat", 95),
}
_ELSEWHERE = ("switch_channel.c", "switch_channel_perform_mark", 3300)

Pairs = Sequence[tuple[str, str]]


class Event:
    """A built event: headers in order, and its frames, each made once."""

    def __init__(self, name: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.name, self.headers, self.body = name, headers, body
        self._frames: dict[str, bytes] = {}
        self._by_name: dict[str, str] | None = None

    def get(self, name: str) -> str | None:
        if self._by_name is None:
            self._by_name = {}
            for key, value in self.headers:
                self._by_name.setdefault(key.lower(), value)
        return self._by_name.get(name.lower())

    def frame(self, form: str) -> bytes:
        if form not in self._frames:
            make = json_frame if form == "json" else plain_frame
            self._frames[form] = make(self.headers, self.body)
        return self._frames[form]


class Bus:
    """All listeners of the switch. `fire` never waits."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.core_uuid = str(uuids.uuid4())
        self.listeners: list[Listener] = []
        self.sequence = 0

    def fire(self, name: str, channel: Channel | None = None, *, head: Pairs = (), tail: Pairs = (), body: bytes = b"") -> None:
        """`head` stands before the channel's headers, `tail` behind its variables."""
        self.sequence += 1
        event: Event | None = None
        uuid = None if channel is None else channel.uuid
        for listener in list(self.listeners):
            # first the cheap question: a thousand calls' sockets each want their own call only
            if (listener.only is not None and listener.only != uuid) or not listener.wants(name):
                continue
            if event is None:
                event = self.build(name, channel, head=head, tail=tail, body=body)
            listener.offer(event)

    def build(self, name: str, channel: Channel | None, *, head: Pairs = (), tail: Pairs = (), body: bytes = b"") -> Event:
        headers = self.base(name)
        headers.extend(head)
        if channel is not None:
            headers.extend(channel.headers())
        headers.extend(tail)
        return Event(name, headers, body)

    def base(self, name: str) -> list[tuple[str, str]]:
        """The headers that every event begins with (switch_event_prep_for_delivery)."""
        micros = self.clock.micros()
        now = datetime.fromtimestamp(micros / 1e6, UTC)
        file, function, line = _ORIGIN.get(name, _ELSEWHERE)
        return [
            ("Event-Name", name),
            ("Core-UUID", self.core_uuid),
            ("FreeSWITCH-Hostname", HOSTNAME),
            ("FreeSWITCH-Switchname", HOSTNAME),
            ("FreeSWITCH-IPv4", "127.0.0.1"),
            ("FreeSWITCH-IPv6", "::1"),
            ("Event-Date-Local", f"{now:%Y-%m-%d %H:%M:%S}"),
            ("Event-Date-GMT", f"{now:%a, %d %b %Y %H:%M:%S} GMT"),
            ("Event-Date-Timestamp", str(micros)),
            ("Event-Calling-File", file),
            ("Event-Calling-Function", function),
            ("Event-Calling-Line-Number", str(line)),
            ("Event-Sequence", str(self.sequence)),
        ]
