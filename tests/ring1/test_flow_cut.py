"""A call that somebody else ends: an operator, a program, the dialplan. The record tells who, and that a caller was cut off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import ASHA, BYE, RAVI, WAIT, Hall, entry, menu, say

from exoflow.sim import AgentScript
from exoflow.sim.api import run_api

Start = Callable[..., Hall]
ASK = {"ask": menu({"1": "bye"}, timeout=60), "bye": BYE}
TELL = {"passthru": {"url": "crm:/passthru", "timeout": 2}, "ok": "bye", "redirect": "bye"}
SIP = {"sip_hangup_disposition": "send_bye"}
"""of a channel that FreeSWITCH has ended (mod_sofia.c:521)"""


def cut(hall: Hall, command: str, when: Callable[[Any], bool], **options: Any) -> Any:
    """The record of a call that the command has ended as soon as `when` was true."""
    phone = hall.call(**options)
    assert phone.wait_until(when, WAIT)
    name, _, arguments = command.format(uuid=phone.uuid).partition(" ")
    assert run_api(hall.switch, name, arguments).startswith("+OK")
    return hall.ended(phone)


@pytest.mark.parametrize(
    ("command", "variables", "cause", "who"),
    [
        ("hupall", {}, "MANAGER_REQUEST", "An operator or a program"),
        ("uuid_kill {uuid} MANAGER_REQUEST", {}, "MANAGER_REQUEST", "An operator or a program"),
        ("uuid_kill {uuid}", SIP, "NORMAL_CLEARING", "FreeSWITCH ended the call"),
        ("uuid_kill {uuid} USER_BUSY", SIP, "USER_BUSY", "FreeSWITCH ended the call"),
    ],
)
def test_in_a_menu(hall: Start, command: str, variables: dict[str, str], cause: str, who: str) -> None:
    h = hall(ASK)
    state = cut(h, command, lambda phone: phone.asked.is_set(), variables=variables)
    assert (state.ended_by, state.caller_left, state.cause) == ("switch", False, cause)
    told = entry(state, "switch.ended")
    assert told.text.startswith(who)
    assert cause in told.text
    assert (state.outcome, state.reason) == ("missed", "switch.ended")
    assert h.crm.wait_for_deliveries(1)[0].event["type"] == "call.missed"


def test_the_steps_that_need_no_caller_do_not_make_it_good(hall: Start) -> None:
    h = hall({"hello": say("Welcome to Acme, how nice of you to call.", "tell"), "tell": TELL, "bye": BYE})
    state = cut(h, "hupall", lambda phone: bool(phone.heard))
    assert len(h.crm.to("/passthru")) == 1
    assert (state.outcome, state.reason, state.ended_by) == ("missed", "switch.ended", "switch")


def test_a_caller_on_sip_who_hangs_up_did_it(hall: Start) -> None:
    h = hall(ASK)
    phone = h.call(variables={"sip_hangup_disposition": "recv_bye"})
    assert phone.wait_until(lambda one: one.asked.is_set(), WAIT)
    phone.hangup()
    state = h.ended(phone)
    assert (state.ended_by, state.outcome, state.reason) == ("caller", "abandoned", "caller.left")


def test_after_a_talk_it_was_answered_all_the_same(hall: Start) -> None:
    steps = {"team": {"connect": {"group": "support"}, "answered": "bye", "unanswered": "bye"}, "bye": BYE}
    h = hall(steps, agents={ASHA: AgentScript.answers(1, None)})
    state = cut(h, "hupall", lambda phone: phone.talked_at is not None)
    assert (state.outcome, state.ended_by) == ("answered", "switch")


def test_a_hangup_in_voicemail_behind_agents_in_vain_is_no_ringing(hall: Start) -> None:
    steps = {
        "team": {"connect": {"group": "support", "ring_seconds": 5}, "answered": "bye", "unanswered": "leave"},
        "leave": {"voicemail": {"say": "Please leave a message."}, "next": "bye"},
        "bye": BYE,
    }
    h = hall(steps, agents={ASHA: AgentScript.busy(), RAVI: AgentScript.busy()})
    phone = h.call()
    assert phone.wait_until(lambda one: "Please leave a message." in one.texts, WAIT)
    phone.hangup()
    assert entry(h.ended(phone), "caller.left").stage == "H"
