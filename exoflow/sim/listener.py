"""One connection of the event socket, from either side: commands in, replies and events out, in one order.

Follows mod_event_socket.c of v1.10.12: parse_command (1712-2614), event_handler (287-413), read_packet (1208-1500).
"""

from __future__ import annotations

import time
import uuid as uuids
from collections import deque
from typing import TYPE_CHECKING, Literal

import gevent
from gevent import socket
from gevent.event import Event as Flag

from exoflow.sim.api import run_api
from exoflow.sim.bus import Event
from exoflow.sim.frames import Command, CommandReader, api_frame, reply_frame, serialize

if TYPE_CHECKING:
    from exoflow.sim.session import Session
    from exoflow.sim.switch import EmbeddedSwitch

MAX_EVENTS = 100_000  # per listener, as MAX_QUEUE_LEN (mod_event_socket.c:35)
FIRST_COMMAND_SECONDS = 25.0  # wall seconds; mod_event_socket.c:2704
# so long a virtual clock waits for an app that lingers behind its call: its last commits come before other calls' next events
LINGER_HELD_SECONDS = 0.05
GOODBYE = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"

# the types that `myevents` switches on (mod_event_socket.c:2096-2120) and that this switch fires
MY_EVENTS = frozenset(
    """CHANNEL_ANSWER CHANNEL_APPLICATION CHANNEL_BRIDGE CHANNEL_CREATE CHANNEL_DATA CHANNEL_DESTROY CHANNEL_EXECUTE
    CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE CHANNEL_ORIGINATE CHANNEL_UUID CHANNEL_OUTGOING CHANNEL_PARK
    CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_STATE CHANNEL_UNBRIDGE CHANNEL_UNPARK DETECTED_SPEECH DTMF NOTALK
    TALK""".split()  # noqa: SIM905
)
KNOWN_EVENTS = MY_EVENTS | set(
    """ALL CUSTOM RECORD_START RECORD_STOP HEARTBEAT BACKGROUND_JOB PLAYBACK_START PLAYBACK_STOP API LOG TRAP SHUTDOWN
    MODULE_LOAD RELOADXML CHANNEL_CALLSTATE CHANNEL_HOLD CHANNEL_UNHOLD MESSAGE CODEC SESSION_HEARTBEAT""".split()  # noqa: SIM905
)


