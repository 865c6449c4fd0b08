"""The HTTP client against real servers that misbehave: what it sends, its deadline, names, and its reasons."""

from __future__ import annotations

import gzip
import os
import socket as plain_socket
import time
import traceback

import gevent
import pytest
from crmtools import LOOPBACK, asked, cut_at, failure
from gevent import socket
from gevent.monkey import get_original
from gevent.pool import Group
from support.http_server import RawServer, answer, sends

from exoflow.crm.http import MAX_BODY_BYTES, CrmClient, with_params
from exoflow.crm.resolver import Resolver


@pytest.fixture(scope="module")
def client():
    made = CrmClient()
    yield made
    made.close()


# --- what goes out ------------------------------------------------------------------------------


def test_parameters_follow_the_urls_own_query_and_nothing_packed_is_asked_for(client):
    with RawServer(sends(answer(b"ok"))) as server:
        client.get(
            server.url + "?key=K%2f1&b",
            [("Created", "Mon, 05 Jan 2026 10:00:01"), ("digits", '"89"'), ("Legs[0][Number]", "09999999903")],
            deadline=2,
            allow_private=LOOPBACK,
        )
    line, *head = server.requests[0].decode().split("\r\n")
    assert line == (
        "GET /crm?key=K%2F1&b&Created=Mon%2C+05+Jan+2026+10%3A00%3A01&digits=%2289%22"
        "&Legs%5B0%5D%5BNumber%5D=09999999903 HTTP/1.1"
    )
    assert "Accept-Encoding: identity" in head
    assert not any(one.lower().startswith(("cookie", "authorization")) for one in head)


def test_a_post_carries_body_headers_and_the_urls_query(client):
    with RawServer(sends(answer(b""))) as server:
        got = client.post(
            server.url + "?key=K",
            b'{"type":"call.ended"}',
            deadline=2,
            allow_private=LOOPBACK,
            headers={"webhook-id": "m1", "Content-Type": "application/json"},
        )
    request = server.requests[0].decode()
    assert request.startswith("POST /crm?key=K HTTP/1.1\r\n")
    assert "\r\nwebhook-id: m1\r\n" in request
    assert request.endswith('\r\n\r\n{"type":"call.ended"}')
    assert (got.status, got.body) == (200, b"")


def test_userinfo_of_the_url_becomes_basic_authorization(client):
    with RawServer(sends(answer(b"ok"))) as server:
        got = client.get(server.url.replace("//", "//u:pw12@"), deadline=2, allow_private=LOOPBACK)
    assert b"\r\nAuthorization: Basic dTpwdzEy\r\n" in server.requests[0]
    assert got.url == server.url.replace("//", "//***@")


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://h/p", "http://h/p?a=1"),
        ("http://h/p?", "http://h/p?a=1"),
        ("http://h/p?k=v", "http://h/p?k=v&a=1"),
        ("http://h/p?k=v&", "http://h/p?k=v&a=1"),
        ("http://h/p?k=v#top", "http://h/p?k=v&a=1"),
    ],
)
def test_the_place_of_parameters(url, whole):
    assert with_params(url, [("a", "1")]) == whole
    assert with_params(url, []) == url.removesuffix("#top")


def test_what_an_answer_shows(client):
    with RawServer(sends(answer(b'{"you":"sent K-secret","api_token":"T-secret"}\x1b[2J', more=b"X-Thing: 1\r\n"))) as server:
        got = client.get(server.url + "?key=K-secret&own=mine", deadline=2, allow_private=LOOPBACK, mask=["own"])
    assert got.url == server.url + "?key=***&own=***"
    assert got.headers["x-thing"] == got.headers["X-THING"] == "1"
    assert got.body.startswith(b'{"you":"sent K-secret"')
    assert got.excerpt == '{"you":"sent ***","api_token":"***"}\\x1b[2J'


# --- any status is an answer, redirects are not followed ------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "404 Not Found", "410 Gone", "500 Oops", "204 No Content"])
def test_any_status_is_an_answer(client, status):
    with RawServer(sends(answer(b"" if "204" in status else b"text", status=status))) as server:
        assert asked(client, server).status == int(status[:3])


def test_a_redirect_is_an_answer_and_nobody_goes_there(client):
    with RawServer(sends(answer(b"there"))) as there:
        moved = answer(b"moved", status="302 Found", more=f"Location: {there.url}\r\n".encode())
        with RawServer(sends(moved)) as server:
            got = asked(client, server)
    assert (got.status, got.body) == (302, b"moved")
    assert len(server.requests) == 1
    assert there.connections == 0


def test_cookies_are_not_kept(client):
    with RawServer(sends(answer(b"", more=b"Set-Cookie: session=1; Path=/\r\n"))) as server:
        asked(client, server)
        asked(client, server)
    assert b"cookie" not in server.requests[1].lower()


# --- the deadline ---------------------------------------------------------------------------------


