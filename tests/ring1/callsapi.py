"""A store with the calls that tests/dialect/api is about, and the pages over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gevent
from gevent import socket
from hall import WAIT, new_store
from sqlalchemy import insert

from exoflow.agents.memory import Memory
from exoflow.agents.staff import Staff
from exoflow.calls import rows
from exoflow.calls.model import CallFacts, CallState, Leg, Placed
from exoflow.config.model import Account, EventSocket, Number
from exoflow.lines.lines import Lines
from exoflow.store import tables as t
from exoflow.store.opening import open_store
from exoflow.store.sqlite import Store
from exoflow.web.agentpages import AgentPages
from exoflow.web.callpages import CallPages
from exoflow.web.gate import Gate
from exoflow.web.numberpages import NumberPages
from exoflow.web.routes import routed
from exoflow.web.server import WebServer

NOW = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)  # 12:00 in India
KEY, TOKEN = "kacme", "sesame"
# scrypt of "sesame", made by Python's hashlib with the salt 0123456789abcdef
TOKEN_HASH = "scrypt$14$8$1$MDEyMzQ1Njc4OWFiY2RlZg$KEAsy2gMnCsXdYy7SwR8DrVpXv6kPSuxrsNo_CUFUB8"


def at(clock: str, seconds: float = 0) -> datetime:
    """India's time on 5 January, and so many seconds later."""
    return datetime.fromisoformat(f"2026-01-05T{clock}+05:30").astimezone(UTC) + timedelta(seconds=seconds)


def call(letter: str, created_at: datetime, **changes: Any) -> CallState:
    facts = {
        "id": letter * 32,
        "channel": letter * 32,
        "created_at": created_at,
        "trunk": "PRI1",
        "dialled_raw": "9902",
        "caller_raw": "9999999901",
        "dialled": "+919999999902",
        "caller": "+919999999901",
        "account": "acme",
        "flow": "main",
    }
    given = {name: changes.pop(name) for name in list(changes) if name in CallFacts.__dataclass_fields__}
    return CallState(CallFacts(**(facts | given)), **changes)


def leg(uuid: str, **times: Any) -> Leg:
    return Leg(uuid, 1, "+919999999903", "PRI1", **times)


def the_calls() -> list[CallState]:
    talked = at("10:00:00")
    missed = at("10:05:00")
    live = at("11:59:00")
    return [
        call(
            "a",
            talked,
            answered_at=at("10:00:00", 2),
            ended_at=at("10:00:00", 21),
            outcome="answered",
            wanted_agent=True,
            legs=[
                leg(
                    "a1",
                    dialled_at=at("10:00:00", 4),
                    answered_at=at("10:00:00", 10),
                    released_at=at("10:00:00", 20),
                    outcome="answered",
                )
            ],
        ),
        call(
            "b",
            missed,
            caller="+919999999905",
            answered_at=at("10:05:00", 1),
            ended_at=at("10:05:00", 31),
            outcome="missed",
            wanted_agent=True,
            legs=[leg("b1", dialled_at=at("10:05:00", 2), released_at=at("10:05:00", 30), outcome="no_answer")],
        ),
        call(
            "c",
            at("10:10:00"),
            caller=None,
            caller_raw="",
            caller_withheld=True,
            ended_at=at("10:10:00", 5),
            ended_by="caller",
            outcome="abandoned",
        ),
        call(
            "d",
            live,
            answered_at=at("11:59:00", 2),
            wanted_agent=True,
            legs=[leg("d1", dialled_at=at("11:59:00", 5), answered_at=at("11:59:00", 40), outcome="answered")],
        ),
        call("e", at("10:00:30"), account="globex"),
        call("f", at("10:20:00"), caller=None, caller_raw="9\x1b<x>&9", answered_at=at("10:20:01"), outcome="lost"),
        call("0", at("10:00:00") - timedelta(days=250), ended_at=at("10:00:00") - timedelta(days=249), outcome="served"),
    ]


def write(store: Store, calls: Iterable[CallState]) -> None:
    calls = list(calls)
    legs = [rows.leg_row(one.facts.id, leg) for one in calls for leg in one.legs]

    def into(connection: Any) -> None:
        connection.execute(insert(t.calls), [rows.call_row(one, one.ended_at) for one in calls])
        if legs:
            connection.execute(insert(t.legs), legs)

    store.write(into)


def account(name: str = "Acme") -> Account:
    """Acme has a key and may place calls, Initech a key alone, others none."""
    flow = {"start": "bye", "steps": {"bye": {"hangup": {}}}}
    keys = [{"key": KEY, "token_hash": TOKEN_HASH}] if name in ("Acme", "Initech") else []
    api = {"keys": keys, "place_calls": name == "Acme"}
    numbers = [{"number": "+919999999902", "trunk": "PRI1", "flow": "main"}]
    agents = {
        "asha": {"number": "+919999999903", "name": "Asha", "email": "asha@crm.example"},
        "ravi.k": {"number": "+919999999904", "lines": 4, "hours": {"sun": ["09:00-18:00"]}},
        "मीना": {"number": "+919999999905"},
    }
    groups = {"support": {"agents": ["asha", "ravi.k"]}, "sales": {"agents": ["asha"]}}
    parts = {"numbers": numbers, "flows": {"main": flow}, "api": api, "agents": agents, "groups": groups}
    return Account.model_validate({"name": name, **parts})


def placed(account_id: str, account: Account, number: Number, first: str, flow: str | None, asked: Placed) -> CallState:
    """In the place of `Placing.place`: nobody is rung."""
    return call("1", NOW, account=account_id, caller=first, dialled=number.number, flow=flow, placed=asked)


class Api:
    """The pages on a port of their own."""

    def __init__(self, folder: Path, calls: Iterable[CallState], clock: Callable[[], float] | None = None) -> None:
        path = folder / "exoflow.db"
        path.write_bytes(new_store().read_bytes())
        path.chmod(0o600)
        self.store = open_store(f"sqlite:///{path}")
        write(self.store, calls)
        self.accounts = {"acme": account(), "globex": account("Globex"), "initech": account("Initech")}
        self.gate = Gate(self.accounts.get, clock) if clock else Gate(self.accounts.get)
        self.pages = CallPages(self.store, self.gate, placed, clock=lambda: NOW)
        self.staff = Staff(Lines(EventSocket()), list, Memory(self.store), clock=lambda: NOW)
        agents = AgentPages(self.gate, self.staff)
        routes = routed(self._health, self.pages, agents, NumberPages(self.gate))
        self.server = WebServer(("127.0.0.1", 0), routes)
        self.server.start()

    def _health(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "6")])
        return [b"health"]

    def stop(self) -> None:
        self.server.stop()
        self.store.close()

    @property
    def address(self) -> tuple[str, int]:
        assert self.server.address is not None
        return self.server.address

    def sent(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        return exchange(self.address, data)


def exchange(address: tuple[str, int], data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by their lower-case names, and body of the answer."""
    with gevent.Timeout(WAIT), socket.create_connection(address) as sock:
        sock.sendall(data)
        answer = b""
        while part := sock.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, body
