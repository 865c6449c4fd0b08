"""Who may ask the Calls API and how often; the command that makes a key; the API beside a running service."""

from __future__ import annotations

import json
import shutil
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import yaml
from callsapi import KEY, TOKEN, TOKEN_HASH, Api, exchange, the_calls
from click.testing import CliRunner
from hall import BYE, WAIT, Hall, eventually, menu, say

from exoflow.cli import main
from exoflow.config.load import load
from exoflow.config.model import Account
from exoflow.web import apikeys
from exoflow.web import gate as gate_module
from exoflow.web.answers import Refusal
from exoflow.web.gate import REMEMBERED, Gate, Rate

EXAMPLE = Path(__file__).parents[2] / "examples" / "acme"
FLOW = {"ask": menu({"1": "hello"}), "hello": say("Hi."), "bye": BYE}
Start = Callable[..., Hall]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api(tmp_path: Path, clock: Clock) -> Iterator[Api]:
    made = Api(tmp_path, the_calls(), clock)
    yield made
    made.stop()


def basic(key: str, token: str) -> str:
    return "Basic " + b64encode(f"{key}:{token}".encode()).decode()


def refused(fn: Callable[[], Any]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        fn()
    return caught.value


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tokens that cost a scrypt, from here on."""
    checked: list[str] = []

    def matches(token: str, token_hash: str) -> bool:
        checked.append(token)
        return apikeys.matches(token, token_hash)

    monkeypatch.setattr(gate_module, "matches", matches)
    return checked


# --- keys -----------------------------------------------------------------------------------------------


def test_a_hash_fits_its_token_alone() -> None:
    made, other = apikeys.new_key(), apikeys.new_key()
    assert apikeys.matches(made.token, made.token_hash)
    assert not apikeys.matches(other.token, made.token_hash)
    assert not apikeys.matches("", made.token_hash)
    assert made.token not in made.token_hash
    assert apikeys.hashed(made.token) != made.token_hash  # salted
    assert apikeys.matches(TOKEN, TOKEN_HASH)  # made elsewhere


@pytest.mark.parametrize(
    "token_hash",
    [
        "sesame",
        TOKEN_HASH.replace("$14$", "$30$"),  # 64 GiB
        TOKEN_HASH.replace("$8$1$", "$8$99$"),
        TOKEN_HASH + "A",
        TOKEN_HASH[:-1] + "$",
    ],
)
def test_the_configuration_takes_hashes_of_that_cost_alone(token_hash: str) -> None:
    flows = {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}}
    key = {"key": KEY, "token_hash": token_hash}
    with pytest.raises(ValueError, match="token_hash"):
        Account.model_validate({"name": "Acme", "flows": flows, "api": {"keys": [key]}})


def test_two_keys_of_one_name_are_refused() -> None:
    flows = {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}}
    key = {"key": KEY, "token_hash": TOKEN_HASH}
    with pytest.raises(ValueError, match="two keys of one name"):
        Account.model_validate({"name": "Acme", "flows": flows, "api": {"keys": [key, key]}})


def test_the_command_makes_a_key_that_the_configuration_takes(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    shutil.copytree(EXAMPLE, folder)
    file = folder / "accounts" / "acme.yaml"
    before = file.read_text()
    result = CliRunner().invoke(main, ["api-key", "acme", "-c", str(folder / "exoflow.yaml")])
    assert result.exit_code == 0, result.output
    assert file.read_text() == before
    lines = dict(line.split(":", 1) for line in result.output.splitlines() if line.startswith(("key:", "token:")))
    key, token = lines["key"].strip(), lines["token"].strip()
    made = result.output[result.output.index("api:") :]
    assert yaml.safe_load(made)["api"]["keys"][0]["key"] == key
    assert token not in made
    file.write_text(before + "\n" + made)
    found = load(folder / "exoflow.yaml")
    assert found.config is not None, found.errors
    assert Gate(found.config.accounts.get).enter("acme", basic(key, token)) is found.config.accounts["acme"]


@pytest.mark.parametrize(("name", "code"), [("acme", 0), ("a", 1), ("a key", 1), ("$(id)", 1)])
def test_a_key_may_have_a_name_of_its_own(name: str, code: int) -> None:
    """Some SDKs log in with the account's sid."""
    result = CliRunner().invoke(main, ["api-key", "acme", "--key", name, "-c", str(EXAMPLE / "exoflow.yaml")])
    assert result.exit_code == code
    assert (f"- key: {name}\n" in result.output) == (code == 0)


def test_the_command_knows_no_other_account() -> None:
    result = CliRunner().invoke(main, ["api-key", "acne", "-c", str(EXAMPLE / "exoflow.yaml")])
    assert result.exit_code == 1
    assert "did you mean `acme`?" in result.output


# --- the gate --------------------------------------------------------------------------------------------


def test_a_good_token_is_checked_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = counted(monkeypatch)
    for _ in range(5):
        assert api.gate.enter("acme", basic(KEY, TOKEN)).name == "Acme"
    assert checked == [TOKEN]


def test_many_requests_at_once_cost_one_check(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = counted(monkeypatch)
    at_once = [gevent.spawn(api.gate.enter, "acme", basic(KEY, TOKEN)) for _ in range(30)]
    gevent.joinall(at_once, timeout=WAIT)
    assert [one.value.name for one in at_once] == ["Acme"] * 30
    assert checked == [TOKEN]


def test_the_loop_turns_while_a_token_is_checked(api: Api) -> None:
    """The check is in a thread: the loop's longest standstill is far below what a check takes."""
    began = time.perf_counter()
    apikeys.matches("wrong", TOKEN_HASH)
    takes = time.perf_counter() - began
    stood = 0.0
    asking = [gevent.spawn(api.sent, request(basic(KEY, f"wrong{n}"))) for n in range(5)]
    turned = 0
    while not all(one.ready() for one in asking):
        before = time.perf_counter()
        gevent.sleep(0.001)
        turned += 1
        stood += time.perf_counter() - before > takes
    assert turned > 20
    assert stood < 5
    assert {one.value[0] for one in asking} == {401}


def test_a_key_that_is_taken_away_counts_no_more_at_once(api: Api) -> None:
    api.gate.enter("acme", basic(KEY, TOKEN))
    api.accounts["acme"] = api.accounts["acme"].model_copy(update={"api": api.accounts["globex"].api})
    assert refused(lambda: api.gate.enter("acme", basic(KEY, TOKEN))).status == 401


def test_a_wrong_token_is_not_taken_for_the_one_remembered(api: Api) -> None:
    api.gate.enter("acme", basic(KEY, TOKEN))
    for token in (TOKEN[:-1], TOKEN + "x", TOKEN.upper()):
        assert refused(lambda token=token: api.gate.enter("acme", basic(KEY, token))).status == 401


def test_trying_tokens_costs_a_bounded_number_of_checks(api: Api, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "matches", lambda token, token_hash: token == TOKEN)
    api.gate.enter("acme", basic(KEY, TOKEN))
    statuses = [refused(lambda: api.gate.enter("acme", basic(KEY, "x"))).status for _ in range(20)]
    assert statuses == [401] * 9 + [429] * 11
    assert api.gate.enter("acme", basic(KEY, TOKEN)).name == "Acme"  # who is known comes in
    clock.now += 6.0
    assert [refused(lambda: api.gate.enter("acme", basic(KEY, "x"))).status for _ in range(2)] == [401, 429]


def test_who_waits_too_long_for_a_check_is_sent_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "CHECK_SECONDS", 0.01)
    with api.gate._turn:
        assert refused(lambda: api.gate.enter("acme", basic(KEY, TOKEN))).status == 503
    assert api.gate.enter("acme", basic(KEY, TOKEN)).name == "Acme"


def request(authorization: str, path: str = "/v1/Accounts/acme/Calls.json") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n".encode()


def test_too_many_requests_are_told_when_to_come_again(api: Api, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    api.gate._requests = Rate(3, clock)
    statuses = [api.sent(request(basic(KEY, TOKEN)))[0] for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    status, headers, body = api.sent(request(basic(KEY, TOKEN)))
    assert (status, headers["retry-after"]) == (429, "20")
    assert json.loads(body)["RestException"]["Status"] == 429
    body = api.sent(request(basic(KEY, TOKEN), "/v1/Accounts/acme/Calls"))[2]
    assert body.startswith(b"<?xml")
    assert b"<Status>429</Status>" in body
    clock.now += 20
    assert [api.sent(request(basic(KEY, TOKEN)))[0] for _ in range(2)] == [200, 429]


def test_each_key_has_its_own_rate(clock: Clock) -> None:
    rate = Rate(1, clock)
    rate.take("a")
    rate.take("b")
    assert refused(lambda: rate.take("a")).status == 429
    for number in range(REMEMBERED + 5):
        rate.take(str(number))
    assert len(rate._left) == REMEMBERED


# --- beside a service --------------------------------------------------------------------------------------


def test_a_live_call_shows_as_in_progress_and_then_completed(hall: Start) -> None:
    keys = {"keys": [{"key": KEY, "token_hash": TOKEN_HASH}]}
    h = hall(FLOW, main={"web": {"listen": "127.0.0.1:0"}}, account={"api": keys})
    assert h.service.web is not None
    address: Any = h.service.web.address

    def calls() -> list[dict[str, Any]]:
        status, _, body = exchange(address, request(basic(KEY, TOKEN)))
        assert status == 200, body
        return json.loads(body)["Calls"]

    assert calls() == []
    holding = [1]
    h.switch.clock.watch(lambda: holding[0])  # time stands still in the menu
    phone = h.call(keys="1")
    eventually(lambda: [one["Status"] for one in calls()] == ["in-progress"])
    assert calls()[0]["EndTime"] is None
    holding[0] = 0
    assert phone.wait(WAIT)
    eventually(lambda: [one["Status"] for one in calls()] == ["completed"])
    (call,) = calls()
    assert call["EndTime"] is not None
    assert exchange(address, request(basic(KEY, TOKEN), f"/v1/Accounts/acme/Calls/{call['Sid']}.json"))[0] == 200
    assert exchange(address, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")[2] == b"alive\n"
    assert exchange(address, request(basic(KEY, TOKEN), "/v1/Accounts/globex/Calls.json"))[0] == 401