def _drip(data: bytes, first: bytes = b""):
    def script(sock, request):
        sock.sendall(first)
        for byte in data:
            gevent.sleep(0.02)
            sock.sendall(bytes([byte]))
        return False

    return script


def _silent(sock, request):
    gevent.sleep(30)
    return False


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (_silent, "no answer came"),
        (_drip(b"H" * 500), "no answer came"),
        (_drip(b"X-Slow: 1\r\n" * 100, b"HTTP/1.1 200 OK\r\n"), "no answer came"),
        (_drip(b"0" * 500, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"), "status 200 came, but not the whole answer"),
        (_drip(b"1\r\n0\r\n" * 99, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "not the whole answer"),
        (_drip(b"0" * 500, b"HTTP/1.1 200 OK\r\n\r\n"), "not the whole answer"),
    ],
    ids=["silent", "status-line", "headers", "body", "chunks", "until-close"],
)
def test_a_slow_server_is_cut_at_the_deadline(client, script, told):
    with RawServer(script) as server:
        begun = time.monotonic()
        got = failure(client, server.url, deadline=0.3)
        took = time.monotonic() - begun
    assert got.reason == "timeout"
    assert cut_at(took, 0.3)
    assert cut_at(got.ms / 1000, 0.3)
    assert told in str(got)


def test_a_server_that_never_accepts_is_cut_at_the_deadline(client):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:  # the accept queue is full: further SYNs are dropped
            filler.setblocking(False)
            filler.connect_ex(address)
        begun = time.monotonic()
        got = failure(client, f"http://127.0.0.1:{address[1]}/", deadline=0.3)
        assert got.reason == "timeout"
        assert cut_at(time.monotonic() - begun, 0.3)
        assert "connect" in got.detail
        for filler in fillers:
            filler.close()


def test_a_handshake_that_never_ends_is_cut_at_the_deadline(client):
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        begun = time.monotonic()
        got = failure(client, f"https://127.0.0.1:{listener.getsockname()[1]}/", deadline=0.3)
    assert got.reason == "timeout"
    assert "TLS handshake" in got.detail
    assert cut_at(time.monotonic() - begun, 0.3)


def test_somebody_elses_timeout_passes_through(client):
    with RawServer(_silent) as server, pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.05) as outer:
        asked(client, server)
    assert caught.value is outer


def test_a_killed_request_leaves_nothing_behind(client):
    with RawServer(_silent) as server:
        before = len(os.listdir("/proc/self/fd"))
        asking = gevent.spawn(asked, client, server)
        while not server.requests:
            gevent.sleep(0.005)
        asking.kill()
        gevent.sleep(0.02)
    assert asking.dead
    assert len(os.listdir("/proc/self/fd")) <= before


# --- names ------------------------------------------------------------------------------------------


def _hang(seconds: float = 1.5) -> None:
    """Blocks the thread, as getaddrinfo does while a name server is away."""
    get_original("time", "sleep")(seconds)


def test_hanging_look_ups_hold_only_their_own_callers():
    def lookup(host: str, port: int):
        if host != "crm.example":
            _hang()
        return [(socket.AF_INET, ("127.0.0.1", port))]

    client = CrmClient(resolver=Resolver(lookup))
    with RawServer(sends(answer(b"ok"))) as server:
        # more than gevent's resolver has threads
        begun = time.monotonic()
        hanging = [gevent.spawn(failure, client, f"http://h{i}.example/", deadline=1.0) for i in range(15)]
        gevent.sleep(0.05)
        got = client.get(f"http://crm.example:{server.port}/", deadline=2, allow_private=LOOPBACK)
        assert got.status == 200
        assert not any(one.ready() for one in hanging)
        gevent.joinall(hanging, raise_error=True)
        assert cut_at(time.monotonic() - begun, 1.0)
    for one in hanging:
        assert one.value.reason == "dns"
        assert "was not looked up within 1 s" in one.value.detail


def test_a_host_is_looked_up_once_for_all_who_wait_and_kept():
    asked_for = []

    def lookup(host: str, port: int):
        asked_for.append(host)
        _hang(0.05)
        return [(socket.AF_INET, ("127.0.0.1", port))]

    resolver = Resolver(lookup)
    group = Group()
    found = group.map(lambda _: resolver.resolve("crm.example", 80), range(20))
    assert found == [[(socket.AF_INET, ("127.0.0.1", 80))]] * 20
    resolver.resolve("CRM.example.", 80)
    assert asked_for == ["crm.example"]


def test_the_last_good_answer_serves_while_the_name_server_is_away():
    answers = iter([[(socket.AF_INET, ("127.0.0.1", 80))], OSError(), None])

    def lookup(host: str, port: int):
        result = next(answers)
        if result is None:
            _hang(3)
        if isinstance(result, OSError):
            raise result
        return result

    resolver = Resolver(lookup, ttl=0)
    first = resolver.resolve("crm.example", 80)
    assert resolver.resolve("crm.example", 80) == first  # a failing look-up
    begun = time.monotonic()
    assert resolver.resolve("crm.example", 80) == first  # a hanging one
    assert time.monotonic() - begun < 2.5  # of the 3 that it hangs


