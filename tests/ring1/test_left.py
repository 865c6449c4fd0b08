"""Hundreds of calls come back at once after a restart: the store is looked into once for all of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
import pytest

from exoflow.calls import left
from exoflow.calls.book import CallBook
from exoflow.calls.model import CallFacts
from exoflow.store import open_store
from exoflow.store.sqlite import Store

MANY = 300


def facts(channel: str) -> CallFacts:
    return CallFacts(uuid.uuid4().hex, channel, datetime.now(UTC), "PRI1", "2400", "9876543210")


@pytest.fixture
def channels(tmp_path: Path) -> list[str]:
    """Open calls of a process that has gone; the first one has closed."""
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    book = CallBook(store)
    made = [str(uuid.uuid4()) for _ in range(MANY)]
    calls = [book.open(facts(channel), None) for channel in made]
    for call in calls:
        call.note("C", "menu.key", "Key 1")
    calls[0].close("served")
    store.close()
    return made


class Looks:
    """Counts the looks into a store."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        read: Callable[..., Any] = store.read

        def counted(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            return read(*arguments, **named)

        monkeypatch.setattr(store, "read", counted)


def test_all_are_found_by_one_look(channels: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    looks = Looks(store, monkeypatch)
    book = CallBook(store)
    book.left.read()
    found = [gevent.spawn(book.resume, channel) for channel in [*channels, *channels[:10], "never-seen"]]
    gevent.joinall(found, raise_error=True)
    calls = [one.value for one in found]
    assert calls[0] is None
    assert [call.state.facts.channel for call in calls[1:MANY]] == channels[1:]
    assert calls[MANY:-1] == calls[:10]  # who comes twice has one record
    assert calls[-1] is None
    assert [entry.code for entry in calls[1].state.journey] == ["menu.key"]
    assert looks.count == 1
    store.close()


def test_what_was_closed_meanwhile_does_not_come_back(channels: list[str], tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    book = CallBook(store)
    lost = book.unfinished()[0]
    book.left.read()
    book.close_lost(lost)
    assert book.resume(lost.facts.channel) is None
    store.close()


def test_later_ones_are_looked_for_one_by_one(channels: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left, "KEPT_SECONDS", 0.0)
    store = open_store(f"sqlite:///{tmp_path}/calls.db")
    looks = Looks(store, monkeypatch)
    book = CallBook(store)
    book.left.read()
    call = book.resume(channels[1])
    assert call is not None
    assert call.state.facts.channel == channels[1]
    assert looks.count > 1
    store.close()
