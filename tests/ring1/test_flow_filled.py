"""`{name}` in addresses, headers, spoken texts, mails: filled once, and nothing in a value becomes something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import pytest
from dying import Death, How, Moment
from hall import ASHA, BYE, CALLER, RAVI, Hall, codes, entry, menu, say
from hypothesis import given
from hypothesis import strategies as st
from support.mailbox import MailBox
from support.ports import free_port
from test_texts import ANY, cleaned, texts

from exoflow.crm.breaker import FAILURES
from exoflow.flow.templates import Texts
from exoflow.prompts import PromptBook
from exoflow.sim import AgentScript
from exoflow.sim.crm import Reply, Request

Start = Callable[..., Hall]
HOSTILE = [
    "17",
    "..",
    ".",
    "../../admin",
    "a/b?c=d&e=f#g",
    "x&key=other",
    "https://evil.example/",
    "//evil.example",
    "@evil.example",
    "50% off",
    "a+b c",
    "पुणे",
    "{caller}",
    "${caller}",
    "%2e%2e%2f",
    "a\\..\\b",
]


# --- the door -------------------------------------------------------------------------------------------


@given(ANY, ANY)
def test_a_value_stays_in_its_segment_and_in_its_parameter(one: str, two: str) -> None:
    url = texts(one=one, two=two).url("https://crm.example:8443/o/{one}/x-{two}.json?a={one}&key=K&b=-{two}")
    assert url.isascii()
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "crm.example:8443", "")
    dots = "" if cleaned(one) in (".", "..") else cleaned(one)
    assert [unquote(segment) for segment in parts.path.split("/")] == ["", "o", dots, f"x-{cleaned(two)}.json"]
    assert not {".", ".."} & set(parts.path.split("/"))
    pairs = [("a", cleaned(one)), ("key", "K"), ("b", "-" + cleaned(two))]
    assert parse_qsl(parts.query, keep_blank_values=True) == pairs


@given(ANY)
def test_a_value_ends_no_header(value: str) -> None:
    filled: str = texts(it=value).header("Order {it}")
    assert filled.isascii()
    assert filled.isprintable()
    assert unquote(filled) == f"Order {cleaned(value)}".strip()


@given(st.text(st.sampled_from("./"), max_size=6))
def test_no_dots_are_made_of_several_values(dots: str) -> None:
    path = urlsplit(texts(a=dots, b=".").url("http://crm.example/{a}{b}/{a}")).path
    assert not {".", ".."} & set(path.split("/"))


def test_a_brace_is_written_twice() -> None:
    filled: Texts = texts(a="{b}", b="no")
    assert filled.url("http://crm.example/{{{a}}}?q={{b}}") == "http://crm.example/%7B%7Bb%7D%7D?q=%7Bb%7D"
    assert filled.header("{{{a}}}") == "{{b}}"
    assert filled.url("http://crm.example/x") == "http://crm.example/x"


# --- in a call --------------------------------------------------------------------------------------------


def known(request: Request) -> Reply:
    """The value that the test's CRM knows."""
    return Reply(200, json.dumps({"order": request.get("give") or "17"}).encode(), "application/json")


@pytest.mark.parametrize("value", HOSTILE)
def test_an_address_has_the_value_and_nothing_else_of_it(hall: Start, value: str) -> None:
    steps = {
        "learn": {"passthru": {"url": "crm:/learn"}, "ok": "keep", "redirect": "keep"},
        "keep": {"set": {"variables": {"order": {"from": "crm", "key": "order"}}}, "next": "tell"},
        "tell": {"passthru": {"url": "crm:/o/{order}/log?key=K&of={order}&by={caller}"}, "ok": "bye", "redirect": "bye"},
        "bye": BYE,
    }
    site = hall(steps)
    site.crm.script("/learn", Reply(200, json.dumps({"order": value}).encode(), "application/json"))
    site.run()
    (request,) = [one for one in site.crm.requests if one.path.endswith("/log")]
    assert request.get("of") == value
    assert (request.get("key"), request.get("by")) == ("K", CALLER)
    assert [name for name, _ in request.params][:3] == ["key", "of", "by"]
    assert request.get("CallFrom") == "09811100001"
    path = request.path.encode("latin-1").decode()  # as WSGI has it, decoded once
    assert path == ("/o//log" if value in (".", "..") else f"/o/{value}/log")


