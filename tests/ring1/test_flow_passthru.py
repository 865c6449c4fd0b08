"""passthru: what the CRM is told, how its answer chooses the way, and what the caller hears meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.server import StreamServer
from hall import BYE, OURS, WAIT, Hall, codes, entry, menu, prompt_files, say, visited
from support.http_server import RawServer
from support.ports import free_port

from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
ENDS = {
    "yes": {"hangup": {"cause": "NORMAL_CLEARING"}},
    "no": {"hangup": {"cause": "USER_BUSY"}},
    "bad": {"hangup": {"cause": "CALL_REJECTED"}},
}


def ask(url: str = "crm:/passthru", *, failed: bool = True, **more: Any) -> dict[str, Any]:
    step = {"passthru": {"url": url, **more}, "ok": "yes", "redirect": "no"}
    return step | ({"failed": "bad"} if failed else {})


@pytest.mark.parametrize(
    ("status", "branch"),
    [(200, "yes"), (302, "no"), *((status, "bad") for status in (201, 204, 301, 303, 307, 400, 401, 404, 429, 500, 503))],
)
def test_the_status_chooses_the_branch(hall: Start, status: int, branch: str) -> None:
    h = hall({"ask": ask(), **ENDS})
    h.crm.script("/passthru", Reply(status, b"said so", headers=[("Location", h.crm.url("/elsewhere"))]))
    _, state = h.run()
    assert visited(state) == ["ask", branch]
    assert len(h.crm.to("/passthru")) == 1
    assert h.crm.to("/elsewhere") == []  # 302 is an answer, never followed
    told = entry(state, f"crm.{status}")
    assert told.stage == "E"
    assert told.evidence["status"] == status
    assert told.evidence["answer"] == ("said so" if status != 204 else "")
    assert isinstance(told.evidence["ms"], int)


@pytest.mark.parametrize("status", [404, 500])
def test_without_a_failed_branch_failure_goes_by_redirect(hall: Start, status: int) -> None:
    h = hall({"ask": ask(failed=False), "yes": BYE, "no": {"hangup": {"cause": "USER_BUSY"}}})
    h.crm.script("/passthru", Reply(status))
    phone, state = h.run()
    assert phone.cause == "USER_BUSY"
    assert entry(state, "passthru.branch").evidence == {"branch": "redirect", "because": f"crm.{status}"}


@pytest.mark.parametrize(
    ("first", "noted"),
    [(Reply(500), "crm.500"), (Reply(503), "crm.503"), (Reply(200, delay=2), "crm.timeout"), (None, "crm.refused")],
)
def test_the_fallback_url_is_asked_when_the_first_gives_no_answer(hall: Start, first: Reply | None, noted: str) -> None:
    url = "crm:/passthru" if first else f"http://127.0.0.1:{free_port()}/"
    h = hall({"ask": ask(url, timeout=1, fallback_url="crm:/other?key=k"), **ENDS})
    if first is not None:
        h.crm.script("/passthru", first)
    h.crm.script("/other", Reply(302))
    _, state = h.run()
    assert visited(state) == ["ask", "no"]
    assert codes(state)[codes(state).index(noted) :][:4] == [noted, "crm.fallback_url", "crm.302", "passthru.branch"]
    (other,) = h.crm.to("/other")
    assert other.get("CallSid") == state.facts.id
    assert other.get("key") == "k"


@pytest.mark.parametrize(
    ("first", "noted"), [(Reply(500), "crm.500"), (Reply(200, delay=2), "crm.timeout"), (None, "crm.refused")]
)
def test_beside_the_flow_the_fallback_url_is_told_by_the_same_rules(hall: Start, first: Reply | None, noted: str) -> None:
    url = "crm:/passthru" if first else f"http://127.0.0.1:{free_port()}/"
    tell = {"passthru": {"url": url, "fallback_url": "crm:/other?key=k", "timeout": 1, "wait": False}, "next": "bye"}
    h = hall({"tell": tell, "bye": BYE})
    if first is not None:
        h.crm.script("/passthru", first)
    h.crm.script("/other", Reply(200))
    _, state = h.run()
    beside = [one.code for one in state.journey if one.step == "tell"]
    assert beside == ["passthru.beside", noted, "crm.fallback_url", "crm.200"]
    (other,) = h.crm.to("/other")
    assert (other.get("CallSid"), other.get("key")) == (state.facts.id, "k")
    assert other.get("CallStatus") == "ringing"  # as it was when the step told, and not at the call's end
    assert state.outcome == "served"


@pytest.mark.parametrize("status", [200, 302, 404])
def test_beside_the_flow_an_answer_of_the_first_url_is_enough(hall: Start, status: int) -> None:
    tell = {"passthru": {"url": "crm:/passthru", "fallback_url": "crm:/other", "wait": False}, "next": "bye"}
    h = hall({"tell": tell, "bye": BYE})
    h.crm.script("/passthru", Reply(status))
    _, state = h.run()
    assert [one.code for one in state.journey if one.step == "tell"] == ["passthru.beside", f"crm.{status}"]
    assert h.crm.to("/other") == []


@pytest.mark.parametrize("status", [200, 302, 404])
def test_an_answer_of_the_first_url_needs_no_fallback(hall: Start, status: int) -> None:
    h = hall({"ask": ask(fallback_url="crm:/other"), **ENDS})
    h.crm.script("/passthru", Reply(status))
    _, state = h.run()
    assert h.crm.to("/other") == []
    assert "crm.fallback_url" not in codes(state)


def test_when_both_urls_fail_the_second_tells_why(hall: Start) -> None:
    h = hall({"ask": ask(fallback_url="crm:/other"), **ENDS})
    h.crm.script("/passthru", Reply(500))
    h.crm.script("/other", Reply(503))
    _, state = h.run()
    assert visited(state) == ["ask", "bad"]
    assert entry(state, "passthru.branch").evidence["because"] == "crm.503"


def dripping(sock: socket.socket, request: bytes) -> bool:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        sock.sendall(b"x")
        gevent.sleep(0.02)
    return False


def silent(sock: socket.socket, request: bytes) -> bool:
    gevent.sleep(5)
    return False


def cut(sock: socket.socket, request: bytes) -> bool:
    return False


def flooding(sock: socket.socket, request: bytes) -> bool:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000)
    return False


def no_http(sock: socket.socket, request: bytes) -> bool:
    sock.sendall(b"220 mail.example ESMTP\r\n")
    return False


@pytest.mark.parametrize(
    ("server", "reason", "stage", "cure"),
    [
        (silent, "timeout", "E", "make the CRM answer sooner"),
        (cut, "reset", "D", "look into the CRM's own log"),
        (no_http, "body", "E", "the CRM's own answer"),
    ],
)
def test_a_crm_that_does_not_answer_rightly(hall: Start, server: Any, reason: str, stage: str, cure: str) -> None:
    with RawServer(server) as crm:
        h = hall({"ask": ask(crm.url, timeout=0.3), **ENDS})
        phone, state = h.run()
    assert visited(state) == ["ask", "bad"]
    told = entry(state, f"crm.{reason}")
    assert told.stage == stage
    assert cure in told.text
    assert entry(state, "passthru.branch").evidence["because"] == f"crm.{reason}"
    # the deadline is for everything
    assert told.evidence["ms"] < 600
    assert phone.answered_at is None


@pytest.mark.parametrize(("server", "why"), [(dripping, "not the whole answer"), (flooding, "more than 64 KiB")])
def test_passthru_goes_by_its_status_although_the_body_cannot_be_read(hall: Start, server: Any, why: str) -> None:
    with RawServer(server) as crm:
        h = hall({"ask": ask(crm.url, timeout=0.3), **ENDS})
        _, state = h.run()
    assert visited(state) == ["ask", "yes"]
    assert why in entry(state, "crm.200").evidence["unread"]


def test_without_a_failed_branch_no_answer_goes_by_redirect(hall: Start) -> None:
    with RawServer(silent) as crm:
        h = hall({"ask": ask(crm.url, timeout=0.2, failed=False), "yes": BYE, "no": BYE})
        _, state = h.run()
    assert entry(state, "passthru.branch").evidence == {"branch": "redirect", "because": "crm.timeout"}
    assert visited(state) == ["ask", "no"]


def test_a_crm_that_is_not_there(hall: Start) -> None:
    h = hall({"ask": ask(f"http://127.0.0.1:{free_port()}/crm"), **ENDS})
    _, state = h.run()
    assert visited(state) == ["ask", "bad"]
    assert entry(state, "crm.refused").stage == "D"
    assert "is the CRM running" in entry(state, "crm.refused").text


def test_a_name_that_is_nobodys(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(host: str, port: int) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    h = hall({"ask": ask("http://crm.example/x"), **ENDS})
    monkeypatch.setattr(h.service.crm._resolver, "_lookup", lookup)
    _, state = h.run()
    assert visited(state) == ["ask", "bad"]
    assert "check the host's name" in entry(state, "crm.dns").text


def test_https_where_no_tls_is(hall: Start) -> None:
    server = StreamServer(("127.0.0.1", 0), lambda sock, peer: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    server.start()
    try:
        h = hall({"ask": ask(f"https://127.0.0.1:{server.server_port}/crm"), **ENDS})
        _, state = h.run()
    finally:
        server.stop(timeout=0)
    assert visited(state) == ["ask", "bad"]
    assert entry(state, "crm.tls").stage == "D"


def test_a_private_address_the_account_may_not_reach(hall: Start) -> None:
    h = hall({"ask": ask(), **ENDS}, account={"crm": {"allow_private": []}})
    _, state = h.run()
    assert visited(state) == ["ask", "bad"]
    assert "crm.allow_private" in entry(state, "crm.address").text
    assert h.crm.requests == []


def test_what_the_crm_is_told(hall: Start) -> None:
    h = hall({"pick": menu({"*": "ask"}), "ask": ask("crm:/passthru?key=s3cret&shop=1"), **ENDS, "bye": BYE})
    _, state = h.run(keys="*")
    (request,) = h.crm.to("/passthru")
    expected = {
        "key": "s3cret",
        "shop": "1",
        "CallSid": state.facts.id,
        "From": "09811100001",
        "To": "08030752400",
        "digits": '"*"',
    }
    assert {name: request.get(name) for name in expected} == expected
    assert request.get("DialCallStatus") is None  # nobody was to be rung yet
    assert "s3cret" not in str(state.journey)


# --- what the caller hears meanwhile ----------------------------------------------------------------


def test_an_answered_caller_hears_something_within_a_second(hall: Start) -> None:
    h = hall({"hello": say("Hi.", "ask"), "ask": ask(), **ENDS})
    phone = h.call()
    h.crm.script("/passthru", lambda _: phone.wait_until(lambda p: len(p.heard) == 2, WAIT) and Reply(200))
    state = h.ended(phone)
    greeting, hold = phone.heard
    assert hold.text.startswith("tone ")
    assert hold.at - greeting.at - greeting.seconds < 1.0
    assert visited(state) == ["hello", "ask", "yes"]
    # and it ends with the answer
    assert phone.ended_at is not None
    assert phone.ended_at - hold.at - hold.seconds < 1.0
    assert h.switch.violations == []


def test_the_steps_own_hold_prompt_lasts_as_long_as_the_crm_may_take(hall: Start) -> None:
    h = hall({"hello": say("Hi.", "ask"), "ask": ask(hold={"say": "Please wait."}), **ENDS})
    phone = h.call()
    h.crm.script("/passthru", lambda _: phone.wait_until(lambda p: p.texts.count("Please wait.") > 1, WAIT) and Reply(302))
    state = h.ended(phone)
    assert phone.texts[:3] == ["Hi.", "Please wait.", "Please wait."]
    assert visited(state)[-1] == "no"


def test_a_quick_crm_is_not_noticed(hall: Start) -> None:
    h = hall({"hello": say("Hi.", "ask"), "ask": ask(), **ENDS})
    phone, _ = h.run()
    assert phone.texts == ["Hi."]


def test_an_unanswered_caller_hears_only_ringing(hall: Start) -> None:
    h = hall({"ask": ask(), **ENDS})
    h.crm.script("/passthru", Reply(200, delay=0.6))
    phone, state = h.run()
    assert phone.texts == []
    assert phone.ringing_at is not None
    assert state.ring_at is not None
    assert phone.answered_at is None
    assert state.answered_at is None
    assert "call.answered" not in codes(state)


def test_hold_audio_whose_file_has_gone_is_a_tone(hall: Start) -> None:
    h = hall({"hello": say("Hi.", "ask"), "ask": ask(hold={"say": "Please wait."}), **ENDS})
    prompt_files(h)["Please wait."].unlink()
    h.crm.script("/passthru", Reply(200, delay=0.6))
    phone, state = h.run()
    assert phone.texts[1].startswith("tone ")
    assert entry(state, "prompt.missing").step == "ask"
    assert state.facts.dialled == OURS
