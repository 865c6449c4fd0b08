"""A store that takes nothing more, its spill, and calls that go there: what the tests of the spill share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hall import BYE, Hall, eventually, menu, say

from exoflow.calls.book import CallBook
from exoflow.calls.model import CallFacts, Leg
from exoflow.config.model import Account
from exoflow.store.sqlite import Store

NOW = datetime(2026, 11, 23, 6, 30, 0, 125000, tzinfo=UTC)


FLOWS = {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}}


ACCOUNT = Account.model_validate({"name": "Acme", "flows": FLOWS, "deliveries": {"url": "https://crm.example/calls"}})


FLOW = {"ask": menu({"1": "hello"}), "hello": say("Hi."), "bye": BYE}


Start = Callable[..., Hall]


def fill(store: Store) -> None:
    raw: Any = store._writing._connection
    raw.exec_driver_sql("PRAGMA query_only = 1").close()  # real SQLITE_READONLY for whatever is written
    raw.rollback()


def mend(store: Store) -> None:
    raw: Any = store._writing._connection
    raw.exec_driver_sql("PRAGMA query_only = 0").close()
    raw.rollback()
    eventually(lambda: not store.behind)


def facts(number: int = 0) -> CallFacts:
    return CallFacts(f"{number:032x}", f"channel-{number}", NOW, "PRI1", "2400", "98765\u0939", account="acme", flow="main")


def book_of(store: Store) -> CallBook:
    return CallBook(store, accounts={"acme": ACCOUNT}.get)


def spilled_call(book: CallBook, number: int) -> Any:
    """A call with a leg and a journey, closed; all of it is in the spill when it returns."""
    call = book.open(facts(number), ACCOUNT)
    call.note("C", "menu.key", "The caller pressed 1 \u260e.", key="1", odd="\udcff")
    call.add_leg(Leg(f"leg-{number}", 1, "+919876543211", "PRI1", q850=16, answered_at=NOW, released_at=NOW))
    call.close("answered")
    eventually(lambda: call.id not in book.live)
    return call


def file_of(spill: Path) -> Path:
    (path,) = spill.glob("*.spill")
    return path


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {"hour": NOW, "name": f"n{number}", "trunk": "", "source": "s", "amount": 1.0, **changes}


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)
