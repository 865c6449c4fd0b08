"""The embedded switch's event socket, and what it makes of hostile or careless input."""

from __future__ import annotations

import json

import pytest
from gevent import socket
from simclient import WAIT, Wire, codes, event_socket, running

TO, FROM = "+918030752400", "+919811111111"


def test_a_wrong_password_is_refused_and_closed() -> None:
    with running() as (switch, _):
        wire = Wire(socket.create_connection(switch.event_socket_address))
        wire.frame()
        assert wire.command("auth wrong").get("Reply-Text") == "-ERR invalid"
        assert [f.name for f in wire.eof()] == ["text/disconnect-notice"]


def test_nothing_works_before_auth() -> None:
    with running() as (switch, _):
        wire = Wire(socket.create_connection(switch.event_socket_address))
        wire.frame()
        assert wire.command("api status").get("Reply-Text") == "-ERR command not found"


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("bogus", "-ERR command not found"),
        ("event plain", "-ERR no keywords supplied"),
        ("event plain FOO", "-ERR no keywords supplied"),
        ("event plain CHANNEL_ANSWER", "+OK event listener enabled plain"),
        ("event json ALL", "+OK event listener enabled json"),
        ("noevents", "-ERR not listening for events"),
        ("filter Unique-ID", "-ERR invalid syntax"),
        ("filter delete Unique-ID", "+OK filter deleted. [Unique-ID][]"),
        ("linger 5", "-ERR not controlling a session"),
        ("sendmsg nosuch\ncall-command: hangup", "-ERR invalid session id [nosuch]"),
    ],
)
def test_replies_are_freeswitchs(command: str, reply: str) -> None:
    with running() as (switch, _):
        assert event_socket(switch.event_socket_address).command(command).get("Reply-Text") == reply


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("uuid_break nosuch", "-ERR No such channel!\n"),
        ("uuid_kill nosuch", "-ERR No such channel!\n"),
        ("uuid_exists nosuch", "false"),
        ("uuid_getvar nosuch x", "-ERR No such channel!\n"),
        ("uuid_setvar nosuch x 1", "-ERR No such channel!\n"),
        ("nosuch", "-ERR nosuch Command not found!\n"),
        ("show channels as json", '{"row_count":0}\n'),
        ("sched_del nosuch", "+OK Deleted: 0\n"),
    ],
)
def test_api_answers_are_freeswitchs(command: str, answer: str) -> None:
    with running() as (switch, _):
        assert event_socket(switch.event_socket_address).api(command) == answer


def test_api_on_a_call() -> None:
    with running() as (switch, app):
        watcher = event_socket(switch.event_socket_address)
        phone = switch.call(TO, FROM)
        app.call()
        assert watcher.api(f"uuid_getvar {phone.uuid} exo_did") == "8030752400"
        assert watcher.api(f"uuid_getvar {phone.uuid} nosuch") == "_undef_"
        assert watcher.api(f"uuid_setvar {phone.uuid} exo_call c1") == "+OK\n"
        assert watcher.api(f"uuid_getvar {phone.uuid} exo_call") == "c1"
        table = json.loads(watcher.api("show channels as json"))
        assert (table["row_count"], table["rows"][0]["uuid"]) == (1, phone.uuid)
        assert watcher.api("status").startswith("UP 0 years")
        assert codes(switch) == []


def test_filters_and_json() -> None:
    with running() as (switch, app):
        watcher = event_socket(switch.event_socket_address)
        watcher.command("event json CHANNEL_CREATE CHANNEL_ANSWER")
        watcher.command("filter Event-Name CHANNEL_ANSWER")
        phone = switch.call(TO, FROM)
        app.call().run("answer")
        frame = watcher.frame()
        assert frame is not None
        event = json.loads(frame.body)
        assert (event["Event-Name"], event["Unique-ID"]) == ("CHANNEL_ANSWER", phone.uuid)


