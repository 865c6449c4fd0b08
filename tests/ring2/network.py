"""The public network: callers who dial into the box, and the agents whom it dials."""

from __future__ import annotations

import secrets
import time
import uuid
from pathlib import Path

import gevent
from gevent.event import Event
from support.audio import Sound, read_wav
from support.esl import AppCall, AppServer, EventSocket, Gone, Headers, when
from support.ports import free_port, free_sip_port, free_udp_block

from ring2.agents import Agent, Attempt, tone, unknown_number
from ring2.freeswitch import FreeSwitch, fill

CONF = Path(__file__).parent / "exchange"
CALLER = "09812345678"


class ExchangeCall:
    """A caller's phone. Times are epoch seconds of the exchange; `after` is counted from the answer."""

    def __init__(self, link: EventSocket, heard_wav: Path) -> None:
        self.uuid = str(uuid.uuid4())
        """the exchange's channel, and at the same time the SIP Call-ID, which both sides have as `sip_call_id`"""
        self.heard_wav = heard_wav
        self.ringing_at: float | None = None
        self.early_at: float | None = None
        self.answered_at: float | None = None
        self.ended_at: float | None = None
        self.cause = ""
        self.q850: int | None = None
        self.headers: Headers = {}
        """the caller's channel at its end"""
        self.heard_since: float | None = None
        """when `heard_wav` begins"""
        self._link = link
        self._ringing, self._answered, self._recording, self._ended = Event(), Event(), Event(), Event()

    def __repr__(self) -> str:
        return f"<ExchangeCall {self.uuid} cause={self.cause or 'live'}>"

    def wait_ringing(self, seconds: float = 10) -> ExchangeCall:
        return self._wait(self._ringing, "ringing", seconds)

    def wait_answered(self, seconds: float = 10) -> ExchangeCall:
        return self._wait(self._answered, "an answer", seconds)

    def wait_ended(self, seconds: float = 30) -> ExchangeCall:
        return self._wait(self._ended, "the end", seconds)

    def press(self, keys: str, *, after: float | None = None, milliseconds: int = 100) -> ExchangeCall:
        """Presses keys (RFC 2833), now or `after` seconds after the answer."""
        self._pause_until(after)
        self._api(f"uuid_send_dtmf {self.uuid} {keys}@{milliseconds}")
        return self

    def speak(self, hz: int = 440, *, after: float | None = None) -> ExchangeCall:
        """Sends a tone from now, or from `after` seconds after the answer, until the end."""
        self._pause_until(after)
        self._api(f"uuid_broadcast {self.uuid} playback::{tone(hz)} aleg")
        return self

    def hangup(self, *, after: float | None = None, cause: str = "NORMAL_CLEARING") -> ExchangeCall:
        """Hangs up, now or `after` seconds after the answer; before the answer too."""
        self._pause_until(after)
        self._link.api(f"uuid_kill {self.uuid} {cause}")
        return self.wait_ended(5)

    def heard(self) -> Sound:
        """What the caller heard from the first audio on; complete once the call has ended."""
        return read_wav(self.heard_wav)

    def on_event(self, event: Headers) -> None:
        name, at = event["Event-Name"], when(event)
        if name == "CHANNEL_PROGRESS":
            self.ringing_at = at
            self._ringing.set()
        elif name == "CHANNEL_PROGRESS_MEDIA":
            self.early_at = at
            self._record()
        elif name == "CHANNEL_ANSWER":
            self.answered_at = at
            self._record()
            self._answered.set()
        elif name == "RECORD_START":
            self.heard_since = at
            self._recording.set()
        elif name == "CHANNEL_HANGUP_COMPLETE":
            self._on_end(event, at)

    def _on_end(self, event: Headers, at: float) -> None:
        self.ended_at, self.headers = at, event
        self.cause = event.get("Hangup-Cause", "")
        self.q850 = int(event["variable_hangup_cause_q850"]) if "variable_hangup_cause_q850" in event else None
        for waited in (self._ringing, self._answered, self._recording, self._ended):
            waited.set()

    def _record(self) -> None:
        if self.heard_since is None:
            self.heard_since = 0.0
            # not waited for: this runs in the connection's reader
            self._link.send(f"api uuid_record {self.uuid} start {self.heard_wav}")

    def _wait(self, happened: Event, what: str, seconds: float) -> ExchangeCall:
        if not happened.wait(seconds):
            raise TimeoutError(f"{self}: no {what} within {seconds:g} s")
        return self

    def _pause_until(self, after: float | None) -> None:
        if after is None:
            return
        self.wait_answered(30)
        if self.answered_at is None:
            raise AssertionError(f"{self}: ended without an answer")
        gevent.sleep(max(0.0, self.answered_at + after - time.time()))

    def _api(self, command: str) -> None:
        reply = self._link.api(command)
        if not reply.startswith("+OK"):
            raise AssertionError(f"{self}: {command} -> {reply}")


