"""Requests that go wrong: on addresses of the API each error has a body in the form that was asked for."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import gevent
import pytest
from callsapi import KEY, TOKEN, Api, the_calls
from gevent import socket
from hall import WAIT

from exoflow.config.model import Account
from exoflow.web import server as server_module
from exoflow.web.answers import Form, encoded, form_of

BASIC = f"Authorization: Basic {b64encode(f'{KEY}:{TOKEN}'.encode()).decode()}\r\n"
LIST = "/v1/Accounts/acme/Calls.json"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path, the_calls())
    yield made
    made.stop()


def told(answer: tuple[int, dict[str, str], bytes], form: Form) -> int:
    """The status, which the body says as well."""
    status, headers, body = answer
    if form == "json":
        assert headers["content-type"] == "application/json"
        error = json.loads(body)["RestException"]
        assert error["Message"]
        assert error["Status"] == status
    else:
        assert headers["content-type"] == "application/xml; charset=utf-8"
        found = ElementTree.fromstring(body)
        assert found.tag == "TwilioResponse"
        assert found.findtext("RestException/Message")
        assert found.findtext("RestException/Status") == str(status)
    return status


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("GET {path} HTTP/9.9\r\n", 400),
        ("POST {path} HTTP/1.1\r\nContent-Length: -1\r\n", 400),
        ("POST {path} HTTP/1.1\r\nContent-Length: x\r\n", 400),
        ("GET {path}?" + "x" * 9000 + " HTTP/1.1\r\n", 414),
        ("GET {path} HTTP/1.1\r\n", 401),
        ("PATCH {path} HTTP/1.1\r\n" + BASIC, 405),
        ("GET {path}/no/such HTTP/1.1\r\n" + BASIC, 404),
    ],
)
@pytest.mark.parametrize(
    ("path", "form"),
    [("/v1/Accounts/acme/Calls", "xml"), ("http://exoflow.example/v1/Accounts/acme/Calls", "xml")],
)
def test_errors_have_the_form_that_was_asked_for(api: Api, lines: str, status: int, path: str, form: Form) -> None:
    assert told(api.sent(f"{lines.format(path=path)}\r\n".encode()), form) == status


@pytest.mark.parametrize("lines", ["GET {path} HTTP/9.9\r\n", "POST {path} HTTP/1.1\r\nContent-Length: -1\r\n"])
def test_a_request_that_cannot_be_read_is_told_so_in_json(api: Api, lines: str) -> None:
    assert told(api.sent(f"{lines.format(path=LIST)}\r\n".encode()), "json") == 400


@pytest.mark.parametrize("line", ["nonsense", "GET /livez HTTP/9.9", ""])
def test_elsewhere_errors_have_no_body(api: Api, line: str) -> None:
    status, headers, body = api.sent(f"{line}\r\n\r\n\r\n\r\n\r\n".encode())
    assert (status, headers["content-length"], body) == (400, "0", b"")


@pytest.mark.parametrize(("path", "form"), [(LIST, "json"), ("/v1/Accounts/acme/Calls", "xml")])
def test_a_fault_of_ours_is_500_and_its_cause_in_the_log(
    api: Api, path: str, form: Form, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> Any:
        raise RuntimeError("of ours")

    monkeypatch.setattr(api.pages, "_list", fails)
    with caplog.at_level(logging.ERROR):
        assert told(api.sent(f"GET {path} HTTP/1.1\r\n{BASIC}\r\n".encode()), form) == 500
    assert "of ours" in caplog.text


def test_what_takes_too_long_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(api.pages, "_list", lambda *_: gevent.sleep(WAIT))
    assert told(api.sent(f"GET {LIST} HTTP/1.1\r\n{BASIC}\r\n".encode()), "json") == 503


@pytest.mark.parametrize("before", ["\r\n", "\n", "\r\n\r\n"])
def test_an_empty_line_before_the_request_is_left_out(api: Api, before: str) -> None:
    status, _, body = api.sent(f"{before}GET {LIST} HTTP/1.1\r\n{BASIC}\r\n".encode())
    assert status == 200
    assert json.loads(body)["Calls"]


def test_who_sends_only_empty_lines_is_not_listened_to_for_ever(api: Api) -> None:
    with gevent.Timeout(WAIT), socket.create_connection(api.address) as sock:
        sock.sendall(b"\r\n" * 5)
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:8080", "HTTP://EXOFLOW.EXAMPLE", "https://user@exoflow.example:443", "http://[::1]:80"]
)
def test_a_target_may_name_a_host(api: Api, target: str) -> None:
    """RFC 9112, section 3.2.2: a server accepts the absolute form."""
    status, _, body = api.sent(f"GET {target}{LIST}?PageSize=1 HTTP/1.1\r\n{BASIC}\r\n".encode())
    assert status == 200
    assert len(json.loads(body)["Calls"]) == 1
    assert api.sent(f"GET {target}/readyz HTTP/1.1\r\n\r\n".encode())[2] == b"health"
    assert api.sent(f"GET {target} HTTP/1.1\r\n\r\n".encode())[2] == b"health"
    assert api.sent(f"GET {target}?x=/v1/ HTTP/1.1\r\n\r\n".encode())[2] == b"health"


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/Accounts/acme/Calls", "xml"),
        ("/v1/Accounts/acme/Calls.json", "json"),
        ("/v2_beta/Accounts/acme/IncomingPhoneNumbers", "json"),
        ("/v2_beta/Accounts/acme/IncomingPhoneNumbers.xml", "xml"),
        ("/v3/accounts/acme/calls", "json"),
    ],
)
def test_forms(path: str, form: Form) -> None:
    assert form_of(path) == form


# --- characters that XML cannot have ------------------------------------------------------------------

ODD = "As\x01ha\x00 \x0b\x1b[1m\ufffe\ud800<&>\u200d मीना\U0001f469"


def test_no_character_that_xml_cannot_have_stands_in_ours() -> None:
    data = {"Agents": [{"FullName": ODD, "Nothing": None, "Yes": True}], "Text": "tab\tline\n"}
    found = ElementTree.fromstring(encoded(data, "xml"))
    assert found.findtext("Agents/Agent/FullName") == "Asha [1m<&>\u200d मीना\U0001f469"
    assert found.findtext("Text") == "tab\tline\n"
    assert json.loads(encoded(data, "json"))["Agents"][0]["FullName"] == ODD.replace("\ud800", "?")


def test_names_with_control_characters_from_before_are_left_out(api: Api) -> None:
    acme: Account = api.accounts["acme"]
    asha = acme.agents["asha"].model_copy(update={"name": "As\x01ha"})
    api.accounts["acme"] = acme.model_copy(update={"agents": {**acme.agents, "asha": asha}})
    status, _, body = api.sent(f"GET /v1/Accounts/acme/Agents HTTP/1.1\r\n{BASIC}\r\n".encode())
    assert status == 200
    assert ElementTree.fromstring(body).findtext("Agents/Agent/FullName") == "Asha"
