"""A whole exoflow for a test: the embedded switch, the real `Service`, a CRM, and a configuration written as YAML.

Steps are given as a mapping whose first step is the flow's start. An URL that begins with `crm:` leads to the test's own CRM.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gevent
from support import bodies

from exoflow.calls.lookup import Delivery, deliveries_of
from exoflow.calls.model import CallState, Entry, Leg
from exoflow.config.load import load
from exoflow.config.model import Config
from exoflow.prompts import PromptBook
from exoflow.serve import Service
from exoflow.sim import AgentScript, EmbeddedSwitch, Phone
from exoflow.sim.agents import Scripts
from exoflow.sim.crm import DemoCrm
from exoflow.store import open_store

WAIT = 10.0  # wall seconds any one thing may take in these tests
SECRET = "whsec_" + base64.b64encode(b"exoflow" * 4).decode()
OURS = "+918030752400"
CALLER = "+919811100001"
ASHA, RAVI, MEENA = "+919876543210", "+919876543211", "+919876543212"
BYE: dict[str, Any] = {"hangup": {}}

Steps = Mapping[str, Mapping[str, Any]]


class Late(Exception):
    """What was waited for did not come in time."""


def eventually(true: Callable[[], Any], seconds: float = WAIT) -> None:
    """Returns as soon as it is true; for what no event tells of."""
    with gevent.Timeout(seconds, Late("it did not come true")):
        while not true():
            gevent.sleep(0.002)


class _Tap:
    """Hears every application that the switch runs, as (channel, application, argument)."""

    only = None

    def __init__(self, pulse: Callable[[], None]) -> None:
        self._pulse = pulse
        self.executed: list[tuple[str, str, str]] = []

    def wants(self, name: str) -> bool:
        return name == "CHANNEL_EXECUTE"

    def offer(self, event: Any) -> None:
        names = ("Unique-ID", "Application", "Application-Data")
        uuid, application, argument = (event.get(name) or "" for name in names)
        self.executed.append((uuid, application, argument))
        self._pulse()

    def close(self) -> None:
        """The switch stops."""


class Hall:
    """Everything of one test. `start` it, `call`, and read `ended(phone)`."""

    def __init__(self, folder: Path, *, crm: DemoCrm | None = None) -> None:
        self.folder = folder
        self.crm = crm or DemoCrm(agents=[ASHA, RAVI], secret=SECRET)
        self.crm.start()
        self.states: dict[str, CallState] = {}
        self.entries: list[Entry] = []  # of all calls, as they are made
        self.tap = _Tap(self._pulse)
        self.switch: EmbeddedSwitch
        self.service: Service
        self._running: list[Callable[[], None]] = [self.crm.stop]

    # --- what runs ---

    def start(
        self,
        steps: Steps,
        *,
        agents: Scripts | None = None,
        speed: float | None = None,
        trunks: Mapping[str, Mapping[str, Any]] | None = None,
        account: Mapping[str, Any] | None = None,
        switch: Mapping[str, Any] | None = None,
        accounts: Mapping[str, Mapping[str, Any]] | None = None,
        lines: bool = True,
        channels: Mapping[str, int] | None = None,
        most_calls: int | None = None,
        main: Mapping[str, Any] | None = None,
    ) -> Hall:
        """`lines=False`: the event socket is not there. `channels`: spans of the switch, if not those of the configuration.

        `speed`: the clock is virtual unless set, so that a busy machine's milliseconds are nobody's seconds. What a test does
        comes in time if it waits by `until`, `noted` or the phone's `wait_until`, or acts by `phone.after`.
        """
        trunks = trunks or {"PRI1": {"span": "PRI1", "std_code": "80", "outbound": {"cli": "8030752400"}}}
        spans = channels or {str(trunk.get("span") or trunk.get("gateway")): 30 for trunk in trunks.values()}
        self.switch = EmbeddedSwitch(
            ("127.0.0.1", 1),
            trunk=spans,
            recordings=self.folder / "recordings",
            cdr=self.folder / "cdr",
            speed=speed,
            agents=agents,
            default_agent=AgentScript.answers(2.0, 5.0),
            most_calls=most_calls,
        )
        self.switch.start()
        self.switch.clock.watch(lambda: self.service.in_flight)
        self.switch.bus.listeners.append(self.tap)  # type: ignore[arg-type]
        self._running.append(self.switch.stop)
        event_socket = self.switch.event_socket_address if lines else ("127.0.0.1", 1)
        self.write(steps, trunks, event_socket, switch or {}, account or {}, accounts, main)
        self.serve()
        return self

    def write(
        self,
        steps: Steps,
        trunks: Mapping[str, Any],
        event_socket: tuple[str, int],
        switch: Mapping[str, Any],
        account: Mapping[str, Any],
        accounts: Mapping[str, Mapping[str, Any]] | None = None,
        main: Mapping[str, Any] | None = None,
    ) -> None:
        """The configuration's files. JSON is YAML. `main` are further sections of the main file."""
        sections = {
            "switch": {
                "listen": "127.0.0.1:0",
                "event_socket": {"host": event_socket[0], "port": event_socket[1], "password": "exoflow"},
                "recordings": str(self.folder / "recordings"),
                "cdr": str(self.folder / "cdr"),
                **switch,
            },
            "store": "sqlite:///exoflow.db",
            "prompts": {"engine": "text", "folder": str(self.folder / "prompts")},
            "trunks": trunks,
            **(main or {}),
        }
        (self.folder / "accounts").mkdir(exist_ok=True)
        (self.folder / "exoflow.yaml").write_text(json.dumps(sections))
        for name, what in (accounts or {"acme": {}}).items():
            whole = self.account(steps) | account | what
            (self.folder / "accounts" / f"{name}.yaml").write_text(json.dumps(self._with_urls(whole)))

    def account(self, steps: Steps) -> dict[str, Any]:
        return {
            "name": "Acme",
            "numbers": [{"number": OURS, "trunk": "PRI1", "flow": "main"}],
            "agents": {
                "asha": {"number": ASHA, "name": "Asha"},
                "ravi": {"number": RAVI, "name": "Ravi"},
                "meena": {"number": MEENA, "name": "Meena"},
            },
            "groups": {"support": {"agents": ["asha", "ravi"]}, "backup": {"agents": ["meena"]}},
            "crm": {"allow_private": ["127.0.0.1/32"]},
            "deliveries": {"url": "crm:/deliveries", "secret": SECRET},
            "flows": {"main": {"start": next(iter(steps)), "steps": steps}},
        }

    def _with_urls(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("crm:"):
            return self.crm.url(value.removeprefix("crm:"))
        if isinstance(value, Mapping):
            return {key: self._with_urls(item) for key, item in value.items()}
        return [self._with_urls(item) for item in value] if isinstance(value, list) else value

    @property
    def config(self) -> Config:
        found = load(self.folder / "exoflow.yaml", {})
        assert found.config is not None, [str(finding) for finding in found.errors]
        return found.config

    def serve(self) -> None:
        """Starts exoflow, also once more after `stop_serving`."""
        if not (self.folder / "exoflow.db").exists():
            shutil.copy(new_store(), self.folder / "exoflow.db")  # the migrations have tests of their own
        self.service = Service(self.config)
        self.service.book.listeners.append(self._noted)
        self.service.start()
        self.switch.connect_to(self.service.address)

    def stop(self) -> None:
        if hasattr(self, "service"):
            self.service.stop()
        for stop in reversed(self._running):
            stop()
        if (self.folder / "exoflow.db").exists():
            bodies.check_store(self.folder / "exoflow.db")

    # --- calls ---

    def _noted(self, state: CallState, entry: Entry) -> None:
        self.states[state.facts.channel] = state
        self.entries.append(entry)
        self._pulse()

    def _pulse(self) -> None:
        if hasattr(self, "switch"):
            self.switch.pulse()

    def call(self, **options: Any) -> Phone:
        """A caller rings our number; options are those of EmbeddedSwitch.call."""
        return self.switch.call(options.pop("to", OURS), options.pop("from_number", CALLER), **options)

    def lose_socket(self, phone: Phone) -> None:
        """The call's socket breaks; the dialplan gives the call back at once."""
        self.service._held[phone.uuid].sock.shutdown(socket.SHUT_RDWR)

    def ended(self, phone: Phone) -> CallState:
        """The call's record, closed and on disk."""
        assert phone.wait(WAIT), f"the call does not end; {self.codes(self.states.get(phone.uuid))}, heard {phone.texts}"
        eventually(lambda: phone.uuid in self.states and self.states[phone.uuid].facts.id not in self.service.book.live)
        found = self.service.book.get(self.states[phone.uuid].facts.id)
        assert found is not None
        return found

    def run(self, **options: Any) -> tuple[Phone, CallState]:
        """One call from its beginning to its closed record."""
        phone = self.call(**options)
        return phone, self.ended(phone)

    def until(self, happened: Callable[[], Any], seconds: float = WAIT) -> None:
        """Until an application of the switch, a line of a journey or what a phone noticed made it true.

        Who waited acts before a virtual clock jumps; `seconds` are of the wall.
        """
        with gevent.Timeout(seconds, Late("it did not happen")):
            while not happened():
                self.switch.noticed.wait()

    def noted(self, code: str, seconds: float = WAIT) -> Entry:
        """Waits for a line of any journey."""
        self.until(lambda: any(entry.code == code for entry in self.entries), seconds)
        return next(entry for entry in self.entries if entry.code == code)

    def deliveries(self, state: CallState) -> list[Delivery]:
        return self.service.store.read(lambda connection: deliveries_of(connection, state.facts.id))

    def executed(self, application: str) -> list[str]:
        """The arguments with which this application ran, on any channel."""
        return [argument for _, name, argument in self.tap.executed if name == application]

    @staticmethod
    def codes(state: CallState | None) -> list[str]:
        return [entry.code for entry in state.journey] if state is not None else []


def entry(state: CallState, code: str) -> Entry:
    """The one line of a journey with this code."""
    found = [one for one in state.journey if one.code == code]
    assert len(found) == 1, f"{code}: {len(found)} times in {[one.code for one in state.journey]}"
    return found[0]


def codes(state: CallState) -> list[str]:
    return [one.code for one in state.journey]


# what a recording is found to be, whenever its file is there
BESIDE = {f"recording.{what}" for what in ("good", "not_started", "no_file", "wrong_length")}


def visited(state: CallState) -> list[str]:
    """The steps in the order in which they were done; a recording is judged beside the call, whenever its file is there."""
    steps = [one.step for one in state.journey if one.step is not None and one.code not in BESIDE]
    return [step for at, step in enumerate(steps) if at == 0 or steps[at - 1] != step]


def outcomes(legs: Sequence[Leg]) -> list[str]:
    return [leg.outcome for leg in legs]


def prompt_files(hall: Hall) -> dict[str, Path]:
    """The WAVs of the configuration's prompts by their texts."""
    return {str(wanted.prompt.say): wanted.path for wanted in PromptBook(hall.config.prompts).wanted(hall.config)}


def say(text: str, then: str = "bye") -> dict[str, Any]:
    """A greeting as a step."""
    return {"greeting": {"say": text}, "next": then}


def menu(keys: Mapping[str, str], otherwise: str = "bye", **more: Any) -> dict[str, Any]:
    """A menu as a step."""
    return {"menu": {"say": "Which one?", "attempts": 2, "timeout": 2, **more}, "keys": keys, "otherwise": otherwise}


@cache
def new_store() -> Path:
    """An empty store with its tables, made once."""
    path = Path(mkdtemp(prefix="exoflow-ring1-")) / "empty.db"
    open_store(f"sqlite:///{path}").close()
    return path
