"""exoflow beside the switches as an installation has it: `exoflow serve` as a process, a CRM, and calls to its numbers."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import gevent
from gevent import socket
from sqlalchemy import create_engine
from standardwebhooks import Webhook
from support.audio import Sound, sine, write_wav
from support.http_server import RawServer
from support.ports import free_port

from exoflow.calls import rows
from exoflow.calls.model import CallState
from exoflow.sim.crm import DemoCrm, Reply, Request, Script
from exoflow.store import tables
from ring2.agents import Agent, Behaviour
from ring2.box import Box
from ring2.freeswitch import fill
from ring2.network import Exchange, ExchangeCall

HERE = Path(__file__).parent / "app"

MAIN = "8030752400"
DIRECT = "8030752401"
ENGAGED = "8030752402"
MUSIC = "8030752403"
UNANSWERED = "8030752404"
FULL_DISK = "8030752405"
DRIPPING = "8030752406"
REFUSED = "8030752407"
WITH_FALLBACK = "8030752408"
ASKED = "8030752409"
WHISPERED = "8030752412"
QUEUED = "8030752413"

TONES = {
    # file in tones/: Hz and seconds
    "info": (600, 0.6),
    "wrong_key": (500, 0.4),
    "no_input": (700, 0.4),
    "farewell": (750, 0.6),
    "apology": (850, 0.6),
    "speak": (950, 0.3),
    "hold": (650, 1.0),
    "music": (550, 2.0),
}
LOUD = -25
"""dB; our tones are at -6, those of the switch itself at -14 to -24."""
PATHS = ("/lookup", "/agents", "/after")
START_SECONDS = 30.0
"""espeak-ng renders the prompts first."""


class Visit:
    """One call to a number of ours: the caller's phone, and what exoflow and the CRM have of it."""

    def __init__(self, site: Site, phone: ExchangeCall, caller: str) -> None:
        self.site, self.phone, self.caller = site, phone, caller

    @property
    def channel(self) -> str:
        return self.site.box.uuid_of(self.phone.uuid)

    def state(self, seconds: float = 15) -> CallState:
        """The call's record out of the store, once it is closed."""
        channel = self.channel
        with gevent.Timeout(seconds, TimeoutError(f"call on channel {channel} not closed within {seconds:g} s")):
            while True:
                state = self.site.stored(channel)
                if state is not None and state.outcome is not None:
                    return state
                gevent.sleep(0.05)

    def delivery(self, seconds: float = 10) -> dict[str, Any]:
        """The one delivery of the call, received, its signature verified by the published library."""
        call_id = self.state().facts.id
        with gevent.Timeout(seconds, TimeoutError(f"no delivery of call {call_id} within {seconds:g} s")):
            while not (found := [one for one in self.site.crm.deliveries if one.event["data"]["call"] == call_id]):
                gevent.sleep(0.02)
        assert len(found) == 1
        verified = Webhook(self.site.secret).verify(found[0].body, found[0].headers)
        assert isinstance(verified, dict)
        return verified

    def asked(self, path: str) -> list[dict[str, str]]:
        """The CRM's requests of this call by path, as parameters."""
        return [dict(request.params) for request in self.requests(path)]

    def requests(self, path: str) -> list[Request]:
        return [request for request in self.site.crm.to(path) if request.get("CallFrom") == self.caller]

    def cdr(self) -> dict[str, Any]:
        return self.site.box.cdr(self.channel)

    def heard(self) -> Sound:
        return self.phone.heard()

    def since_heard(self, at: float | datetime | None) -> float:
        """Seconds into `heard` of a moment (epoch seconds of either switch)."""
        assert at is not None
        assert self.phone.heard_since is not None
        return (at.timestamp() if isinstance(at, datetime) else at) - self.phone.heard_since


