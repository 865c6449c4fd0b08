"""The doors at both sides: the server that calls come to, and our own connection to the switch's event socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from eslpeer import UUID, WAIT, Command, Peer, notice, within
from gevent import socket
from gevent.event import Event as Signal
from gevent.server import StreamServer
from pydantic import SecretStr

from exoflow.config.model import EventSocket
from exoflow.errors import CommandRefused, DeadlineExceeded, Disconnected, ExoflowError, ProtocolError, UnsafeText
from exoflow.esl import link as link_module
from exoflow.esl import session as session_module
from exoflow.esl.codec import Event
from exoflow.esl.link import SwitchLink
from exoflow.esl.server import CallServer
from exoflow.esl.session import CallSession
from exoflow.lines import lines as lines_module
from exoflow.lines.lines import Lines

# --- the server -----------------------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Callable[..., CallServer]]:
    servers: list[CallServer] = []

    def start(answer: Callable[[CallSession], None], limit: int = 10) -> CallServer:
        servers.append(CallServer(("127.0.0.1", 0), answer, max_calls=limit))
        servers[0].start()
        return servers[0]

    yield start
    for server in servers:
        server.stop(0)


def dial(server: CallServer) -> Peer:
    return Peer(socket.create_connection(server.address))


def test_a_server_at_its_limit_refuses_and_counts(serve: Callable[..., CallServer]) -> None:
    gate, runs = Signal(), Signal()

    def answer(session: CallSession) -> None:
        runs.set()
        gate.wait(WAIT)

    server = serve(answer, 1)
    first = gevent.spawn(dial(server).serve)
    assert runs.wait(WAIT)
    second = dial(server)
    second.serve()
    applications = [(command.application, command.argument) for command in second.commands if command.application]
    assert [name for name, _ in applications[:2]] == ["sched_cancel", "sched_transfer"]
    assert applications[2:] == [("set", "exo_refused=app"), ("hangup", "USER_BUSY")]
    assert (server.active, server.refused) == (1, 1)
    gate.set()
    first.join(WAIT)
    runs.clear()
    gate.clear()
    third = gevent.spawn(dial(server).serve)
    assert runs.wait(WAIT), "there is room again"
    gate.set()
    third.join(WAIT)
    assert (server.active, server.refused) == (0, 1)


def test_a_call_that_is_being_refused_takes_no_place(serve: Callable[..., CallServer]) -> None:
    gate, runs = Signal(), Signal()

    def answer(session: CallSession) -> None:
        runs.set()
        gate.wait(WAIT)

    server = serve(answer, 1)
    first = gevent.spawn(dial(server).serve)
    assert runs.wait(WAIT)
    silent = dial(server)  # over the limit, and then says nothing for as long as it may
    assert silent.command().line == "connect"
    gate.set()
    first.join(WAIT)
    runs.clear()
    third = gevent.spawn(dial(server).serve)
    assert runs.wait(WAIT), "refused although no call runs"
    third.join(WAIT)
    silent.close()


def test_200_silent_peers_are_closed_at_the_deadline(serve: Callable[..., CallServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CONNECT_SECONDS", 0.2)
    server = serve(lambda session: None, 1)
    began = time.monotonic()
    peers = [dial(server) for _ in range(200)]
    assert all(peer.eof() for peer in peers)
    assert time.monotonic() - began < 2
    assert (server.active, server.refused) == (0, 0), "they took a place of nobody"
    assert server.counters["silent"] == 200
    dial(server).serve()


def test_calls_are_cut_when_the_server_stops(serve: Callable[..., CallServer]) -> None:
    runs = Signal()

    def answer(session: CallSession) -> None:
        runs.set()
        session.execute("playback", "/a.wav", deadline=60)

    server = serve(answer)
    peer = dial(server)
    serving = gevent.spawn(peer.serve, answers=lambda command: command.application == "playback" and peer.reply() is None)
    assert runs.wait(WAIT)
    server.stop(0.01)
    with within(what="the socket's end"):
        serving.join()
    assert server.active == 0
    with pytest.raises(OSError, match="refused"):
        dial(server)


# --- our own connection to the switch -----------------------------------------------------------


class EventSocketPeer:
    """An event socket whose connections are scripted one by one; the last script stays."""

    def __init__(self, *scripts: Callable[[Peer], None]) -> None:
        self._scripts = list(scripts)
        self.connections = 0
        self._server = StreamServer(("127.0.0.1", 0), self._accepted)
        self._server.start()

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def link(self, password: str = "secret", hear: Callable[[Event], None] = lambda event: None) -> SwitchLink:
        return SwitchLink("127.0.0.1", self.port, password, hear)

    def _accepted(self, sock: socket.socket, address: object) -> None:
        self.connections += 1
        peer = Peer(sock)
        try:
            (self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0])(peer)
        except (EOFError, OSError):
            pass
        finally:
            peer.close()

    def __enter__(self) -> EventSocketPeer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(timeout=0)


def ask_password(peer: Peer) -> Command:
    peer.send(b"Content-Type: auth/request\n\n")
    return peer.command()


def good(peer: Peer) -> None:
    """Takes any password and answers every command."""
    ask_password(peer)
    peer.reply("+OK accepted")
    peer.serve()


def wrong_password(peer: Peer) -> None:
    ask_password(peer)
    peer.reply("-ERR invalid")
    peer.send(notice("disconnect"))


def rude(peer: Peer) -> None:
    peer.send(b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n")


@pytest.mark.parametrize(
    ("script", "error", "cure"),
    [
        (wrong_password, CommandRefused, "wrong password; compare"),
        (rude, Disconnected, "access list"),
        (lambda peer: None, Disconnected, "peer closed"),
        (ask_password, Disconnected, "peer closed"),
        (lambda peer: peer.send(b"Content-Type: auth/req"), Disconnected, "inside a frame"),
        (lambda peer: peer.send(b"220 mail.example ESMTP\n\n"), ProtocolError, "something else on that port"),
        (lambda peer: peer.eof(60), Disconnected, "silent"),
        (lambda peer: (ask_password(peer), peer.eof(60)), DeadlineExceeded, "reply to `auth`"),
    ],
    ids=["wrong-password", "rude", "eof", "eof-in-auth", "cut", "mail-server", "silent", "silent-in-auth"],
)
def test_a_switch_that_does_not_let_us_in(
    script: Callable[[Peer], None], error: type[ExoflowError], cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "CONNECT_SECONDS", 0.1)
    with EventSocketPeer(script) as peer:
        link = peer.link()
        with pytest.raises(error, match=cure), within():
            link.connect()
        assert not link.connected
        with pytest.raises(Disconnected):
            link.api("status")


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        link = SwitchLink("127.0.0.1", free.getsockname()[1], "secret", lambda event: None)
        with pytest.raises(Disconnected, match="is FreeSWITCH running"):
            link.connect()
    link.stop()


@pytest.mark.parametrize("password", ["a\nb", "a\r\n\r\napi shutdown", "a\0b", "${x}"])
def test_a_password_is_one_word_of_one_command(password: str) -> None:
    with EventSocketPeer(good) as peer, pytest.raises(CommandRefused, match="control character") as failure:
        peer.link(password).connect()
    assert password not in str(failure.value)


def test_what_a_link_asks() -> None:
    asked: list[str] = []

    def script(peer: Peer) -> None:
        assert ask_password(peer).line == "auth secret"
        peer.reply("+OK accepted")
        peer.event("CHANNEL_CREATE")
        for answer in ("+OK", "-ERR No such channel!\n", "true", "false"):
            asked.append(peer.command().line)
            peer.api(answer)
        peer.eof(60)

    heard: list[str] = []
    with EventSocketPeer(script) as peer:
        link = peer.link(hear=lambda event: heard.append(event.name))
        link.connect()
        link.interrupt(UUID)
        with pytest.raises(CommandRefused, match="No such channel"):
            link.kill(UUID, "USER_BUSY")
        assert link.exists(UUID)
        assert not link.exists(UUID)
        with pytest.raises(UnsafeText):
            link.kill(f"{UUID} x")
        link.stop()
    assert asked == [f"api uuid_break {UUID}", f"api uuid_kill {UUID} USER_BUSY", *[f"api uuid_exists {UUID}"] * 2]
    assert heard == ["CHANNEL_CREATE"]


def test_lines_come_back_after_every_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, then let in, cut off, refused again, and let in for good."""
    monkeypatch.setattr(lines_module, "RETRY_SECONDS", (0.01, 0.02))
    cut, ups = Signal(), Signal()

    def until_cut(peer: Peer) -> None:
        ask_password(peer)
        peer.reply("+OK accepted")
        peer.command()
        peer.reply()
        cut.wait(WAIT)

    with EventSocketPeer(wrong_password, until_cut, rude, good) as peer:
        lines = Lines(EventSocket(host="127.0.0.1", port=peer.port, password=SecretStr("secret")))
        lines.on_up.append(ups.set)
        lines.start()
        assert not lines.up
        assert "wrong password" in lines.problem
        with pytest.raises(Disconnected, match="wrong password"):
            lines.interrupt(UUID)
        assert ups.wait(WAIT)
        ups.clear()
        assert lines.up
        cut.set()
        assert ups.wait(WAIT)
        assert lines.exists(UUID) is False
        assert peer.connections == 4
        lines.stop()
