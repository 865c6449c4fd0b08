"""The lease: who keeps renewing it keeps the call, also for hours; who does not loses it, whatever plays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from eslpeer import UUID, Peer, channel_data, notice, tcp_pair, within
from gevent.event import Event as Signal
from hall import BYE, Hall, eventually, say

from exoflow.errors import Disconnected, ExoflowError
from exoflow.esl import heart as heart_module
from exoflow.esl import lease as lease_module
from exoflow.esl import tenure as tenure_module
from exoflow.esl.heart import Heart
from exoflow.esl.server import CallServer
from exoflow.esl.session import CallSession
from exoflow.sim import AgentScript, EmbeddedSwitch

WAIT = 10.0  # wall seconds any one thing may take here
LEASE, RENEW, BEAT = 0.5, 0.12, 0.04  # seconds, for 20, 7 and 0.5: the lease judges the app, so it is on the wall clock
SPEED = 50.0
ENDLESS = "tone_stream://%(1000,0,425);loops=-1"
OURS, CALLER = "+918030752400", "+919811100001"
BRIDGE = "[origination_uuid=leg-1,leg_timeout=20,ignore_early_media=true]freetdm/PRI1/a/09876543210"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", LEASE)
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", RENEW)
    monkeypatch.setattr(heart_module, "BEAT_SECONDS", BEAT)


class World:
    """An app of a few lines behind the real server, and the embedded switch. What the app does fails the test."""

    def __init__(self, answer: Callable[[CallSession], None], speed: float | None, agents: AgentScript | None) -> None:
        self.sessions: list[CallSession] = []
        self.errors: list[ExoflowError] = []
        self._answer = answer
        self.server = CallServer(("127.0.0.1", 0), self._take, max_calls=100)
        self.server.start()
        self.switch = EmbeddedSwitch(self.server.address, speed=speed, default_agent=agents)
        self.switch.start()

    def _take(self, session: CallSession) -> None:
        self.sessions.append(session)
        try:
            self._answer(session)
        except ExoflowError as error:
            self.errors.append(error)
            raise

    @property
    def renewals(self) -> int:
        return sum(name == "sched_transfer" for name, _ in self.switch.api_calls)

    @property
    def complaints(self) -> list[str]:
        return [violation.code for violation in self.switch.violations]


@contextmanager
def world(
    answer: Callable[[CallSession], None], *, speed: float | None = SPEED, agents: AgentScript | None = None
) -> Iterator[World]:
    made = World(answer, speed, agents)
    try:
        yield made
    finally:
        made.switch.stop()
        made.server.stop(0)


def test_a_frozen_app_loses_a_call_in_endless_audio_to_a_living_one() -> None:
    took: list[float] = []

    def answer(session: CallSession) -> None:
        if len(w.sessions) > 1:  # the living one
            took.append(time.monotonic() - began)
            session.hang_up("NORMAL_CLEARING")
            return
        session.execute("answer", deadline=5)
        w.server.heart.stop()  # frozen, as far as the switch can see
        session.execute("playback", ENDLESS, deadline=60)

    with world(answer, speed=None) as w:
        began = time.monotonic()
        assert w.switch.call(OURS, CALLER).wait(WAIT)
        assert [session.channel.variable("exo_entry") for session in w.sessions] == ["1", "2"]
        assert LEASE <= took[0] < LEASE + 2
        eventually(lambda: w.errors)
        assert [type(error) for error in w.errors] == [Disconnected]
        # its socket is left open: closing it would end the one of the app that has the call now
        assert w.sessions[0].ceded
        assert w.complaints == []


@pytest.mark.parametrize("lives", [False, True])
def test_the_first_lease_is_short_until_its_app_has_shown_that_it_lives(monkeypatch: pytest.MonkeyPatch, lives: bool) -> None:
    """A socket that closes in its first 50 ms parks the caller until a lease takes him away: not for 20 s."""
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 10 * WAIT)
    monkeypatch.setattr(lease_module, "FIRST_SECONDS", LEASE)
    monkeypatch.setattr(lease_module, "FIRST_RENEW_SECONDS", RENEW)

    def answer(session: CallSession) -> None:
        if len(w.sessions) == 1:
            if not lives:
                w.server.heart.stop()
            session.ended.wait(WAIT / 2)
        if not session.closed.is_set():
            session.hang_up("NORMAL_CLEARING")

    with world(answer) as w:
        assert w.switch.call(OURS, CALLER).wait(WAIT)
        assert len(w.sessions) == (1 if lives else 2)


def test_a_living_apps_call_of_three_minutes_in_a_prompt_is_its_own() -> None:
    def answer(session: CallSession) -> None:
        session.execute("playback", "tone_stream://%(180000,0,425)", deadline=60)
        session.hang_up("NORMAL_CLEARING")

    with world(answer) as w:
        phone = w.switch.call(OURS, CALLER)
        assert phone.wait(WAIT)
        assert len(w.sessions) == 1
        assert w.errors == []
        assert w.renewals >= 180 / SPEED / LEASE, "it was not renewed as often as it would have fired"
        assert w.server.heart.leases.refused == 0
        eventually(lambda: len(w.server.heart.leases) == 0)  # a call that has ended is forgotten
        assert w.complaints == []


def test_a_bridge_has_none_and_behind_it_there_is_one_again() -> None:
    renewals: list[int] = []

    def answer(session: CallSession) -> None:
        if len(w.sessions) > 1:
            session.hang_up("NORMAL_CLEARING")
            return
        session.execute("answer", deadline=5)
        renewals.append(w.renewals)
        session.execute("bridge", BRIDGE, deadline=60, then=("set", "exo_done=1.1"))
        renewals.append(w.renewals)
        gevent.sleep(2 * LEASE)  # kept again
        renewals.append(w.renewals)
        w.server.heart.stop()
        session.execute("playback", ENDLESS, deadline=60)

    talk = 3 * LEASE * SPEED
    with world(answer, agents=AgentScript.answers(1.0, talk)) as w:
        phone = w.switch.call(OURS, CALLER)
        assert phone.wait(WAIT)
        before, behind, later = renewals
        assert before == behind
        assert later > behind
        assert [session.channel.variable("exo_done") for session in w.sessions] == ["", "1.1"]
        assert w.complaints == []  # among them would be guard_in_bridge


def test_who_froze_in_a_bridge_loses_the_call_behind_it() -> None:
    """The switch itself arms the lease when the bridge ends."""

    def answer(session: CallSession) -> None:
        if len(w.sessions) > 1:
            session.hang_up("NORMAL_CLEARING")
            return
        session.execute("answer", deadline=5)
        w.server.heart.stop()
        session.execute("bridge", BRIDGE, deadline=60)
        frozen.wait(WAIT)

    frozen = Signal()
    with world(answer, agents=AgentScript.answers(1.0, 3 * LEASE * SPEED)) as w:
        assert w.switch.call(OURS, CALLER).wait(WAIT)
        frozen.set()
        assert len(w.sessions) == 2
        assert w.complaints == []


def test_a_lease_that_is_off_is_not_renewed() -> None:
    def answer(session: CallSession) -> None:
        session.lease_off()
        before = w.renewals
        session.execute("playback", f"tone_stream://%({3000 * LEASE * SPEED:.0f},0,425)", deadline=60)
        assert w.renewals == before
        session.lease_on()
        session.hang_up("NORMAL_CLEARING")

    with world(answer) as w:
        assert w.switch.call(OURS, CALLER).wait(WAIT)
        assert len(w.sessions) == 1
        assert w.errors == []


def test_a_call_that_comes_back_to_the_same_process_leaves_its_old_greenlet_first(
    hall: Callable[..., Hall], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process lives, and its renewals did not come: the lease gives the call to the process that had it."""
    monkeypatch.setattr(tenure_module, "LEAVE_SECONDS", WAIT)
    h = hall({"hello": say("This is to be said slowly, so that it takes its time."), "bye": BYE}, speed=2.0)
    supersede, order = CallSession.supersede, list[tuple[bool, bool]]()

    def superseded(session: CallSession) -> None:
        supersede(session)
        order.append((session.left.is_set(), session.ceded))

    monkeypatch.setattr(CallSession, "supersede", superseded)
    h.service.server.heart.stop()
    phone = h.call()
    h.noted("socket.lost")
    h.service.server.heart.start()
    state = h.ended(phone)
    assert set(order) <= {(True, True)}, "it was still there"  # mostly it has left before the call is back
    codes = h.codes(state)
    assert codes.index("socket.lost") < codes.index("call.resumed")
    assert state.outcome == "served"
    assert [violation.code for violation in h.switch.violations] == []
    assert phone.session is not None
    assert phone.session.channel.variables["exo_entry"] == "2"


