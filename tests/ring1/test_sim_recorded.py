"""A call on the embedded switch beside frames that a real FreeSWITCH 1.10.12 sent for the same commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from simclient import Frame, event_socket, running

from exoflow.sim import AgentScript

RECORDED = Path(__file__).parents[1] / "wire" / "recorded"
# what only the recorded endpoint (loopback) or its dialplan has
_OF_LOOPBACK = re.compile(
    r"variable_(origination_|other_loopback|loopback|is_loopback|DP_MATCH|call_uuid|exo_|last_sent|limit_(rate|usage)_pri_in_|last_dtmf|"
    r"playback_|record_record|profile_|current_loop|total_loops|silence_hits|originate_signal|"
    r"instant_ringback)|.*Callee-ID|.*-Last-Hold|.*-Hold-Accum|"
    r"Event-Info|Up-Time|FreeSWITCH-Version|Max-Sessions|Session-Per|Session-Peak|Idle-CPU"
)


def recorded(name: str) -> list[str]:
    """Header names of a recorded event, in order, without what only its endpoint has."""
    data = (RECORDED / f"{name}.esl").read_bytes()
    head, _, body = data.partition(b"\n\n")
    return _names(body if b"text/event-plain" in head else head)


def _names(block: bytes) -> list[str]:
    names = [line.partition(": ")[0] for line in block.decode().split("\n") if ": " in line]
    return [name for name in names if not _OF_LOOPBACK.match(name)]


def sent(frame: Frame) -> list[str]:
    return _names(frame.body or frame.raw)


def fixed(names: list[str]) -> list[str]:
    """Without variables, whose order follows the history of the call."""
    return [name for name in names if not name.startswith("variable_")]


def assert_alike(frame: Frame, name: str) -> None:
    assert fixed(sent(frame)) == fixed(recorded(name))
    missing = set(recorded(name)) - set(sent(frame))
    assert not missing


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Frame]:
    """The frames of one call, under the names of the recorded ones."""
    folder = tmp_path_factory.mktemp("recordings")
    agents = {"9000000001": AgentScript.busy(), "9000000002": AgentScript.silent(), "9000000004": AgentScript.answers(0.7, 2.0)}
    frames: dict[str, Frame] = {}
    with running(agents=agents, heartbeat_seconds=0.01) as (switch, app):
        watcher = event_socket(switch.event_socket_address)
        watcher.command("event plain CHANNEL_CREATE CHANNEL_HANGUP_COMPLETE RECORD_START RECORD_STOP HEARTBEAT")
        switch.call("+918030752400", "+919811111111", keys=["2", "", "9"])
        wire = app.call(greet=False)
        frames["connect-reply"] = app.greet(wire)
        frames["complete-sched_cancel"] = wire.frames[-1]
        wire.run("ring_ready")
        frames["complete-answer"] = wire.run("answer")
        frames["answer"] = next(f for f in wire.frames if f.name == "CHANNEL_ANSWER")
        wire.run("multiset", "^^;exo_call=0123;exo_x=1 2")
        frames["complete-playback"] = wire.run("playback", "tone_stream://%(600,0,400)")
        ask = "1 1 1 1000 none tone_stream://%(1500,0,440) silence_stream://50 exo_d [123] 1000"
        for kind in ("success", "none", "invalid"):
            frames[f"complete-digits-{kind}"] = wire.run("play_and_get_digits", ask)
        wire.run(
            "multiset",
            "^^;RECORD_STEREO=true;RECORD_BRIDGE_REQ=true;instant_ringback=true;transfer_ringback=%(400,200,400,450)",
        )
        wire.run("record_session", f"{folder}/talk.wav")
        for kind, number in (("busy", "09000000001"), ("no-answer", "09000000002"), ("talked", "09000000004")):
            dial = f"{{origination_uuid=leg-{kind},ignore_early_media=true,originate_timeout=3}}freetdm/PRI1/A/{number}"
            frames[f"complete-bridge-{kind}"] = wire.run("bridge", dial)
        frames["bridge"] = next(f for f in wire.frames if f.name == "CHANNEL_BRIDGE")
        wire.run("stop_record_session", f"{folder}/talk.wav")
        wire.start("hangup", "NORMAL_CLEARING")
        frames["hangup-complete"] = wire.event("CHANNEL_HANGUP_COMPLETE")
        frames["hangup"] = next(f for f in wire.frames if f.name == "CHANNEL_HANGUP")
        frames["leg-create"] = watcher.event("CHANNEL_CREATE", Unique_ID="leg-busy")
        for kind in ("busy", "no-answer"):
            frames[f"leg-hangup-complete-{kind}"] = watcher.event("CHANNEL_HANGUP_COMPLETE", Unique_ID=f"leg-{kind}")
        frames["record-stop"] = watcher.event("RECORD_STOP")
        frames["record-start"] = next(f for f in watcher.frames if f.name == "RECORD_START")
        frames["heartbeat"] = watcher.event("HEARTBEAT")
        assert switch.violations == []
    return frames


@pytest.mark.parametrize(
    "name",
    """connect-reply complete-sched_cancel complete-answer answer complete-playback complete-digits-success complete-digits-none
    complete-digits-invalid complete-bridge-busy complete-bridge-no-answer complete-bridge-talked bridge hangup hangup-complete
    leg-create leg-hangup-complete-busy leg-hangup-complete-no-answer record-start record-stop heartbeat""".split(),  # noqa: SIM905
)
def test_frames_have_the_headers_of_a_real_freeswitch(call: dict[str, Frame], name: str) -> None:
    assert_alike(call[name], name)


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("complete-digits-success", ["variable_read_result"]),
        ("complete-digits-none", ["variable_read_result"]),
        ("complete-digits-invalid", ["variable_read_result"]),
        (
            "complete-playback",
            ["Application-Response", "variable_current_application_response", "Answer-State", "Channel-Call-State"],
        ),
        (
            "complete-bridge-busy",
            [
                "variable_DIALSTATUS",
                "variable_originate_disposition",
                "variable_originate_failed_cause",
                "variable_last_bridge_hangup_cause",
            ],
        ),
        ("complete-bridge-no-answer", ["variable_DIALSTATUS", "variable_originate_failed_cause"]),
        (
            "complete-bridge-talked",
            ["variable_DIALSTATUS", "variable_bridge_hangup_cause", "Other-Type", "Application-Response"],
        ),
        ("hangup", ["Channel-State", "Channel-State-Number", "Answer-State", "Channel-Call-State", "Hangup-Cause"]),
        ("hangup-complete", ["Channel-State", "Channel-State-Number", "Channel-Call-State", "variable_hangup_cause_q850"]),
        ("leg-hangup-complete-busy", ["variable_hangup_cause_q850", "Hangup-Cause", "Other-Type", "Call-Direction"]),
        ("leg-hangup-complete-no-answer", ["variable_hangup_cause_q850", "Hangup-Cause"]),
        ("leg-create", ["Channel-State", "Channel-Call-State", "Channel-State-Number", "Answer-State", "Other-Type"]),
    ],
)
def test_frames_say_the_same(call: dict[str, Frame], name: str, headers: list[str]) -> None:
    head, _, body = (RECORDED / f"{name}.esl").read_bytes().partition(b"\n\n")
    real = Frame(head, body)
    assert {h: call[name].get(h) for h in headers} == {h: real.get(h) for h in headers}


def test_the_digits_are_where_freeswitch_puts_them(call: dict[str, Frame]) -> None:
    assert call["complete-digits-success"].get("variable_exo_d") == "2"
    assert call["complete-digits-none"].get("variable_exo_d") == ""
    assert call["complete-digits-invalid"].get("variable_exo_d") == ""
    assert call["complete-digits-invalid"].get("variable_exo_d_invalid") == "9"
