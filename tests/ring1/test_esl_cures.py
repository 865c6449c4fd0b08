"""The defects of greenswitch 0.0.19 that our path can meet, each beside its cure (docs/design.md, the wire).

Every test runs twice: with our classes, and with greenswitch's own as a strict expected failure. If one of these begins to
pass, greenswitch was mended and our cure can go.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from eslpeer import HANGS, UUID, WAIT, Late, Peer, channel_data, event_frame, notice
from eslsides import Ours, Stock, Talk
from gevent import socket

from exoflow.esl import codec, wire


@pytest.fixture(
    params=[
        pytest.param(Ours(), id="exoflow"),
        pytest.param(Stock(HANGS), id="greenswitch", marks=pytest.mark.xfail(strict=True, raises=(AssertionError, Late))),
    ]
)
def side(request: pytest.FixtureRequest) -> Ours:
    return request.param


@pytest.fixture
def talk(side: Ours) -> Iterator[Talk]:
    talk = Talk(side).connect()
    yield talk
    talk.close()


@pytest.mark.parametrize("side", [Ours(), Stock()], ids=["exoflow", "greenswitch"])
def test_the_surface_is_common(talk: Talk, side: Ours) -> None:
    """Without this, a stock variant could fail for a mistake of these tests."""
    answered = talk.handled("CHANNEL_ANSWER")
    assert side.header(talk.played({"Playback-File": "a b"}), "Playback-File") == "a b"
    talk.peer.event("CHANNEL_ANSWER")
    assert side.header(talk.has(answered), "Unique-ID") == UUID
    reply = talk.start(talk.session.send, "linger 5")
    assert talk.peer.command().line == "linger 5"
    talk.peer.reply("+OK will linger")
    assert talk.result(reply).data == "+OK will linger"
    assert talk.session.uuid == UUID
    assert side.held(talk.session) == 0
    calls: list[str] = []
    with side.server(lambda session: calls.append(session.uuid)) as address:
        Peer(socket.create_connection(address)).serve()
    assert calls == [UUID]


# --- reading -------------------------------------------------------------------------------------


def test_01_an_encoded_newline_is_no_new_header(talk: Talk) -> None:
    event = talk.played({"Caller-Caller-ID-Name": "x\nUnique-ID: evil"})
    assert talk.side.header(event, "Unique-ID") == UUID
    assert talk.side.header(event, "Caller-Caller-ID-Name") == "x\nUnique-ID: evil"


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"], ids=ascii)
def test_02_other_line_separators_are_characters(talk: Talk, separator: str) -> None:
    event = talk.played({"Caller-Caller-ID-Name": f"x{separator}Unique-ID: evil"})
    assert talk.side.header(event, "Unique-ID") == UUID
    assert talk.side.header(event, "Caller-Caller-ID-Name") == f"x{separator}Unique-ID: evil"


def test_03_an_events_body_is_no_headers(talk: Talk) -> None:
    event = talk.played(body=b"Unique-ID: evil\n\nover and out")
    assert talk.side.header(event, "Unique-ID") == UUID
    assert event.body == b"Unique-ID: evil\n\nover and out"


@pytest.mark.parametrize(
    "data",
    [
        b"no header at all\n\n",
        b"Content-Length: 2\n\nab",
        b"Content-Type: text/event-plain\n\nEvent-Name: HEARTBEAT\n\n",
        b"Content-Type: text/event-plain\nContent-Length: -1\n\n",
        b"Content-Type: api/response\nContent-Length: many\n\n",
        b"Content-Type: command/reply\nReply-Text: +OK\n\n" * 2,
    ],
    ids=["no-header", "no-type", "no-length", "negative-length", "length-text", "unsolicited-reply"],
)
def test_04_what_is_no_frame_ends_the_session(talk: Talk, data: bytes) -> None:
    playing, _ = talk.play()
    talk.peer.send(data)
    with pytest.raises(Exception, match=r".") as failure:
        talk.result(playing)
    assert not isinstance(failure.value, Late), "the wait was not freed"
    assert not talk.session.connected
    with pytest.raises(Exception, match=r".") as failure:
        talk.result(talk.start(talk.session.send, "linger 5"))
    assert not isinstance(failure.value, Late), "a later command waits for ever"


def test_05_bytes_that_are_no_utf8_in_a_header(talk: Talk) -> None:
    sending = talk.start(talk.session.send, "linger 5")
    talk.peer.command()
    talk.peer.send(b"Content-Type: command/reply\nReply-Text: +OK J\xf6rg\n\n")
    assert talk.result(sending).data == "+OK J\ufffdrg"


def test_05_bytes_that_are_no_utf8_in_a_body(talk: Talk) -> None:
    event = talk.played(raw=b"Caller-Caller-ID-Name: J\xf6rg\nCaller-ANI: %F6\n")
    assert talk.side.header(event, "Caller-Caller-ID-Name") == "J\ufffdrg"
    assert talk.side.header(event, "Caller-ANI") == "\ufffd"


def test_06_an_end_inside_a_body_does_not_freeze_the_process(side: Ours) -> None:
    """In a process of its own: greenswitch computes for ever."""
    name = "exoflow" if type(side) is Ours else "greenswitch"
    command = [sys.executable, str(Path(__file__).with_name("eof_in_body.py")), name]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False)
    assert done.returncode == 0
    assert done.stdout == b"done\n"


def test_07_the_notices_body_is_read(talk: Talk) -> None:
    gone = talk.handled("CHANNEL_HANGUP_COMPLETE")
    talk.peer.send(notice("disconnect").replace(b"Disposition: disconnect", b"Disposition: linger"))
    talk.peer.event("CHANNEL_HANGUP_COMPLETE", {"Hangup-Cause": "NORMAL_CLEARING"})
    assert talk.side.header(talk.has(gone), "Hangup-Cause") == "NORMAL_CLEARING"


@pytest.mark.parametrize(
    "data", [b"x" * (codec.MAX_HEADER_BYTES + 1), b"Content-Type: api/response\nContent-Length: 99999999999\n\n"],
    ids=["header", "body"],
)  # fmt: skip
def test_08_a_frame_has_a_greatest_size(talk: Talk, data: bytes) -> None:
    playing, _ = talk.play()
    talk.peer.send(data)
    with pytest.raises(Exception, match=r".") as failure:
        talk.result(playing)
    assert not isinstance(failure.value, Late), "it goes on collecting"


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["/a.wav\nsession-id: 1", "/a.wav\n\napi status", "/a.wav\rcall-command: hangup", "/a\0.wav"])
def test_09_no_argument_becomes_a_header_or_command(talk: Talk, text: str) -> None:
    talk.start(talk.session.call_command, "playback", text).join(HANGS)
    talk.start(talk.session.send, "linger 5")
    assert talk.peer.command().line == "linger 5"


def test_10_a_large_command_is_sent_whole(talk: Talk) -> None:
    talk.start(talk.session.call_command, "playback", "/" + "x" * 4_000_000)
    assert len(talk.peer.command(talk.side.patience).argument) == 4_000_001


def test_10_two_senders_do_not_mix(talk: Talk) -> None:
    talk.start(talk.session.call_command, "playback", "/" + "x" * 4_000_000)
    talk.start(talk.session.send, "linger 5")
    gevent.sleep(0)
    assert talk.peer.command(talk.side.patience).application == "playback"
    assert talk.peer.command(talk.side.patience).line == "linger 5"


def test_11_what_cannot_be_sent_does_not_shift_the_replies(talk: Talk) -> None:
    talk.start(talk.session.call_command, "playback", "\ud800").join(HANGS)
    sending = talk.start(talk.session.send, "linger 5")
    assert talk.peer.command().line == "linger 5"
    talk.peer.reply("+OK lingering")
    assert talk.result(sending).data == "+OK lingering"


def test_12_a_reply_has_a_deadline(talk: Talk) -> None:
    talk.session.reply_seconds = 0.02
    with pytest.raises(Exception, match="within") as failure:
        talk.result(talk.start(talk.session.send, "linger 5"))
    assert not isinstance(failure.value, Late)


def test_12_an_end_without_notice_frees_every_wait(talk: Talk) -> None:
    playing, _ = talk.play()
    sending = talk.start(talk.session.send, "linger 5")
    talk.peer.command()
    talk.peer.close()
    for waiting in (playing, sending):
        with pytest.raises(Exception, match=r".") as failure:
            talk.result(waiting)
        assert not isinstance(failure.value, Late), "the wait was not freed"


# --- applications --------------------------------------------------------------------------------


def test_13_a_refused_application_is_not_waited_for(talk: Talk) -> None:
    playing = talk.start(talk.session.playback, "/a.wav")
    talk.peer.command()
    talk.peer.reply("-ERR invalid session id [x]")
    with pytest.raises(Exception, match="invalid session") as failure:
        talk.result(playing)
    assert not isinstance(failure.value, Late)


def test_14_an_application_ends_although_another_ran_inside_it(talk: Talk) -> None:
    bridging = talk.start(talk.session.bridge, "freetdm/PRI1/A/09876543210")
    while (command := talk.peer.command()).application != "bridge":  # ours takes the lease off first
        talk.peer.reply()
    talk.peer.reply()
    talk.peer.complete(command, {"variable_current_application": "log"})
    assert talk.side.header(talk.result(bridging), "Application") == "bridge"


def test_15_the_end_of_another_execution_is_not_ours(talk: Talk) -> None:
    unawaited, first = talk.play("/a.wav", block=False)
    talk.result(unawaited)
    playing, second = talk.play("/b.wav")
    talk.peer.complete(first, {"Playback-File": "a"})
    talk.peer.complete(second, {"Playback-File": "b"})
    assert talk.side.header(talk.result(playing), "Playback-File") == "b"


def test_16_a_wait_given_up_is_no_hindrance(talk: Talk) -> None:
    given_up, _ = talk.play("/a.wav", response_timeout=0.02)
    gevent.wait([given_up], timeout=WAIT)
    playing, second = talk.play("/b.wav")
    talk.peer.complete(second, {"Playback-File": "b"})
    assert talk.side.header(talk.result(playing), "Playback-File") == "b"


def test_17_a_deadline_is_an_exception(talk: Talk) -> None:
    def application() -> str:
        try:
            talk.session.call_command("playback", "/a.wav", block=True, response_timeout=0.02)
        except Exception as error:
            return f"handled: {error}"
        return "played"

    running = talk.start(application)
    talk.peer.command()
    talk.peer.reply()
    gevent.wait([running], timeout=WAIT)
    assert running.successful(), "it passed by `except Exception`"
    assert "handled" in running.value


def test_18_a_handler_of_our_own_does_not_switch_correlation_off(talk: Talk) -> None:
    seen = talk.handled("CHANNEL_EXECUTE_COMPLETE")
    assert talk.side.header(talk.played({"Playback-File": "a"}), "Playback-File") == "a"
    assert talk.side.header(talk.has(seen), "Playback-File") == "a"


def test_19_every_application_waits_for_the_one_before(talk: Talk) -> None:
    _, command = talk.play()
    assert command.headers.get("event-lock") == "true"
    assert command.headers.get("event-uuid")


def test_20_what_is_not_given_is_not_written_as_none(talk: Talk) -> None:
    asking = talk.start(talk.session.play_and_get_digits, 1, 1, 1, 1000, "none", "/ask.wav", variable="exo_d")
    command = talk.peer.command()
    assert "None" not in command.argument
    assert command.argument.split(" ")[:8:7] == ["1", "exo_d"]
    talk.peer.reply()
    talk.peer.complete(command, {"variable_exo_d": "7"})
    assert talk.result(asking) == "7"


def test_21_answer_returns_when_the_call_is_answered(talk: Talk) -> None:
    answering = talk.start(talk.session.answer)
    command = talk.peer.command()
    talk.peer.reply()
    sending = talk.start(talk.session.send, "linger 5")  # its reply was read after that of `answer`
    talk.peer.command()
    talk.peer.reply()
    talk.result(sending)
    gevent.sleep(0)
    assert not answering.ready(), "it was only queued"
    talk.peer.complete(command)
    talk.result(answering)


def test_21_connect_has_one_type(side: Ours) -> None:
    talk = Talk(side)
    connecting = talk.start(talk.session.connect)
    talk.peer.command()
    talk.peer.send(channel_data())
    first = talk.result(connecting)
    assert type(first) is type(talk.session.connect())
    talk.close()


# --- the end -------------------------------------------------------------------------------------


def test_22_another_legs_hangup_is_not_the_calls(talk: Talk) -> None:
    talk.peer.event("CHANNEL_HANGUP", {"Unique-ID": "the-agents-leg"})
    talk.played()
    try:
        talk.session.raise_if_disconnected()
    except Exception as error:
        raise AssertionError("the agent's end ended the call") from error


def test_23_what_ends_after_the_hangup_still_returns_its_result(talk: Talk) -> None:
    playing, command = talk.play()
    unparked = talk.handled("CHANNEL_UNPARK")
    talk.peer.event("CHANNEL_HANGUP", {"Hangup-Cause": "NORMAL_CLEARING"})
    talk.peer.send(notice("linger"))
    talk.peer.event("CHANNEL_UNPARK")
    talk.has(unparked)
    talk.peer.complete(command, {"Playback-File": "a"})
    try:
        event = talk.result(playing)
    except Late:
        raise
    except Exception as error:
        raise AssertionError("the result was thrown away") from error
    assert talk.side.header(event, "Playback-File") == "a"


def test_24_nothing_is_kept_after_the_end(talk: Talk) -> None:
    playing, _ = talk.play()
    sending = talk.start(talk.session.send, "linger 5")
    talk.peer.command()
    talk.peer.send(notice("disconnect"))
    talk.peer.close()
    for waiting in (playing, sending):
        with contextlib.suppress(Exception):
            talk.result(waiting)
    assert talk.side.held(talk.session) == 0


def test_25_a_handler_may_wait_for_an_application(talk: Talk) -> None:
    answered = talk.handled("CHANNEL_ANSWER", lambda event: talk.session.playback("/a.wav"))
    talk.peer.event("CHANNEL_ANSWER")
    command = talk.peer.command()
    talk.peer.reply()
    talk.peer.complete(command)
    talk.has(answered)


def test_25_a_handler_may_stop_the_session(talk: Talk) -> None:
    answered = talk.handled("CHANNEL_ANSWER", lambda event: talk.session.stop())
    talk.start(talk.peer.serve)
    talk.peer.event("CHANNEL_ANSWER")
    talk.has(answered)


def test_26_a_failing_handler_does_not_end_the_others(talk: Talk) -> None:
    def fail(reason: str, event: Any) -> None:
        raise ValueError(reason)

    talk.session.register_handle("CHANNEL_ANSWER", functools.partial(fail, "a callable without a name"))
    talk.peer.event("CHANNEL_ANSWER")
    bridged = talk.handled("CHANNEL_BRIDGE")
    talk.peer.event("CHANNEL_BRIDGE")
    talk.has(bridged)


def test_27_stop_does_not_wait_for_the_peer(talk: Talk) -> None:
    talk.result(talk.start(talk.session.stop))
    assert talk.peer.eof(talk.side.patience)


def test_36_a_lost_call_is_noticed_without_a_command(talk: Talk) -> None:
    talk.peer.close()
    gevent.wait([getattr(talk.session, "closed", None) or talk.session._receive_events_greenlet], timeout=WAIT)
    try:
        talk.session.raise_if_disconnected()
    except Exception:
        return
    raise AssertionError("the session does not know that it is lost")


def test_the_frames_of_these_tests_are_those_of_a_switch() -> None:
    """Read by the codec: a frame that no FreeSWITCH would send proves nothing."""
    reader = codec.FrameReader()
    frames = reader.feed(channel_data() + event_frame("CHANNEL_ANSWER", {"a": "b c"}, b"body") + notice("disconnect"))
    assert [frame.kind for frame in frames] == ["command/reply", "text/event-plain", "text/disconnect-notice"]
    assert codec.Event.from_plain(frames[1].body).body == b"body"
    assert not reader.unfinished
    assert wire.Reply(frames[0]).data == "+OK\n"
