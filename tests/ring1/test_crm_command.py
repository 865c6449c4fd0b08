"""`exoflow crm`: every address with its circuit and without its secrets, and one asked as a call would ask it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from click.testing import CliRunner
from hall import ASHA, BYE, RAVI, Hall
from support.ports import free_port

from exoflow.cli import main
from exoflow.crm.breaker import FAILURES
from exoflow.crm.http import CrmClient, CrmFailure
from exoflow.crm.resolver import Resolver
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
DEAD = "http://127.0.0.1:1/dead?key=very-secret"
FLOW: dict[str, Any] = {
    "lookup": {"passthru": {"url": "crm:/passthru?key=very-secret", "timeout": 2}, "ok": "agents", "redirect": "dead"},
    "agents": {"connect": {"url": "crm:/connect"}, "answered": "bye", "unanswered": "dead"},
    "dead": {"passthru": {"url": DEAD}, "ok": "bye", "redirect": "bye", "failed": "text"},
    "text": {"sms": {"url": "crm:/sms", "form": {"to": "{caller}"}}, "next": "bye"},
    "bye": BYE,
}


def run(site: Hall, *arguments: str, code: int = 0) -> str:
    """In a thread, as another process: service and CRM run on meanwhile."""

    def invoke() -> Any:
        return CliRunner().invoke(main, ["crm", "-c", str(site.folder / "exoflow.yaml"), *arguments])

    done = gevent.get_hub().threadpool.apply(invoke)
    assert done.exit_code == code, done.output
    return str(done.output)


@pytest.fixture
def site(hall: Start) -> Hall:
    return hall(FLOW, main={"web": {"listen": f"127.0.0.1:{free_port()}"}})


def test_the_list_has_every_address_without_secrets(site: Hall) -> None:
    shown = run(site)
    assert "very-secret" not in shown
    rows = [line.split() for line in shown.splitlines()[:6]]
    assert [row[:4] for row in rows] == [
        ["ACCOUNT", "WHERE", "APPLET", "CIRCUIT"],
        ["acme", "main/lookup", "passthru", "closed"],
        ["acme", "main/agents", "connect", "closed"],
        ["acme", "main/dead", "passthru", "closed"],
        ["acme", "main/text", "sms", "-"],
        ["acme", "deliveries", "deliveries", "-"],
    ]
    assert rows[3][4] == "http://127.0.0.1:1/dead?key=***"
    assert shown.splitlines()[-1].endswith("test acme 'main/lookup'")
    assert "there is no account 'bank'; there are acme" in run(site, "--account", "bank", code=1)


def test_an_open_circuit_of_the_running_exoflow_is_shown(hall: Start) -> None:
    steps = {"dead": FLOW["dead"] | {"failed": "bye"}, "bye": BYE}
    site = hall(steps, main={"web": {"listen": f"127.0.0.1:{free_port()}"}})
    for _ in range(FAILURES):
        site.ended(site.call())
    shown = run(site)
    assert "acme     main/dead   passthru    open" in shown
    assert "main/dead is not asked since 20" in shown
    assert "refused, nothing listens at 127.0.0.1 port 1; the next trial is due in" in " ".join(shown.split())
    (row, _) = json.loads(run(site, "--json"))["addresses"]
    assert row["circuit"]["state"] == "open"
    site.service.stop()
    assert "is `exoflow serve` running?" in run(site)
    assert json.loads(run(site, "--json"))["addresses"][0]["circuit"] is None


def test_without_web_listen_circuits_are_not_known(hall: Start) -> None:
    site = hall(FLOW)
    assert "`web.listen`, which is not configured" in run(site)


def test_what_answers_there_may_be_another_program(site: Hall) -> None:
    file = site.folder / "exoflow.yaml"
    port = site.crm.url("").rpartition(":")[2]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"web": {"listen": f"127.0.0.1:{port}"}}))
    assert "is not this exoflow" in run(site)


def test_a_passthru_is_asked_as_a_call_asks_it(site: Hall) -> None:
    shown = run(site, "--caller", "+919812345678", "--digits", "89", "test", "acme", "main/lookup")
    assert "very-secret" not in shown
    assert "Answer: 200 in" in shown
    assert shown.splitlines()[-1] == "exoflow: on by `ok` to agents"
    (request,) = site.crm.to("/passthru")
    assert request.get("key") == "very-secret"
    assert request.get("CallFrom") == "09812345678"
    assert request.get("CallTo") == "08030752400"
    assert request.get("digits") == '"89"'
    assert len(request.get("CallSid") or "") == 32


@pytest.mark.parametrize(
    ("reply", "good", "meaning"),
    [
        (Reply(302), True, "on by `redirect` to dead"),
        (Reply(500, b"token=abcdef"), False, "on by `redirect` to dead"),
    ],
)
def test_what_other_answers_mean(site: Hall, reply: Reply, good: bool, meaning: str) -> None:
    site.crm.script("/passthru", reply)
    told = json.loads(run(site, "--json", "test", "acme", "main/lookup", code=0 if good else 1))
    assert (told["good"], told["meaning"]) == (good, meaning)
    assert told["status"] == reply.status
    assert "abcdef" not in json.dumps(told)


def test_a_connect_tells_whom_it_would_ring(site: Hall) -> None:
    assert f"rung in this order: {ASHA}, {RAVI}" in run(site, "test", "acme", "main/agents")
    assert site.crm.to("/connect")[0].headers["exotel-version"] == "1.0"
    site.crm.script("/connect", Reply.agents())
    assert "nobody is free" in run(site, "test", "acme", "main/agents")
    site.crm.script("/connect", Reply(200, b"<html>"))
    assert "is a web page, not numbers" in run(site, "test", "acme", "main/agents", code=1)


def test_a_url_of_no_step_goes_by_the_account_s_rules(site: Hall) -> None:
    assert "exoflow: on by `ok`" in run(site, "test", "acme", site.crm.url("/passthru"))
    shown = run(site, "test", "acme", "http://10.0.0.1/?key=very-secret", code=1)
    assert "No answer: address" in shown
    assert "crm.allow_private" in shown
    assert "very-secret" not in shown


def test_which_one_must_be_clear(site: Hall) -> None:
    assert "asks its CRM at several steps" in run(site, "test", "acme", code=1)
    assert "main/agents" in run(site, "test", "acme", "main/nowhere", code=1)
    assert "there is no account 'bank'" in run(site, "test", "bank", code=1)
    run(site, "tests", code=2)


def test_a_name_that_is_not_known_prints_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def lookup(host: str, port: int) -> Any:
        raise OSError(-2, "Name or service not known")

    client = CrmClient(resolver=Resolver(lookup))
    with pytest.raises(CrmFailure) as caught:
        client.get("http://crm.example/", deadline=2.0)
    assert caught.value.reason == "dns"
    assert capfd.readouterr().err == ""


HEARD: dict[str, Any] = {
    "hello": {"greeting": {"url": "crm:/greeting?key=very-secret", "fallback_url": "crm:/second"}, "next": "ask"},
    "ask": {"gather": {"url": "crm:/gather", "url_timeout": 3}, "next": "bye"},
    "bye": BYE,
}


@pytest.mark.parametrize(
    ("where", "code", "meaning"),
    [
        ("main/hello", 0, "spoken: Good morning."),
        ("main/hello.fallback_url", 1, "status: is 404"),
        ("main/ask", 0, "spoken: Your order's six digits, please.; up to 6 digits, ended by `#`, 1 times at most"),
    ],
)
def test_what_callers_would_hear(hall: Start, where: str, code: int, meaning: str) -> None:
    site = hall(HEARD)
    assert meaning in run(site, "test", "acme", where, code=code)


def test_it_asks_as_a_call_would(hall: Start) -> None:
    site = hall(HEARD)
    run(site, "test", "acme", "main/hello")
    assert {name for name, _ in site.crm.to("/greeting")[0].params} == {"key", "CallSid", "From", "To", "DialWhomNumber"}
    assert "answer wanted within 3 s" in run(site, "test", "acme", "main/ask")
    assert site.crm.to("/gather")[0].headers["exotel-version"] == "1.0"
