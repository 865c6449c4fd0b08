"""sms, mail and page: what goes out, when the flow waits for it, and what the journey says when it does not go out."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest
from hall import BYE, CALLER, OURS, SECRET, WAIT, Hall, codes, entry, menu, say, visited
from standardwebhooks import Webhook
from support.mailbox import MailBox
from support.ports import free_port

from exoflow.sim.crm import Reply

Start = Callable[..., Hall]

KEEP = {"set": {"variables": {"name": {"value": 'A "b" & c={d}\n{caller}'}}}, "next": "tell"}


def sms(*, failed: bool = False, **more: Any) -> dict[str, Any]:
    return {"sms": {"url": "crm:/sms", **more}, "next": "bye"} | ({"failed": "sorry"} if failed else {})


def flow(tell: Mapping[str, Any]) -> dict[str, Any]:
    return {"keep": KEEP, "tell": tell, "sorry": say("Sorry."), "bye": BYE}


# --- sms ------------------------------------------------------------------------------------------


def test_a_json_body_is_encoded_as_a_whole(hall: Start) -> None:
    body = {"to": ["{caller}"], "text": "Dear {name}, {{ok}}", "flash": False, "id": 7, "x": None}
    h = hall(flow(sms(json=body, headers={"X-Api-Key": "s3cret"})))
    h.crm.script("/sms", Reply(201, b"taken by s3cret"))
    _, state = h.run()
    (request,) = h.crm.to("/sms")
    assert (request.method, request.headers["content-type"], request.headers["x-api-key"]) == (
        "POST",
        "application/json",
        "s3cret",
    )
    text = 'Dear A "b" & c={d} {caller}, {ok}'  # what a value says is never filled again
    assert json.loads(request.body) == {"to": [CALLER], "text": text, "flash": False, "id": 7, "x": None}
    assert entry(state, "sms.sent").evidence["status"] == 201
    assert entry(state, "sms.sent").evidence["answer"] == "taken by ***"
    assert "s3cret" not in str(state.journey)


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_form_keeps_every_value_in_its_field(hall: Start, method: str) -> None:
    h = hall(flow(sms(method=method, form={"to": "{caller}", "text": "{name}"}, url="crm:/sms?key=abcd")))
    h.run()
    (request,) = h.crm.to("/sms")
    fields = parse_qs(request.body.decode()) if method == "post" else {k: [v] for k, v in request.params if k != "key"}
    assert fields == {"to": [CALLER], "text": ['A "b" & c={d} {caller}']}
    assert request.get("key") == "abcd"
    assert request.method == method.upper()


def test_without_failed_nobody_waits(hall: Start) -> None:
    h = hall(flow(sms(form={"to": "{caller}"}) | {"next": "glad"}) | {"glad": say("Thank you.")})
    h.crm.script("/sms", lambda _: h.noted("greeting.played") and Reply(200))
    phone, state = h.run()
    assert phone.texts == ["Thank you."]  # no hold audio
    order = [code for code in codes(state) if code in ("sms.sending", "greeting.played", "sms.sent")]
    assert order == ["sms.sending", "greeting.played", "sms.sent"]
    assert entry(state, "sms.sent").step == "tell"


def test_with_failed_the_caller_hears_hold_audio(hall: Start) -> None:
    steps = flow(sms(form={"to": "{caller}"}, failed=True, hold={"say": "One moment."}))
    h = hall({"hello": say("Hi.", "keep"), **steps})
    h.crm.script("/sms", Reply(503, b"s3cret no credit", delay=0.7))
    phone, state = h.run()
    assert phone.texts[0] == "Hi."
    assert "One moment." in phone.texts
    assert phone.texts[-1] == "Sorry."
    assert entry(state, "sms.503").stage == "E"
    assert state.outcome == "served"


@pytest.mark.parametrize(
    ("settings", "code", "stage", "cure"),
    [
        ({"url": "http://127.0.0.1:{port}/"}, "sms.refused", "D", "is the CRM running"),
        ({"url": "http://10.9.8.7/sms"}, "sms.address", "D", "crm.allow_private"),
        ({"timeout": 0.2}, "sms.timeout", "E", "longer `timeout`"),
        ({"url": "crm:/wrong"}, "sms.404", "E", "check the URL"),
        ({"url": "crm:/moved"}, "sms.302", "E", "2xx"),
    ],
)
@pytest.mark.parametrize("failed", [True, False])
def test_a_provider_that_does_not_take_it(
    hall: Start, settings: dict[str, Any], code: str, stage: str, cure: str, failed: bool
) -> None:
    settings = {key: value.format(port=free_port()) if key == "url" else value for key, value in settings.items()}
    steps = flow(sms(form={"to": "{caller}"}, failed=failed, **settings))
    h = hall(steps)
    h.crm.script("/sms", Reply(200, delay=1.0))
    h.crm.script("/wrong", Reply(404))
    h.crm.script("/moved", Reply(302, headers=[("Location", h.crm.url("/sms"))]))
    _, state = h.run()
    assert visited(state)[-1] in ("bye", "tell")  # the line of what runs beside the call may come last
    assert ("sorry" in visited(state)) is failed
    told = entry(state, code)
    assert (told.stage, told.step) == (stage, "tell")
    assert cure in told.text
    assert state.reason == ""


def test_a_message_goes_out_after_the_caller_has_gone(hall: Start) -> None:
    steps = {"hello": say("A long greeting. " * 20, "keep"), **flow(sms(form={"to": "{caller}"}))}
    h = hall(steps)
    h.crm.script("/sms", Reply(200))
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), 5)
    phone.hangup()
    state = h.ended(phone)
    assert len(h.crm.to("/sms")) == 1
    assert {"sms.sent", "caller.left"} <= set(codes(state))


# --- page -----------------------------------------------------------------------------------------


def paging(**more: Any) -> dict[str, Any]:
    return flow({"page": {"url": "crm:/page", "text": "{name} is lost", **more}, "next": "bye"})


def test_a_page_is_signed_like_a_delivery(hall: Start) -> None:
    h = hall(paging())
    h.crm.script("/page", Reply(200))
    _, state = h.run()
    (request,) = h.crm.to("/page")
    told = Webhook(SECRET).verify(request.body, request.headers)
    assert told["type"] == "call.page"
    assert told["data"] == {
        "call": state.facts.id,
        "account": "acme",
        "number": OURS,
        "caller": CALLER,
        "step": "tell",
        "text": 'A "b" & c={d} {caller} is lost',
        "variables": {"name": 'A "b" & c={d} {caller}'},
    }
    assert entry(state, "page.sending").text.endswith("is lost")
    assert entry(state, "page.sent").evidence["status"] == 200


def test_a_page_without_deliveries_is_not_signed(hall: Start) -> None:
    h = hall(paging(), account={"deliveries": None})
    h.run()
    (request,) = h.crm.to("/page")
    assert "webhook-id" in request.headers
    assert "webhook-signature" not in request.headers


def test_a_page_that_nobody_takes_is_told_and_the_call_goes_on(hall: Start) -> None:
    h = hall(paging(url=f"http://127.0.0.1:{free_port()}/"))
    _, state = h.run()
    assert entry(state, "page.refused").stage == "D"
    assert (state.outcome, state.reason) == ("served", "")


# --- mail -----------------------------------------------------------------------------------------


def mailing(*, failed: bool = False, **more: Any) -> dict[str, Any]:
    mail = {"to": ["desk@acme.example"], "subject": "Lost: {name}", "text": "{name}\nग्राहक {caller}", **more}
    return flow({"mail": mail, "next": "bye"} | ({"failed": "sorry"} if failed else {}))


def with_mail(hall: Start, address: str, steps: Mapping[str, Any], **more: Any) -> Hall:
    return hall(steps, main={"mail": {"smtp": address, "from": "calls@acme.example", **more}})


def test_a_mail_whole(hall: Start) -> None:
    with MailBox() as box:
        h = with_mail(hall, box.address, mailing())
        _, state = h.run()
    (mail,) = box.mails
    assert (mail["From"], mail["To"]) == ("calls@acme.example", "desk@acme.example")
    assert mail["Subject"] == 'Lost: A "b" & c={d} {caller}'
    assert mail["X-Exoflow-Call"] == state.facts.id
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Bcc"] is None
    assert mail.get_content().replace("\r\n", "\n") == f'A "b" & c={{d}} {{caller}}\nग्राहक {CALLER}\n'
    assert "RCPT TO:<desk@acme.example>" in box.commands
    assert entry(state, "mail.sent").stage == "E"


def test_contacts_get_it_unless_there_are_receivers(hall: Start) -> None:
    steps = mailing()
    del steps["tell"]["mail"]["to"]
    with MailBox() as box:
        h = with_mail_contacts(hall, box.address, steps)
        h.run()
    receivers = [command for command in box.commands if command.startswith("RCPT")]
    assert receivers == ["RCPT TO:<a@acme.example>", "RCPT TO:<b@acme.example>"]


def with_mail_contacts(hall: Start, address: str, steps: Mapping[str, Any]) -> Hall:
    mail = {"smtp": address, "from": "calls@acme.example"}
    return hall(steps, main={"mail": mail}, account={"contacts": ["a@acme.example", "b@acme.example"]})


@pytest.mark.parametrize(
    ("answers", "greeting", "code", "cure"),
    [
        ({"RCPT": b"550 no such user"}, b"220 hi", "mail.refused", "desk@acme.example"),
        ({"MAIL": b"451 later"}, b"220 hi", "mail.refused", "451 later"),
        ({"TAKEN": b"554 spam"}, b"220 hi", "mail.refused", "554 spam"),
        ({"DATA": b""}, b"220 hi", "mail.timeout", "longer `timeout`"),
        ({}, b"", "mail.timeout", "longer `timeout`"),
        ({}, b"554 go away", "mail.refused", "554 go away"),
        ({}, b"HTTP/1.1 400 Bad Request", "mail.protocol", "SMTP port"),
    ],
)
@pytest.mark.parametrize("failed", [True, False])
def test_a_mail_server_that_does_not_take_it(
    hall: Start, answers: dict[str, bytes], greeting: bytes, code: str, cure: str, failed: bool
) -> None:
    with MailBox(answers, greeting=greeting) as box:
        h = with_mail(hall, box.address, mailing(failed=failed, timeout=0.4))
        _, state = h.run()
    told = entry(state, code)
    assert cure in told.text
    assert told.evidence["ms"] < 900
    assert ("sorry" in visited(state)) is failed
    assert state.outcome == "served"


def test_a_mail_server_that_is_not_there(hall: Start) -> None:
    h = with_mail(hall, f"127.0.0.1:{free_port()}", mailing(failed=True))
    phone, state = h.run()
    assert phone.texts == ["Sorry."]
    assert entry(state, "mail.connect").stage == "D"


def test_a_login_is_given_and_a_wrong_one_told(hall: Start) -> None:
    login = {"user": "exo", "password": "s3cret"}
    with MailBox({"EHLO": b"250-test\r\n250 AUTH PLAIN", "AUTH": b"535 wrong"}) as box:
        h = with_mail(hall, box.address, mailing(failed=True), **login)
        _, state = h.run()
    given = next(command for command in box.commands if command.startswith("AUTH PLAIN"))
    assert base64.b64decode(given.split()[-1]) == b"\0exo\0s3cret"
    assert "mail.user" in entry(state, "mail.login").text
    assert "s3cret" not in str(state.journey)


def test_tls_where_none_is(hall: Start) -> None:
    with MailBox() as box:
        h = with_mail(hall, box.address, mailing(failed=True), security="tls")
        _, state = h.run()
    assert {"mail.tls"} <= set(codes(state))


# --- a call that comes back -------------------------------------------------------------------------


def test_a_message_under_way_is_not_sent_again(hall: Start) -> None:
    h = hall({"hello": say("Hi.", "keep"), **flow(sms(form={"to": "{caller}"}, failed=True, timeout=5))})
    h.crm.script("/sms", lambda _: h.noted("call.resumed") and Reply(200))
    phone = h.call()
    h.noted("sms.sending")
    h.lose_socket(phone)
    state = h.ended(phone)
    assert "sms.once" in codes(state)
    assert len(h.crm.to("/sms")) == 1


def test_what_is_told_beside_the_call_does_not_lead_it_back(hall: Start) -> None:
    """The SMS was taken when the call had gone on: it does not come back to the SMS."""
    steps = flow(sms(form={"to": "{caller}"}) | {"next": "glad"})
    steps |= {"glad": say("Thank you.", "ask"), "ask": menu({"1": "bye"}, timeout=20)}
    h = hall({"hello": say("Hi.", "keep"), **steps})
    h.crm.script("/sms", lambda _: phone.wait_until(lambda p: p.asked.is_set(), WAIT) and Reply(200))
    phone = h.call()
    h.noted("sms.sent")
    h.lose_socket(phone)
    h.noted("call.resumed")
    assert phone.wait_until(lambda p: p.texts.count("Which one?") == 2, WAIT)
    phone.press("1")
    state = h.ended(phone)
    assert len(h.crm.to("/sms")) == 1
    assert entry(state, "call.resumed").step == "ask"
    assert "sms.once" not in codes(state)
