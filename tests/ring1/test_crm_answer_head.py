"""Heads of answers as servers in the field send them, and connections that are out of step."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import gevent
import pytest
from crmtools import LOOPBACK, failure
from gevent import socket
from gevent.event import Event
from support.http_server import RawServer, answer, sends

from exoflow.crm.answer_head import MAX_HEADERS, MAX_INTERIM
from exoflow.crm.http import CrmClient, CrmFailure

DEADLINE = 30.0  # an answer that waits for it has failed: the tests' own limit comes first
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


@pytest.fixture
def client():
    made = CrmClient()
    yield made
    made.close()


def get(client: CrmClient, url: str, **more: Any) -> Any:
    return client.get(url, deadline=DEADLINE, allow_private=LOOPBACK, **more)


def read(client: CrmClient, data: bytes) -> Any:
    with RawServer(sends(data)) as server:
        return get(client, server.url)


# --- interim answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [EARLY_HINTS, CONTINUE, PROCESSING, CONTINUE + EARLY_HINTS * 3, b"HTTP/1.1 199 Own\r\n\r\n"],
)
def test_interim_answers_are_passed_over(client, before):
    found = read(client, before + answer(b"final"))
    assert (found.status, found.body) == (200, b"final")


def test_answer_after_early_hints_is_its_own_request_s_and_never_the_next_one_s(client):
    go = Event()

    def script(sock: socket.socket, request: bytes) -> bool:
        who = request.split(b"who=")[1][:1]
        sock.sendall(EARLY_HINTS)
        go.wait(DEADLINE)
        sock.sendall(answer(b"agent of " + who))
        return True

    with RawServer(script) as server:
        first = gevent.spawn(get, client, server.url, params=[("who", "A")], account="acme")
        second = gevent.spawn(get, client, server.url, params=[("who", "B")], account="beta")
        gevent.idle()
        go.set()
        gevent.joinall([first, second], raise_error=True)
        assert (first.value.body, second.value.body) == (b"agent of A", b"agent of B")


def test_endless_interim_answers_are_refused(client):
    with RawServer(sends(CONTINUE * (MAX_INTERIM + 1))) as server:
        assert f"more than {MAX_INTERIM} interim answers" in failure(client, server.url).detail


def test_switched_protocol_is_no_answer(client):
    with RawServer(sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n")) as server:
        assert "101" in failure(client, server.url).detail


# --- header lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 2",
        b"this is no header\r\nContent-Length: 2",
        b": no name\r\nContent-Length: 2",
        b"X Y: a name with a blank\r\nContent-Length: 2",
        b"Content-Length : 2",
        b"Content-Length\t:\t2",
        b"content-length:2",
        b"Content-Length: 2, 2",
        b"Content-Length: 2\r\nContent-Length: 2",
        b"Content-Length:\r\n 2",
        b" folded before any header\r\nContent-Length: 2",
        b"X: a\0b\r\nContent-Length: 2",
        "X: प्रिय\r\nContent-Length: 2".encode(),
        b"X: " + b"a" * 60_000 + b"\r\nContent-Length: 2",
        b"A: b\r\n" * 900 + b"Content-Length: 2",
        b"Transfer-Encoding: identity\r\nContent-Length: 2",
    ],
)
def test_header_lines_are_read_as_browsers_do(client, lines):
    found = read(client, b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\nOK")
    assert (found.status, found.body) == (200, b"OK")


def test_lines_may_end_without_a_carriage_return(client):
    assert read(client, b"HTTP/1.1 200\nContent-Length: 2\n\nOK").body == b"OK"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (b"Content-Length: 2, 3", "Content-Length is '2, 3'"),
        (b"Content-Length: 2\r\nContent-Length: 3", "Content-Length is '2, 3'"),
        (b"Content-Length: -2", "Content-Length is '-2'"),
        (b"Content-Length: two", "Content-Length is 'two'"),
        (b"Transfer-Encoding: gzip, chunked", "Transfer-Encoding is 'gzip, chunked'"),
        (b"A: b\r\n" * (MAX_HEADERS + 1), f"more than {MAX_HEADERS} header lines"),
        (b"Cookie: " + b"a" * 70_000, "the header line 'Cookie: aaa"),
    ],
)
def test_header_that_leaves_no_safe_reading_is_named_at_once(client, lines, told):
    with RawServer(sends(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\nOK")) as server:
        failed = failure(client, server.url)
    assert failed.reason == "body"
    assert told in failed.detail


# --- connections out of step ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "surplus",
    [b"x", b"\r\n", b"\0", answer(b"of nobody"), EARLY_HINTS],
)
def test_connection_with_a_surplus_byte_is_not_used_again(client, surplus):
    with RawServer(sends(answer(b"OK") + surplus)) as server:
        for _ in range(3):
            assert get(client, server.url).body == b"OK"
        assert server.connections == 3


def test_connection_whose_answers_end_where_they_say_is_kept(client):
    with RawServer(sends(answer(b"OK"))) as server:
        for _ in range(3):
            assert get(client, server.url).body == b"OK"
        assert server.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_connection_that_owes_a_body_to_a_status_without_one_is_not_used_again(client, head):
    with RawServer(sends(head)) as server:
        get(client, server.url)
        get(client, server.url)
        assert server.connections == 2


def test_connection_of_a_head_is_not_used_again(client):
    with RawServer(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")) as server:
        get(client, server.url, head=True)
        get(client, server.url, head=True)
        assert server.connections == 2


def test_connection_of_one_account_is_never_another_s(client):
    with RawServer(sends(answer(b"OK"))) as server:
        get(client, server.url, account="acme")
        get(client, server.url, account="beta")
        get(client, server.url, account="acme")
        assert server.connections == 2


# --- what is sent once ------------------------------------------------------------------------------


def _dies_on_the_second(how: bytes):
    """Answers the connection's first request; takes the second one whole and dies without an answer, or after `how`."""
    seen: dict[int, int] = {}

    def script(sock: socket.socket, request: bytes) -> bool:
        number = seen[id(sock)] = seen.get(id(sock), 0) + 1
        sock.sendall(answer(b"OK") if number == 1 else how)
        return number == 1

    return script