def test_a_minus_filter_drops() -> None:
    with running() as (switch, app):
        watcher = event_socket(switch.event_socket_address)
        watcher.command("event plain CHANNEL_CREATE CHANNEL_ANSWER")
        watcher.command("filter Call-Direction inbound")
        watcher.command("filter Event-Name -CHANNEL_CREATE")
        switch.call(TO, FROM)
        app.call().run("answer")
        frame = watcher.frame()
        assert frame is not None
        assert frame.name == "CHANNEL_ANSWER"


def test_myevents_are_the_calls_own_and_given_once() -> None:
    with running() as (switch, app):
        first, second = switch.call(TO, FROM), switch.call(TO, FROM)
        wires = [app.call(), app.call()]
        wire = wires[0]
        assert wire.command("myevents").get("Reply-Text") == "+OK Events Enabled"
        assert wire.command("myevents").get("Reply-Text") == "-ERR aready enabled."
        wire.command("filter delete all")
        wires[1].run("answer")
        wire.run("answer")
        assert {f.get("Unique-ID") for f in wire.frames if f.name == "CHANNEL_ANSWER"} <= {first.uuid, second.uuid}
        assert len([f for f in wire.frames if f.name == "CHANNEL_ANSWER"]) == 1


def test_bgapi_answers_with_a_job() -> None:
    with running() as (switch, _):
        watcher = event_socket(switch.event_socket_address)
        watcher.command("event plain BACKGROUND_JOB")
        job = watcher.command("bgapi status").get("Job-UUID")
        frame = watcher.event("BACKGROUND_JOB", Job_UUID=job)
        assert b"FreeSWITCH (Version" in frame.body


# --- what FreeSWITCH turns into harm ---


@pytest.mark.parametrize(
    ("argument", "value", "code"),
    [
        ("exo_a=${exo_did}", "8030752400", "expansion"),
        ("exo_a=$${hostname}", "embedded", "expansion"),
        ("exo_a=${system(id)}", "<RAN system(id)>", "api_expansion"),
        (r"exo_a=\${system(id)}", "<RAN system(id)>", "api_expansion"),  # `set` expands twice: the escape does not help
    ],
)
def test_expansion_happens_and_is_counted(argument: str, value: str, code: str) -> None:
    with running() as (switch, app):
        switch.call(TO, FROM)
        assert app.call().run("set", argument).get("variable_exo_a") == value
        assert code in codes(switch)


def test_a_stored_value_is_expanded_where_it_is_used() -> None:
    with running() as (switch, app):
        switch.call(TO, FROM, variables={"crm": "${system(id)}"})
        wire = app.call()
        wire.run("log", "INFO ${crm}")
        assert "api_expansion" in codes(switch)


def test_a_newline_in_a_header_argument_commands_another_call() -> None:
    with running() as (switch, app):
        victim = switch.call(TO, FROM)
        app.call()
        switch.call(TO, FROM)
        wire = app.call()
        value = f"1\nsession-id: {victim.uuid}\ncall-command: hangup"
        wire.command(f"sendmsg\nevent-uuid: {value}")
        assert victim.wait(WAIT)
        assert codes(switch) == ["foreign_call"]


def test_a_second_leg_is_dialled() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        app.call().start("bridge", "{ignore_early_media=true}freetdm/PRI1/A/09876543210,null/evil")
        phone.wait_until(lambda p: len(switch.attempts) == 2, WAIT)
        assert switch.rung == ["09876543210", "evil"]
        assert {"second_leg", "endpoint", "dialled_text"} <= set(codes(switch))


def test_the_word_pair_replaces_the_command() -> None:
    with running() as (switch, app):
        switch.call(TO, FROM)
        frame = app.call().command("sendmsg\nx: please RELOAD my mod_event_socket")
        assert frame.name == "api/response"
        assert codes(switch) == ["word_pair"]


