"""Ringing agents on the embedded switch: what telephones do, what the legs say of it, and what the caller's leg keeps."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest
from simclient import WAIT, App, Frame, Wire, codes, event_socket, running

from exoflow.sim import AgentScript, EmbeddedSwitch

TO, FROM = "+918030752400", "+919811111111"
EVENTS = "CHANNEL_CREATE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_ANSWER CHANNEL_BRIDGE CHANNEL_HANGUP_COMPLETE"


def watch(switch: EmbeddedSwitch, more: str = "") -> Wire:
    watcher = event_socket(switch.event_socket_address)
    watcher.command(f"event plain {EVENTS} {more}".rstrip())
    return watcher


def dial(number: str, leg: str = "leg-1", **more: str) -> str:
    variables = {"origination_uuid": leg, "ignore_early_media": "true", "originate_timeout": "10"} | more
    text = ",".join(f"{name}={value}" for name, value in variables.items() if value)
    return f"{{{text}}}freetdm/PRI1/A/{number}"


def life(watcher: Wire, leg: str) -> list[str]:
    """The names of a leg's events until its end."""
    watcher.event("CHANNEL_HANGUP_COMPLETE", Unique_ID=leg)
    return [f.name.removeprefix("CHANNEL_") for f in watcher.frames if f.get("Unique-ID") == leg]


def last(watcher: Wire, leg: str) -> Frame:
    return next(f for f in reversed(watcher.frames) if f.get("Unique-ID") == leg)


@pytest.mark.parametrize(
    ("script", "events", "q850", "status"),
    [
        (AgentScript.busy(), "CREATE HANGUP_COMPLETE", "17", "BUSY"),
        (AgentScript.rejects(), "CREATE PROGRESS HANGUP_COMPLETE", "21", "DONTCALL"),
        (AgentScript.silent(), "CREATE PROGRESS HANGUP_COMPLETE", "19", "NOANSWER"),
        (AgentScript.announcement(), "CREATE PROGRESS_MEDIA HANGUP_COMPLETE", "19", "NOANSWER"),
        (AgentScript.unreachable(), "CREATE HANGUP_COMPLETE", "20", "SUBSCRIBER_ABSENT"),
        (AgentScript.released("NORMAL_CIRCUIT_CONGESTION"), "CREATE HANGUP_COMPLETE", "34", "NORMAL_CIRCUIT_CONGESTION"),
        (AgentScript.released("DESTINATION_OUT_OF_ORDER"), "CREATE HANGUP_COMPLETE", "27", "INVALIDARGS"),
    ],
)
def test_an_agent_who_is_not_reached(script: AgentScript, events: str, q850: str, status: str) -> None:
    with running(default_agent=script) as (switch, app):
        watcher = watch(switch)
        switch.call(TO, FROM)
        wire = app.call()
        frame = wire.run("bridge", dial("09876543210"))
        assert life(watcher, "leg-1") == events.split()
        end = last(watcher, "leg-1")
        assert end.get("variable_hangup_cause_q850") == q850
        assert end.get("Channel-Name") == "FreeTDM/1:31/09876543210"
        assert frame.get("variable_DIALSTATUS") == status
        assert frame.get("variable_originate_failed_cause") == end.get("Hangup-Cause")
        assert frame.get("variable_originate_causes") == f"leg-1;{end.get('Hangup-Cause')}"
        assert frame.get("Answer-State") == "ringing", "the caller is not answered by a failed attempt"
        assert switch.trunks["PRI1"].in_use == 1


def test_no_free_channel_of_ours_is_34_without_a_leg() -> None:
    with running(channels=1) as (switch, app):
        watcher = watch(switch)
        phone = switch.call(TO, FROM)
        wire = app.call()
        frame = wire.run("bridge", dial("09876543210"))
        assert frame.get("variable_originate_disposition") == "NORMAL_CIRCUIT_CONGESTION"
        assert frame.get("variable_originate_causes") == ""
        phone.hangup()
        watcher.event("CHANNEL_HANGUP_COMPLETE", Unique_ID=phone.uuid)
        assert not [f for f in watcher.frames if f.get("Unique-ID") == "leg-1"]
        assert [(a.cause, a.had_leg) for a in switch.attempts] == [("NORMAL_CIRCUIT_CONGESTION", False)]


def test_an_unknown_span_is_27_without_a_leg() -> None:
    with running() as (switch, app):
        switch.call(TO, FROM)
        frame = app.call().run("bridge", "{ignore_early_media=true}freetdm/NOWHERE/A/09876543210")
        assert frame.get("variable_originate_disposition") == "DESTINATION_OUT_OF_ORDER"
        assert switch.attempts == []


