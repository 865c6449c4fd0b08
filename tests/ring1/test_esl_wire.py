"""Bytes from tests/wire, sent over a real socket to a session: what must come of them stands beside each file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from eslpeer import UUID, WAIT, Peer, channel_data, tcp_pair, within

from exoflow.errors import Disconnected, ExoflowError
from exoflow.esl.codec import Event
from exoflow.esl.session import CallSession

WIRE = Path(__file__).parents[1] / "wire"
RECORDED = sorted(path.stem for path in (WIRE / "recorded").glob("*.esl"))


def cases(kind: str) -> list[str]:
    return sorted(path.stem for path in (WIRE / kind).glob("*.esl"))


def load(kind: str, name: str) -> tuple[bytes, dict[str, Any]]:
    path = WIRE / kind / f"{name}.esl"
    return path.read_bytes(), json.loads(path.with_suffix(".json").read_text())


class Listening(CallSession):
    """A session that keeps what it hears."""

    def __init__(self, *arguments: Any) -> None:
        self.heard: list[Event] = []
        super().__init__(*arguments)

    def on_event(self, event: Event) -> None:
        self.heard.append(event)
        super().on_event(event)


@pytest.fixture
def ends() -> Iterator[tuple[Listening, Peer]]:
    ours, theirs = tcp_pair()
    session, peer = Listening(("127.0.0.1", 0), ours), Peer(theirs)
    connecting = gevent.spawn(session.connect)
    peer.command()
    peer.send(channel_data())
    connecting.get(timeout=WAIT)
    yield session, peer
    session.stop()
    peer.close()


def send(peer: Peer, data: bytes, piece: int) -> None:
    """In pieces that arrive one by one."""
    for at in range(0, len(data), piece or len(data) or 1):
        try:
            peer.send(data[at : at + (piece or len(data))])
        except OSError:
            return  # what came before was enough
        if piece:
            gevent.sleep(0)


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("name", cases("valid"))
def test_valid(ends: tuple[Listening, Peer], name: str, piece: int) -> None:
    session, peer = ends
    data, expected = load("valid", name)
    asking = [gevent.spawn(session.commands, command) for command in expected.get("asks", [])]
    for command in expected.get("asks", []):
        assert peer.command().line == command
    send(peer, data, piece)
    with within(what="every reply"):
        replies = [wait.get()[0].data for wait in asking]
    assert replies == expected.get("replies", [])
    if expected.get("ended"):
        assert session.ended.wait(WAIT)
    still = gevent.spawn(session.api, "status")
    assert peer.command().line == "api status"
    peer.api("UP")
    with within(what="a further reply"):
        assert still.get() == "UP", "the frames after it are shifted"
    wanted = expected.get("events", [])
    assert [{key: event.get(key) for key in want} for event, want in zip(session.heard, wanted, strict=True)] == wanted
    assert [event.body.decode() for event in session.heard if event.body] == expected.get("bodies", [])
    assert session.ended.is_set() == expected.get("ended", False)
    assert session.cause == expected.get("cause", "")


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("name", cases("invalid"))
def test_invalid(ends: tuple[Listening, Peer], name: str, piece: int) -> None:
    session, peer = ends
    data, expected = load("invalid", name)
    asking = gevent.spawn(session.commands, "linger 5")
    peer.command()
    playing = gevent.spawn(session.execute, "playback", "/a.wav", deadline=60)
    peer.command()
    send(peer, data, piece)
    if expected.get("eof"):
        peer.close()
    assert session.closed.wait(WAIT), "the session goes on"
    assert type(session.close_reason).__name__ == expected["error"]
    assert expected["problem"] in str(session.close_reason)
    gevent.wait([asking, playing], timeout=WAIT)
    assert isinstance(playing.exception, Disconnected)
    assert expected["problem"] in str(playing.exception)
    assert asking.ready()
    if not name.startswith("unsolicited"):  # there the command had its reply before
        assert asking.exception is session.close_reason
    assert not session.connected
    with pytest.raises(Disconnected):
        session.api("status")
    with pytest.raises(ExoflowError):
        session.execute("answer", deadline=60)
    assert expected.get("eof") or peer.eof(), "the socket stays open"


@pytest.mark.parametrize("name", RECORDED)
def test_recorded(ends: tuple[Listening, Peer], name: str) -> None:
    """Frames of a FreeSWITCH 1.10.12: each is taken, and the connection goes on."""
    session, peer = ends
    data = (WIRE / "recorded" / f"{name}.esl").read_bytes()
    is_reply = b"Content-Type: command/reply" in data or b"Content-Type: api/response" in data
    asking = gevent.spawn(session.commands, "api show channels as json" if is_reply else "linger 5")
    peer.command()
    peer.send(data)
    if not is_reply:
        peer.reply()
    with within(what="the reply"):
        (reply,) = asking.get()
    assert session.connected
    if name == "show-channels":
        assert json.loads(reply.data)["row_count"] == 2
    if b"text/event-plain" in data:
        (event,) = session.heard
        assert event.name == event.headers["Event-Name"] != ""
        assert event.microseconds > 1_700_000_000_000_000
        lines = data.split(b"\n\n", 1)[1].split(b"\n\n", 1)[0].split(b"\n")
        assert [name for name, _ in event.items()] == [line.split(b": ")[0].decode() for line in lines]


def test_every_case_has_its_expectation() -> None:
    for kind in ("valid", "invalid"):
        assert {path.stem for path in (WIRE / kind).glob("*.json")} == set(cases(kind))
    assert UUID in (WIRE / "README.md").read_text()
