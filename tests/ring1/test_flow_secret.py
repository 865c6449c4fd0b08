"""gather with `secret`: who gets a PIN, and that nobody else finds it, neither in what is shown nor on any disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hall import BYE, WAIT, Hall, codes, entry, menu, say, visited
from support.mailbox import MailBox

from exoflow.calls.model import CallState
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
PIN = "90817263"
STARS = "****"


def pin(then: str = "bye", otherwise: str = "bye", **more: Any) -> dict[str, Any]:
    settings = {"say": "Your PIN please.", "digits": 8, "timeout": 3, "variable": "pin", "secret": True, **more}
    return {"gather": settings, "next": then, "otherwise": otherwise}


def shown(h: Hall, state: CallState) -> str:
    """All that people and programs may read of a call later."""
    deliveries = h.crm.wait_for_deliveries(1)
    return repr(state) + "".join(request.body.decode() for request in deliveries)


def on_disk(h: Hall) -> list[str]:
    """The files of this hall that have the PIN in them, once everything is written."""
    h.service.store.write(lambda connection: None)
    files = [path for path in h.folder.rglob("*") if path.is_file()]
    assert any(path.name.endswith(".cdr.json") for path in files)
    return [str(path.relative_to(h.folder)) for path in files if PIN.encode() in path.read_bytes()]


def test_crm_and_flow_get_it_and_nobody_else(hall: Start) -> None:
    steps = {
        "ask": pin("copy"),
        "copy": {"set": {"variables": {"again": {"from": "gathered"}, "city": {"value": "Pune"}}}, "next": "check"},
        "check": {"passthru": {"url": "crm:/check"}, "ok": "line", "redirect": "bye"},
        "line": {"note": {"text": "<{pin} {again} {digits} {city}>"}, "next": "which"},
        "which": {"switch": {"variable": "again"}, "cases": {"1": "bye"}, "otherwise": "say"},
        "say": {"say_value": {"variable": "again", "as": "digits"}, "next": "bye", "failed": "text"},
        "text": {"sms": {"url": "crm:/sms", "form": {"text": "{pin}"}}, "next": "page", "failed": "page"},
        "page": {"page": {"url": "crm:/page", "text": "typed {pin}"}, "next": "bye"},
        "bye": BYE,
    }
    h = hall(steps)
    h.crm.script("/check", Reply(200, json.dumps({"said": f"PIN {PIN} is good"}).encode(), "application/json"))
    h.crm.script("/sms", Reply(200, f"taken: {PIN}".encode()))
    h.crm.script("/page", Reply(200))
    phone, state = h.run(keys=[PIN])
    assert h.crm.to("/check")[0].get("digits") == f'"{PIN}"'
    assert PIN in h.crm.to("/sms")[0].body.decode()
    paged = json.loads(h.crm.to("/page")[0].body)["data"]
    assert (paged["text"], paged["variables"]) == (f"typed {STARS}", {"pin": STARS, "again": STARS, "city": "Pune"})
    assert visited(state)[:7] == ["ask", "copy", "check", "line", "which", "say", "text"]
    assert state.digits == STARS
    assert entry(state, "note").text == f"<{STARS} {STARS} {STARS} Pune>"
    assert entry(state, "gather.digits").evidence["digits"] == STARS
    assert [one.evidence for one in state.journey if one.code == "set.done"] == [
        {"values": {}, "hidden": ["pin"]},
        {"values": {"city": "Pune"}, "hidden": ["again"]},
    ]
    assert entry(state, "crm.200").evidence["answer"] == f'{{"said": "PIN {STARS} is good"}}'
    assert "not said aloud" in entry(state, "say_value.unfit").text
    assert phone.pressed == list(PIN)
    assert PIN not in shown(h, state)
    assert on_disk(h) == []


def test_a_switch_goes_by_it_and_does_not_say_by_which(hall: Start) -> None:
    which = {"switch": {"on": "digits"}, "cases": {PIN: "good"}, "otherwise": "bye"}
    h = hall({"ask": pin("which"), "which": which, "good": say("Welcome."), "bye": BYE})
    phone, state = h.run(keys=[PIN])
    assert phone.texts[-1] == "Welcome."
    told = entry(state, "switch.case")
    assert told.evidence == {"value": STARS, "case": STARS}
    assert PIN not in shown(h, state)


def test_a_mail_has_it_and_the_journey_its_stars(hall: Start) -> None:
    mail = {"mail": {"to": ["a@b.example"], "subject": "PIN {pin}", "text": "{digits}"}, "next": "bye", "failed": "bye"}
    with MailBox() as box:
        h = hall({"ask": pin("tell"), "tell": mail, "bye": BYE}, main={"mail": {"smtp": box.address, "from": "c@b.example"}})
        _, state = h.run(keys=[PIN])
    assert box.mails[0]["Subject"] == f"PIN {PIN}"
    assert entry(state, "mail.sending").evidence["subject"] == f"PIN {STARS}"
    assert PIN not in shown(h, state)
    assert on_disk(h) == []


def test_it_is_a_secret_as_a_number_too(hall: Start) -> None:
    number = {"set": {"variables": {"number": {"from": "gathered", "type": "integer"}}}, "next": "line"}
    line = {"note": {"text": "<{number}>"}, "next": "bye"}
    h = hall({"ask": pin("copy"), "copy": number, "line": line, "bye": BYE})
    _, state = h.run(keys=["0" + PIN[:7]])
    assert entry(state, "note").text == f"<{STARS}>"
    assert PIN[:7] not in shown(h, state)


def test_wrong_digits_are_secret_too(hall: Start) -> None:
    h = hall(
        {
            "ask": pin(least=95000000, attempts=2, otherwise="line"),
            "line": {"note": {"text": "-{pin}-"}, "next": "bye"},
            "bye": BYE,
        }
    )
    _, state = h.run(keys=[PIN, PIN])
    assert codes(state).count("gather.invalid") == 2
    assert entry(state, "gather.wrong_digits")
    assert entry(state, "note").text == "--"
    assert PIN not in shown(h, state)
    assert on_disk(h) == []


def test_keys_behind_it_are_no_secret(hall: Start) -> None:
    keep = {"set": {"variables": {"pin": {"from": "gathered"}}}, "next": "line"}
    steps = {"ask": pin("pick"), "pick": menu({"2": "keep"}), "keep": keep, "line": {"note": {"text": "{pin}"}, "next": "bye"}}
    h = hall({**steps, "bye": BYE})
    _, state = h.run(keys=[PIN, "2"])
    assert state.digits == "2"
    assert entry(state, "note").text == "2"
    assert on_disk(h) == []
    assert '"digits_dialed":"2"' in next((h.folder / "cdr").rglob("*.cdr.json")).read_text().replace('": "', '":"')


# --- another process gets the call -----------------------------------------------------------------------


def lost_behind(h: Hall) -> tuple[Any, CallState]:
    """The call loses its socket in the menu behind the PIN, and goes on by 1."""
    phone = h.call(keys=[PIN])
    assert phone.wait_until(lambda p: "Which one?" in p.texts, WAIT)
    h.lose_socket(phone)
    h.noted("call.resumed")
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    phone.press("1")
    return phone, h.ended(phone)


def test_it_does_not_survive_a_death(hall: Start) -> None:
    steps = {
        "old": {"set": {"variables": {"pin": {"value": "old"}}}, "next": "ask"},
        "ask": pin("pick"),
        "pick": menu({"1": "line"}, timeout=20),
        "line": {"note": {"text": "<{pin}>"}, "next": "which"},
        "which": {"switch": {"variable": "pin"}, "cases": {PIN: "bad"}, "otherwise": "check"},
        "check": {"passthru": {"url": "crm:/check"}, "ok": "bye", "redirect": "bye"},
        "bad": say("Never."),
        "bye": BYE,
    }
    h = hall(steps)
    h.crm.script("/check", Reply(200))
    _, state = lost_behind(h)
    assert entry(state, "note").text == "<>"  # not the older value either
    assert visited(state)[-3:] == ["which", "check", "bye"]
    assert entry(state, "switch.otherwise").evidence == {"value": None}
    assert h.crm.to("/check")[0].get("digits") == '"1"'


@pytest.mark.parametrize("on", ["digits", "variable"])
def test_without_it_the_last_digits_are_none(hall: Start, on: str) -> None:
    source = {"on": "digits"} if on == "digits" else {"variable": "again"}
    steps = {
        "ask": pin("wait"),
        "wait": {"greeting": {"say": "One moment please."}, "next": "copy"},
        "copy": {"set": {"variables": {"again": {"from": "gathered"}}}, "next": "which"},
        "which": {"switch": source, "cases": {STARS: "bad"}, "otherwise": "check"},
        "check": {"passthru": {"url": "crm:/check"}, "ok": "bye", "redirect": "bye"},
        "bad": say("Never."),
        "bye": BYE,
    }
    h = hall(steps)
    h.crm.script("/check", Reply(200))
    phone = h.call(keys=[PIN])
    assert phone.wait_until(lambda p: "One moment please." in p.texts, WAIT)
    h.lose_socket(phone)
    state = h.ended(phone)
    assert "call.resumed" in codes(state)
    assert visited(state)[-3:] == ["which", "check", "bye"]
    assert h.crm.to("/check")[0].get("digits") is None
    assert on_disk(h) == []


def test_typed_while_the_call_lost_its_socket(hall: Start) -> None:
    h = hall(
        {
            "ask": pin("check", timeout=20),
            "check": {"passthru": {"url": "crm:/check"}, "ok": "bye", "redirect": "bye"},
            "bye": BYE,
        }
    )
    h.crm.script("/check", Reply(200))
    phone = h.call()
    assert phone.wait_until(lambda p: p.asked.is_set(), WAIT)
    h.lose_socket(phone)
    phone.press(PIN)
    state = h.ended(phone)
    assert h.crm.to("/check")[0].get("digits") == f'"{PIN}"'
    assert "call.resumed" in codes(state)
    assert PIN not in shown(h, state)
    assert on_disk(h) == []