def test_attempts_add_up_on_the_callers_leg() -> None:
    agents = {"9000000001": AgentScript.busy(), "9000000002": AgentScript.unreachable()}
    with running(agents=agents) as (switch, app):
        switch.call(TO, FROM)
        wire = app.call()
        wire.run("bridge", dial("09000000001", "leg-1"))
        frame = wire.run("bridge", dial("09000000002", "leg-2"))
        assert frame.get("variable_originate_causes") == "ARRAY::leg-1;USER_BUSY|:leg-2;SUBSCRIBER_ABSENT"
        assert switch.rung == ["09000000001", "09000000002"]


def test_a_talk_and_the_agent_hangs_up() -> None:
    with running(default_agent=AgentScript.answers(2, talks=30)) as (switch, app):
        watcher = watch(switch)
        phone = switch.call(TO, FROM)
        wire = app.call()
        frame = wire.run("bridge", dial("09876543210"))
        assert life(watcher, "leg-1") == ["CREATE", "PROGRESS", "ANSWER", "HANGUP_COMPLETE"]
        end = last(watcher, "leg-1")
        times = [int(end.get(f"variable_{what}_uepoch")) for what in ("start", "progress", "answer", "end")]
        assert times == sorted(times)
        assert int(end.get("variable_billsec")) in (30, 31)
        assert frame.get("variable_bridge_hangup_cause") == "NORMAL_CLEARING"
        assert frame.get("Answer-State") == "answered", "the caller is answered by the agent's answer"
        names = [f.name for f in wire.frames if f.name.startswith("CHANNEL_")]
        assert names[-4:] == ["CHANNEL_ANSWER", "CHANNEL_BRIDGE", "CHANNEL_UNBRIDGE", "CHANNEL_EXECUTE_COMPLETE"]
        assert [what for what, _ in phone.agents] == ["dialled", "rings", "talks", "gone"]
        assert not phone.session or not phone.session.channel.hung_up


def test_the_caller_hangs_up_while_it_rings() -> None:
    with running(default_agent=AgentScript.silent()) as (switch, app):
        watcher = watch(switch)
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.start("bridge", dial("09876543210"))
        phone.wait_until(lambda p: ("rings", "09876543210") in p.agents, WAIT)
        phone.hangup()
        assert life(watcher, "leg-1")[-1] == "HANGUP_COMPLETE"
        assert last(watcher, "leg-1").get("Hangup-Cause") == "ORIGINATOR_CANCEL"
        assert wire.event("CHANNEL_HANGUP_COMPLETE").get("variable_DIALSTATUS") == "CANCEL"


def test_the_caller_hangs_up_in_the_talk() -> None:
    with running(default_agent=AgentScript.answers(1, talks=None)) as (switch, app):
        watcher = watch(switch)
        phone = switch.call(TO, FROM)
        app.call().start("bridge", dial("09876543210"))
        watcher.event("CHANNEL_BRIDGE")
        phone.hangup()
        assert life(watcher, "leg-1")[-1] == "HANGUP_COMPLETE"
        assert phone.wait(WAIT)
        assert switch.channels == {}


def test_the_talk_limit_runs_on_the_agents_leg() -> None:
    with running(default_agent=AgentScript.answers(1, talks=None)) as (switch, app):
        switch.call(TO, FROM)
        frame = app.call().run("bridge", dial("09876543210", execute_on_answer="'sched_hangup +20 ALLOTTED_TIMEOUT'"))
        assert frame.get("variable_last_bridge_hangup_cause") == "ALLOTTED_TIMEOUT"


def test_a_slow_network_may_be_given_up_before_it_alerts() -> None:
    with running(default_agent=AgentScript.slow(alert_after=8)) as (switch, app):
        watcher = watch(switch)
        switch.call(TO, FROM)
        wire = app.call()
        frame = wire.run("bridge", dial("09876543210", progress_timeout="3"))
        assert frame.get("variable_originate_disposition") == "NO_ANSWER"
        assert life(watcher, "leg-1") == ["CREATE", "HANGUP_COMPLETE"]
        assert last(watcher, "leg-1").get("Hangup-Cause") == "PROGRESS_TIMEOUT"
        assert wire.run("bridge", dial("09876543210", "leg-2", originate_timeout="30")).get("variable_DIALSTATUS") == "SUCCESS"


def test_without_ignore_early_media_an_announcement_counts_as_an_answer() -> None:
    with running(default_agent=AgentScript.announcement()) as (switch, app):
        watcher = watch(switch)
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.start("bridge", dial("09876543210", ignore_early_media=""))
        watcher.event("CHANNEL_BRIDGE")
        assert codes(switch) == ["early_media"]
        phone.hangup()


def test_a_failed_bridge_without_continue_on_fail_ends_the_call() -> None:
    with running(default_agent=AgentScript.busy()) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("multiset", "^^;continue_on_fail=_undef_")
        wire.run("bridge", dial("09876543210"))
        assert phone.wait(WAIT)
        assert phone.cause == "USER_BUSY"


