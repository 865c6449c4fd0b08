"""How the embedded switch runs what an app sends, and what becomes of a call that loses its app."""

from __future__ import annotations

import time

import gevent
import pytest
from simclient import WAIT, App, Wire, codes, event_socket, eventually, running

from exoflow.sim import AgentScript, EmbeddedSwitch

TO, FROM = "+918030752400", "+919811111111"
TALK = "{ignore_early_media=true,originate_timeout=20}freetdm/PRI1/A/09876543210"


def order(wire: Wire) -> list[str]:
    return [f.get("Application-UUID") for f in wire.frames if f.name == "CHANNEL_EXECUTE_COMPLETE"]


def test_locked_executes_run_in_turn() -> None:
    with running() as (switch, app):
        switch.call(TO, FROM)
        wire = app.call()
        first = wire.start("playback", "tone_stream://%(1000,0,400)")
        second = wire.start("set", "exo_a=1")
        wire.complete(second)
        assert order(wire)[-2:] == [first, second]
        assert switch.violations == []


def test_an_execute_without_lock_runs_inside_the_one_that_runs() -> None:
    with running() as (switch, app):
        switch.call(TO, FROM)
        wire = app.call()
        outer = wire.start("playback", "tone_stream://%(5000,0,400)", lock=False)
        inner = wire.start("set", "exo_a=1", lock=False)
        frame = wire.complete(outer)
        assert order(wire)[-2:] == [inner, outer]
        # the trap for whoever correlates by the application's name
        assert (frame.get("Application"), frame.get("variable_current_application")) == ("playback", "set")
        assert codes(switch) == ["nested"]


def test_sendmsg_is_answered_before_its_application_completes() -> None:
    with running() as (switch, app):
        switch.call(TO, FROM)
        wire = app.call()
        wire.run("answer")
        replies = [f.name for f in wire.frames]
        assert replies[-3:] == ["command/reply", "CHANNEL_ANSWER", "CHANNEL_EXECUTE_COMPLETE"]


def test_an_unknown_application_ends_the_call_without_complete() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        token = wire.start("no_such_thing")
        assert wire.event("CHANNEL_HANGUP_COMPLETE").get("Hangup-Cause") == "DESTINATION_OUT_OF_ORDER"
        assert token not in order(wire)
        assert phone.cause == "DESTINATION_OUT_OF_ORDER"


def test_linger_notice_comes_before_the_open_application_completes_and_the_queued_one_never_does() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.command("linger 1")
        playing = wire.start("playback", "tone_stream://%(1000,0,400);loops=-1")
        phone.wait_until(lambda p: bool(p.heard), WAIT)
        queued = wire.start("sleep", "100")
        phone.hangup()
        rest = wire.eof()
        names = [f.name for f in rest]
        assert names[0] == "CHANNEL_HANGUP"
        assert [f.get("Content-Disposition") for f in rest if f.name == "text/disconnect-notice"] == ["linger", "disconnect"]
        assert names[-1] == "text/disconnect-notice"
        assert names.index("CHANNEL_EXECUTE_COMPLETE") < names.index("CHANNEL_HANGUP_COMPLETE")
        done = order(wire)
        assert playing in done
        assert queued not in done
        assert rest[names.index("CHANNEL_EXECUTE_COMPLETE")].get("Application-Response") == "PLAYBACK ERROR"


def test_commands_are_accepted_and_do_nothing_while_lingering() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        phone.hangup()
        wire.event("CHANNEL_HANGUP_COMPLETE")
        token = wire.start("set", "exo_a=1")
        assert wire.frames[-1].get("Reply-Text") == "+OK"
        assert wire.api(f"uuid_exists {phone.uuid}") == "false"
        assert token not in order(wire)


def test_without_linger_the_socket_ends_with_the_call() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.command("nolinger")
        token = wire.start("playback", "tone_stream://%(1000,0,400);loops=-1")
        phone.wait_until(lambda p: bool(p.heard), WAIT)
        phone.hangup()
        names = [f.name for f in wire.eof()]
        assert names[-2:] == ["CHANNEL_HANGUP", "text/disconnect-notice"]
        assert token not in order(wire)


def test_exit_is_answered_and_closes() -> None:
    with running() as (switch, app):
        switch.call(TO, FROM)
        wire = app.call()
        gevent.sleep(0.03)  # an exit within 20 ms of connect leaves the caller in dead air: another test
        assert wire.command("exit").get("Reply-Text") == "+OK bye"
        assert [f.name for f in wire.eof()] == ["text/disconnect-notice"]


