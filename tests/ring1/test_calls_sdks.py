"""The SDKs for Exotel that PyPI has, unchanged and given only another domain, place calls and read them over TLS."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from callsapi import KEY, TOKEN, TOKEN_HASH
from gevent import socket, spawn, subprocess
from gevent.server import StreamServer
from hall import BYE, OURS, WAIT, outcomes, say
from placedcalls import API, FIRST, SECOND, PlacingHall
from support.certificates import authority

from exoflow.sim import AgentScript

# who logs in with the sid alone has a key of that name
USERS = {"exotel": "acme", "pyexotel": KEY}


class Front:
    """The web server with TLS that docs/calls-api.md asks for: hands every byte on."""

    def __init__(self, folder: Path, behind: tuple[str, int]) -> None:
        made = authority(folder)
        self.ca_file, self._behind = made.file, behind
        self._server = StreamServer(("127.0.0.1", 0), self._connected, ssl_context=made.server("localhost"))
        self._server.start()

    @property
    def domain(self) -> str:
        return f"localhost:{self._server.server_port}"

    def _connected(self, client: Any, address: Any) -> None:
        with socket.create_connection(self._behind) as server:
            asked = spawn(_hand_on, client, server)
            _hand_on(server, client)
            asked.kill()

    def stop(self) -> None:
        self._server.stop(timeout=0)


def _hand_on(source: Any, target: Any) -> None:
    while data := source.recv(65536):
        target.sendall(data)


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[PlacingHall]:
    made = PlacingHall(tmp_path)
    made.opened(
        {"hello": say("Hello."), "bye": BYE},
        api={**API, "keys": [*API["keys"], {"key": "acme", "token_hash": TOKEN_HASH}]},
        agents={FIRST: AgentScript.answers(1.0, None), SECOND: AgentScript.answers(1.0, 4.0)},
    )
    yield made
    made.stop()


@pytest.fixture
def front(hall: PlacingHall, tmp_path: Path) -> Iterator[Front]:
    folder = tmp_path / "tls"
    folder.mkdir()
    made = Front(folder, hall.web)
    yield made
    made.stop()


def told(front: Front, sdk: str, what: str, *arguments: str) -> Any:
    """What the SDK's method returns, in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("sdkclient.py"))]
    done = subprocess.run(
        [*command, sdk, front.domain, USERS[sdk], TOKEN, what, *arguments],
        env={**os.environ, "REQUESTS_CA_BUNDLE": str(front.ca_file)},
        capture_output=True,
        text=True,
        timeout=6 * WAIT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("sdk", USERS)
def test_two_numbers(hall: PlacingHall, front: Front, sdk: str) -> None:
    call = told(front, sdk, "two", f"0{FIRST[3:]}", SECOND, f"0{OURS[3:]}")["Call"]
    assert (call["Direction"], call["AccountSid"], call["PhoneNumberSid"]) == ("outbound-api", "acme", f"0{OURS[3:]}")
    state = hall.closed(call["Sid"])
    assert (state.outcome, outcomes(state.legs)) == ("answered", ["answered"])
    assert state.facts.placed is not None
    # pyexotel asks for a recording unless told otherwise, exotel never does
    assert (state.facts.placed.record, state.facts.placed.custom_field) == (
        ("none", "order 7") if sdk == "exotel" else ("mono", "")
    )
    read = told(front, sdk, "read", call["Sid"])["Call"]
    assert (read["Sid"], read["Status"], read["From"], read["To"]) == (
        call["Sid"],
        "completed",
        f"0{FIRST[3:]}",
        f"0{SECOND[3:]}",
    )


@pytest.mark.parametrize("sdk", USERS)
def test_a_number_and_a_flow(hall: PlacingHall, front: Front, sdk: str) -> None:
    call = told(front, sdk, "flow", FIRST, "main", OURS)["Call"]
    state = hall.closed(call["Sid"])
    assert (state.outcome, state.facts.flow) == ("served", "main")
    assert told(front, sdk, "read", call["Sid"])["Call"]["Status"] == "completed"


def test_a_refusal_is_what_the_sdk_expects_of_one(hall: PlacingHall, front: Front) -> None:
    answer = told(front, "exotel", "two", FIRST, "+442071838750", OURS)
    assert answer["RestException"]["Status"] == 403
    # without the authority of its certificate nobody is asked at all
    command = [sys.executable, str(Path(__file__).with_name("sdkclient.py")), "exotel", front.domain, "acme", TOKEN]
    done = subprocess.run([*command, "read", "0" * 32], capture_output=True, text=True, timeout=6 * WAIT)
    assert done.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