def test_every_address_of_every_applet_is_filled(hall: Start) -> None:
    """And what stands first and what is asked next."""
    steps = {
        "hello": {"greeting": {"url": "crm:/g/{caller}", "fallback_url": "crm:/g2/{caller}"}, "next": "which"},
        "which": {"menu": {"url": "crm:/m/{caller}", "attempts": 1}, "keys": {"1": "ask"}, "otherwise": "ask"},
        "ask": {"gather": {"url": "crm:/a/{caller}", "variable": "order"}, "next": "beside"},
        "beside": {"passthru": {"url": "crm:/b/{order}", "wait": False}, "next": "agents"},
        "agents": {"connect": {"url": "crm:/c/{order}", "fallback_url": "crm:/c2/{order}"}, "answered": "t", "unanswered": "t"},
        "t": {"sms": {"url": "crm:/s/{order}", "form": {"a": "{order}"}, "headers": {"X-Order": "no. {order}"}}, "next": "p"},
        "p": {"page": {"url": "crm:/p/{order}", "text": "{order}"}, "next": "bye"},
        "bye": BYE,
    }
    site = hall(steps)
    caller = f"/{CALLER}"
    site.crm.script(f"/g{caller}", Reply(500))
    for path in (f"/g2{caller}", f"/m{caller}"):
        site.crm.script(path, Reply(200, b"Welcome."))
    site.crm.script(f"/a{caller}", Reply.gather("Your order?", max_input_digits=2))
    site.crm.script("/c/42", Reply(200, b"<html>"))
    site.crm.script("/c2/42", Reply.agents(RAVI))
    _, state = site.run(keys=["1", "42"])
    asked = [(one.method, one.path) for one in site.crm.requests if one.method != "HEAD" and one.path != "/deliveries"]
    assert sorted(path for _, path in asked) == sorted(
        [f"/g{caller}", f"/g2{caller}", f"/m{caller}", f"/a{caller}", "/b/42", "/c/42", "/c2/42", "/s/42", "/p/42"]
    )
    assert [leg.number for leg in state.legs] == [RAVI]
    (sms,) = site.crm.to("/s/42")
    assert (sms.headers["x-order"], parse_qs(sms.body.decode())) == ("no. 42", {"a": ["42"]})
    assert entry(state, "sms.404").evidence["url"] == site.crm.url("/s/42")


def test_what_has_no_value_is_empty_and_told(hall: Start) -> None:
    steps = {
        "tell": {"passthru": {"url": "crm:/o/{order}?digits_of={digits}"}, "ok": "set", "redirect": "set"},
        "set": {"set": {"variables": {"order": {"value": 1}}}, "next": "bye"},
        "bye": BYE,
    }
    site = hall(steps)
    site.crm.script("/o/", Reply(200, b"OK"))
    _, state = site.run()
    assert site.crm.to("/o/")[0].get("digits_of") == ""
    assert entry(state, "crm.200").evidence["unset"] == ["order", "digits"]


def test_a_secret_goes_to_the_crm_and_into_no_record(hall: Start) -> None:
    steps = {
        "pin": {"gather": {"say": "Your PIN?", "digits": 4, "variable": "code", "secret": True}, "next": "tell"},
        "tell": {"passthru": {"url": "crm:/pin/{code}?also={digits}"}, "ok": "hear", "redirect": "hear"},
        "hear": say("You typed {code}, {digits}."),
        "bye": BYE,
    }
    site = hall(steps)
    site.crm.script("/pin/8341", Reply(200, b"8341 is right"))
    phone, state = site.run(keys=["8341"])
    assert site.crm.to("/pin/8341")[0].get("also") == "8341"
    kept = json.dumps([[one.text, one.evidence] for one in state.journey]) + "".join(phone.texts)
    assert "8341" not in kept
    assert entry(state, "crm.200").evidence["url"] == site.crm.url("/pin/****?also=****")
    assert entry(state, "prompt.filled").evidence["left_out"] == ["code", "digits"]


def test_an_address_has_one_circuit_whatever_its_values_are(hall: Start) -> None:
    """And neither the circuit nor its line in the log shows a value."""
    site = hall(
        {
            "pin": {"gather": {"say": "Your PIN?", "digits": 4, "variable": "code", "secret": True}, "next": "tell"},
            "tell": {"passthru": {"url": "crm:/pin/{code}", "timeout": 0.2}, "ok": "bye", "redirect": "bye"},
            "bye": BYE,
        }
    )
    for at in range(FAILURES):
        pin = f"834{at}"
        site.crm.script(f"/pin/{pin}", Reply(200, delay=1.0))
        site.run(keys=[pin])
    (circuit,) = site.service.crm.breaker.state()
    assert circuit["state"] == "open"
    assert "834" not in json.dumps(circuit)
    _, state = site.run(keys=["8349"])
    assert "crm.open" in codes(state)


# --- spoken -------------------------------------------------------------------------------------------------