@pytest.mark.parametrize("how", [b"", b"HTTP/1.", b"HTTP/1.1 200 OK\r\nContent-"])
def test_post_is_never_repeated(client, how):
    with RawServer(_dies_on_the_second(how)) as server:
        more = {"deadline": DEADLINE, "allow_private": LOOPBACK}
        client.post(server.url, b"first", **more)
        with nullcontext() if b"200 OK" in how else pytest.raises(CrmFailure, match="closed"):
            client.post(server.url, b"second", **more)
        assert [request.rpartition(b"\r\n\r\n")[2] for request in server.requests] == [b"first", b"second"]


def test_get_that_acts_is_never_repeated(client):
    with RawServer(_dies_on_the_second(b"")) as server:
        get(client, server.url, once=True)
        with pytest.raises(CrmFailure, match="closed"):
            get(client, server.url, once=True)
        assert len(server.requests) == 2


def test_question_that_a_kept_connection_lost_is_asked_once_more(client):
    with RawServer(_dies_on_the_second(b"")) as server:
        assert [get(client, server.url).status for _ in range(2)] == [200, 200]
        assert len(server.requests) == 3


# --- where only the status counts ---------------------------------------------------------------------

LONG = answer(b"x" * 70_000)
PACKED = answer(b"\x1f\x8b\x08", more=b"Content-Encoding: gzip\r\n")
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"
BAD_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
BAD_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx"


@pytest.mark.parametrize("data", [LONG, PACKED, CUT, BAD_CHUNK, BAD_LENGTH])
def test_status_counts_whatever_the_body_is(client, data):
    with RawServer(sends(data, keep=False)) as server:
        asked = get(client, server.url, status_only=True)
        posted = client.post(server.url, b"", deadline=DEADLINE, allow_private=LOOPBACK)
    for found in (asked, posted):
        assert (found.status, found.body) == (200, b"")
        assert found.unread


def test_body_that_never_ends_holds_a_post_for_a_bounded_time(client, monkeypatch):
    monkeypatch.setattr("exoflow.crm.http.STATUS_ONLY_SECONDS", 0.05)
    with RawServer(sends(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nx")) as server:
        found = client.post(server.url, b"", deadline=DEADLINE, allow_private=LOOPBACK)
    assert found.status == 202
    assert "the body did not come" in found.unread


@pytest.mark.parametrize("encoding", [b"none", b"UTF-8", b"identity, identity", b"utf8", b"", b"Identity"])
def test_word_that_is_no_packing_leaves_the_body_plain(client, encoding):
    assert read(client, answer(b"OK", more=b"Content-Encoding: " + encoding + b"\r\n")).body == b"OK"


@pytest.mark.parametrize("encoding", [b"gzip", b"x-gzip", b"br", b"identity, deflate", b"ZSTD"])
def test_packed_body_is_named_where_it_is_needed(client, encoding):
    with RawServer(sends(answer(b"\x1f\x8b", more=b"Content-Encoding: " + encoding + b"\r\n"))) as server:
        assert "packed" in failure(client, server.url).detail


# --- the URL's own query ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "sent"),
    [
        ("?key=50%off", b"/crm?key=50%25off&StartTime=2026-11-05+05%3A08&digits=%22123%22"),
        ("/a%zz?x=%", b"/crm/a%25zz?x=%25&StartTime=2026-11-05+05%3A08&digits=%22123%22"),
        ("?key=50%25off", b"/crm?key=50%25off&StartTime=2026-11-05+05%3A08&digits=%22123%22"),
    ],
)
def test_lone_percent_in_a_url_is_repaired_and_nothing_is_encoded_twice(client, own, sent):
    with RawServer(sends(answer(b"OK"))) as server:
        get(client, server.url + own, params=[("StartTime", "2026-11-05 05:08"), ("digits", '"123"')])
        assert server.requests[0].split(b" ")[1] == sent
