"""The HTTP client's connections: whom they may lead to, TLS, and how they are kept."""

from __future__ import annotations

import os

import gevent
import pytest
from crmtools import LOOPBACK, asked, failure, here
from gevent import socket
from hall import eventually
from support.certificates import Authority, authority, self_signed
from support.http_server import RawServer, answer, sends

from exoflow.crm import connections
from exoflow.crm.addresses import networks, why_refused
from exoflow.crm.http import CrmClient


@pytest.fixture(scope="module")
def client():
    made = CrmClient()
    yield made
    made.close()


# --- the peer ---------------------------------------------------------------------------------------


# fmt: off
NO_CRM_LIVES_AT = (
    "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254",
    "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "100.64.0.1", "100.127.255.255", "224.0.0.1", "239.1.1.1", "ff02::1",
    "ff0e::1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::", "2001:0:7f00:1::", "240.0.0.1", "255.255.255.255",
    "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "2001:db8::1", "4000::1",
)
# fmt: on


@pytest.mark.parametrize("address", NO_CRM_LIVES_AT)
def test_addresses_no_crm_lives_at(address):
    assert why_refused(address) is not None


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2600::1", "2a00:1450:4001::200e", "::ffff:8.8.8.8"])
def test_public_addresses(address):
    assert why_refused(address) is None


def test_an_allowed_network_is_that_network_and_no_other():
    allowed = networks(["10.1.0.0/16", "fd00:1::/32"])
    assert why_refused("10.1.2.3", allowed) is None
    assert why_refused("::ffff:10.1.2.3", allowed) is None
    assert why_refused("fd00:1::5", allowed) is None
    assert why_refused("10.2.0.1", allowed) is not None
    assert why_refused("127.0.0.1", allowed) is not None


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "[::ffff:127.0.0.1]", "localhost"]
)
def test_every_way_to_write_loopback_is_refused_without_a_connection(client, host):
    with RawServer(sends(answer(b"inside"))) as server:
        got = failure(client, f"http://{host}:{server.port}/", allow=("10.0.0.0/8",))
        gevent.sleep(0.01)
        assert server.connections == 0
    assert got.reason == "address"
    assert "crm.allow_private" in str(got)


def test_the_peer_itself_is_checked_before_any_byte(client):
    # 0.0.0.0 connects to 127.0.0.1: what was looked up is allowed, whom we reached is not
    with RawServer(sends(answer(b"inside"))) as server:
        got = failure(client, f"http://0.0.0.0:{server.port}/", allow=("0.0.0.0/32",))
        gevent.sleep(0.01)
        assert server.requests == []
    assert got.reason == "address"
    assert "127.0.0.1" in got.detail


def test_a_name_that_leads_inside_is_refused():
    client = CrmClient(resolver=here("crm.example"))
    with RawServer(sends(answer(b"inside"))) as server:
        got = failure(client, f"http://crm.example:{server.port}/", allow=())
        assert server.connections == 0
    assert "crm.example leads to 127.0.0.1, a loopback address" in got.detail


def test_one_accounts_kept_connection_is_not_lent_to_another(client):
    with RawServer(sends(answer(b"inside"))) as server:
        asked(client, server)
        assert failure(client, server.url, allow=()).reason == "address"
        assert len(server.requests) == 1


def test_allow_private_that_is_no_network_is_told(client):
    got = failure(client, "http://127.0.0.1/", allow=("10.1.0.0/99",))
    assert got.reason == "address"
    assert "allow_private" in got.detail


# --- TLS --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca(tmp_path_factory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def trusting(ca):
    made = CrmClient(ca_file=ca.file, resolver=here("crm.example", "other.example"))
    yield made
    made.close()


def test_a_good_certificate_and_a_kept_tls_connection(trusting, ca):
    with RawServer(sends(answer(b"ok")), tls=ca.server("crm.example")) as server:
        for _ in range(3):
            got = trusting.get(f"https://crm.example:{server.port}/", deadline=2, allow_private=LOOPBACK)
            assert got.body == b"ok"
        assert server.connections == 1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda ca, folder: ca.server("crm.example", end="20210101000000Z"), "certificate has expired"),
        (lambda ca, folder: ca.server("other.example"), "mismatch"),
        (lambda ca, folder: self_signed(folder, "crm.example"), "self-signed certificate"),
    ],
    ids=["expired", "wrong-name", "self-signed"],
)
def test_a_bad_certificate_is_refused_before_any_byte(trusting, ca, tmp_path, make, told):
    with RawServer(sends(answer(b"ok")), tls=make(ca, tmp_path)) as server:
        got = failure(trusting, f"https://crm.example:{server.port}/?key=K")
        assert server.requests == []
    assert got.reason == "tls"
    assert told in got.detail
    assert "certificate" in str(got)