def told_by_crm(text: str, value: Any, kind: str = "text", **more: Any) -> dict[str, Any]:
    return {
        "learn": {"passthru": {"url": "crm:/learn"}, "ok": "keep", "redirect": "keep"},
        "keep": {"set": {"variables": {"it": {"from": "crm", "key": "it", "type": kind}}}, "next": "hear"},
        "hear": {"greeting": {"say": text, **more}, "next": "bye"},
        "bye": BYE,
    }


@pytest.mark.parametrize(
    ("kind", "value", "heard"),
    [
        ("integer", 1250, ["one", "thousand", "two", "hundred", "fifty"]),
        ("digits", "042", ["zero", "four", "two"]),
        ("text", "2026-11-23", ["twenty third", "november", "two", "thousand", "twenty six"]),
        ("text", "16:30", ["four", "thirty", "p m"]),
        ("text", "+919876543210", ["zero", "nine", "eight", "seven", "six", "five", "four", "three", "two", "one", "zero"]),
        ("text", "Asha Rao", ["Asha Rao"]),
        ("text", "--version; {it} $(id)", ["version; {it} $(id)"]),
    ],
)
def test_values_are_said_by_their_type(hall: Start, kind: str, value: Any, heard: list[str]) -> None:
    site = hall(told_by_crm("Your order: {it}. Thank you {{friend}}.", value, kind))
    site.crm.script("/learn", Reply(200, json.dumps({"it": value}).encode(), "application/json"))
    PromptBook(site.config.prompts).build(site.config)
    phone, state = site.run()
    assert phone.texts[0] == "Your order:"
    assert phone.texts[-1] == "Thank you {friend}."
    assert [text.lower() for text in phone.texts[1:-1]] == [text.lower() for text in heard]
    assert "prompt.missing" not in codes(state)
    assert entry(state, "prompt.filled").evidence["words"] == f"Your order: {value} Thank you {{friend}}."


def test_a_value_is_said_in_the_caller_s_language_and_in_one_piece_with_a_menu(hall: Start) -> None:
    steps = {
        "hindi": {"language": {"to": "hi"}, "next": "keep"},
        "keep": {"set": {"variables": {"due": {"value": 5, "type": "integer"}}}, "next": "hello"},
        "hello": {"greeting": {"say": {"en": "You owe {due} rupees.", "hi": "आपका बकाया {due} रुपये है।"}}, "next": "which"},
        "which": menu({"1": "bye"}, say={"en": "{due}?", "hi": "{due} ठीक है?"}),
        "bye": BYE,
    }
    site = hall(steps)
    PromptBook(site.config.prompts).build(site.config)
    phone, state = site.run(keys=["", "1"])
    assert phone.texts[:5] == ["आपका बकाया", "पाँच", "रुपये है।", "पाँच", "ठीक है?"]
    assert codes(state).count("prompt.filled") == 2
    assert site.switch.violations == []


def test_agents_hear_values_in_a_whisper(hall: Start) -> None:
    steps = {
        "keep": {"set": {"variables": {"due": {"value": 123_456, "type": "integer"}}}, "next": "agents"},
        "agents": {
            "connect": {"group": "support", "whisper": {"say": "Owes {due}, number {caller}."}, "hold": {"say": "{due}"}},
            "answered": "bye",
            "unanswered": "bye",
        },
        "bye": BYE,
    }
    site = hall(steps, agents={ASHA: AgentScript.answers(1, 60)})
    PromptBook(site.config.prompts).build(site.config)
    _, state = site.run()
    assert [leg.outcome for leg in state.legs] == ["answered"]
    words = entry(state, "prompt.filled").evidence["words"]
    assert words == f"Owes 123456 number {CALLER}"
    assert site.switch.violations == []


def test_a_value_that_no_engine_can_speak_is_left_out_and_told(hall: Start) -> None:
    site = hall(told_by_crm("Dear {it}, welcome.", "Asha"))
    site.crm.script("/learn", Reply(200, b'{"it": "\xe2\x80\x94"}', "application/json"))
    phone, state = site.run()
    assert entry(state, "prompt.filled").evidence["left_out"] == ["it"]
    assert "nothing to speak" in entry(state, "prompt.filled").text
    assert phone.cause == "NORMAL_CLEARING"


def test_a_parameter_s_value_is_filled_once(hall: Start) -> None:
    flows = {
        "main": {
            "parameters": {"city": "text", "crm": "url"},
            "start": "hello",
            "steps": {
                "hello": {"greeting": {"say": "{city} {{city}}"}, "next": "tell"},
                "tell": {"passthru": {"url": "{crm}/{caller}?city={city}"}, "ok": "bye", "redirect": "bye"},
                "bye": BYE,
            },
        }
    }
    city = "{Caller} & {{ }"
    number = {"number": "+918030752400", "trunk": "PRI1", "flow": "main", "with": {"city": city, "crm": "crm:/of"}}
    site = hall({"bye": BYE}, account={"flows": flows, "numbers": [number]})
    site.crm.script(f"/of/{CALLER}", Reply(200, b"OK"))
    PromptBook(site.config.prompts).build(site.config)
    phone, _ = site.run()
    assert phone.texts == [f"{city} {{city}}"]
    assert site.crm.to(f"/of/{CALLER}")[0].get("city") == city


