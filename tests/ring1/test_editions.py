"""Which configuration a call goes by, and how long old ones are kept."""

from __future__ import annotations

import gc
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hall import BYE, WAIT, Hall, entry, eventually, menu, say
from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from exoflow.calls.book import CallBook
from exoflow.calls.model import CallFacts
from exoflow.prompts import PromptBook
from exoflow.store import configs, open_store
from exoflow.store.tables import calls
from exoflow.store.tables import configs as configs_table

Start = Callable[..., Hall]
NOW = datetime(2026, 10, 1, tzinfo=UTC)


def steps(text: str) -> dict[str, Any]:
    return {"ask": menu({"1": "told"}, timeout=60), "told": say(text), "bye": BYE}


def rewrite(hall: Hall, text: str) -> None:
    """Another text of the last step, in the account's file."""
    file = hall.folder / "accounts" / "acme.yaml"
    account = json.loads(file.read_text())
    account["flows"]["main"]["steps"] = steps(text)
    file.write_text(json.dumps(account))


def reload(hall: Hall) -> bool:
    with hall.switch.clock.held():
        return hall.service.reload()


def test_a_call_ends_on_the_configuration_it_began_with(hall: Start) -> None:
    h = hall(steps("Old."))
    before = h.call()
    assert before.wait_until(lambda p: p.asked.is_set(), WAIT)
    rewrite(h, "New.")
    assert reload(h)
    before.press("1")
    ended = h.ended(before)
    _, after = h.run(keys="1")
    assert [text for text in before.texts if text in ("Old.", "New.")] == ["Old."]
    assert [text for text in h.switch.phones[-1].texts if text in ("Old.", "New.")] == ["New."]
    assert after.config == h.service.config.kept.hash != ended.config


def test_an_old_one_leaves_memory_with_the_last_call_that_goes_by_it(hall: Start) -> None:
    h = hall(steps("Old."))
    first = h.service.config.kept.hash
    phone = h.call()
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    rewrite(h, "New.")
    assert reload(h)
    gc.collect()
    assert first in h.service._editions._alive
    phone.press("1")
    h.ended(phone)

    def gone() -> bool:
        gc.collect()
        return list(h.service._editions._alive) == [h.service.config.kept.hash]

    eventually(gone)


def test_a_call_whose_configuration_is_nowhere_goes_on_with_the_present_one(hall: Start) -> None:
    h = hall(steps("Hello."))
    phone = h.call()
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    call = next(iter(h.service.book.live.values()))
    call.state.config = "0" * 64
    h.lose_socket(phone)
    phone.press("1")
    state = h.ended(phone)
    assert entry(state, "config.gone").stage == "C"
    assert state.config == h.service.config.kept.hash
    assert state.outcome == "served"


def test_new_prompts_are_rendered_before_a_reload_is_taken(hall: Start) -> None:
    h = hall(steps("Old."))
    rewrite(h, "A text that nobody has rendered.")
    assert reload(h)
    assert PromptBook(h.service.config.prompts).missing(h.service.config) == []


def test_a_prompt_that_cannot_be_rendered_refuses_the_reload(hall: Start) -> None:
    h = hall(steps("Old."))
    kept = h.service.config.kept.hash
    main = h.folder / "exoflow.yaml"
    sections = json.loads(main.read_text())
    sections["prompts"]["engine"] = "no-such-engine {text} {wav}"
    main.write_text(json.dumps(sections))
    assert not reload(h)
    assert "no-such-engine" in h.service.reload_problem
    assert h.service.config.kept.hash == kept


@pytest.fixture
def kept(tmp_path: Path) -> Any:
    """A store, and what its table has by now."""
    store = open_store(f"sqlite:///{tmp_path}/calls.db")

    def keep(name: str, days_ago: float) -> list[str]:
        def write(connection: Connection) -> list[str]:
            configs.keep(connection, name, {"exoflow.yaml": name}, NOW - timedelta(days=days_ago))
            return list(connection.execute(select(configs_table.c.hash).order_by(configs_table.c.hash)).scalars())

        return store.write(write)

    keep.store = store  # type: ignore[attr-defined]
    yield keep
    store.close()


def test_those_loaded_long_ago_are_forgotten(kept: Any) -> None:
    assert kept("a", 31) == ["a"]
    assert kept("b", 29) == ["a", "b"]
    assert kept("c", 0) == ["b", "c"]
    assert kept("b", -30) == ["b", "c"]  # loaded once more
    assert kept("d", -31) == ["b", "d"]


def test_one_that_an_open_call_needs_is_not_forgotten(kept: Any) -> None:
    kept("a", 31)
    book = CallBook(kept.store)
    call = book.open(CallFacts(uuid.uuid4().hex, "channel", NOW, "PRI1", "2400", "1"), None)
    call.state.config = "a"
    assert call.on_disk()
    assert kept("b", 0) == ["a", "b"]
    kept.store.write(lambda c: c.execute(update(calls).values(closed_at=NOW)).rowcount)
    assert kept("c", 0) == ["b", "c"]


def test_texts_come_back_in_their_order(kept: Any) -> None:
    files = {"exoflow.yaml": "é\n", "../z.yaml": "", "a.yaml": "a"}
    kept.store.write(lambda c: configs.keep(c, "x", files, NOW))
    found = kept.store.read(lambda c: configs.files_of(c, "x"))
    assert found == files
    assert list(found) == list(files)
    assert kept.store.read(lambda c: configs.files_of(c, "y")) is None
