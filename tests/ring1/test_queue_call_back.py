"""Being called back: what a caller in a queue is offered, that he is called in his turn, and by whom he is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hall import ASHA, BYE, OURS, WAIT, Hall, codes, entry, eventually, say

from exoflow.agents.callbacks import CallBack, since
from exoflow.calls.model import CallState
from exoflow.flow import calledback
from exoflow.sim import AgentScript, Phone
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
HIM, OTHER = "+919811100002", "+919811100003"
ALWAYS = {"mon-sun": ["00:00-24:00"]}
OFFER = {"key": "2", "offer": {"say": "Press two to be called back."}, "confirm": {"say": "We will call you."}}
OFFER |= {"hello": {"say": "This is Acme, you asked for a call."}}


def steps(**queue: Any) -> dict[str, Any]:
    settings = {"say": "All our agents are talking.", "call_back": OFFER, **queue}
    return {
        "agents": {
            "connect": {"group": "one", "queue": settings},
            "answered": "after",
            "unanswered": "sorry",
            "call_back": "asked",
        },
        "after": say("Goodbye."),
        "sorry": say("Nobody is there."),
        "asked": say("Until then."),
        "bye": BYE,
    }


class Desk:
    """Asha, who talks with somebody, and callers."""

    def __init__(self, start: Start, *, rules: dict[str, Any] | None = None, flow: Any = None, **more: Any) -> None:
        people = {ASHA: [AgentScript.answers(1, 120), AgentScript.answers(2, 5)], HIM: AgentScript.answers(3, None)}
        account = {
            "groups": {"one": {"agents": ["asha"]}},
            "call_backs": {"hours": ALWAYS, "ask": "crm:/may-he", **(rules or {})},
            **more.pop("account", {}),
        }
        self.skew = timedelta()
        self.h = start(flow or steps(), agents=people | more.pop("agents", {}), account=account, **more)
        self.h.crm.script("/may-he", Reply(200))
        self.on_the_switchs_clock()

    def on_the_switchs_clock(self) -> None:
        h = self.h
        h.service.staff.clock = lambda: datetime.fromtimestamp(h.switch.clock.micros() / 1e6, UTC) + self.skew
        eventually(lambda: h.service.call_backs.ready)

    def later(self, **time: float) -> None:
        self.skew += timedelta(**time)
        self.h.service.call_backs.changed.set()

    def talks(self) -> Phone:
        phone = self.h.call()
        assert phone.wait_until(lambda one: one.talked_at is not None, WAIT)
        return phone

    def enters(self, caller: str = HIM, **more: Any) -> Phone:
        before = len(self.h.entries)
        phone = self.h.call(from_number=caller, **more)
        self.h.until(lambda: any(one.code == "queue.entered" for one in self.h.entries[before:]))
        return phone

    def asks(self, caller: str = HIM) -> CallState:
        """He presses the key, and his call is over."""
        phone = self.enters(caller)
        phone.after(4.0, phone.press, "2")
        return self.h.ended(phone)

    @property
    def wishes(self) -> list[CallBack]:
        """As they are on disk, the oldest first."""
        always = datetime(2000, 1, 1, tzinfo=UTC)
        return list(reversed(self.h.service.store.read(lambda c: since(c, always, None, 100))))

    def until(self, *states: str) -> list[CallBack]:
        eventually(lambda: [one.state for one in self.wishes] == list(states))
        return self.wishes

    def call_to(self, wish: CallBack) -> CallState:
        """The record of the call to him, closed."""
        found: list[CallState | None] = []

        def over() -> bool:
            found[:] = [self.h.service.book.get(wish.placed)]
            return found[0] is not None and found[0].outcome is not None and wish.placed not in self.h.service.book.live

        eventually(over)
        assert found[0] is not None
        return found[0]

    def rung(self, number: str) -> int:
        return self.h.switch.rung.count(f"0{number[3:]}")


@pytest.fixture
def desk(hall: Start) -> Callable[..., Desk]:
    return lambda **more: Desk(hall, **more)


Make = Callable[..., Desk]


# --- the whole way ------------------------------------------------------------------------------------------


def test_who_asks_is_called_in_his_turn_and_talks(desk: Make) -> None:
    d = desk()
    d.talks()
    state = d.asks()
    assert codes(state)[-3:] == ["queue.call_back", "greeting.played", "hangup"] or "queue.call_back" in codes(state)
    assert (state.outcome, state.reason) == ("missed", "queue.call_back")
    [wish] = d.until("talked")
    called = d.call_to(wish)
    assert codes(called)[:2] == ["call.placed", "placed.answered"]
    assert "queue.served" in codes(called)
    assert (called.outcome, called.facts.caller, called.facts.dialled) == ("answered", HIM, OURS)
    phone = next(one for one in d.h.switch.phones if one.uuid == called.facts.channel)
    assert phone.texts[0] == "This is Acme, you asked for a call."
    assert phone.texts[-1] == "Goodbye."
    assert d.rung(HIM) == 1
    assert wish.call == state.facts.id
    assert len(d.h.service.staff.claims) == 0
    assert not d.h.service.staff.reserved
    assert d.h.switch.violations == []