class Listener:
    """`session` is set for the outbound direction (the `socket` application), None for a client of the event socket."""

    def __init__(
        self,
        switch: EmbeddedSwitch,
        sock: socket.socket,
        session: Session | None = None,
        *,
        full: bool = True,
        asynchronous: bool = True,
    ) -> None:
        self.switch, self.sock, self.session = switch, sock, session
        self.full, self.asynchronous = full, asynchronous
        self.authed = session is not None
        self.connected_at: float | None = None  # wall clock, when the reply to `connect` was queued
        self.running = True
        self._last_sent = False  # nothing follows what is queued
        self._exits = False  # a command that ends the connection was read
        self.finished = Flag()
        self.linger: int | None = None  # seconds; -1 for ever
        self.resume = False
        self.events: set[str] = set()
        self.enabled = False
        self.my_events = False
        self.filters: list[tuple[str, str]] = []
        self.only: str | None = None  # the one uuid that the filters let pass, if that is all they do
        self.format: Literal["plain", "json"] = "plain"
        self._out: deque[bytes] = deque()
        self._out_ready = Flag()
        self._lingering: gevent.Greenlet | None = None
        self._settled: gevent.Greenlet | None = None

    # --- events ---

    def wants(self, name: str) -> bool:
        return self.enabled and self.running and (name in self.events or "ALL" in self.events)

    def offer(self, event: Event) -> None:
        if self.only is None and not self._passes_filters(event):  # the bus has looked at `only`
            return
        if self.my_events and self.session is not None and event.get("Unique-ID") != self.session.channel.uuid:
            return
        if len(self._out) >= MAX_EVENTS:
            self.switch.complain("events_lost", f"a client does not read: {MAX_EVENTS} events wait for it", self.session)
            return
        self._send(event.frame(self.format))

    def _passes_filters(self, event: Event) -> bool:
        """`+` filters are OR-ed, any `-` drops, and once a filter exists other events are dropped (318-373)."""
        if not self.filters:
            return True
        send = False
        for name, wanted in self.filters:
            value = event.get(name)
            if value is None:
                continue
            positive = "-" not in wanted[: len(wanted) - len(wanted.lstrip("+- "))]
            if send and positive:
                continue
            if value.lower() == wanted.lstrip("+- ").lower():
                if not positive:
                    return False
                send = True
        return send

    # --- the connection ---

    def run(self) -> None:
        """Reads commands until either side ends it."""
        writer = gevent.spawn(self._write_all)
        try:
            self._read_all()
        finally:
            self.running = False
            if self.switch.killed:
                writer.kill(block=False)
                self._out.clear()
            else:
                self._ended()
            self._last_sent = True
            self._out_ready.set()
            writer.join(timeout=1.0)  # the notice on its way; a peer that does not read loses it
            writer.kill(block=False)
            self.sock.close()
            self.finished.set()
            if self.session is not None:
                self.session.listener_ended(self)

    def _read_all(self) -> None:
        reader = CommandReader()
        deadline = time.monotonic() + FIRST_COMMAND_SECONDS
        if self.session is None:
            self._send(b"Content-Type: auth/request\n\n")
        heard_of = False
        while self.running:
            timeout = None if heard_of else max(0.0, deadline - time.monotonic())
            data = self._receive(timeout)
            if not data:
                return
            for command in reader.feed(data):
                first, heard_of = not heard_of, True
                self._handle(command, first=first)
                if self._exits:
                    return

    def _receive(self, seconds: float | None) -> bytes:
        """What comes next; nothing at EOF, at an error, or when the time is up."""
        self.sock.settimeout(seconds)
        try:
            return bytes(self.sock.recv(65536))
        except OSError:
            return b""

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self._out_ready.set()

    def _write_all(self) -> None:
        while True:
            self._out_ready.wait()
            self._out_ready.clear()
            while self._out:
                data = b"".join(self._out)
                self._out.clear()
                try:
                    self.sock.sendall(data)
                except OSError:
                    return
            if self._last_sent:
                return

    def close(self) -> None:
        """Ends the connection from the switch's side."""
        self.running = False
        try:
            self.sock.shutdown(socket.SHUT_RD)
        except OSError:
            return  # already gone

    def _ended(self) -> None:
        self.switch.bus.listeners[:] = [other for other in self.switch.bus.listeners if other is not self]
        self.switch.clock.release(self)
        for later in (self._lingering, self._settled):
            if later is not None:
                later.kill(block=False)
        body = GOODBYE
        head = "Content-Type: text/disconnect-notice\n"
        if self.session is not None:
            head += f"Controlled-Session-UUID: {self.session.channel.uuid}\nContent-Disposition: disconnect\n"
        self._send(f"{head}Content-Length: {len(body)}\n\n{body}".encode())

    def channel_down(self) -> None:
        """The controlled call has ended: with linger a first notice and then some seconds more, without it the end at once."""
        if self.linger is None:
            self.close()
            return
        assert self.session is not None
        self.switch.clock.hold(self)
        self._settled = gevent.spawn_later(LINGER_HELD_SECONDS, self.switch.clock.release, self)
        channel = self.session.channel
        self._send(
            (
                f"Content-Type: text/disconnect-notice\nControlled-Session-UUID: {channel.uuid}\nContent-Disposition: linger\n"
                f"Channel-Name: {channel.name}\nLinger-Time: {self.linger}\nContent-Length: 0\n\n"
            ).encode()
        )
        if self.linger >= 0:
            self._lingering = gevent.spawn_later(self.linger, self.close)

    # --- commands ---

    def _handle(self, command: Command, *, first: bool) -> None:
        if self.session is not None and first and not command.line.lower().startswith("connect"):
            # the first packet is read for its effect, never answered (2704-2717)
            self.switch.complain("no_connect", f"first command is {command.line[:40]!r}, not `connect`", self.session)
            self._command(command)
            return
        reply = self._command(command)
        if reply is not None:
            self._send(reply_frame(reply or "-ERR command not found"))

    def _command(self, command: Command) -> str | None:
        """The reply's text; empty when the command is unknown; None when the answer was sent already."""
        text, line = command.text, command.line
        for word in ("unload", "reload"):
            if word in text.lower() and "mod_event_socket" in text.lower():
                self.switch.complain(
                    "word_pair", f"{word} + mod_event_socket in {line[:80]!r} replaces the command", self.session
                )
                line = f"api bgapi {word} mod_event_socket"
        lower = line.lower()
        if lower.startswith(("exit", "...")):
            self._exits = True
            return "+OK bye"
        if not self.authed:
            return self._auth(line)
        if lower.startswith("filter "):
            return self._filter(line[7:].strip())
        if self.session is not None:
            answer = self._of_session(self.session, lower, line)
            if answer != "":
                return answer
        if lower.startswith("sendmsg"):
            return self._sendmsg(command, line[7:].strip())
        if self.session is not None and not self.full:
            return ""
        if lower.startswith("api "):
            self._send(api_frame(self._api(line[4:])))
            return None
        if lower.startswith("bgapi "):
            return self._background(command, line[6:])
        if lower.startswith(("linger", "nolinger")):
            return self._linger(lower)
        if lower.startswith("event"):
            return self._event(line[5:])
        if lower.startswith("nixevent"):
            return self._nixevent(line[8:])
        if lower.startswith("noevents"):
            was, self.enabled = self.enabled, False
            self.events.clear()
            return "+OK no longer listening for events" if was else "-ERR not listening for events"
        return ""

    def _auth(self, line: str) -> str | None:
        if line.lower().startswith("auth "):
            if line[5:] == self.switch.password:
                self.authed = True
                return "+OK accepted"
            self._exits = True
            return "-ERR invalid"
        return ""

    def _of_session(self, session: Session, lower: str, line: str) -> str | None:
        """Commands that only the `socket` application has."""
        if lower.startswith("resume"):
            self.resume = True
            session.channel.set("socket_resume", "true")
            self.switch.complain("resume", "socket_resume drops a talking agent when the app ends", session)
            return "+OK"
        if lower.startswith("connect"):
            self.connected_at = time.monotonic()
            self._send(self._connect_reply(session))
            session.channel.wake.set()
            return None
        if lower.startswith("getvar"):
            self.switch.complain("getvar", "its reply is cut at 511 bytes and not encoded; use api uuid_getvar", session)
            name = line[7:].strip()
            return session.channel.variables.get(name, "") if name else ""
        if lower.startswith("myevents"):
            if self.my_events:
                return "-ERR aready enabled."
            self.my_events = self.enabled = True
            self.events |= MY_EVENTS
            if "json" in lower:
                self.format = "json"
            return "+OK Events Enabled"
        if lower.startswith("divert_events"):
            return "+OK events diverted" if lower.endswith(" on") else "+OK events not diverted"
        return ""

    def _connect_reply(self, session: Session) -> bytes:
        channel = session.channel
        headers = self.switch.bus.base("CHANNEL_DATA")
        headers.extend(channel.profile("Channel"))
        headers.extend(channel.headers())
        headers.append(("Content-Type", "command/reply"))
        headers.append(("Reply-Text", "+OK\n"))
        headers.append(("Socket-Mode", "async" if self.asynchronous else "static"))
        headers.append(("Control", "full" if self.full else "single-channel"))
        # Content-Type is written with its slash: url-encoding leaves it
        return serialize(headers)

    def _filter(self, text: str) -> str:
        reply = self._change_filters(text)
        name, value = self.filters[0] if len(self.filters) == 1 else ("", "")
        self.only = value if name.lower() == "unique-id" and value[:1] not in ("+", "-", " ") else None
        return reply

    def _change_filters(self, text: str) -> str:
        words = text.split(" ", 1)
        name, value = words[0], words[1] if len(words) > 1 else ""
        if name.lower() == "delete" and value:
            name, _, value = value.partition(" ")
            self.filters = (
                []
                if name.lower() == "all"
                else [f for f in self.filters if f[0].lower() != name.lower() or (value and f[1] != value)]
            )
            return f"+OK filter deleted. [{name}][{value}]"
        if not value:
            return "-ERR invalid syntax"
        if name.lower() == "add":
            name, _, value = value.partition(" ")
        self.filters.append((name, value))
        return f"+OK filter added. [{name}]=[{value}]"

    def _sendmsg(self, command: Command, uuid: str) -> str:
        target = uuid or command.get("session-id") or ""
        own = self.session
        if own is not None and target in ("", own.channel.uuid):
            if self.connected_at is None:
                return "+OK"  # queued, and never run before `connect`
            own.push(command)
            return "+OK"
        channel = self.switch.channels.get(target)
        if channel is None:
            return f"-ERR invalid session id [{target}]"
        if own is not None:
            self.switch.complain("foreign_call", f"sendmsg from one call's socket to another call {target}", own)
        if channel.session is not None:
            channel.session.push(command)
        elif command.get("call-command") == "hangup":
            channel.hangup(command.get("hangup-cause") or "NORMAL_CLEARING")
        return "+OK"

    def _api(self, text: str) -> str:
        name, _, arguments = text.partition(" ")
        return run_api(self.switch, name, arguments)

    def _background(self, command: Command, text: str) -> str | None:
        job = command.get("job-uuid") or str(uuids.uuid4())
        self._send(f"Content-Type: command/reply\nReply-Text: +OK Job-UUID: {job}\nJob-UUID: {job}\n\n".encode())
        if text.startswith("originate "):  # which takes its time, and has a thread of its own
            self.switch.spawn(self._job, job, text)
        else:
            self._job(job, text)
        return None

    def _job(self, job: str, text: str) -> None:
        name, _, arguments = text.partition(" ")
        body = self._api(text).encode()
        tail = [("Job-UUID", job), ("Job-Command", name), *([("Job-Command-Arg", arguments)] if arguments else [])]
        self.switch.bus.fire("BACKGROUND_JOB", tail=tail, body=body)

    def _linger(self, lower: str) -> str:
        if self.session is None:
            return "-ERR not controlling a session"
        if lower.startswith("nolinger"):
            self.linger = None
            return "+OK will not linger"
        number = lower[6:].strip()
        if not number:
            self.linger = -1
            self.switch.complain("linger", "linger without a number holds the session for ever", self.session)
            return "+OK will linger"
        self.linger = int(number) if number.isdigit() else 0
        return f"+OK will linger {self.linger} seconds"

    def _event(self, text: str) -> str:
        words = text.split(" ")[1:]  # FreeSWITCH looks behind the first space
        if words and words[0].lower() in ("plain", "json"):
            self.format = "json" if words.pop(0).lower() == "json" else "plain"
        known = [word.upper() for word in words if word.upper() in KNOWN_EVENTS]
        if not known:
            return "-ERR no keywords supplied"
        self.events.update(known)
        self.enabled = True
        return f"+OK event listener enabled {self.format}"

    def _nixevent(self, text: str) -> str:
        known = [word.upper() for word in text.split(" ")[1:] if word.upper() in KNOWN_EVENTS]
        if not known:
            return "-ERR no keywords supplied"
        if "ALL" in known:
            self.events.clear()
        elif "ALL" in self.events:
            self.events = set(KNOWN_EVENTS) - {"ALL"}
        self.events.difference_update(known)
        self.enabled = True
        return "+OK events nixed"