class Exchange(FreeSwitch):
    """The second FreeSWITCH. `call` is a caller who dials a number of ours, `agent` a phone that the box may dial."""

    def __init__(self, binary: Path, folder: Path) -> None:
        super().__init__(binary, folder, event_port=free_port(), password=secrets.token_hex(16))
        self.sip_port = free_sip_port()
        self.box_sip_port = 0
        self.calls: list[ExchangeCall] = []
        self.attempts: list[Attempt] = []
        """who was rung, in order"""
        self._agents: dict[str, Agent] = {}
        self._phones = AppServer(self._ring)
        self._configure()

    def listen(self, box_sip_port: int) -> None:
        """Opens the connection that the calls are driven through."""
        self.box_sip_port = box_sip_port
        self._link = self.connect(
            "CHANNEL_PROGRESS", "CHANNEL_PROGRESS_MEDIA", "CHANNEL_ANSWER", "CHANNEL_HANGUP_COMPLETE", "RECORD_START"
        )
        self._link.listeners.append(self._on_event)

    def call(self, did: str, caller: str = CALLER, *, withheld: bool = False, diverted_from: str | None = None) -> ExchangeCall:
        """Dials `did` (digits as the exchange sends them) and returns at once; `withheld` as by CLIR."""
        call = ExchangeCall(self._link, self.recordings / f"caller-{len(self.calls)}.wav")
        self.calls.append(call)
        variables = {
            "origination_uuid": call.uuid,
            "sip_invite_call_id": call.uuid,
            "origination_caller_id_number": caller,
            "origination_caller_id_name": caller,
            "originate_timeout": 300,
            "RECORD_READ_ONLY": "true",
        }
        if withheld:
            variables["origination_privacy"] = "hide_name:hide_number"
        if diverted_from is not None:
            variables["sip_h_Diversion"] = f"<sip:{diverted_from}@127.0.0.1>;reason=unconditional"
        options = ",".join(f"{name}={value}" for name, value in variables.items())
        self._link.command(f"bgapi originate {{{options}}}sofia/public/{did}@127.0.0.1:{self.box_sip_port} &park()")
        return call

    def agent(self, number: str) -> Agent:
        """The phone with this number (its last 10 digits); one that nobody defined is an unallocated number."""
        return self._agents.setdefault(number[-10:], Agent(number[-10:], [unknown_number()]))

    def reset(self) -> None:
        """Ends what a test left behind and forgets its agents."""
        self._link.api("hupall NORMAL_CLEARING")
        try:
            for call in self.calls:
                if call.ended_at is None:
                    call.wait_ended(5)
        finally:
            # what does not end is the failure of this test, not of all that follow
            self.calls, self.attempts, self._agents = [], [], {}

    def stop(self) -> None:
        super().stop()
        self._phones.stop()

    def _on_event(self, event: Headers) -> None:
        for call in self.calls:
            if call.uuid == event.get("Unique-ID"):
                call.on_event(event)

    def _ring(self, call: AppCall) -> None:
        try:
            call.connect()
        except Gone:
            # cancelled before the exchange had looked at it
            return
        attempt = Attempt(call, self.recordings)
        self.attempts.append(attempt)
        try:
            self.agent(attempt.number).play(attempt)
        finally:
            # with `linger` the channel would otherwise be held for some seconds more
            call.close()

    def _configure(self) -> None:
        rtp = free_udp_block(600, 28000, 32000)
        values = {
            "AGENTS_PORT": self._phones.port,
            "EVENT_PORT": self.event_port,
            "PASSWORD": self.password,
            "SIP_PORT": self.sip_port,
            "RTP_START": rtp,
            "RTP_END": rtp + 598,
        }
        (self.conf / "autoload_configs").mkdir(parents=True)
        for name in ("freeswitch.xml", "autoload_configs/exchange.xml"):
            fill(CONF / name, self.conf / name, values)
