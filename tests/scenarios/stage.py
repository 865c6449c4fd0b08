"""Everything a set of scenarios needs in any ring: a CRM, accounts, and the real `Service`.

Each scenario is an account of its own, with a number, people and CRM paths of its own, so that all can be played at once.
"""

from __future__ import annotations

import base64
import json
import re
import wave
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import gevent
from gevent import socket
from gevent.local import local
from gevent.pool import Pool
from support.mailbox import MailBox
from support.ports import free_port

from exoflow.agents.groups import Candidate
from exoflow.agents.queue import Place
from exoflow.agents.staff import Picked
from exoflow.calls.lookup import deliveries_of
from exoflow.calls.model import CallState, Entry
from exoflow.config import yaml12
from exoflow.config.load import load
from exoflow.esl.session import CallSession
from exoflow.flow.here import Parts
from exoflow.linesound import RATE, wav
from exoflow.serve import Service
from exoflow.sim.crm import DemoCrm, Reply
from scenarios.caller import Caller, Line
from scenarios.script import Scenario
from scenarios.told import Told, tell

SECRET = "whsec_" + base64.b64encode(b"exoflow" * 4).decode()
PEOPLE = ("asha", "ravi", "meena")
TRUNK = "PRI1"
OWN_CRM = re.compile(r"crm:(?=/)|https://[a-z.]+\.example(?=/)")
ACCEPTED_SECONDS = 5.0  # for the deliveries, after the record is closed


@dataclass
class Cast:
    """A scenario with what is its own."""

    at: int
    scenario: Scenario
    channel: str = ""
    state: CallState | None = None
    caller: Caller | None = None
    mail: MailBox | None = None
    """a mail server that misbehaves for this scenario alone"""
    paths: list[str] = field(default_factory=list)
    """of the scenario's CRM, as its account names them"""

    @property
    def did(self) -> str:
        """Our number's ten digits."""
        return f"80307{self.at:05}"

    @property
    def phone(self) -> str:
        """The caller's ten digits."""
        return f"98110{self.at:05}"

    @property
    def prefix(self) -> str:
        return f"/s{self.at}"

    def number(self, name: str) -> str:
        """An agent's E.164; what is no name of PEOPLE is a number already."""
        return f"+9198{PEOPLE.index(name) + 1:03}{self.at:05}" if name in PEOPLE else name

    @property
    def queue(self) -> tuple[str, str]:
        """Its account and the group of the queue."""
        return f"s{self.at}", "support"

    def other_call(self, name: str) -> str:
        """The leg of an agent who talks by another call."""
        return f"{self.prefix}/{name}"

    @property
    def names(self) -> dict[str, str]:
        return {self.number(name): name for name in PEOPLE}


