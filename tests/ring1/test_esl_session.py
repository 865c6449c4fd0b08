"""Every wait of a call's session has four ends: result, error, the call's or the connection's end, and its deadline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from eslpeer import UUID, WAIT, Command, Peer, channel_data, notice, tcp_pair, within

from exoflow.errors import CallEnded, CommandRefused, DeadlineExceeded, Disconnected, ProtocolError, UnsafeText
from exoflow.esl import session as session_module
from exoflow.esl import wire as wire_module
from exoflow.esl.codec import Event
from exoflow.esl.session import CallSession, pause

HANGUP = {"Hangup-Cause": "USER_BUSY", "variable_hangup_cause_q850": "17"}


class Line:
    """A session and its peer; what the session does runs in greenlets."""

    def __init__(self) -> None:
        ours, theirs = tcp_pair()
        self.session, self.peer = CallSession(("127.0.0.1", 0), ours), Peer(theirs)

    def connect(self) -> Line:
        connecting = gevent.spawn(self.session.connect)
        assert self.peer.command().line == "connect"
        self.peer.send(channel_data())
        connecting.get(timeout=WAIT)
        return self

    def execute(self, deadline: float = 60, reply: str = "+OK") -> tuple[gevent.Greenlet, Command]:
        running = gevent.spawn(self.session.execute, "playback", "/a.wav", deadline=deadline)
        command = self.peer.command()
        if reply:
            self.peer.reply(reply)
        return running, command

    def synchronize(self) -> None:
        """Returns when all that was sent before has been taken."""
        asking = gevent.spawn(self.session.api, "status")
        assert self.peer.command().line == "api status"
        self.peer.api("UP")
        assert ended(asking) == "UP"

    def close(self) -> None:
        self.session.stop()
        self.peer.close()


def ended(waiting: gevent.Greenlet) -> Any:
    with within(what="the wait's end"):
        waiting.join()
    return waiting.get()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line().connect()
    yield line
    line.close()


# --- an application ends by …  --------------------------------------------------------------------


def test_its_complete(line: Line) -> None:
    running, command = line.execute()
    line.peer.complete(command, {"Application-Response": "FILE PLAYED"})
    assert ended(running).get("Application-Response") == "FILE PLAYED"
    assert line.session._executes == {}


def test_its_complete_before_the_reply(line: Line) -> None:
    running, command = line.execute(reply="")
    line.peer.complete(command)
    assert ended(running).get("Application") == "playback"
    line.peer.reply()
    line.synchronize()


def test_a_refusal(line: Line) -> None:
    running, _ = line.execute(reply="-ERR invalid session id [x]")
    with pytest.raises(CommandRefused, match=r"playback.*invalid session"):
        ended(running)
    line.synchronize()


def test_a_hangup_without_linger(line: Line) -> None:
    running, _ = line.execute()
    line.peer.event("CHANNEL_HANGUP", HANGUP)
    line.peer.send(notice("disconnect"))
    line.peer.close()
    with pytest.raises(CallEnded) as failure:
        ended(running)
    assert (failure.value.cause, failure.value.q850, failure.value.call_over) == ("USER_BUSY", 17, True)


@pytest.mark.parametrize("first", ["event", "notice"])
def test_a_complete_that_comes_after_the_hangup(line: Line, first: str) -> None:
    running, command = line.execute()
    if first == "notice":
        line.peer.send(notice("linger"))
    line.peer.event("CHANNEL_HANGUP", HANGUP)
    if first == "event":
        line.peer.send(notice("linger"))
    line.synchronize()
    assert line.session.ended.is_set()
    assert not running.ready(), "its result is still to come"
    line.peer.complete(command, {"variable_exo_keys": "7"})
    assert ended(running).variable("exo_keys") == "7"
    with pytest.raises(CallEnded):
        line.session.execute("playback", "/b.wav", deadline=60)


@pytest.mark.parametrize("end", ["complete", "close"])
def test_a_hangup_with_linger_and_no_complete(line: Line, end: str) -> None:
    """What was queued behind another application never ends (facts, section 6)."""
    running, _ = line.execute()
    line.peer.event("CHANNEL_HANGUP", HANGUP)
    line.peer.send(notice("linger"))
    if end == "complete":
        line.peer.event("CHANNEL_HANGUP_COMPLETE", HANGUP)
    else:
        line.peer.close()
    with pytest.raises(CallEnded, match="USER_BUSY"):
        ended(running)
    assert line.session.complete.wait(WAIT)


def test_a_notice_without_any_event(line: Line) -> None:
    running, _ = line.execute()
    line.peer.send(notice("linger"))
    line.peer.close()
    with pytest.raises(CallEnded, match="not told"):
        ended(running)


def test_the_connections_end(line: Line) -> None:
    running, _ = line.execute()
    waiting = gevent.spawn(line.session.api, "status")
    line.peer.command()
    line.peer.close()
    for wait in (running, waiting):
        with pytest.raises(Disconnected) as failure:
            ended(wait)
        assert failure.value.connection_gone
        assert not failure.value.call_over, "the call may live on"
    with pytest.raises(Disconnected):
        line.session.raise_if_disconnected()
    with pytest.raises(Disconnected):
        line.session.execute("playback", "/b.wav", deadline=60)


def test_our_own_stop(line: Line) -> None:
    running, _ = line.execute()
    line.session.stop()
    line.session.stop()
    with pytest.raises(Disconnected, match="closed by us"):
        ended(running)
    assert line.peer.eof()


def test_its_deadline(line: Line) -> None:
    running, command = line.execute(deadline=0.02)
    with pytest.raises(DeadlineExceeded, match=r"end of playback within 0\.02 s"):
        ended(running)
    line.peer.complete(command)  # comes too late, and is nobody's
    second, command = line.execute()
    line.peer.complete(command, {"which": "second"})
    assert ended(second).get("which") == "second"


def test_a_callers_own_timeout_is_not_taken_for_the_deadline(line: Line) -> None:
    def impatient() -> str:
        with gevent.Timeout(0.02, False):
            line.session.execute("playback", "/a.wav", deadline=60)
        return "went on"

    assert ended(gevent.spawn(impatient)) == "went on"
    line.peer.command()
    line.peer.reply()
    line.synchronize()


# --- two in one packet, and without a lease -----------------------------------------------------------


def test_a_second_application_is_sent_along_and_not_waited_for(line: Line) -> None:
    running = gevent.spawn(line.session.execute, "playback", "/a.wav", deadline=60, then=("set", "exo_done=1.2"))
    first, second = line.peer.command(), line.peer.command()
    assert [(c.application, c.argument, c.headers["event-lock"]) for c in (first, second)] == [
        ("playback", "/a.wav", "true"),
        ("set", "exo_done=1.2", "true"),
    ]
    assert first.token != second.token
    line.peer.reply()
    line.peer.reply("-ERR its refusal does not fail the first")
    line.synchronize()
    assert not running.ready()
    line.peer.complete(first, {"which": "first"})
    assert ended(running).get("which") == "first"
    line.peer.complete(second)
    line.synchronize()
    assert line.session._executes == {}


def test_the_first_of_two_is_refused(line: Line) -> None:
    running = gevent.spawn(line.session.execute, "playback", "/a.wav", deadline=60, then=("set", "exo_done=1.2"))
    for _ in range(2):
        line.peer.command()
    line.peer.reply("-ERR invalid session id [x]")
    line.peer.reply()
    with pytest.raises(CommandRefused, match="playback"):
        ended(running)
    line.synchronize()


def test_both_of_two_pass_the_door(line: Line) -> None:
    with pytest.raises(UnsafeText):
        line.session.execute("playback", "/a.wav", deadline=60, then=("set", "a=${system(id)}"))
    assert line.session._executes == {}
    line.synchronize()


def test_the_switch_takes_the_lease_off_for_a_bridge_and_arms_it_behind(line: Line) -> None:
    """In one packet: whoever dies or freezes between any two of these leaves nobody without a lease."""
    line.session.lease_off()
    running = gevent.spawn(line.session.execute, "bridge", "a/b", deadline=60, then=("set", "exo_done=3.1"))
    commands = [line.peer.command() for _ in range(4)]
    assert [command.application for command in commands] == ["sched_cancel", "bridge", "set", "sched_transfer"]
    for refused in (True, False, True, True):
        line.peer.reply("-ERR no" if refused else "+OK")
    line.peer.complete(commands[1])
    assert ended(running).get("Application") == "bridge"
    line.session.lease_on()
    _, command = line.execute()
    assert command.application == "playback"
    line.synchronize()


# --- replies --------------------------------------------------------------------------------------


def test_a_late_reply_does_not_shift_the_next_ones(line: Line) -> None:
    first = gevent.spawn(line.session.api, "status", deadline=0.02)
    line.peer.command()
    with pytest.raises(DeadlineExceeded, match="reply to `api`"):
        ended(first)
    second = gevent.spawn(line.session.api, "version")
    line.peer.command()
    line.peer.api("late")
    line.peer.api("FreeSWITCH")
    assert ended(second) == "FreeSWITCH"


def test_the_deadline_of_several_commands_is_one(line: Line) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        line.session.commands("linger 5", "filter a b", "event plain CHANNEL_ANSWER", deadline=0.1)
    assert time.monotonic() - began < 0.25
    asking = gevent.spawn(line.session.api, "status")
    for _ in range(4):
        line.peer.command()
        line.peer.api("any")
    assert ended(asking) == "any"


def test_a_peer_that_never_answers_does_not_fill_the_memory(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "MAX_PENDING_REPLIES", 3)
    waits = [gevent.spawn(line.session.api, "status") for _ in range(6)]
    for wait in waits:
        with pytest.raises(Disconnected, match="unanswered"):
            ended(wait)


def test_a_peer_that_never_reads_does_not_hold_the_writer(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "WRITE_SECONDS", 0.05)
    with pytest.raises(Disconnected, match="read nothing"):
        line.session.execute("playback", "/" + "x" * 20_000_000, deadline=60)
    assert not line.session.connected
    assert line.peer.eof()


def test_a_writer_that_is_stopped_leaves_no_half_command(line: Line) -> None:
    writing = gevent.spawn(line.session.execute, "playback", "/" + "x" * 20_000_000, deadline=60)
    gevent.idle()
    assert not writing.ready()
    writing.kill()
    assert not line.session.connected, "the next command would be the argument's rest"
    with pytest.raises(Disconnected):
        line.session.api("status")


def test_a_fault_of_the_reader_frees_the_waits(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(data: bytes) -> None:
        raise ValueError("a fault of ours")

    running, _ = line.execute()
    line.synchronize()
    monkeypatch.setattr(line.session, "_received", fail)
    line.peer.event("CHANNEL_ANSWER")
    with pytest.raises(Disconnected, match="a fault of ours"):
        ended(running)
    assert line.peer.eof()


@pytest.mark.parametrize("text", ["", "a\n\nb\n", "\n\n", "Content-Type: auth/request\n\nx", "एक\n\nदो"])
def test_an_api_reply_is_taken_by_its_length(line: Line, text: str) -> None:
    asking = gevent.spawn(line.session.api, "show channels")
    line.peer.command()
    line.peer.api(text)
    assert ended(asking) == text
    line.synchronize()


def test_a_fault_of_ours_while_an_event_is_handled_costs_that_event_only(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(event: Event) -> None:
        raise ValueError(event.name)

    monkeypatch.setattr(line.session, "on_event", fail)
    line.peer.event("CHANNEL_ANSWER")
    line.synchronize()


# --- the beginning and the end of a call ------------------------------------------------------------


def began() -> tuple[Line, gevent.Greenlet, list[Command]]:
    """A session that has sent all that it begins with."""
    line = Line()
    beginning = gevent.spawn(line.session.begin)
    assert line.peer.command().line == "connect"
    line.peer.send(channel_data())
    return line, beginning, [line.peer.command() for _ in range(5)]


def test_begin_takes_the_call_over() -> None:
    line, beginning, commands = began()
    assert [command.line for command in commands] == [
        "linger 5",
        f"filter Unique-ID {UUID}",
        "event plain " + " ".join(session_module.EVENTS),
        "sendmsg",
        "sendmsg",
    ]
    applications = [(command.application, command.argument, command.headers["event-lock"]) for command in commands[3:]]
    assert applications == [("sched_cancel", "", "true"), ("sched_transfer", "+8 exoflow_lease XML from-pri", "true")]
    for _ in commands:
        line.peer.reply()
    line.synchronize()
    assert not beginning.ready(), "a socket closed within 50 ms of `connect` parks the caller for ever"
    line.peer.complete(commands[3])
    assert ended(beginning).get("Caller-Caller-ID-Number") == "9811100001"
    line.close()


@pytest.mark.parametrize("refused", range(4))
def test_begin_is_refused(refused: int) -> None:
    line, beginning, commands = began()
    for at, _ in enumerate(commands):
        line.peer.reply("-ERR command not found" if at == refused else "+OK")
    with pytest.raises(CommandRefused, match=commands[refused].application or commands[refused].line.split(" ")[0]):
        ended(beginning)
    line.close()


def test_the_caller_leaves_while_the_call_is_taken_over() -> None:
    line, beginning, _ = began()
    line.peer.event("CHANNEL_HANGUP", HANGUP)
    line.peer.close()
    ended(beginning)
    assert line.session.hung_up
    line.close()


def test_the_caller_leaves_before_anything_was_subscribed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of such a hangup no event comes, only the linger notice: the take-over ends soon, and the call is known as ended."""
    monkeypatch.setattr(session_module, "LAST_WORD_SECONDS", 0.05)
    line, beginning, _ = began()
    line.peer.send(b"Content-Type: text/disconnect-notice\nContent-Disposition: linger\nContent-Length: 0\n\n")
    ended(beginning)
    assert line.session.hung_up
    with pytest.raises(CallEnded):
        line.session.execute("answer", deadline=1)
    line.close()