def test_a_greenlet_that_does_not_leave_is_not_waited_for_long(
    hall: Callable[..., Hall], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks a CRM; when it has its answer it cannot write any more."""
    monkeypatch.setattr(tenure_module, "LEAVE_SECONDS", 0.1)
    h = hall({"hello": say("This is to be said slowly, so that it takes its time."), "bye": BYE}, speed=2.0)
    stuck, go_on, execute = Signal(), Signal(), CallSession.execute

    def slow(session: CallSession, application: str, *arguments: Any, **more: Any) -> Any:
        if application != "playback" or stuck.is_set():
            return execute(session, application, *arguments, **more)
        stuck.set()
        go_on.wait(WAIT)
        with pytest.raises(Disconnected, match="gave it to others"):
            execute(session, application, *arguments, **more)
        go_on.clear()
        raise Disconnected("this test", "all was seen")

    monkeypatch.setattr(CallSession, "execute", slow)
    h.service.server.heart.stop()
    phone = h.call()
    assert stuck.wait(WAIT)
    eventually(lambda: "playback" in [name for _, name, _ in h.tap.executed])  # the newer one goes on
    h.service.server.heart.start()
    go_on.set()
    assert h.ended(phone).outcome == "served"
    eventually(lambda: not go_on.is_set())


# --- byte by byte -----------------------------------------------------------------------------------


class Line:
    """A session that has begun, and the switch's end of its socket."""

    def __init__(self) -> None:
        ours, theirs = tcp_pair()
        self.heart = Heart()
        self.session, self.peer = CallSession(("127.0.0.1", 0), ours, self.heart), Peer(theirs)

    def begin(self, data: bytes = b"") -> Line:
        beginning = gevent.spawn(self.session.begin)
        assert self.peer.command().line == "connect"
        self.peer.send(data or channel_data())
        commands = [self.peer.command() for _ in range(5)]
        for _ in commands:
            self.peer.reply()
        self.peer.complete(commands[3])
        beginning.get(timeout=WAIT)
        return self

    def nothing_comes(self) -> bool:
        with gevent.Timeout(0.05, False):
            self.peer.command()
            return False
        return True


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line().begin()
    yield line
    line.session.release()
    line.peer.close()


def due(line: Line) -> None:
    gevent.sleep(RENEW)
    line.heart.leases.renew_due()


def test_a_renewal_is_two_commands_that_wait_for_nothing(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    line.heart.leases.renew_due()
    assert line.nothing_comes(), "it is not due yet"
    due(line)
    lines = [line.peer.command().line for _ in range(2)]
    assert lines == [f"api sched_del {UUID}", f"api sched_transfer +{LEASE} {UUID} exoflow_lease XML from-pri"]
    due(line)  # the first one's replies have not come
    assert [line.peer.command().line for _ in range(2)] == lines
    with caplog.at_level(logging.INFO):
        for text in ("+OK Deleted: 1\n", "+OK\n", "+OK Deleted: 1\n", "-ERR No such channel!\n"):
            line.peer.api(text)
        asking = gevent.spawn(line.session.api, "status")
        line.peer.command()
        line.peer.api("UP")
        assert asking.get(timeout=WAIT) == "UP"
    assert (line.heart.leases.renewed, line.heart.leases.refused) == (2, 1)
    assert "No such channel" in caplog.text


def test_a_call_that_hung_up_is_not_renewed(line: Line) -> None:
    line.peer.event("CHANNEL_HANGUP", {"Hangup-Cause": "NORMAL_CLEARING"})
    assert line.session.ended.wait(WAIT)
    due(line)
    assert line.nothing_comes()
    assert len(line.heart.leases) == 0


def test_a_peer_that_reads_nothing_does_not_hold_up_the_others(line: Line) -> None:
    other = Line()
    other.heart = other.session._heart = line.heart
    other.begin()
    with within():
        while line.session.write_at_once(b"api status\n\n" * 10_000):
            pass
    if line.session.connected:  # not closed by half a command
        due(line)
        assert line.session in line.heart.leases._again
    began = time.monotonic()
    due(other)
    assert other.peer.command().line.startswith("api sched_del")
    assert time.monotonic() - began < 1
    other.session.release()
    other.peer.close()


# --- a call that others have --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Caller-Destination-Number": "exoflow_guard"},
        {"Caller-Destination-Number": "exoflow_lease"},
        {"variable_exo_entry": "2"},
    ],
)
def test_a_call_that_was_taken_away_is_ceded(headers: dict[str, str]) -> None:
    """Its events still come to the old socket (facts, section 1). Nothing is written, and the socket stays."""
    line = Line().begin(channel_data().replace(b"variable_uuid", b"variable_exo_entry: 1\nvariable_uuid"))
    running = gevent.spawn(line.session.execute, "playback", "/a.wav", deadline=60)
    command = line.peer.command()
    line.peer.reply()
    line.peer.complete(command, headers)
    with pytest.raises(Disconnected, match="gave it to others"):
        running.get(timeout=WAIT)
    with pytest.raises(Disconnected):
        line.session.execute("playback", "/b.wav", deadline=60)
    line.session.stop()
    due(line)
    assert line.nothing_comes()
    line.peer.event("CHANNEL_HANGUP", headers)  # what is heard of it is another's
    line.peer.send(notice("linger"))
    assert line.peer.eof()
    assert not line.session.hung_up


