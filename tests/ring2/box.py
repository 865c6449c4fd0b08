"""The box under test: a FreeSWITCH with the project's freeswitch-conf/ and dialplan/, where SIP stands in for the PRI.

What is changed for that is here and nowhere else, and each change is listed in docs/freeswitch-conf.md
(a test holds the two together).
"""

from __future__ import annotations

import json
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import gevent
from support.esl import Headers
from support.ports import free_port, free_sip_port, free_udp_block

from ring2.freeswitch import FreeSwitch, fill, replace_once

PROJECT = Path(__file__).parents[2]
HERE = Path(__file__).parent
TRUNK = "PRI1"

SUBSTITUTIONS = {
    # file in the copied freeswitch-conf: (what is there, what ring 2 puts there)
    "autoload_configs/modules.conf.xml": ('<load module="mod_freetdm"/>', '<load module="mod_sofia"/>'),
}
"""Texts that ring 2 replaces in the copied configuration."""

VARS = (
    "exoflow_hosts",
    "exoflow_other_hosts",
    "exoflow_try_later",
    "exoflow_cdr_dir",
    "event_socket_port",
    "rtp_start_port",
    "rtp_end_port",
)
"""Variables of vars.xml that get a value of ring 2's own."""

ADDED = ("autoload_configs/sofia.conf.xml", "secrets.xml")
"""Files that ring 2 adds; secrets.xml is written as at an installation."""


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Box(FreeSwitch):
    """The switch that serves exoflow, and what a test may ask of it."""

    def __init__(self, binary: Path, folder: Path, *, exchange_sip_port: int) -> None:
        super().__init__(binary, folder, event_port=free_port(), password=secrets.token_hex(16))
        self.sip_port = free_sip_port()
        self.exoflow_hosts = Address("127.0.0.1", free_port())
        """where the app under test must listen"""
        self.other_hosts = Address("127.0.0.1", free_port())
        """where a second host would listen, which the guard tries"""
        self.trunk = TRUNK
        self.cdr_folder = folder / "cdr"
        self.prompts = folder / "prompts"
        self.prompts.mkdir(parents=True)
        self.events: list[Headers] = []
        self._configure(exchange_sip_port)

    @property
    def event_socket(self) -> Address:
        return Address("127.0.0.1", self.event_port)

    def listen(self) -> None:
        """Opens the connection that `api` and `events` use."""
        self._link = self.connect("CHANNEL_CREATE", "CHANNEL_ANSWER", "CHANNEL_BRIDGE", "CHANNEL_HANGUP_COMPLETE")
        self._link.listeners.append(self.events.append)

    def api(self, command: str) -> str:
        return self._link.api(command)

    def channels(self) -> int:
        return int(self.api("show channels count").split()[0])

    def settle(self, deadline: float = 5) -> None:
        """Waits until no channel is left of the last test, and forgets its events and its CDRs."""
        with gevent.Timeout(deadline, TimeoutError(f"channels left after {deadline} s")):
            while self.channels():
                gevent.sleep(0.05)
        self.events.clear()
        for file in self.cdr_folder.glob("*.json"):  # they would be calls of the next exoflow that reads them
            file.unlink(missing_ok=True)

    def uuid_of(self, sip_call_id: str, deadline: float = 5) -> str:
        """The channel that a call from the exchange got here."""
        with gevent.Timeout(deadline, TimeoutError(f"no channel for SIP call {sip_call_id} within {deadline} s")):
            while True:
                for event in self.events:
                    if event.get("variable_sip_call_id") == sip_call_id:
                        return event["Unique-ID"]
                gevent.sleep(0.01)

    def cdr(self, uuid: str, deadline: float = 5) -> dict:
        """The JSON CDR of a channel. mod_json_cdr writes in place, so it is read until it parses."""
        path = self.cdr_folder / f"{uuid}.cdr.json"
        with gevent.Timeout(deadline, TimeoutError(f"no {path} within {deadline} s")):
            while True:
                try:
                    return json.loads(path.read_text())
                except (FileNotFoundError, ValueError):
                    gevent.sleep(0.02)

    def cdrs(self) -> list[dict]:
        """Every CDR there is, oldest first."""
        files = sorted(self.cdr_folder.glob("*.cdr.json"), key=lambda path: path.stat().st_mtime)
        return [json.loads(path.read_text()) for path in files]

    def _configure(self, exchange_sip_port: int) -> None:
        shutil.copytree(PROJECT / "freeswitch-conf", self.conf)
        shutil.copytree(PROJECT / "dialplan", self.conf / "dialplan")
        for name, (old, new) in SUBSTITUTIONS.items():
            replace_once(self.conf / name, old, new)
        rtp = free_udp_block(600, 20000, 28000)
        values = (
            self.exoflow_hosts,
            self.other_hosts,
            self.prompts / "try_later.wav",
            self.cdr_folder,
            self.event_port,
            rtp,
            rtp + 598,
        )
        self.set_vars(dict(zip(VARS, values, strict=True)))
        fill(
            HERE / "sofia.conf.xml",
            self.conf / "autoload_configs" / "sofia.conf.xml",
            {"TRUNK": TRUNK, "SIP_PORT": self.sip_port, "EXCHANGE_SIP_PORT": exchange_sip_port},
        )
        # as the installer does it
        secret = self.conf / "secrets.xml"
        shutil.copy(self.conf / "secrets.xml.example", secret)
        replace_once(secret, "CHANGE-ME", self.password)

    def set_vars(self, values: dict[str, object]) -> None:
        """Of vars.xml; a running switch takes them at `reloadxml`."""
        path = self.conf / "vars.xml"
        lines = path.read_text().splitlines(keepends=True)
        for name, value in values.items():
            start = f'  <X-PRE-PROCESS cmd="set" data="{name}='
            matching = [number for number, line in enumerate(lines) if line.startswith(start)]
            if len(matching) != 1:
                raise ValueError(f"{path}: {name} is set {len(matching)} times, not once")
            lines[matching[0]] = f'{start}{value}"/>\n'
        path.write_text("".join(lines))