def test_agents_by_the_end_of_their_number_and_by_attempt() -> None:
    agents = {"+919000000001": [AgentScript.busy(), AgentScript.answers(1, 2)]}
    with running(agents=agents) as (switch, app):
        switch.call(TO, FROM)
        wire = app.call()
        statuses = [wire.run("bridge", dial("09000000001", f"leg-{i}")).get("variable_DIALSTATUS") for i in range(2)]
        assert statuses == ["BUSY", "SUCCESS"]


def test_a_gateway_instead_of_a_span() -> None:
    with running(trunk={"SIP1": 30}) as (switch, app):
        switch.call(TO, FROM)
        frame = app.call().run("bridge", "{ignore_early_media=true}sofia/gateway/SIP1/09876543210")
        assert frame.get("variable_DIALSTATUS") == "SUCCESS"


# --- recordings ---


def test_a_recording_holds_the_talk_only(tmp_path: Path) -> None:
    path = tmp_path / "2026" / "11" / "talk.wav"
    agents = {"9000000001": AgentScript.silent(), "9000000002": AgentScript.answers(3, talks=20)}
    with running(agents=agents) as (switch, app):
        watcher = watch(switch, "RECORD_START RECORD_STOP")
        switch.call(TO, FROM)
        wire = app.call()
        wire.run("multiset", "^^;RECORD_STEREO=true;RECORD_BRIDGE_REQ=true")
        wire.run("record_session", str(path))
        assert watcher.event("RECORD_START").get("Record-File-Path") == str(path)
        wire.run("bridge", dial("09000000001", "leg-1"))
        wire.run("bridge", dial("09000000002", "leg-2"))
        wire.run("stop_record_session", str(path))
        assert watcher.event("RECORD_STOP").get("variable_record_seconds") in ("19", "20", "21")
        end = next(f for f in watcher.frames if f.name == "CHANNEL_HANGUP_COMPLETE" and f.get("Unique-ID") == "leg-2")
    talk = (int(end.get("variable_end_uepoch")) - int(end.get("variable_answer_uepoch"))) / 1e6
    with wave.open(str(path)) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getsampwidth()) == (2, 8000, 2)
        assert sound.getnframes() / 8000 == pytest.approx(talk, abs=1.0)


def test_a_recording_is_finished_when_the_caller_leaves(tmp_path: Path) -> None:
    with running(default_agent=AgentScript.answers(1, talks=None)) as (switch, app):
        watcher = watch(switch, "RECORD_STOP")
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("multiset", "^^;RECORD_BRIDGE_REQ=true")
        wire.run("record_session", f"{tmp_path}/mono.wav")
        wire.start("bridge", dial("09876543210"))
        watcher.event("CHANNEL_BRIDGE")
        phone.hangup()
        assert watcher.event("RECORD_STOP").get("Record-Completion-Cause") == "success-silence"
        with wave.open(f"{tmp_path}/mono.wav") as sound:
            assert sound.getnchannels() == 1


def test_a_recording_without_talk_is_discarded(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    with running(default_agent=AgentScript.busy()) as (switch, app):
        watcher = watch(switch, "RECORD_STOP")
        switch.call(TO, FROM)
        wire = app.call()
        wire.run("multiset", "^^;RECORD_BRIDGE_REQ=true")
        wire.run("record_session", str(path))
        assert path.exists()
        wire.run("bridge", dial("09876543210"))
        wire.run("stop_record_session", str(path))
        event = watcher.event("RECORD_STOP")
        assert (event.get("Record-Completion-Cause"), event.get("variable_RECORD_DISCARDED")) == ("empty-file", "true")
        assert not path.exists()


def test_an_unwritable_recording_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with running() as (switch, app):
        watcher = watch(switch, "RECORD_START")
        phone = switch.call(TO, FROM)
        wire = app.call()
        frame = wire.run("record_session", f"{tmp_path}/file/talk.wav")
        assert frame.get("Application-Response") == "_none_"
        phone.hangup()
        watcher.event("CHANNEL_HANGUP_COMPLETE", Unique_ID=phone.uuid)
        assert not [f for f in watcher.frames if f.name == "RECORD_START"]


def test_a_message_that_cannot_be_written_ends_the_call(tmp_path: Path) -> None:
    """mod_dptools.c:3283: record hangs up; who leaves a voicemail must have looked at the folder first."""
    (tmp_path / "file").write_text("no folder")
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        app.call().start("record", f"{tmp_path}/file/message.wav 60 200 3")
        assert phone.wait(WAIT)
        assert phone.cause == "DESTINATION_OUT_OF_ORDER"


def test_the_app_is_stopped_and_nothing_is_left() -> None:
    with running(default_agent=AgentScript.answers(1, talks=None)) as (switch, app):
        switch.call(TO, FROM)
        app.call().start("bridge", dial("09876543210"))
    assert isinstance(app, App)
    assert switch.channels == {}
    assert switch.trunks["PRI1"].in_use == 0