def test_ones_own_events_are_no_reason() -> None:
    """A call that came by the lease's extension has its destination from the beginning."""
    data = channel_data().replace(
        b"variable_uuid", b"variable_exo_entry: 2\nCaller-Destination-Number: exoflow_lease\nvariable_uuid"
    )
    line = Line().begin(data)
    running = gevent.spawn(line.session.execute, "playback", "/a.wav", deadline=60)
    line.peer.event("CHANNEL_ANSWER", {"Unique-ID": "the-agents-leg", "Caller-Destination-Number": "exoflow_guard"})
    command = line.peer.command()
    line.peer.reply()
    line.peer.complete(command, {"Caller-Destination-Number": "exoflow_lease", "variable_exo_entry": "2"})
    assert running.get(timeout=WAIT).get("Application") == "playback"
    line.session.stop()
    line.peer.close()


@pytest.mark.parametrize(("sequence", "ceded"), [("417", False), ("419", True)])
def test_events_of_the_dialplan_before_us_are_no_reason(sequence: str, ceded: bool) -> None:
    """Seen on 1.10.12: a busy switch delivers what it made before `connect` to whoever subscribes behind it."""
    data = channel_data().replace(b"variable_uuid", b"Event-Sequence: 418\nvariable_exo_entry: 1\nvariable_uuid")
    line = Line().begin(data)
    line.peer.event("CHANNEL_EXECUTE_COMPLETE", {"variable_exo_entry": "0", "Event-Sequence": sequence})
    if not ceded:
        asking = gevent.spawn(line.session.api, "status")
        line.peer.command()
        line.peer.api("UP")
        assert asking.get(timeout=WAIT) == "UP"
    else:
        assert line.session.closed.wait(WAIT)
    assert line.session.ceded == ceded
    line.session.release()
    line.peer.close()


