"""Requests as clients in the field send them (tests/dialect/clients), played against the pages."""

from __future__ import annotations

import itertools
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from callsapi import KEY, TOKEN, Api, the_calls

CLIENTS = Path(__file__).parents[1] / "dialect" / "clients"
LINES = [line.split() for line in (CLIENTS / "expected.txt").read_text().splitlines() if not line.startswith("#")]
EXPECTED = {name: (int(status), *to) for name, status, *to in LINES}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    hours = itertools.count(step=3600.0)  # so that no rate is in the way
    made = Api(tmp_path_factory.mktemp("clients"), the_calls(), lambda: next(hours))
    yield made
    made.stop()


def request(client: str) -> bytes:
    text = (CLIENTS / f"{client}.http").read_bytes().replace(b"\n", b"\r\n")
    head, _, body = text.partition(b"\r\n\r\n")
    auth = "Basic " + b64encode(f"{KEY}:{TOKEN}".encode()).decode()
    filled = {"host": "exoflow.example", "sid": "acme", "auth": auth, "length": str(len(body))}
    for name, value in filled.items():
        head = head.replace(f"{{{name}}}".encode(), value.encode())
    return head + b"\r\n\r\n" + body


def test_each_client_has_its_answer() -> None:
    assert {file.stem for file in CLIENTS.glob("*.http")} == set(EXPECTED)


@pytest.mark.parametrize("client", EXPECTED)
def test_client(api: Api, client: str) -> None:
    status, *to = EXPECTED[client]
    told, headers, body = api.sent(request(client))
    if told == 100:  # who expects it has it before the answer
        first, _, body = body.partition(b"\r\n\r\n")
        told = int(first.split()[1])
        headers = dict(line.lower().split(": ", 1) for line in first.decode().split("\r\n")[1:])
    assert told == status, body
    if headers["content-type"].startswith("application/json"):
        data = json.loads(body)
        found = data.get("Call", {}).get("To")
    else:
        found = ElementTree.fromstring(body).findtext("Call/To")
    assert found == (to[0] if to else None)


def test_what_frappe_looks_for_is_the_number_that_it_then_calls_with(api: Api) -> None:
    phones = json.loads(api.sent(request("frappe_exophones"))[2])["incoming_phone_numbers"]
    assert [phone["friendly_name"] for phone in phones] == ["09999999902"]
    assert json.loads(api.sent(request("frappe_click_to_call"))[2])["Call"]["PhoneNumberSid"] == "09999999902"