def test_getvar_forges_a_frame() -> None:
    with running() as (switch, app):
        switch.call(TO, FROM, variables={"evil": "a\n\nContent-Type: api/response\nContent-Length: 0"})
        wire = app.call()
        wire.command("getvar evil")
        frame = wire.frame()
        assert frame is not None
        assert frame.name == "api/response", "a frame that nobody asked for"
        assert codes(switch) == ["getvar"]


def test_a_first_command_that_is_not_connect_gets_no_reply() -> None:
    with running(guard_seconds=0.2) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call(greet=False)
        wire.send("linger 5\n\nmyevents\n\n")
        frame = wire.frame()
        assert frame is not None
        assert frame.get("Reply-Text") == "+OK Events Enabled"
        assert phone.wait(WAIT)
        assert codes(switch) == ["no_connect"]


def test_a_guard_left_armed_in_a_bridge_is_told() -> None:
    with running(guard_seconds=60) as (switch, app):
        switch.call(TO, FROM)
        wire = app.call(greet=False)
        wire.send("connect\n\nevent plain CHANNEL_EXECUTE_COMPLETE\n\n")
        wire.run("bridge", "{ignore_early_media=true}freetdm/PRI1/A/09876543210")
        assert codes(switch) == ["guard_in_bridge"]


# --- sched_transfer by api, and what is left of a socket whose call was taken away --------------------


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("sched_transfer", "-USAGE: [+]<time> <uuid> <extension> [<dialplan>] [<context>]\n"),
        (
            "sched_transfer +20 {uuid} exoflow_lease XML from-pri more",
            "-USAGE: [+]<time> <uuid> <extension> [<dialplan>] [<context>]\n",
        ),
        ("sched_transfer +20 no-such-channel exoflow_lease XML from-pri", "-ERR No such channel!\n"),
        ("sched_transfer +20 {uuid} exoflow_lease XML from-pri", "+OK\n"),
        ("sched_del no-such-channel", "+OK Deleted: 0\n"),
    ],
)
def test_scheduling_by_api(command: str, reply: str) -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire, other = app.call(), event_socket(switch.event_socket_address)
        for either in (wire, other):
            assert either.api(command.format(uuid=phone.uuid)) == reply
        assert wire.api(f"sched_del {phone.uuid}") == f"+OK Deleted: {2 * reply.startswith('+OK') * ('transfer' in command)}\n"


def test_a_call_that_was_taken_away_leaves_its_old_socket_open() -> None:
    """As seen on 1.10.12 (docs/freeswitch-quirks.md): the application is cut, what is queued behind it runs, its events bear
    the new destination, and whoever closes the old socket ends the one of the app that has the call now."""
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        old = app.call()
        old.run("answer")
        old.start("playback", "tone_stream://%(1000,0,425);loops=-1")
        old.start("set", "exo_done=1.1")
        assert old.api(f"sched_transfer +0.05 {phone.uuid} exoflow_lease XML from-pri") == "+OK\n"
        cut = old.event("CHANNEL_EXECUTE_COMPLETE", Application="playback")
        assert cut.get("Caller-Destination-Number") == "exoflow_lease"
        behind = old.event("CHANNEL_EXECUTE_COMPLETE", Application="set")
        assert behind.get("variable_exo_done") == "1.1"
        new = app.call()
        assert new.api(f"uuid_getvar {phone.uuid} exo_entry") == "2"
        assert codes(switch) == []
        old.close()
        third = app.call()
        assert third.api(f"uuid_getvar {phone.uuid} exo_entry") == "3"
        assert codes(switch) == ["old_socket"]


def test_on_the_virtual_clock_a_lease_is_on_the_wall_clock() -> None:
    """It is renewed by the app's timers: a prompt of an hour is over before the first."""
    with running(speed=None) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("answer")
        wire.api(f"sched_transfer +20 {phone.uuid} exoflow_lease XML from-pri")
        wire.run("playback", "tone_stream://%(3600000,0,425)")
        assert wire.api(f"sched_del {phone.uuid}") == "+OK Deleted: 1\n"