@pytest.mark.parametrize(
    "data", [b"Content-Type: command/reply\nReply-Text: %2BOK%0A\n\n", channel_data().replace(UUID.encode(), b"a b")]
)
def test_channel_data_without_a_uuid(data: bytes) -> None:
    line = Line()
    connecting = gevent.spawn(line.session.connect)
    line.peer.command()
    line.peer.send(data)
    with pytest.raises(ProtocolError, match="without a uuid"):
        ended(connecting)
    line.close()


def test_a_b_legs_hangup_does_not_end_the_call(line: Line) -> None:
    running, command = line.execute()
    for name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_ANSWER", "CHANNEL_BRIDGE"):
        line.peer.event(name, {"Unique-ID": "the-agents-leg"} | HANGUP)
    line.synchronize()
    assert not line.session.ended.is_set()
    assert (line.session.cause, line.session.q850) == ("", None)
    assert line.session.answered_event is None
    assert line.session.bridged_event is None
    line.peer.complete(command)
    ended(running)


def test_hang_up_waits_for_the_last_events(line: Line) -> None:
    leaving = gevent.spawn(line.session.hang_up, "USER_BUSY")
    command = line.peer.command()
    assert (command.application, command.argument) == ("hangup", "USER_BUSY")
    line.peer.reply()
    line.peer.goodbye("USER_BUSY")
    ended(leaving)
    assert (line.session.cause, line.session.q850) == ("USER_BUSY", 16)


@pytest.mark.parametrize("end", ["refusal", "close", "deadline"])
def test_hang_up_ends_in_any_case(line: Line, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "FAREWELL_SECONDS", 0.05 if end == "deadline" else 60)
    leaving = gevent.spawn(line.session.hang_up, "NORMAL_CLEARING")
    line.peer.command()
    if end == "refusal":
        line.peer.reply("-ERR invalid session id [x]")
    elif end == "close":
        line.peer.close()
    ended(leaving)


def test_pause_ends_with_the_call(line: Line) -> None:
    pause(line.session, 0.001)
    waiting = gevent.spawn(pause, line.session, 60)
    line.peer.event("CHANNEL_HANGUP", HANGUP)
    with pytest.raises(CallEnded):
        ended(waiting)