class Site:
    """Everything that is up while exoflow serves."""

    def __init__(self, box: Box, exchange: Exchange, folder: Path) -> None:
        self.box, self.exchange, self.folder = box, exchange, folder
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.crm = DemoCrm(secret=self.secret)
        self.recordings = box.recordings
        self.log = folder / "exoflow.log"
        self.web_port = free_port()
        self._dripping = RawServer(_drip)
        self._answers: dict[tuple[str, str], list[Script]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._people = 0

    # --- life ---

    def start(self) -> None:
        """Starts the CRM and exoflow; returns when exoflow accepts calls."""
        self.crm.start()
        self._dripping.__enter__()
        for path in PATHS:
            self.crm.script(path, self._reply)
        self._write_configuration()
        self.serve()
        self._engine = create_engine(f"sqlite:///{self.folder / 'exoflow.db'}")

    def kill(self) -> None:
        """As `kill -9`; `serve` starts another."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def serve(self) -> None:
        """Returns when exoflow accepts calls."""
        exoflow = Path(sys.executable).with_name("exoflow")
        before = len(self.log_text()) if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(exoflow), "serve", "-v", "-c", str(self.folder / "exoflow.yaml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        with gevent.Timeout(START_SECONDS, TimeoutError(f"exoflow not up in {START_SECONDS:g} s: {self.log_text()}")):
            while "waits for calls" not in self.log_text()[before:]:
                if self._process.poll() is not None:
                    raise ChildProcessError(f"exoflow ended with {self._process.returncode}: {self.log_text()}")
                gevent.sleep(0.05)

    def stop(self) -> None:
        """As a supervisor does; returns when exoflow has gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            finally:
                self._process.kill()
        self._dripping.__exit__()
        self.crm.stop()

    def close(self) -> None:
        """Ends the calls that are left, then exoflow; that one always, or its port were lost to every test behind."""
        try:
            self.exchange.reset()
            self.box.settle(20)
        finally:
            self.stop()

    def log_text(self) -> str:
        """What exoflow said."""
        return self.log.read_text(errors="replace")

    # --- calls ---

    def call(
        self, did: str, answers: Mapping[str, Script | list[Script]] | None = None, *, caller: str | None = None, **more: Any
    ) -> Visit:
        """Dials a number of ours from a phone of its own. `answers`: what the CRM says to this call, by path, in order."""
        self._people += 1
        number = f"09812{self._people:06d}" if caller is None else caller
        sent = "" if more.get("withheld") else number
        for path, scripts in (answers or {}).items():
            self._answers[sent, path] = list(scripts) if isinstance(scripts, list) else [scripts]
        return Visit(self, self.exchange.call(did, number, **more), sent)

    def agents(self, *behaviours: Behaviour) -> list[Agent]:
        """Phones of people, each with a number of its own."""
        found = []
        for behaviour in behaviours:
            self._people += 1
            found.append(self.exchange.agent(f"98700{self._people:05d}").behave(behaviour))
        return found

    def stored(self, channel: str) -> CallState | None:
        """A call as it is in the store now."""
        with self._engine.connect() as connection:
            found = rows.load(connection, tables.calls.c.channel == channel)
        return found[0] if found else None

    def call_of(self, sid: str) -> CallState | None:
        """A call by its CallSid, as it is in the store now."""
        with self._engine.connect() as connection:
            found = rows.load(connection, tables.calls.c.id == sid)
        return found[0] if found else None

    # --- inside ---

    def _reply(self, request: Request) -> Reply:
        scripts = self._answers.get((request.get("CallFrom") or "", request.path))
        if not scripts:
            return Reply(200, b"OK")
        script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        return script if isinstance(script, Reply) else script(request)

    def _write_configuration(self) -> None:
        values = {
            "LISTEN": self.box.exoflow_hosts,
            "EVENT_PORT": self.box.event_port,
            "RECORDINGS": self.recordings,
            "WEB": self.web_port,
            "TRUNK": self.box.trunk,
            "CRM": self.crm.url(""),
            "DRIPPING": self._dripping.url,
            "NOBODY": f"http://127.0.0.1:{free_port()}",
        }
        (self.folder / "accounts").mkdir(parents=True)
        for name in ("exoflow.yaml", "accounts/acme.yaml", "accounts/fulldisk.yaml"):
            fill(HERE / name, self.folder / name, values)
        (self.folder / "esl.password").write_text(self.box.password)
        (self.folder / "acme.secret").write_text(self.secret)
        tones = self.folder / "tones"
        tones.mkdir()
        for name, (hz, seconds) in TONES.items():
            write_wav(tones / f"{name}.wav", Sound([sine(hz, seconds)], 8000))
        self.recordings.mkdir(exist_ok=True)
        # nobody can write below a file, root neither
        (self.recordings / "fulldisk").write_text("not a folder")


def _drip(sock: socket.socket, request: bytes) -> bool:
    """An answer of one byte each 0.2 s, for a minute."""
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 300\r\n\r\n")
    for _ in range(300):
        sock.sendall(b"x")
        gevent.sleep(0.2)
    return False


def wait_for(happened: Callable[[], Any], seconds: float = 5, what: str = "it") -> Any:
    """Until it is true, looking every 20 ms; what it was then."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        gevent.sleep(0.02)
    return found


def codes(state: CallState) -> list[str]:
    """The journey's codes in order."""
    return [entry.code for entry in state.journey]


def entry(state: CallState, code: str) -> Any:
    """The one line of the journey with this code."""
    found = [line for line in state.journey if line.code == code]
    assert len(found) == 1, f"{code} is in the journey {len(found)} times: {codes(state)}"
    return found[0]


def agents_json(*agents: Agent, **more: Any) -> Reply:
    """A connect URL's JSON that names these phones."""
    return Reply.agents(*("+91" + agent.number for agent in agents), **more)


def text(body: str, status: int = 200, **more: Any) -> Reply:
    return Reply(status, body.encode(), **more)


def as_json(value: Any) -> Reply:
    return Reply(200, json.dumps(value).encode(), "application/json")


# what a recording is found to be, whenever its file is there
BESIDE = {f"recording.{what}" for what in ("good", "not_started", "no_file", "wrong_length")}


def steps(state: CallState) -> list[str]:
    """The steps in the order in which they were done; a recording is judged beside the call, whenever its file is there."""
    named = [line.step for line in state.journey if line.step is not None and line.code not in BESIDE]
    return [step for at, step in enumerate(named) if at == 0 or named[at - 1] != step]


def hears(sound: Sound, hz: int) -> bool:
    return max(sound.tone_blocks(hz), default=-120) > LOUD


def when_heard(sound: Sound, hz: int, *, above: float = LOUD) -> float:
    """Seconds until this tone begins."""
    for number, level in enumerate(sound.tone_blocks(hz)):
        if level > above:
            return number * 0.1
    raise AssertionError(f"no {hz} Hz in {sound.seconds:.1f} s")