def test_a_failed_look_up_is_tried_again_by_the_next():
    answers = iter([plain_socket.gaierror(-2, "Name or service not known"), [(socket.AF_INET, ("127.0.0.1", 80))]])

    def lookup(host: str, port: int):
        result = next(answers)
        if isinstance(result, Exception):
            raise result
        return result

    client = CrmClient(resolver=Resolver(lookup))
    got = failure(client, "http://crm.example:1/")
    assert got.reason == "dns"
    assert "crm.example" in got.detail
    assert "Name or service not known" in got.detail
    assert failure(client, "http://crm.example:1/").reason == "refused"


def test_the_next_address_is_tried_when_the_first_is_dead():
    with RawServer(sends(answer(b"ok"))) as server:

        def lookup(host: str, port: int):
            return [(socket.AF_INET6, ("::1", 1)), (socket.AF_INET, ("127.0.0.1", server.port))]

        got = CrmClient(resolver=Resolver(lookup)).get(f"http://crm.example:{server.port}/", deadline=2, allow_private=LOOPBACK)
    assert got.status == 200


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", f"{'a' * 70}.example", "-"])
def test_names_that_cannot_be(client, host):
    assert failure(client, f"http://{host}/").reason in ("dns", "url")


# --- failures, each with its reason -----------------------------------------------------------------


def test_nobody_listens(client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        got = failure(client, f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert got.reason == "refused"
    assert "is the CRM running" in str(got)


def _resets(sock, request):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return False


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (sends(b"", keep=False), None),
        (_resets, None),
        (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", keep=False), 200),
        (sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", keep=False), 200),
    ],
    ids=["eof", "rst", "half-body", "half-chunk"],
)
def test_a_server_that_drops_the_request(client, script, status):
    with RawServer(script) as server:
        got = failure(client, server.url)
    assert (got.reason, got.status) == ("reset", status)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"220 mail.example ESMTP\r\n",
        b"\x00\xff" * 50 + b"\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1001,
    ],
)
def test_what_is_not_http(client, data):
    with RawServer(sends(data, keep=False)) as server:
        assert failure(client, server.url).reason == "body"


def test_a_body_of_64_kib_is_read_and_one_byte_more_refused(client):
    with RawServer(sends(answer(b"x" * MAX_BODY_BYTES))) as server:
        assert len(asked(client, server).body) == MAX_BODY_BYTES
    with RawServer(sends(answer(b"x" * (MAX_BODY_BYTES + 1)))) as server:
        got = failure(client, server.url)
    assert (got.reason, got.status) == ("body", 200)


def _floods(first: bytes, again: bytes, sent: list[int]):
    def script(sock, request):
        sock.sendall(first)
        for _ in range(160):
            sock.sendall(again)
            sent.append(len(again))
        return False

    return script


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2600),
    ],
    ids=["10-MB", "chunks", "tiny-chunks", "chunk-size", "header", "100-continue"],
)
def test_a_flood_is_refused_early(client, first, again):
    sent: list[int] = []
    with RawServer(_floods(first, again, sent)) as server:
        got = failure(client, server.url)
    assert got.reason == "body"
    assert got.ms < 1000
    assert sum(sent) < 8_000_000  # what fits into the sockets' buffers


@pytest.mark.parametrize("status", ["200 OK", "302 Found"])
def test_a_packed_answer_is_refused_unread(client, status):
    bomb = gzip.compress(bytes(20_000_000))
    more = b"Content-Encoding: gzip\r\nLocation: /there\r\n"
    with RawServer(sends(answer(bomb, status=status, more=more))) as server:
        begun = time.process_time()
        got = failure(client, server.url)
        assert time.process_time() - begun < 0.1
    assert got.reason == "body"
    assert "gzip" in got.detail


@pytest.mark.parametrize(
    "url",
    ["", "crm", "/crm", "ftp://h/", "file:///etc/passwd", "http://", "http:///p", "http://h:x/", "http://h:99999/",
     "http://h/a b", "http://h/\r\nX: 1", "http://h\n/", "http://[::1/", "http://h:0/", "gopher://h", "http://h/" + "a" * 9000],
)  # fmt: skip
def test_urls_that_cannot_be_asked(client, url):
    assert failure(client, url).reason == "url"


def test_a_failure_never_carries_the_urls_secrets(client):
    with RawServer(sends(b"", keep=False)) as server:
        for url in (
            f"http://user:PASSWORD@127.0.0.1:{server.port}/?token=TOKEN&x=1",
            "http://user:PASSWORD@127.0.0.1:1/?token=TOKEN",
            "http://user:PASSWORD@no-such.invalid/?token=TOKEN",
        ):
            got = failure(client, url, mask=())
            told = "".join(traceback.format_exception(got)) + repr(got.__dict__)
            assert "PASSWORD" not in told
            assert "TOKEN" not in told
            assert got.__cause__ is None
            assert got.__context__ is None