def test_uuid_break_ends_a_prompt_and_all_drops_the_queue_without_complete() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        watcher = event_socket(switch.event_socket_address)
        playing = wire.start("playback", "tone_stream://%(1000,0,400);loops=-1")
        phone.wait_until(lambda p: bool(p.heard), WAIT)
        assert watcher.api(f"uuid_break {phone.uuid}") == "+OK\n"
        assert wire.complete(playing).get("Application-Response") == "FILE PLAYED"
        playing = wire.start("playback", "tone_stream://%(1000,0,400);loops=-1")
        phone.wait_until(lambda p: len(p.heard) == 2, WAIT)
        dropped = wire.start("set", "exo_a=1")
        watcher.api(f"uuid_break {phone.uuid} all")
        wire.complete(playing)
        assert wire.run("set", "exo_b=1").get("variable_exo_a") == ""
        assert dropped not in order(wire)


def test_uuid_kill_does_not_wait_behind_a_locked_application() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.start("playback", "tone_stream://%(1000,0,400);loops=-1")
        wire.send("sendmsg\ncall-command: hangup\nhangup-cause: USER_BUSY\n\n")
        watcher = event_socket(switch.event_socket_address)
        assert watcher.api(f"uuid_exists {phone.uuid}") == "true"
        watcher.api(f"uuid_kill {phone.uuid} CALL_REJECTED")
        assert phone.wait(WAIT)
        assert phone.cause == "CALL_REJECTED"


# --- the dialplan's contract ---


def test_the_call_carries_what_the_dialplan_promises() -> None:
    with running() as (switch, app):
        switch.call(TO, FROM, rdnis="+918040001234")
        first = app.greet(app.call(greet=False))
        wanted = {"exo_trunk": "PRI1", "exo_did": "8030752400", "exo_entry": "1", "exo_diverted_from": "8040001234"}
        assert {name: first.get(f"variable_{name}") for name in wanted} == wanted
        assert first.get("Caller-Caller-ID-Number") == "9811111111"
        assert first.get("Caller-RDNIS") == "8040001234"
        assert first.get("Answer-State") == "ringing"
        assert len(first.headers) > 100


def test_a_withheld_number_leaves_no_trace() -> None:
    with running() as (switch, app):
        switch.call(TO, FROM, withheld=True)
        first = app.greet(app.call(greet=False))
        assert b"9811111111" not in first.raw
        assert first.get("Caller-Privacy-Hide-Number") == "true"


def test_a_mute_app_loses_the_call_to_the_fallback() -> None:
    with running(guard_seconds=0.1) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call(greet=False)
        assert phone.wait(WAIT)
        assert phone.texts == ["tone %(330,0,950);%(330,0,1400);%(330,1000,1800);loops=2"]
        assert phone.cause == "NORMAL_CLEARING"
        wire.close()


@pytest.mark.parametrize("greeting", [b"", b"connect\n\n"], ids=["accepted and closed", "connect and closed"])
def test_an_early_close_leaves_dead_air_until_the_guard(greeting: bytes) -> None:
    with running(lambda wire: wire.send(greeting) if greeting else None, guard_seconds=0.3) as (switch, _):
        phone = switch.call(TO, FROM)
        assert phone.wait(WAIT)
        assert "early_close" in codes(switch)
        assert phone.heard[0].at - phone.called_at >= 0.3  # parked: nothing happens
        assert phone.texts, "the guard brought the fallback"


def test_without_guard_an_early_close_would_be_silence_for_ever() -> None:
    with running(lambda wire: None, guard_seconds=3600) as (switch, _):
        phone = switch.call(TO, FROM)
        assert not phone.wait(0.2)
        assert phone.heard == []


def test_a_refused_connection_waits_for_the_app_and_then_falls_back() -> None:
    app = App()
    app.stop()
    with EmbeddedSwitch(app.address, speed=None) as switch:
        phone = switch.call(TO, FROM)
        assert phone.wait(WAIT)
        assert phone.session is not None
        variables = phone.session.channel.variables
        assert (variables["exo_fallback"], variables["exo_end"]) == ("refused", "refused")
        assert int(variables["exo_entry"]) > 2


def test_keys_typed_while_no_app_is_there_are_kept_for_the_next() -> None:
    app, later = App(), App()
    with EmbeddedSwitch(app.address, speed=None) as switch, switch.clock.held():
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("answer")
        app.stop()
        wire.close()
        assert phone.session is not None
        variables = phone.session.channel.variables
        eventually(lambda: variables.get("exo_end") == "refused")
        phone.press("12")
        eventually(lambda: variables.get("exo_typed") == "12")
        switch.connect_to(later.address)
        again = later.greet(later.call(greet=False))
        assert again.get("variable_exo_typed") == "12"
    later.stop()