def test_an_unknown_authority_is_refused(client, ca):
    with RawServer(sends(answer(b"ok")), tls=ca.server("localhost")) as server:
        got = failure(client, f"https://localhost:{server.port}/")
    assert got.reason == "tls"


def test_no_tls_at_a_tls_url(client):
    with RawServer(sends(b"")) as server:
        assert failure(client, f"https://127.0.0.1:{server.port}/", deadline=0.2).reason == "timeout"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk_plainly():
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                sock.recv(1000)

        gevent.spawn(talk_plainly)
        got = failure(client, f"https://127.0.0.1:{listener.getsockname()[1]}/")
    assert got.reason == "tls"
    assert "handshake" in got.detail


def test_a_handshake_that_is_dropped(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gevent.spawn(lambda: listener.accept()[0].close())
        got = failure(client, f"https://127.0.0.1:{listener.getsockname()[1]}/")
    assert got.reason == "tls"


# --- kept connections -------------------------------------------------------------------------------


def test_connections_are_kept_and_used_again(client):
    with RawServer(sends(answer(b"ok"))) as server:
        for _ in range(20):
            asked(client, server)
        assert (server.connections, len(server.requests)) == (1, 20)


def test_a_hundred_at_once_and_then_again_open_a_hundred_connections(client):
    def slow(sock, request):
        gevent.sleep(0.05)
        sock.sendall(answer(b"ok"))
        return True

    with RawServer(slow) as server:
        for _ in range(3):
            jobs = [gevent.spawn(asked, client, server) for _ in range(100)]
            gevent.joinall(jobs, raise_error=True)
        assert len(server.requests) == 300
        assert server.connections == 100


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
def test_a_server_that_closes_after_each_answer(client, more):
    with RawServer(sends(answer(b"ok", more=more), keep=False)) as server:
        for _ in range(20):
            assert asked(client, server).status == 200
        assert len(server.requests) == 20


def test_a_kept_connection_closed_in_the_moment_of_its_use_is_replaced_once(client):
    answered: list[bytes] = []

    def closes_on_the_second(sock, request):
        if not answered:
            answered.append(request)
            sock.sendall(answer(b"ok"))
            return True
        answered.append(request)
        if len(answered) == 2:
            return False  # read, then closed without an answer
        sock.sendall(answer(b"again"))
        return True

    with RawServer(closes_on_the_second) as server:
        assert asked(client, server).body == b"ok"
        assert asked(client, server).body == b"again"
        assert server.connections == 2
        assert answered[1] == answered[2]


def test_a_new_connection_that_is_closed_is_not_tried_again(client):
    with RawServer(sends(b"", keep=False)) as server:
        failure(client, server.url)
        assert server.connections == 1


def test_failures_leak_no_connection(client):
    with (
        RawServer(sends(answer(b"x" * 70000))) as big,
        RawServer(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")) as slow,
    ):
        failure(client, big.url)
        failure(client, slow.url, deadline=0.02)
        gevent.sleep(0.02)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            failure(client, big.url)
            failure(client, slow.url, deadline=0.02)
            failure(client, "http://127.0.0.1:1/")
        gevent.sleep(0.02)
        assert len(os.listdir("/proc/self/fd")) <= before


def test_connections_that_nobody_uses_any_more_are_closed(monkeypatch):
    """A CRM that was slow for a minute leaves no hundred descriptors behind."""
    monkeypatch.setattr(connections, "KEPT_SECONDS", 0.2)
    client = CrmClient()

    def slow(sock, request):
        gevent.sleep(0.05)
        sock.sendall(answer(b"ok"))
        return True

    with RawServer(slow) as server:
        before = len(os.listdir("/proc/self/fd"))
        gevent.joinall([gevent.spawn(asked, client, server) for _ in range(20)], raise_error=True)
        assert server.connections == 20
        assert len(os.listdir("/proc/self/fd")) > before
        eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
        assert asked(client, server).status == 200
        assert server.connections == 21
    client.close()


def test_a_connection_in_use_is_not_closed_for_its_age(monkeypatch):
    monkeypatch.setattr(connections, "KEPT_SECONDS", 0.05)
    client = CrmClient()

    def slow(sock, request):
        gevent.sleep(0.3)
        sock.sendall(answer(b"ok"))
        return True

    with RawServer(sends(answer(b"ok"))) as quick, RawServer(slow) as server:
        for _ in range(3):
            assert asked(client, server).status == 200
            assert asked(client, quick).status == 200
    client.close()


def test_close_closes_the_kept_connections():
    client = CrmClient()
    with RawServer(sends(answer(b"ok"))) as server:
        before = len(os.listdir("/proc/self/fd"))
        asked(client, server)
        client.close()
        gevent.sleep(0.02)
        assert len(os.listdir("/proc/self/fd")) <= before
