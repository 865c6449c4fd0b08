"""What CRMs answer for a connect step: each answer of tests/dialect/answers, over a real socket."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from support.http_server import RawServer

from exoflow.crm.answers import MAX_NUMBERS, parse_agents
from exoflow.crm.http import Answer, CrmClient
from exoflow.crm.strictjson import BadAnswer

ANSWERS = Path(__file__).parents[1] / "dialect" / "answers"
NOTHING = ("record", "dual", "ring_seconds", "talk_seconds", "shown", "at_once", "music", "playback", "trunk", "events_url")
NOTHING_SAID = dict.fromkeys(NOTHING) | {"again": False, "headers": {}, "ignored": []}
OURS = {"ours": {"+919999999902"}, "trunks": {"trunk-2134"}}


@pytest.fixture(scope="module")
def served():
    """Asks a server that answers with the bytes of the file named in the path."""

    def script(sock, request: bytes) -> bool:
        name = request.split(b" ")[1].decode().strip("/")
        sock.sendall((ANSWERS / name).read_bytes())
        return False

    client = CrmClient()
    with RawServer(script) as server:
        yield lambda name: client.get(f"http://127.0.0.1:{server.port}/{name}", deadline=2, allow_private=["127.0.0.0/8"])
    client.close()


def _cases() -> list[str]:
    return sorted(file.stem for file in ANSWERS.glob("*.http"))


def test_every_answer_has_its_expectation_with_a_source():
    assert _cases() == sorted(file.stem for file in ANSWERS.glob("*.json"))
    for case in _cases():
        assert json.loads((ANSWERS / f"{case}.json").read_text())["source"]
    assert sum(case.startswith("hostile_") for case in _cases()) > 50


@pytest.mark.parametrize("case", _cases())
def test_answer(served, case):
    expected = json.loads((ANSWERS / f"{case}.json").read_text())
    del expected["source"]
    answer = served(f"{case}.http")
    if "numbers" in expected:
        read = asdict(parse_agents(answer, **OURS))
        assert read | {"ignored": list(read["ignored"])} == NOTHING_SAID | expected
        return
    with pytest.raises(BadAnswer) as caught:
        parse_agents(answer, **OURS)
    assert caught.value.key == expected["rejected"]
    assert expected["because"] in caught.value.problem
    # it goes into the journey and onto a terminal
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 400


def _answer(body: bytes, content_type: str = "application/json") -> Answer:
    return Answer(200, {"content-type": content_type}, body, 1, "http://crm.example/")


def test_at_most_fifty_numbers():
    numbers = [f"0999999{n:04}" for n in range(MAX_NUMBERS + 1)]
    assert len(parse_agents(_answer(",".join(numbers[:-1]).encode(), "text/plain")).numbers) == MAX_NUMBERS
    with pytest.raises(BadAnswer):
        parse_agents(_answer(",".join(numbers).encode(), "text/plain"))
    for count, fine in ((MAX_NUMBERS, True), (MAX_NUMBERS + 1, False)):
        body = json.dumps({"destination": {"numbers": numbers[:count]}}).encode()
        if fine:
            assert len(parse_agents(_answer(body)).numbers) == count
        else:
            with pytest.raises(BadAnswer, match="51 of them"):
                parse_agents(_answer(body))


def test_an_answer_without_a_content_type():
    assert parse_agents(Answer(200, {}, b"09999999903", 1, "u")).numbers == ["+919999999903"]