def test_the_other_box_gets_a_call_whose_app_is_mute() -> None:
    mute, other = App(), App()
    with EmbeddedSwitch(mute.address, other_apps=[other.address], speed=None, guard_seconds=0.1) as switch:
        switch.call(TO, FROM)
        mute.call(greet=False)
        first = other.greet(other.call(greet=False))
        assert (first.get("variable_exo_asked"), first.get("variable_exo_entry")) == ("others", "2")
        assert first.get("variable_exo_did") == "8030752400"
        assert first.get("Caller-Destination-Number") == "exoflow_guard"
    mute.stop()
    other.stop()


def test_a_call_comes_back_when_its_app_dies_in_a_prompt() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("set", "exo_call=c1")
        wire.start("play_and_get_digits", "1 1 1 5000 none tone_stream://%(10000,0,400) silence_stream://50 exo_m [12] 5000")
        phone.wait_until(lambda p: p.asked.is_set(), WAIT)
        wire.close()
        app._done[0].set()
        phone.press("2")
        again = app.greet(app.call(greet=False))
        assert again.get("variable_exo_call") == "c1"
        assert again.get("variable_exo_m") == "2", "the key counts although nobody listened"
        assert again.get("variable_exo_entry") == "2"
        assert again.get("Caller-Destination-Number") == "8030752400"
        assert switch.violations == []


def test_a_talk_goes_on_without_the_app_and_comes_back_after_it() -> None:
    with running(agents={"9876543210": AgentScript.answers(1, talks=30)}) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.start("bridge", TALK)
        wire.event("CHANNEL_BRIDGE")
        wire.close()
        app._done[0].set()
        again = app.greet(app.call(greet=False))
        assert ("gone", "09876543210") in phone.agents
        assert again.get("variable_bridge_hangup_cause") == "NORMAL_CLEARING"
        assert again.get("variable_DIALSTATUS") == "SUCCESS"
        assert switch.violations == []


def test_socket_resume_drops_the_agent_when_the_app_dies() -> None:
    with running(agents={"9876543210": AgentScript.answers(1, talks=None)}) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.command("resume")
        wire.start("bridge", TALK)
        wire.event("CHANNEL_BRIDGE")
        wire.close()
        app._done[0].set()
        app.call()
        assert phone.agents[-1] == ("gone", "09876543210")
        assert "resume" in codes(switch)


def test_three_deaths_within_ten_seconds_end_in_the_fallback() -> None:
    def die(wire: Wire) -> None:
        App.greet(wire)
        gevent.sleep(0.12)  # less than 0.1 s counts as nobody there

    with running(die) as (switch, _):
        phone = switch.call(TO, FROM)
        assert phone.wait(WAIT)
        assert phone.session is not None
        variables = phone.session.channel.variables
        assert (variables["exo_entry"], variables["exo_fallback"]) == ("3", "deaths")


def test_the_limit_refuses_with_busy_and_says_so() -> None:
    with running(most_calls=1) as (switch, app):
        switch.call(TO, FROM)
        app.call()
        watcher = event_socket(switch.event_socket_address)
        watcher.command("event plain CHANNEL_HANGUP_COMPLETE")
        refused = switch.call(TO, FROM)
        assert refused.wait(WAIT)
        event = watcher.event("CHANNEL_HANGUP_COMPLETE", Unique_ID=refused.uuid)
        assert (event.get("variable_hangup_cause_q850"), event.get("variable_exo_refused")) == ("17", "limit")


def test_with_all_channels_taken_the_exchange_keeps_the_caller() -> None:
    with running(channels=2) as (switch, app):
        phones = [switch.call(TO, FROM) for _ in range(3)]
        assert phones[2].wait(WAIT)
        assert (phones[2].cause, phones[2].uuid, switch.turned_away) == ("NORMAL_CIRCUIT_CONGESTION", "", 1)
        app.call()
        app.call()
        phones[0].hangup()
        phones[0].wait(WAIT)
        assert switch.trunks["PRI1"].in_use == 1, "a finished call gives its channel back"


def test_a_socket_that_outlived_its_call_still_hears_of_it() -> None:
    """After the guard fired the frozen app's socket is open, and the call is no longer its own."""
    with running(guard_seconds=0.1) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call(greet=False)
        wire.send("connect\n\n")
        wire.frame()
        wire.command("linger 5")
        wire.command("event plain CHANNEL_HANGUP_COMPLETE")
        assert phone.wait(WAIT)
        assert wire.event("CHANNEL_HANGUP_COMPLETE").get("Caller-Destination-Number") == "exoflow_fallback"


def test_many_idle_calls_cost_no_polling() -> None:
    with running(channels=400) as (switch, app):
        phones = [switch.call(TO, FROM) for _ in range(300)]
        wires = [app.call() for _ in phones]
        gevent.sleep(0.05)
        before = time.process_time()
        gevent.sleep(0.5)
        assert time.process_time() - before < 0.1
        assert wires[299].run("set", "exo_a=1").get("variable_exo_a") == "1"
