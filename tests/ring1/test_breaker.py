"""The circuit breaker: alone with a clock of the test's own, in the client, and what callers and engineers see of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from crmtools import LOOPBACK
from gevent import socket
from hall import BYE, Hall
from support.http_server import RawServer, sends
from support.http_server import answer as http_answer

from exoflow.crm import breaker as breaker_module
from exoflow.crm.breaker import FAILURES, OPEN_SECONDS, WINDOW_SECONDS, Breaker, CircuitOpen, Passage, origin_of
from exoflow.crm.http import CrmClient, CrmFailure
from exoflow.sim.crm import Reply
from exoflow.store.sqlite import Health
from exoflow.web.health import HealthPages, Readiness, Sources

URL = "https://crm.example/passthru?key=k"
Start = Callable[..., Hall]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(
    breaker: Breaker,
    times: int = 1,
    *,
    url: str = URL,
    account: str = "acme",
    reason: Any = "timeout",
    reached: bool = False,
) -> Passage:
    for _ in range(times):
        with breaker.passing(account, url) as passage:
            passage.failed(reason, "not done within 5 s", reached=reached)
    return passage


def answer(breaker: Breaker, *, url: str = URL, account: str = "acme") -> Passage:
    with breaker.passing(account, url) as passage:
        passage.answered()
    return passage


def refused(breaker: Breaker, url: str = URL, account: str = "acme") -> CircuitOpen:
    with pytest.raises(CircuitOpen) as caught, breaker.passing(account, url):
        pass
    return caught.value


# --- alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["timeout", "refused", "reset", "dns", "tls"])
def test_it_opens_after_failures_in_a_row_and_says_why(breaker: Breaker, reason: str) -> None:
    assert fail(breaker, FAILURES - 1, reason=reason).evidence == {}
    opened = fail(breaker, reason=reason)
    assert opened.evidence["circuit"] == "open"
    told = refused(breaker)
    assert told.evidence == opened.evidence
    assert told.evidence["last_failure"] == reason
    assert f"the last failure: {reason}, not done within 5 s" in told.detail
    assert "next trial is due in 10 s" in told.detail


@pytest.mark.parametrize("reason", ["url", "address"])
def test_what_is_not_the_hosts_does_not_count(breaker: Breaker, reason: str) -> None:
    fail(breaker, FAILURES * 2, reason=reason)
    assert answer(breaker).evidence == {}


@pytest.mark.parametrize("reason", ["", "body"])
def test_an_answer_between_begins_the_row_anew(breaker: Breaker, reason: str) -> None:
    fail(breaker, FAILURES - 1)
    fail(breaker, reason=reason) if reason else answer(breaker)
    fail(breaker, FAILURES - 1)
    assert breaker.state() == []
    fail(breaker)
    assert [circuit["state"] for circuit in breaker.state()] == ["open"]


def test_failures_far_apart_do_not_open(breaker: Breaker, clock: Clock) -> None:
    for _ in range(FAILURES * 3):
        fail(breaker)
        clock.now += WINDOW_SECONDS / (FAILURES - 1) + 0.1
    assert breaker.state() == []


def test_another_account_and_another_host_are_asked_as_ever(breaker: Breaker) -> None:
    fail(breaker, FAILURES)
    refused(breaker, "https://CRM.example:443/connect")
    answer(breaker, account="bank")
    answer(breaker, url="http://crm.example/passthru")
    answer(breaker, url="https://crm.example:8443/passthru")
    refused(breaker)


SLOW, WELL = "https://crm.example/greeting", "https://crm.example/connect"


def test_slow_address_is_refused_alone_and_its_host_is_asked_on(breaker: Breaker) -> None:
    fail(breaker, FAILURES, url=SLOW, reached=True)
    refused(breaker, SLOW)
    refused(breaker, SLOW + "?CallSid=1")
    answer(breaker, url=WELL)
    answer(breaker, url=WELL + "/greeting")
    refused(breaker, SLOW)
    assert [(one["host"], one["path"]) for one in breaker.state()] == [("https://crm.example:443", "/greeting")]


def test_slow_address_has_a_trial_of_its_own_however_often_others_are_asked(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES, url=SLOW, reached=True)
    clock.now += OPEN_SECONDS
    answer(breaker, url=WELL)
    answer(breaker, url=SLOW)
    assert breaker.state() == []


def test_host_that_takes_no_connection_is_refused_whole(breaker: Breaker) -> None:
    for url in (SLOW, WELL, URL, SLOW, WELL):
        fail(breaker, url=url, reason="refused")
    for url in (SLOW, WELL, URL):
        refused(breaker, url)
    assert [one["path"] for one in breaker.state()] == [""]


def test_connection_that_was_made_ends_the_row_of_those_that_were_not(breaker: Breaker) -> None:
    fail(breaker, FAILURES - 1)
    fail(breaker, url=WELL, reached=True)
    fail(breaker, FAILURES - 1)
    assert breaker.state() == []


def test_path_with_a_secret_is_masked_where_people_see_it(breaker: Breaker) -> None:
    fail(breaker, FAILURES, url="https://u:very-secret@crm.example/a?token=very-secret", reached=True)
    assert "very-secret" not in json.dumps(breaker.state())


def test_one_trial_at_a_time_and_its_answer_closes(breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, breaker_module.__name__)
    fail(breaker, FAILURES)
    clock.now += OPEN_SECONDS - 0.1
    refused(breaker)
    clock.now += 0.1
    with breaker.passing("acme", URL) as trial:
        assert trial.evidence["circuit"] == "half-open"
        assert breaker.state()[0]["state"] == "half-open"
        assert "a trial is under way" in refused(breaker).detail
        trial.answered()
    assert breaker.state() == []
    assert answer(breaker).evidence == {}
    assert [record.getMessage().split(": ", 1)[1][:40] for record in caplog.records] == [
        "https://crm.example:443 is not asked for",
        "https://crm.example:443 answers again an",
    ]


def test_a_failed_trial_leaves_it_open_for_as_long_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES)
    clock.now += OPEN_SECONDS
    fail(breaker, reason="refused")
    clock.now += OPEN_SECONDS - 0.1
    told = refused(breaker)
    assert "for 20 s now" in told.detail
    assert told.evidence["last_failure"] == "refused"
    clock.now += 0.1
    answer(breaker)


def test_a_trial_that_is_given_up_leaves_the_next_one_to_try(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES)
    clock.now += OPEN_SECONDS
    with pytest.raises(gevent.GreenletExit), breaker.passing("acme", URL):
        raise gevent.GreenletExit
    assert answer(breaker).evidence["circuit"] == "half-open"


def test_late_failures_do_not_prolong_and_a_late_answer_closes(breaker: Breaker, clock: Clock) -> None:
    with breaker.passing("acme", URL) as slow, breaker.passing("acme", URL) as slower:
        fail(breaker, FAILURES)
        clock.now += OPEN_SECONDS - 1
        slow.failed("timeout", "late", reached=False)
        assert breaker.state()[0]["trial_in_seconds"] == 1
        slower.answered()
    answer(breaker)


def test_it_forgets_rather_than_grows(breaker: Breaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "MAX_CIRCUITS", 3)
    for at in range(5):
        fail(breaker, FAILURES, url=f"https://crm{at}.example/")
    assert [circuit["host"] for circuit in breaker.state()] == [f"https://crm{at}.example:443" for at in (2, 3, 4)]
    assert breaker.forgotten == 2


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("HTTPS://User:pw@CRM.example/x?y#z", "https://crm.example:443"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("http://crm.example:99999/", None),
        ("ftp://crm.example/", None),
        ("no url", None),
    ],
)
def test_origins(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin


# --- in the client ------------------------------------------------------------------------------------


@contextmanager
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/?key=very-secret"


def test_the_client_asks_a_dead_host_no_more(clock: Clock) -> None:
    client = CrmClient()
    client.breaker.clock = clock
    with silent() as url:
        reasons = []
        for _ in range(FAILURES + 1):
            with pytest.raises(CrmFailure) as caught:
                client.get(url, deadline=0.05, allow_private=LOOPBACK, account="acme", waits=True)
            reasons.append(caught.value.reason)
    assert reasons == ["timeout"] * FAILURES + ["open"]
    assert client.breaker.state()[0]["path"] == "/"  # it takes connections
    assert caught.value.ms == 0
    assert "very-secret" not in str(caught.value)
    assert "exoflow crm test" in caught.value.cure
    with RawServer(sends(http_answer(b"OK"))) as server:
        assert client.get(server.url, deadline=2.0, allow_private=LOOPBACK, account="acme", waits=True).circuit == {}
    client.close()


def test_requests_that_nobody_watches_go_out_as_ever() -> None:
    client = CrmClient()
    for _ in range(FAILURES * 2):
        with pytest.raises(CrmFailure) as caught:
            client.get("http://127.0.0.1:1/", deadline=2.0, allow_private=LOOPBACK)
        assert caught.value.reason == "refused"
    assert client.breaker.state() == []
    client.close()


# --- in calls -----------------------------------------------------------------------------------------


def ask(url: str, on: str) -> dict[str, Any]:
    return {"passthru": {"url": url}, "ok": on, "redirect": on, "failed": on}


DEAD = "http://127.0.0.1:1/dead?key=very-secret"
FLOW = {"ask": ask(DEAD, "bye"), "bye": BYE}


def codes(hall: Hall, phone: Any) -> list[str]:
    return [entry.code for entry in hall.ended(phone).journey if entry.code.startswith("crm.")]


def test_callers_of_a_dead_crm_go_on_at_once_and_the_journey_says_since_when(hall: Start) -> None:
    site = hall(FLOW)
    site.service.crm.breaker.clock = site.switch.clock.elapsed
    seen = [codes(site, site.call()) for _ in range(FAILURES)]
    assert seen == [["crm.refused"]] * FAILURES
    phone = site.call()
    state = site.ended(phone)
    (entry,) = [entry for entry in state.journey if entry.code == "crm.open"]
    assert entry.evidence["circuit"] == "open"
    assert entry.evidence["last_failure"] == "refused"
    assert entry.evidence["since"].endswith("Z")
    assert "very-secret" not in entry.text + json.dumps(entry.evidence)
    assert "after 5 requests in a row without an answer" in entry.text
    assert [entry.evidence["because"] for entry in state.journey if entry.code == "passthru.branch"] == ["crm.open"]


def test_a_crm_that_is_back_is_asked_again(hall: Start) -> None:
    site = hall({"ask": {**ask("crm:/passthru", "bye"), "passthru": {"url": "crm:/passthru", "timeout": 0.3}}, "bye": BYE})
    site.service.crm.breaker.clock = site.switch.clock.elapsed
    site.crm.script("/passthru", *[Reply(200, delay=0.6)] * FAILURES, Reply(200))
    for _ in range(FAILURES):
        assert codes(site, site.call()) == ["crm.timeout"]
    assert codes(site, site.call()) == ["crm.open"]
    asked = len(site.crm.to("/passthru"))
    site.switch.clock.sleep(OPEN_SECONDS + 1)
    phone = site.call()
    (entry,) = [entry for entry in site.ended(phone).journey if entry.code == "crm.200"]
    assert entry.evidence["circuit"] == "half-open"
    assert codes(site, site.call()) == ["crm.200"]
    assert len(site.crm.to("/passthru")) == asked + 2


def test_one_account_s_dead_crm_is_not_another_s(hall: Start) -> None:
    other = "+918030752401"
    site = hall(
        FLOW,
        accounts={
            "acme": {},
            "bank": {"numbers": [{"number": other, "trunk": "PRI1", "flow": "main"}]},
        },
    )
    for _ in range(FAILURES + 1):
        last = codes(site, site.call())
    assert last == ["crm.open"]
    assert codes(site, site.call(to=other)) == ["crm.refused"]


def test_a_connect_rings_its_fallback_at_once(hall: Start) -> None:
    connect = {"url": DEAD, "fallback": {"group": "support"}, "record": "none"}
    site = hall({"talk": {"connect": connect, "answered": "bye", "unanswered": "bye"}, "bye": BYE})
    for _ in range(FAILURES):
        site.ended(site.call())
    state = site.ended(site.call())
    assert "crm.open" in [entry.code for entry in state.journey]
    assert state.outcome == "answered"


def test_what_nobody_waits_for_is_sent_although_the_circuit_is_open(hall: Start) -> None:
    steps = {
        "ask": ask(DEAD, "tell"),
        "tell": {"passthru": {"url": DEAD, "wait": False}, "next": "bye"},
        "bye": BYE,
    }
    site = hall(steps)
    for _ in range(FAILURES):
        site.ended(site.call())
    assert sorted(codes(site, site.call())) == ["crm.open", "crm.refused"]


def test_ready_pages_show_open_circuits_and_stay_ready(hall: Start) -> None:
    site = hall(FLOW)
    for _ in range(FAILURES):
        site.ended(site.call())
    pages = HealthPages(Readiness(Sources(Health, lambda: "", lambda: (0, 1), crm=site.service.crm.breaker.state)).state)
    told: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/readyz", "HTTP_ACCEPT": "application/json"}
    (body,) = pages(environ, lambda status, headers: told.append(status))
    shown = json.loads(body)
    assert told == ["200 OK"]
    assert shown["ready"] is True
    (circuit,) = shown["crm"]
    assert (circuit["account"], circuit["host"], circuit["state"]) == ("acme", "http://127.0.0.1:1", "open")
    assert circuit["detail"] == "nothing listens at 127.0.0.1 port 1"
