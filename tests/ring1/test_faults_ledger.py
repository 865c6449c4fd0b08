"""The checker of `make faults` reads a real run's books as good, and finds each of the violations planted in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from faults.ledger import Books, Received, Tee, check
from faults.planted import PLANTS, found
from hall import ASHA, BYE, RAVI, WAIT, Hall, eventually, menu, say

from exoflow.sim import AgentScript
from exoflow.sim.crm import Reply, Request

FLOW = {
    "ask": menu({"1": "team", "2": "bye"}, timeout=1, attempts=1),
    "team": {"connect": {"group": "support", "record": "dual"}, "answered": "bye", "unanswered": "sorry"},
    "sorry": say("Nobody is there."),
    "bye": BYE,
}


@pytest.fixture
def books(hall: Callable[..., Hall], tmp_path: Path) -> Books:
    """Of seven calls: talks, agents who are busy or refuse, a caller who chose nothing, one who left, one served by nobody."""
    got: list[Received] = []
    ways = {ASHA: [AgentScript.answers(1, 3), AgentScript.busy(), AgentScript.rejects(1)], RAVI: AgentScript.answers(1, 4)}
    h = hall(FLOW, agents=ways, switch={"cdr": str(tmp_path / "given")})
    tee = Tee(tmp_path / "cdr", tmp_path / "given")

    def takes(request: Request) -> Reply:
        now = h.switch.clock.micros() / 1e6  # the virtual clock runs ahead of the wall's
        got.append(Received(now, request.headers["webhook-id"], request.body, request.signed))
        return Reply(204)

    h.crm.script("/deliveries", takes)
    tee.start()
    for number, key in enumerate("1112-"):
        h.run(from_number=f"+91981110000{number}", keys=key)
    leaver = h.call(from_number="+919811100007")
    h.until(leaver.asked.is_set)
    leaver.hangup()
    h.ended(leaver)
    h.service.stop()
    assert h.call(from_number="+919811100008").wait(WAIT)
    h.serve()
    eventually(lambda: len({one.id for one in got}) == len(h.switch.phones))
    tee.stop()
    return Books(tee.cdrs(), tuple(got))


def test_it_finds_what_is_planted_and_nothing_else(books: Books) -> None:
    calls = [cdr for cdr in books.cdrs if cdr["channel_data"]["direction"] == "inbound"]
    assert len(calls) == 7
    assert check(books) == []
    seen, overlooked = found(books)
    assert overlooked == []
    assert len(seen) == len(PLANTS) >= 10


def test_a_repeat_under_its_id_is_no_violation(books: Books) -> None:
    [first, *_] = books.received
    again = Received(first.at + 5, first.id, first.body, first.signed)
    assert check(Books(books.cdrs, (*books.received, again))) == []


def test_a_planted_violation_needs_a_talk_to_be_planted_in() -> None:
    with pytest.raises(ValueError, match="no call with a talk"):
        found(Books((), ()))