class Stage(ABC):
    """`start`, `play`, `stop`."""

    ring: str
    at_once = 16
    call_seconds = 60.0

    def __init__(self, folder: Path, scenarios: Iterable[Scenario]) -> None:
        self.folder = folder
        self.casts = [Cast(at, scenario) for at, scenario in enumerate(scenarios, 1)]
        self.crm = DemoCrm(secret=SECRET)
        self.mail = MailBox()
        self.service: Service
        self._by_did = {f"+91{cast.did}": cast for cast in self.casts}
        self._by_channel: dict[str, Cast] = {}

    # --- what a ring brings ---

    @abstractmethod
    def start_switch(self) -> dict[str, Any]:
        """The main file's `switch` and `trunks`."""

    @abstractmethod
    def stop_switch(self) -> None: ...

    @abstractmethod
    def connect(self) -> None:
        """exoflow listens; calls may come."""

    @abstractmethod
    def people(self, cast: Cast) -> None:
        """Agents' telephones of a scenario."""

    @abstractmethod
    def dial(self, cast: Cast) -> Line:
        """A caller dials; the events of his channel go to `heard`."""

    # --- life ---

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.crm.start()
        self.mail.start()
        for cast in self.casts:
            if isinstance(answers := cast.scenario.mail, dict):
                cast.mail = MailBox({word: answer.encode() for word, answer in answers.items()})
                cast.mail.start()
        main = self.start_switch()
        self._write(main)
        found = load(self.folder / "exoflow.yaml", {})
        if found.config is None:
            raise ValueError("\n".join(str(finding) for finding in found.errors))
        self.service = Service(found.config)
        self.service.book.listeners.append(self._noted)
        self._set_parts()
        self.service.start()
        self.connect()

    def stop(self) -> None:
        if hasattr(self, "service"):
            self.service.stop()
        self.stop_switch()
        self.crm.stop()
        for box in (self.mail, *(cast.mail for cast in self.casts if cast.mail is not None)):
            box.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- playing ---

    def play(self) -> dict[str, Told]:
        """All scenarios, `at_once` at a time, by their ids."""
        told = Pool(self.at_once).imap(self._play, self.casts)
        return {cast.scenario.id: one for cast, one in zip(self.casts, told, strict=True)}

    def _play(self, cast: Cast) -> Told:
        self._script(cast)
        self.people(cast)
        before = self._come_before(cast)
        try:
            with gevent.Timeout(self.call_seconds, TimeoutError(f"no record within {self.call_seconds:g} s")):
                line = self.dial(cast)
                cast.caller = Caller(cast.scenario.deeds, cast.scenario.speaks, line)
                self._closed(cast)
        except Exception as problem:
            seen = [entry.code for entry in cast.state.journey] if cast.state is not None else []
            return Told(problem=f"{type(problem).__name__}: {problem}; the journey: {' '.join(seen)}")
        finally:
            if cast.caller is not None:
                cast.caller.stop()
            self._go(cast, before)
        told = self._tell(cast)
        told.problem = "; ".join(cast.caller.failures)
        return told

    def _come_before(self, cast: Cast) -> list[Place]:
        """Other calls of ours, which the scenario only names: agents who talk, and callers who wait."""
        staff = self.service.staff
        for name in cast.scenario.engaged:
            staff.claims.hold(cast.number(name), cast.other_call(name)).owned = True
        places = [Place("another", staff.clock(), lambda _: ()) for _ in range(cast.scenario.waiting)]
        for place in places:
            staff.queues.join(cast.queue, place)
        return places

    def free(self, cast: Cast, name: str) -> None:
        """The other call of this agent is over."""
        candidate = Candidate(cast.number(name), name.title())
        self.service.staff.give_back([Picked(candidate, cast.other_call(name))])

    def _go(self, cast: Cast, places: list[Place]) -> None:
        for place in places:
            self.service.staff.queues.leave(cast.queue, place)
        for name in cast.scenario.engaged:
            self.free(cast, name)

    def listen(self, cast: Cast, channel: str) -> None:
        """The caller's channel is known."""
        cast.channel = channel
        self._by_channel[channel] = cast

    def heard(self, name: str, channel: str | None, get: Any) -> None:
        cast = self._by_channel.get(channel or "")
        if cast is not None and cast.caller is not None:
            cast.caller.hear(name, get)

    def lose_socket(self, cast: Cast) -> None:
        """As when exoflow dies and a supervisor restarts it, for this call alone."""
        self.service._held[cast.channel].sock.shutdown(socket.SHUT_RDWR)

    def _noted(self, state: CallState, _entry: Entry) -> None:
        cast = self._by_did.get(state.facts.dialled or "") or self._by_channel.get(state.facts.channel)
        if cast is not None:
            cast.state = state

    def _closed(self, cast: Cast) -> None:
        while cast.state is None or cast.state.facts.id in self.service.book.live:
            gevent.sleep(0.01)

    def _tell(self, cast: Cast) -> Told:
        assert cast.state is not None
        book, call = self.service.book, cast.state.facts.id
        sent = self.service.store.read(lambda connection: deliveries_of(connection, call))
        hook = f"{cast.prefix}/deliveries"
        self.crm.wait_for(lambda crm: len(crm.to(hook)) >= len(sent), ACCEPTED_SECONDS)
        came = self.crm.to(hook)
        state = book.get(call)
        assert state is not None
        kinds = [one.type for one in sent]
        if [one.event["type"] for one in came] != kinds or not all(one.signed for one in came):
            kinds.append(f"came as {[(one.event['type'], one.signed) for one in came]}")
        asked = [one for one in self.crm.requests if one.path.startswith(f"{cast.prefix}/") and one.path != hook]
        sounds = cast.caller.sounds if cast.caller is not None else []
        told = tell(state, cast.names, asked, cast.prefix, kinds, sounds)
        told.mails = [f"{mail['To']}: {mail['Subject']}" for mail in (cast.mail or self.mail).to(call)]
        return told

    def _set_parts(self) -> None:
        """Each call is answered with parts of its own: its scenario's time, and its mail server."""
        reception, common = self.service._reception, self.service._parts
        answer = reception.answer
        own = local()
        reception._parts = lambda name: getattr(own, "parts", common)

        def answered(session: CallSession) -> None:
            cast = self._by_did.get(f"+91{session.channel.variable('exo_did')}")
            own.parts = common if cast is None else self._parts_of(cast, common)
            answer(session)

        reception.answer = answered  # type: ignore[method-assign]

    def _parts_of(self, cast: Cast, common: Parts) -> Parts:
        parts, scenario = common, cast.scenario
        if scenario.time:
            zone = ZoneInfo(scenario.account.get("time_zone", "Asia/Kolkata"))
            now = datetime.fromisoformat(scenario.time).replace(tzinfo=zone)
            parts = replace(parts, clock=lambda: now)
        if scenario.mail != "taken":
            address = cast.mail.address if cast.mail is not None else f"127.0.0.1:{free_port()}"
            assert parts.config.mail is not None
            mail = parts.config.mail.model_copy(update={"smtp": address})
            parts = replace(parts, config=replace(parts.config, mail=mail))
        return parts

    # --- files ---

    def _write(self, main: dict[str, Any]) -> None:
        main = {
            **main,
            "store": "sqlite:///exoflow.db",
            "prompts": {"engine": "text", "folder": str(self.folder / "prompts")},
            "mail": {"smtp": self.mail.address, "from": "calls@exoflow.example"},
        }
        (self.folder / "exoflow.yaml").write_text(json.dumps(main))
        (self.folder / "accounts").mkdir(exist_ok=True)
        for cast in self.casts:
            text = json.dumps(self._account(cast))
            cast.paths = re.findall(rf'{re.escape(self.crm.url(cast.prefix))}(/[^"?]*)', text)
            (self.folder / "accounts" / f"s{cast.at}.yaml").write_text(text)

    def _account(self, cast: Cast) -> dict[str, Any]:
        given = cast.scenario
        own: dict[str, Any] = {
            "numbers": [
                {"number": f"+91{cast.did}", "trunk": TRUNK, "flow": "main"} | ({"dnis": given.dial} if given.dial else {})
            ],
            "agents": {name: {"number": cast.number(name), "name": name.title()} for name in PEOPLE},
            "crm": {"allow_private": ["127.0.0.1/32"]},
            "deliveries": {"url": "crm:/deliveries", "secret": SECRET},
        }
        if given.values:
            own["numbers"][0]["with"] = given.values
        if given.example is not None:
            whole = yaml12.read(given.example).value | own
        else:
            groups = {"support": {"agents": ["asha", "ravi"]}, "backup": {"agents": ["meena"]}}
            flows = {"main": {"start": next(iter(given.steps)), "steps": given.steps}} | given.account.get("flows", {})
            whole = {"name": given.name, **own, "groups": groups, **given.account, "flows": flows}
        found: dict[str, Any] = self._put_in(cast, whole)
        return found

    def _put_in(self, cast: Cast, value: Any) -> Any:
        """The scenario's own addresses and numbers (`@asha`)."""
        if isinstance(value, str):
            if own := OWN_CRM.match(value):
                return self.crm.url(cast.prefix + value[own.end() :])
            if value.startswith("sound:"):
                return str(self._silence(value.removeprefix("sound:")))
            if value.startswith("nobody:"):
                return "http://127.0.0.1:1" + value.removeprefix("nobody:")
            if value == "@caller":
                return f"+91{cast.phone}"
            return cast.number(value[1:]) if value.startswith("@") and value[1:] in PEOPLE else value
        if isinstance(value, Mapping):
            return {key: self._put_in(cast, item) for key, item in value.items()}
        return [self._put_in(cast, item) for item in value] if isinstance(value, list) else value

    def _silence(self, name: str) -> Path:
        path = self.folder / "sounds" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(2 * 8000))
        return path

    def _script(self, cast: Cast) -> None:
        for path in cast.paths:
            self.crm.script(cast.prefix + path, Reply(204) if path == "/deliveries" else Reply(200, b"OK"))
        for path, answers in cast.scenario.crm.items():
            listed = answers if isinstance(answers, list) else [answers]
            self.crm.script(cast.prefix + path, *(self._reply(cast, answer) for answer in listed))

    def _reply(self, cast: Cast, answer: Any) -> Reply:
        if isinstance(answer, int):
            return Reply(answer, b"said so")
        if isinstance(answer, str):
            return Reply(200, self._with_own_crm(cast, answer))
        answer = dict(answer)
        delay = answer.pop("delay", 0.0)
        if "agents" in answer:
            return replace(Reply.agents(*(cast.number(name) for name in answer.pop("agents")), **answer), delay=delay)
        if "sound" in answer:
            return Reply(200, wav(bytes(round(2 * RATE * answer["sound"]))), "audio/wav", delay)
        if "plain" in answer:
            return replace(Reply.plain(*(cast.number(name) for name in answer["plain"])), delay=delay)
        body = answer.get("body", "")
        text = body if isinstance(body, str) else json.dumps(body)
        kind = answer.get("type", "text/plain" if isinstance(body, str) else "application/json")
        return Reply(answer.get("status", 200), self._with_own_crm(cast, text), kind, delay)

    def _with_own_crm(self, cast: Cast, text: str) -> bytes:
        return OWN_CRM.sub(self.crm.url(cast.prefix), text).encode()
