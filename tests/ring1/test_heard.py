"""What CRMs let callers hear: each answer of tests/dialect/answers/greeting and …/gather, over a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from support.http_server import RawServer

from exoflow.crm.heard import parse_gather, parse_greeting
from exoflow.crm.http import Answer, CrmClient
from exoflow.crm.strictjson import BadAnswer

ANSWERS = Path(__file__).parents[1] / "dialect" / "answers"
READERS: dict[str, Callable[[Answer], Any]] = {"greeting": parse_greeting, "gather": parse_gather}
CASES = sorted(f"{file.parent.name}/{file.stem}" for name in READERS for file in (ANSWERS / name).glob("*.http"))


@pytest.fixture(scope="module")
def served() -> Iterator[Callable[[str], Answer]]:
    """Asks a server that answers with the bytes of the file named in the path."""

    def script(sock: Any, request: bytes) -> bool:
        name = request.split(b" ")[1].decode().strip("/")
        sock.sendall((ANSWERS / name).read_bytes())
        return False

    client = CrmClient()
    with RawServer(script) as server:
        yield lambda name: client.get(f"http://127.0.0.1:{server.port}/{name}", deadline=5, allow_private=["127.0.0.0/8"])
    client.close()


def test_every_answer_has_its_expectation_with_a_source() -> None:
    assert len(CASES) > 50
    for case in CASES:
        assert json.loads((ANSWERS / f"{case}.json").read_text())["source"]
    files = {f"{file.parent.name}/{file.stem}" for name in READERS for file in (ANSWERS / name).glob("*.json")}
    assert files == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_answer(served: Callable[[str], Answer], case: str) -> None:
    expected = json.loads((ANSWERS / f"{case}.json").read_text())
    del expected["source"]
    answer, read = served(f"{case}.http"), READERS[case.partition("/")[0]]
    if "rejected" not in expected:
        found = json.loads(json.dumps(asdict(read(answer))))
        assert found == ({"text": "", "urls": []} if case.startswith("greeting") else {}) | expected
        return
    with pytest.raises(BadAnswer) as caught:
        read(answer)
    assert caught.value.key == expected["rejected"]
    assert expected["because"] in caught.value.problem
    # it goes into the journey and onto a terminal
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