def arriving(exo_fallback: str, round_age: float, destination: str = "exoflow_guard") -> bytes:
    now = int(time.time() * 1e6)
    more = (
        f"Event-Date-Timestamp: {now}\nCaller-Destination-Number: {destination}\nvariable_exo_fallback: {exo_fallback}\n"
        f"variable_exo_entry: 2\nvariable_exo_socket_at: {now - int(round_age * 1e6)}\nvariable_uuid"
    )
    return channel_data().replace(b"variable_uuid", more.encode())


@pytest.mark.parametrize(
    ("fallback", "round_age", "destination", "margin"),
    [("guard", 60, "exoflow_fallback", 2.0), ("_undef_", 0.0, "exoflow_guard", 0.05), ("_undef_", 0.0, "8030752400", 0.05)],
)
def test_a_connection_that_waited_too_long_to_be_taken(
    fallback: str, round_age: float, destination: str, margin: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fallback has the call, or a later round of the dialplan gave it to another host."""
    monkeypatch.setattr(tenure_module, "AGE_MARGIN_SECONDS", margin)
    line = Line()
    gevent.sleep(2 * 0.05)
    beginning = gevent.spawn(line.session.begin)
    line.peer.command()
    line.peer.send(arriving(fallback, round_age, destination))
    with pytest.raises(Disconnected, match="waited to be taken"):
        beginning.get(timeout=WAIT)
    line.session.stop()
    assert line.nothing_comes()
    line.session.release()
    line.peer.close()


def test_a_host_that_the_guard_asked_takes_the_call() -> None:
    line = Line().begin(arriving("_undef_", 0.0))
    assert not line.session.ceded
    line.session.stop()
    line.peer.close()
