"""`/livez` and `/readyz`: each reason with its cure, at once, whatever is asked and however."""

from __future__ import annotations

import json
import socket as blocking
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.monkey import get_original
from hall import BYE, WAIT, Hall, eventually, menu, say
from spilling import fill, mend
from support.disks import small_disk
from support.ports import free_port

from exoflow.calls import call as call_module
from exoflow.store import sqlite as store_module
from exoflow.store.sqlite import Health
from exoflow.web import health as health_module
from exoflow.web import server as server_module
from exoflow.web.health import Folders, HealthPages, Readiness, Sources
from exoflow.web.server import WebServer

FLOW = {"ask": menu({"1": "hello"}), "hello": say("Hi."), "bye": BYE}
Start = Callable[..., Hall]


class Site:
    """The pages with sources that a test turns bad."""

    def __init__(self, folder: Path) -> None:
        self.store = Health()
        self.event_socket = ""
        self.calls = (3, 1000)
        self.no_descriptor = 0
        self.refused = ""
        self.transfers = ""
        self.folders = Folders(folder / "exoflow.db", folder / "recordings")
        (folder / "recordings").mkdir()
        sources = Sources(
            store=lambda: self.store,
            event_socket=lambda: self.event_socket,
            calls=lambda: self.calls,
            no_descriptor=lambda: self.no_descriptor,
            reload_refused=lambda: self.refused,
            transfers=lambda: self.transfers,
            folders=lambda: self.folders,
        )
        self.readiness = Readiness(sources)
        self.server = WebServer(("127.0.0.1", 0), HealthPages(self.readiness.state))
        self.server.start()

    @property
    def address(self) -> tuple[str, int]:
        assert self.server.address is not None
        return self.server.address


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(health_module, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(health_module, "FREE_BYTES", 0)
    made = Site(tmp_path)
    yield made
    made.server.stop()
    made.readiness.stop()


def sent(address: tuple[str, int], data: bytes) -> bytes:
    """All that is answered until the server closes."""
    with gevent.Timeout(WAIT), socket.create_connection(address) as sock:
        sock.sendall(data)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        return answer


def asked(
    address: tuple[str, int], path: str = "/readyz", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], str]:
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    answer = sent(address, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body.decode()


# --- what is answered ----------------------------------------------------------------------------------


def test_all_is_well(site: Site) -> None:
    assert asked(site.address, "/livez")[::2] == (200, "alive\n")
    status, headers, body = asked(site.address)
    assert (status, body.splitlines()[:2]) == (200, ["ready", "calls: 3 of 1000"])
    assert headers["content-type"] == "text/plain; charset=utf-8"
    status, headers, body = asked(site.address, Accept="application/json")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["ready"] is True
    assert json.loads(body)["calls"] == {"active": 3, "limit": 1000}


def bad_store(site: Site) -> None:
    site.store = Health(trouble="exoflow.db: cannot be written (disk full); free space", waiting=7)


def slow_store(site: Site) -> None:
    site.store = Health(lag=30.0)


def bad_spill(site: Site) -> None:
    site.store = Health(spill="x.spill: holds 256 MiB, its limit; make the store work again")


def lost(site: Site) -> None:
    site.store = Health(dropped={"calls": 2, "deliveries": 1})


def no_event_socket(site: Site) -> None:
    site.event_socket = "Connection refused"


def full_of_calls(site: Site) -> None:
    site.calls = (1000, 1000)


def no_descriptors(site: Site) -> None:
    site.no_descriptor = 3


def dialled_by_transfer(site: Site) -> None:
    site.transfers = "a phone had it dial; set `disable-transfer`"


def refused_reload(site: Site) -> None:
    site.refused = "exoflow.yaml:3:1: error: E101 no such key\nand more"


def no_cdr(site: Site) -> None:
    site.folders = Folders(site.folders.store, site.folders.recordings, cdr=site.folders.recordings / "nowhere")


def no_recordings(site: Site) -> None:
    site.folders.recordings.rmdir()
    site.folders.recordings.write_text("a file")


@pytest.mark.parametrize(
    ("turn", "part", "says"),
    [
        (bad_store, "store", "free space"),
        (slow_store, "store", "waiting for 30 s"),
        (bad_spill, "spill", "its limit"),
        (lost, "store", "2 calls, 1 deliveries"),
        (no_event_socket, "event_socket", "is FreeSWITCH running"),
        (full_of_calls, "calls", "raise switch.max_calls"),
        (no_descriptors, "calls", "LimitNOFILE"),
        (refused_reload, "configuration", "`exoflow check`"),
        (dialled_by_transfer, "transfers", "`disable-transfer`"),
        (no_cdr, "cdr", "switch.cdr"),
        (no_recordings, "recordings", "switch.recordings"),
    ],
)
def test_each_reason_is_told_with_its_cure(site: Site, turn: Callable[[Site], None], part: str, says: str) -> None:
    turn(site)
    status, _, body = asked(site.address)
    assert status == 503
    assert [line for line in body.splitlines() if line.startswith(f"{part}: ") and says in line]
    assert body.splitlines()[0] == "not ready"
    status, _, body = asked(site.address, Accept="text/html, application/json")
    assert status == 503
    (reason,) = json.loads(body)["reasons"]
    assert reason["part"] == part
    assert says in reason["text"]
    assert asked(site.address, "/livez")[0] == 200


def test_a_want_of_descriptors_is_told_for_a_while(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.no_descriptor = 3
    assert asked(site.address)[0] == 503
    monkeypatch.setattr(health_module, "LATELY_SECONDS", 0.0)
    assert asked(site.address)[0] == 200


def test_a_full_disk_is_a_reason(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(health_module, "KEPT_SECONDS", 0.0)
    with small_disk(tmp_path / "disk", kib=512) as disk:
        site.folders = Folders(site.folders.store, disk / "recordings")
        assert asked(site.address)[0] == 200
        (disk / "ballast").write_bytes(b"x" * 500 * 1024)
        body = asked(site.address)[2]
    assert f"disk: {disk}: 0 MiB are left; free space" in body


def test_a_disk_that_hangs_is_a_reason_and_holds_nobody_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = get_original("threading", "Event")()
    looks = []
    monkeypatch.setattr(health_module, "DISK_SECONDS", 0.1)
    monkeypatch.setattr(health_module, "look_at", lambda folders: looks.append(1) or gate.wait(WAIT) or [])
    began = time.monotonic()
    answers = [gevent.spawn(asked, site.address) for _ in range(20)]
    gevent.joinall(answers, timeout=WAIT)
    assert {answer.value[0] for answer in answers} == {503}
    assert "do not answer within 0.1 s" in answers[0].value[2]
    assert asked(site.address, "/livez")[0] == 200
    assert len(looks) == 1
    assert time.monotonic() - began < 2
    gate.set()
    eventually(lambda: asked(site.address)[0] == 503 or True)


def test_who_asks_often_costs_no_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(health_module, "KEPT_SECONDS", 60.0)
    monkeypatch.setattr(health_module, "look_at", lambda folders: looks.append(1) or [])
    for _ in range(10):
        assert asked(site.address)[0] == 200
    assert len(looks) == 1


# --- hostile requests ------------------------------------------------------------------------------------


def test_head_has_no_body(site: Site) -> None:
    status, headers, body = asked(site.address, method="HEAD")
    assert (status, body) == (200, "")
    assert int(headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/", "/readyz/", "/livez/../etc/passwd", "//livez", "/%2e%2e/", "*", "/livez%00"])
def test_there_is_nothing_else(site: Site, path: str) -> None:
    assert asked(site.address, path)[0] in (400, 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_nothing_can_be_changed(site: Site, method: str) -> None:
    status, headers, _ = asked(site.address, method=method)
    assert (status, headers["allow"]) == (405, "get, head")


def test_no_header_names_a_program_or_a_version(site: Site) -> None:
    for path in ("/livez", "/readyz", "/nowhere"):
        headers = asked(site.address, path)[1]
        assert set(headers) == {
            "content-type",
            "content-length",
            "cache-control",
            "x-content-type-options",
            "connection",
            "date",
        }


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET " + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET /livez HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n",
        b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"\x00" * 9000 + b"\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_harm_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.5)
    began = time.monotonic()
    try:
        answer = sent(site.address, data)
    except ConnectionError:
        answer = b""
    assert time.monotonic() - began < 3
    assert b"Traceback" not in answer
    assert "Traceback" not in capsys.readouterr().err
    assert asked(site.address, "/livez")[0] == 200


def test_slow_requests_end_in_time_and_leave_room_for_others(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.5)
    slow = [socket.create_connection(site.address) for _ in range(2 * server_module.CONNECTIONS)]
    for sock in slow:
        sock.sendall(b"GET /li")
    assert asked(site.address, "/livez")[0] == 200
    for sock in slow:
        with gevent.Timeout(WAIT):
            assert sock.recv(100) == b""
        sock.close()


def test_one_request_a_connection(site: Site) -> None:
    answer = sent(site.address, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer.lower()


def test_a_port_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LISTEN_AGAIN_SECONDS", 0.02)
    port = free_port()
    holder = blocking.socket()
    holder.bind(("127.0.0.1", port))
    holder.listen()
    server = WebServer(("127.0.0.1", port), lambda environ, start_response: [])
    server.start()
    assert server.address is None
    holder.close()
    eventually(lambda: server.address)
    server.stop()


# --- the whole ---------------------------------------------------------------------------------------------


def with_folders(h: Hall) -> None:
    for folder in (h.config.switch.recordings, h.config.switch.cdr):
        if folder is not None:
            folder.mkdir(exist_ok=True)


def test_a_service_tells_what_ails_it_and_that_it_is_well_again(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(call_module, "CLOSE_COMMIT_SECONDS", 0.2)
    monkeypatch.setattr(health_module, "FREE_BYTES", 0)
    h = hall(FLOW, speed=None, main={"web": {"listen": "127.0.0.1:0"}})
    with_folders(h)
    assert h.service.web is not None
    address: Any = h.service.web.address
    eventually(lambda: asked(address)[0] == 200)
    fill(h.service.store)
    phone = h.call(keys="1")
    assert phone.wait(WAIT)
    assert "Hi." in phone.texts
    status, _, body = asked(address)
    assert status == 503
    assert "mounted rw" in body
    assert "1 changes wait" in body
    assert asked(address, "/livez")[0] == 200
    mend(h.service.store)
    eventually(lambda: asked(address)[0] == 200)


def test_without_a_web_section_nothing_listens(hall: Start) -> None:
    assert hall(FLOW).service.web is None


def test_a_reload_that_was_refused_and_a_lost_event_socket_are_told(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "FREE_BYTES", 0)
    h = hall(FLOW, lines=False, main={"web": {"listen": "127.0.0.1:0"}})
    with_folders(h)
    assert h.service.web is not None
    address: Any = h.service.web.address
    (h.folder / "accounts" / "acme.yaml").write_text("name: [")
    assert not h.service.reload()
    parts = {reason["part"] for reason in json.loads(asked(address, Accept="application/json")[2])["reasons"]}
    assert parts == {"event_socket", "configuration"}
