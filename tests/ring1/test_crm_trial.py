"""`exoflow crm test` judges as a call does, for every applet, and says how the flow goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import gevent
import gevent.server
import gevent.subprocess
import pytest
from click.testing import CliRunner
from hall import ASHA, BYE, MEENA, OURS, RAVI, SECRET, Hall, say, visited

from exoflow.cli import main
from exoflow.linesound import wav
from exoflow.sim import AgentScript
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
TRUNKS = {
    "PRI1": {"span": "PRI1", "std_code": "80", "outbound": {"cli": "8030752400"}},
    "GW": {"gateway": "backup", "outbound": {"dial_prefix": "91"}},
}
ENDS = {name: say(f"This is {name}.") for name in ("good", "redirected", "bad", "talked", "alone")} | {"bye": BYE}
PASSTHRU = {"start": {"passthru": {"url": "crm:/ask", "timeout": 0.5}, "ok": "good", "redirect": "redirected", "failed": "bad"}}
CONNECT = {"start": {"connect": {"url": "crm:/ask", "timeout": 0.5}, "answered": "talked", "unanswered": "alone"}}
GREETING = {"start": {"greeting": {"url": "crm:/ask", "url_timeout": 0.5}, "next": "good", "failed": "bad"}}
GATHER = {"start": {"gather": {"url": "crm:/ask", "url_timeout": 0.5}, "next": "good", "otherwise": "bad"}}
MENU = {"start": {"menu": {"url": "crm:/ask", "url_timeout": 0.5, "attempts": 1}, "keys": {"1": "good"}, "otherwise": "bad"}}
SOUND = Reply(200, wav(bytes(16_000)), "audio/wav")


def run(site: Hall, *arguments: str, code: int = 0) -> str:
    """In a thread, as another process: service and CRM run on meanwhile."""

    def invoke() -> Any:
        return CliRunner().invoke(main, ["crm", "-c", str(site.folder / "exoflow.yaml"), *arguments])

    done = gevent.get_hub().threadpool.apply(invoke)
    assert done.exit_code == code, done.output
    return str(done.output)


def said(site: Hall, where: str, *options: str, code: int = 0) -> dict[str, Any]:
    """The JSON of a test."""
    found: dict[str, Any] = json.loads(run(site, "--json", *options, "test", "acme", where, code=code))
    assert found["good"] is (code == 0)
    return found


def agents(**more: Any) -> Reply:
    return Reply.agents(ASHA, **more)


# --- the same as a call ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "reply", "code", "then"),
    [
        (PASSTHRU, Reply(200, b"OK"), 0, "good"),
        (PASSTHRU, Reply(302), 0, "redirected"),
        (PASSTHRU, Reply(204), 1, "bad"),
        (PASSTHRU, Reply(301, headers=[("Location", "/other")]), 1, "bad"),
        (PASSTHRU, Reply(404), 1, "bad"),
        (PASSTHRU, Reply(200, b"OK", delay=1.0), 1, "bad"),
        (CONNECT, agents(), 0, "talked"),
        (CONNECT, agents(outgoing_phone_number="08030752400"), 0, "talked"),
        (CONNECT, agents(outgoing_phone_number=OURS), 0, "talked"),
        (CONNECT, agents(outgoing_phone_number="08030752401"), 1, "alone"),
        (CONNECT, Reply(200, b'{"destination": {"numbers": ["%s"], "trunk": "GW"}}' % ASHA.encode()), 0, "talked"),
        (CONNECT, Reply(200, b'{"destination": {"numbers": ["%s"], "trunk": "X"}}' % ASHA.encode()), 1, "alone"),
        (CONNECT, Reply.agents(), 0, "alone"),
        (CONNECT, Reply(200, b'{"destination": {"numbers": ["+91987'), 1, "alone"),
        (CONNECT, Reply(302, headers=[("Location", "/agents")]), 1, "alone"),
        (CONNECT, Reply(204), 1, "alone"),
        (CONNECT, Reply(200, b"", delay=1.0), 1, "alone"),
        (GREETING, Reply(200, b"Good morning."), 0, "good"),
        (GREETING, Reply(200, b""), 1, "bad"),
        (GREETING, Reply(204), 1, "bad"),
        (GREETING, Reply(200, b"<p>Good morning.</p>", "text/html"), 1, "bad"),
        (GATHER, Reply(200, b'{"gather_prompt": {"text": "'), 1, "bad"),
        (GATHER, Reply(500, b"oops"), 1, "bad"),
        (MENU, Reply(404, b"no"), 1, "bad"),
    ],
)
def test_the_flow_goes_on_as_it_does_in_a_call(hall: Start, steps: dict[str, Any], reply: Reply, code: int, then: str) -> None:
    site = hall(steps | ENDS, trunks=TRUNKS, agents={ASHA: AgentScript.answers(0.5, 1)})
    site.crm.script("/ask", reply)
    meaning = str(said(site, "main/start", code=code)["meaning"])
    _, state = site.run()
    assert visited(state)[1] == then
    if then in ("talked", "good") and steps is not PASSTHRU:
        assert " on by " not in meaning  # whether an agent answers is not the CRM's to say
    else:
        assert f"to {then}" in meaning


def test_audio_that_cannot_be_played_is_no_greeting(hall: Start) -> None:
    site = hall(GREETING | ENDS)
    site.crm.script("/ask", Reply(200, site.crm.url("/a.wav").encode()))
    site.crm.script("/a.wav", SOUND)
    told = said(site, "main/start")
    assert told["meaning"] == f"played: {site.crm.url('/a.wav')}"
    assert [one["method"] for one in told["requests"]] == ["HEAD", "GET", "GET"]
    site.crm.script("/a.wav", Reply(200, b"RIFF", "audio/wav"))
    told = said(site, "main/start", code=1)
    assert "cannot be played" in told["meaning"]
    assert told["meaning"].endswith("there is nothing to play, on by `failed` to bad")


def test_a_connect_says_how_it_rings(hall: Start) -> None:
    step = {"connect": {"url": "crm:/ask", "record": "dual", "ring_seconds": 20, "fallback": {"group": "backup"}}}
    site = hall({"start": {**step, "answered": "bye", "unanswered": "bye"}, "bye": BYE}, trunks=TRUNKS)
    told = {"max_ringing_duration": 15, "parallel_ringing": {"activate": True, "max_parallel_attempts": 2}}
    site.crm.script("/ask", Reply.agents(ASHA, RAVI, outgoing_phone_number=OURS, fetch_after_attempt=True, **told))
    assert said(site, "main/start")["meaning"] == (
        f"rung in this order: {ASHA}, {RAVI}; 15 s each, 2 at once, over PRI1, showing 8030752400 on PRI1, recorded (dual), "
        "the CRM is asked again after each attempt that failed"
    )
    site.crm.script("/ask", Reply.agents())
    assert said(site, "main/start")["meaning"].startswith(
        f"nobody is free: the step's `fallback`, group backup is rung in this order: {MEENA}; 20 s each"
    )
    site.crm.script("/ask", Reply(500, b"oops"))
    assert f"`fallback`, group backup is rung in this order: {MEENA}" in said(site, "main/start", code=1)["meaning"]
    assert site.crm.to("/ask")[0].get("CallType") == "call-attempt"


def test_a_fallback_url_is_asked_as_in_a_call_and_by_itself(hall: Start) -> None:
    site = hall({"start": {**PASSTHRU["start"], "passthru": {"url": "crm:/ask", "fallback_url": "crm:/second"}}} | ENDS)
    site.crm.script("/ask", Reply(500, b"oops"))
    site.crm.script("/second", Reply(200, b'{"select": "gold"}'))
    told = said(site, "main/start")
    assert [one["status"] for one in told["requests"]] == [500, 200]
    assert told["meaning"] == "on by `ok` to good; a `switch` selects gold"
    assert {one["code"] for one in told["journey"]} >= {"crm.500", "crm.fallback_url", "crm.200", "passthru.branch"}
    said(site, "main/start.fallback_url")
    assert (len(site.crm.to("/ask")), len(site.crm.to("/second"))) == (1, 2)
    site.crm.script("/ask", Reply(200, b"OK"))
    assert [one["status"] for one in said(site, "main/start")["requests"]] == [200]


def test_a_passthru_beside_the_flow_is_sent_and_waited_for(hall: Start) -> None:
    site = hall({"start": {"passthru": {"url": "crm:/ask", "wait": False}, "next": "bye"}, "bye": BYE})
    site.crm.script("/ask", Reply(200, b"OK"))
    assert said(site, "main/start")["meaning"] == "it was told; the flow does not wait, on by `next` to bye"
    site.crm.script("/ask", Reply(500, b"oops"))
    assert "it was not told" in said(site, "main/start", code=1)["meaning"]


def test_a_server_that_trickles_is_waited_for_no_longer_than_in_a_call(hall: Start) -> None:
    """In a process of its own, as the command runs."""
    site = hall(PASSTHRU | ENDS)

    def serve(sock: Any, _: Any) -> None:
        with sock:
            sock.recv(65_536)
            sock.sendall(b"HTTP/1.1 200 ")
            with suppress(OSError):  # until the client goes
                while True:
                    gevent.sleep(0.1)
                    sock.sendall(b"x")

    server = gevent.server.StreamServer(("127.0.0.1", 0), serve)
    server.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    command = [
        "-c",
        "from exoflow.cli import main; main()",
        "crm",
        "-c",
        str(site.folder / "exoflow.yaml"),
        "--json",
        "test",
        "acme",
        url,
    ]
    try:
        done = gevent.subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    finally:
        server.stop()
    assert (done.returncode, done.stderr) == (1, b"")
    assert json.loads(done.stdout)["reason"] == "timeout"


# --- what is sent ---------------------------------------------------------------------------------------


def test_every_request_is_marked_and_shown_as_it_was_sent(hall: Start) -> None:
    site = hall(PASSTHRU | ENDS)
    site.crm.script("/ask", Reply(200, b"OK"))
    shown = run(site, "--caller", "09812345678", "test", "acme", "main/start")
    (request,) = site.crm.to("/ask")
    assert request.headers["exoflow-test"] == "true"
    assert "Exoflow-Test: true" in shown
    for name, value in request.params:
        assert f"    {name}={value}" in shown.splitlines()
    assert "is no number" in run(site, "--caller", "me", "test", "acme", "main/start", code=1)


SMS = {
    "start": {
        "sms": {
            "url": "crm:/sms?key=very-secret",
            "form": {"to": "{caller}", "text": "Order {order}, {late}", "token": "hush"},
            "headers": {"X-Api-Key": "word-of-mouth"},
        },
        "next": "page",
    },
    "page": {"page": {"url": "crm:/page", "text": "Order {order}"}, "next": "bye"},
    "order": {"set": {"variables": {"order": {"value": "0"}, "late": {"value": "0"}}}, "next": "bye"},
    "bye": BYE,
}


def test_an_sms_is_really_sent_and_its_secrets_are_not_shown(hall: Start) -> None:
    site = hall(SMS)
    site.crm.script("/sms", Reply(200, b"queued"), Reply(402, b"no credit"))
    shown = run(site, "--set", "order=17", "test", "acme", "main/start")
    (request,) = site.crm.to("/sms")
    assert parse_qs(request.body.decode()) == {"to": ["+919999999901"], "text": ["Order 17, "], "token": ["hush"]}
    assert (request.headers["x-api-key"], request.headers["exoflow-test"]) == ("word-of-mouth", "true")
    for secret in ("very-secret", "hush", "word-of-mouth"):
        assert secret not in shown
    assert "text=Order 17, &token=***" in shown
    assert "on by `next` to page; without a value, and so empty: late (--set NAME=VALUE)" in shown
    assert "The SMS provider answered 402" in said(site, "main/start", code=1)["meaning"]


def test_a_page_is_signed(hall: Start) -> None:
    site = hall(SMS)
    site.crm.script("/page", Reply(200, b"OK"))
    told = said(site, "main/page", "--set", "order=17")
    (request,) = site.crm.to("/page")
    assert request.event["data"]["text"] == "Order 17"
    assert request.headers["webhook-signature"].startswith("v1,")
    assert json.loads(told["requests"][0]["body"]) == request.event
    assert SECRET not in json.dumps(told)


TOLD = {
    "deliveries": {"url": "crm:/deliveries", "secret": SECRET, "events": ["call.started", "call.answered", "call.ended"]},
    "crm": {
        "allow_private": ["127.0.0.1/32"],
        "dial_events": {"url": "crm:/dial"},
        "status_callback": {"url": "crm:/status", "events": ["answered", "terminal"]},
    },
    "call_backs": {"ask": "crm:/may", "hours": {"mon-sun": ["00:00-24:00"]}},
}


def test_deliveries_and_events_are_told_of_a_call_that_never_was(hall: Start) -> None:
    site = hall(PASSTHRU | ENDS, account=TOLD)
    for path in ("/deliveries", "/dial", "/status"):
        site.crm.script(path, Reply(200, b"OK"))
    assert said(site, "deliveries")["meaning"] == "call.started: received; call.answered: received; call.ended: received"
    events = site.crm.to("/deliveries")
    assert [one.event["type"] for one in events] == ["call.started", "call.answered", "call.ended"]
    assert all(one.signed and one.headers["exoflow-test"] == "true" for one in events)
    assert "there was no such call" in events[-1].event["data"]["journey"][0]["text"]
    said(site, "crm.dial_events")
    assert [one.get("Status") for one in site.crm.to("/dial")] == ["busy", "free"]
    said(site, "crm.status_callback")
    forms = [parse_qs(one.body.decode()) for one in site.crm.to("/status")]
    assert [form["EventType"] for form in forms] == [["answered"], ["terminal"]]
    site.crm.script("/deliveries", Reply(500, b"oops"))
    assert "call.ended: " in said(site, "deliveries", code=1)["meaning"]


@pytest.mark.parametrize(
    ("reply", "code", "then"),
    [
        (Reply(200, b"OK"), 0, "the caller is called back"),
        (Reply(404), 0, "the call-back ends"),
        (Reply(500), 1, "the hook is asked again later"),
        (Reply(204), 1, "the hook is asked again later"),
    ],
)
def test_the_do_not_call_hook_is_asked(hall: Start, reply: Reply, code: int, then: str) -> None:
    site = hall(PASSTHRU | ENDS, account=TOLD)
    site.crm.script("/may", reply)
    assert said(site, "call_backs.ask", code=code)["meaning"].endswith(then)


def test_a_number_s_own_status_callback_is_told(hall: Start) -> None:
    numbers = [
        {"number": OURS, "trunk": "PRI1", "flow": "main"},
        {"number": "+918030752401", "trunk": "PRI1", "flow": "main", "status_callback": {"url": "crm:/own"}},
    ]
    site = hall(PASSTHRU | ENDS, account={**TOLD, "numbers": numbers})
    site.crm.script("/own", Reply(200, b"OK"))
    site.crm.script("/status", Reply(200, b"OK"))
    said(site, "numbers +918030752401")
    assert parse_qs(site.crm.to("/own")[0].body.decode())["Status"] == ["completed"]
    assert not site.crm.to("/status")
    said(site, "crm.status_callback")
    assert len(site.crm.to("/status")) == 2
