"""CDR files, a store and a reception without sockets: what the tests of the last net share."""

from __future__ import annotations

import json
import os
import time
import uuid
import wave
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hall import eventually

from exoflow.calls.book import CallBook
from exoflow.calls.call import Call
from exoflow.calls.cdr import CallEnd
from exoflow.calls.lookup import Delivery, deliveries_of
from exoflow.calls.model import CallFacts, CallState
from exoflow.calls.net import Net
from exoflow.config.load import load
from exoflow.config.model import Config
from exoflow.store import open_store
from exoflow.store.counts import by_hour
from exoflow.store.sqlite import Store

RECORDED = Path(__file__).parents[1] / "cdr"


MAIN = {
    "switch": {"event_socket": {"password": "x"}, "cdr": "cdr", "recordings": "recordings"},
    "prompts": {"engine": "text"},
    "trunks": {"PRI1": {"span": "PRI1", "std_code": "80"}},
}


ACCOUNT = {
    "name": "Acme",
    "numbers": [{"number": "+918030752400", "trunk": "PRI1", "flow": "main"}],
    "agents": {"asha": {"number": "+919876543210"}},
    "deliveries": {"url": "https://crm.example/calls", "secret": "whsec_" + "QUJD" * 8},
    "flows": {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}},
}


class World:
    """A folder, a book with its store, and the net; sessions are names in a set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cdr = folder / "cdr"
        self.cdr.mkdir()
        (folder / "accounts").mkdir()
        (folder / "exoflow.yaml").write_text(json.dumps(MAIN))
        (folder / "accounts" / "acme.yaml").write_text(json.dumps(ACCOUNT))
        found = load(folder / "exoflow.yaml", {})
        assert found.config is not None, found.errors
        self.config: Config = found.config
        self.sessions: set[str] = set()
        self.finished: list[str] = []
        self.finish: Callable[[Call, CallEnd], None] = self._finish
        self.open()

    def open(self) -> None:
        self.store: Store = open_store(f"sqlite:///{self.folder / 'calls.db'}")
        self.book = CallBook(self.store, accounts=self.config.accounts.get)
        self.net = Net(
            self.cdr, self.book, lambda: self.config, self.sessions.__contains__, lambda call, end: self.finish(call, end)
        )

    def close(self) -> None:
        self.net.stop()
        self.store.close()

    def restart(self) -> None:
        """Another process: what was in memory has gone."""
        self.close()
        self.open()

    def _finish(self, call: Call, end: CallEnd) -> None:
        self.finished.append(call.id)
        call.caller_gone(end.ended_at, end.cause, end.q850)
        call.close("served", "", end.ended_at)

    # --- files ---

    def put(self, name: str, channel: str = "", *, age: float = 60.0, **variables: Any) -> str:
        """A recorded CDR as that of a channel of its own, `age` seconds old; its channel. A variable of None is taken out."""
        channel = channel or str(uuid.uuid4())
        cdr = json.loads((RECORDED / f"{name}.cdr.json").read_bytes())
        cdr["variables"] |= {"uuid": channel, **variables}
        cdr["variables"] = {key: value for key, value in cdr["variables"].items() if value is not None}
        return self.write(channel, json.dumps(cdr), age=age)

    def write(self, channel: str, text: str, *, age: float = 60.0) -> str:
        path = self.path(channel)
        path.write_text(text)
        os.utime(path, (time.time() - age, time.time() - age))
        return channel

    def path(self, channel: str) -> Path:
        return self.cdr / f"{channel}.cdr.json"

    @property
    def files(self) -> list[str]:
        return sorted(entry.name for entry in self.cdr.iterdir() if entry.is_file())

    # --- calls ---

    def call(self, channel: str, **changes: Any) -> Call:
        """A call of ours that is going on, on disk."""
        facts = {
            "id": uuid.uuid4().hex, "channel": channel, "created_at": datetime.now(UTC),
            "trunk": "PRI1", "dialled_raw": "8030752400", "caller_raw": "09812345678", "dialled": "+918030752400",
            "caller": "+919812345678", "account": "acme", "flow": "main", **changes,
        }  # fmt: skip
        call = self.book.open(CallFacts(**facts), self.config.accounts["acme"])
        assert call.on_disk()
        return call

    def look(self) -> None:
        """Scans until all that can be done now is done."""
        while self.net.scan():
            pass
        self.settle()
        self.net.scan()  # removes the files of what has been closed

    def settle(self) -> None:
        eventually(lambda: not self.net._busy)

    def records(self) -> list[CallState]:
        return self.book.recent(1000)

    def record(self) -> CallState:
        (state,) = self.records()
        return state

    def counted(self) -> dict[tuple[datetime, str, str], float]:
        self.store.write(lambda connection: None)
        found = self.store.read(lambda connection: by_hour(connection, datetime(2020, 1, 1, tzinfo=UTC)))
        return {(hour, name, trunk): amount for hour, name, trunk, amount in found}

    def deliveries(self, state: CallState) -> list[Delivery]:
        return self.store.read(lambda connection: deliveries_of(connection, state.facts.id))


def wav(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(round(seconds * 8000) * 4))


def fallback_with(world: World, *legs: str, **variables: str) -> str:
    """A call whose fallback rang these."""
    channel = str(uuid.uuid4())
    rung = [(f"{channel[:8]}-{at}", name) for at, name in enumerate(legs)]
    listed = "|:".join(f"{leg};Outbound Call;09876543210" for leg, _ in rung)
    world.put("fallback-refused", channel, originated_legs=f"ARRAY::{listed}", **variables)
    for leg, name in rung:
        cdr = json.loads((RECORDED / f"leg-{name}.cdr.json").read_bytes())
        cdr["variables"] |= {
            "uuid": leg,
            "originating_leg_uuid": channel,
            "exo_fallback_leg": "1",
            "exo_fallback_trunk": "PRI1",
        }
        cdr["callflow"][-1]["caller_profile"]["destination_number"] = "09876543210"
        world.write(leg, json.dumps(cdr))
    return channel