# --- what became of the call ----------------------------------------------------------------------------------


def test_a_mail_and_an_sms_say_what_became_of_the_call(hall: Start) -> None:
    steps = {
        "agents": {"connect": {"group": "support"}, "answered": "bye", "unanswered": "speak"},
        "speak": {"voicemail": {"say": "Please speak."}, "next": "mail"},
        "mail": {"mail": {"to": ["desk@acme.example"], "subject": "{outcome}", "text": "{recording}"}, "next": "sms"},
        "sms": {"sms": {"url": "crm:/sms?what={outcome}", "form": {"at": "{recording}"}}, "next": "page"},
        "page": {"page": {"url": "crm:/page", "text": "{outcome}"}, "next": "bye"},
        "bye": BYE,
    }
    busy = dict.fromkeys((ASHA, RAVI), AgentScript.busy())
    with MailBox() as box:
        web = {"listen": f"127.0.0.1:{free_port()}", "public_url": "https://pbx.acme.example"}
        main = {"mail": {"smtp": box.address, "from": "calls@acme.example"}, "web": web}
        site = hall(steps, agents=busy, main=main)
        _, state = site.run(speaks=3.0)
    (mail,) = box.mails
    (sms,) = site.crm.to("/sms")
    assert mail["Subject"] == sms.get("what") == state.outcome == "voicemail"
    address = mail.get_content().strip()
    assert address.startswith("https://pbx.acme.example/")
    assert parse_qs(sms.body.decode())["at"] == [address]
    assert site.crm.to("/page")[0].event["data"]["text"] == "voicemail"


def test_the_reason_of_a_missed_call(hall: Start) -> None:
    query = "outcome={outcome}&reason={reason}&at={recording}"
    steps = {
        "agents": {"connect": {"numbers": [ASHA]}, "answered": "bye", "unanswered": "tell"},
        "tell": {"passthru": {"url": f"crm:/tell?{query}"}, "ok": "bye", "redirect": "bye"},
        "bye": BYE,
    }
    site = hall(steps, agents={ASHA: AgentScript.busy()})
    site.crm.script("/tell", Reply(200, b"OK"))
    _, state = site.run()
    (asked,) = site.crm.to("/tell")
    assert (asked.get("outcome"), asked.get("reason"), asked.get("at")) == ("missed", "leg.busy", "")
    assert (state.outcome, state.reason) == ("missed", "leg.busy")


# --- a call that comes back ------------------------------------------------------------------------------------

RESUMED = {
    "learn": {"passthru": {"url": "crm:/learn"}, "ok": "keep", "redirect": "keep"},
    "keep": {"set": {"variables": {"order": {"from": "crm", "key": "order"}}}, "next": "hello"},
    "hello": {"greeting": {"say": "Your order, {order}, at {time}."}, "next": "ask"},
    "ask": {"gather": {"say": "Order {order}: how many?", "digits": 1, "variable": "many"}, "next": "tell"},
    "tell": {"passthru": {"url": "crm:/o/{order}/{many}?at={time}", "timeout": 3}, "ok": "bye", "redirect": "bye"},
    "bye": BYE,
}


@pytest.mark.parametrize("how", ["socket", "kill"])
@pytest.mark.parametrize("moment", ["before", "in", "after"])
def test_texts_are_the_same_when_the_call_comes_back(
    hall: Start, monkeypatch: pytest.MonkeyPatch, how: How, moment: Moment
) -> None:
    site = hall(RESUMED)
    site.switch.cdr = site.folder / "cdr"
    PromptBook(site.config.prompts).build(site.config)
    site.crm.script("/learn", Reply(200, b'{"order": "A/7"}', "application/json"))
    site.crm.script("/o/A/7/3", Reply(200, b"OK"))
    Death(site, monkeypatch, how, 2, moment)
    phone = site.call(keys=["", "3"])
    state = site.ended(phone)
    hello = phone.texts[: phone.texts.index("how many?")]
    assert hello[:2] == ["Your order,", "A/7"]
    assert hello[-2:] == ["Order", "A/7"]
    assert codes(state).count("prompt.filled") == 2
    (asked,) = site.crm.to("/o/A/7/3")
    assert (asked.get("at") or "").startswith("20")
    assert codes(state).count("call.resumed") == 1
