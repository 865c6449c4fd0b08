"""Keys at any moment, telephones that do not alert as they should, and the switch's own death."""

from __future__ import annotations

import json
import time
from pathlib import Path

import gevent
import pytest
from simclient import WAIT, Wire, codes, event_socket, eventually, running

from exoflow.sim import AgentScript, EmbeddedSwitch
from exoflow.sim.apps.recording import CUT
from exoflow.sim.session import FRAME_SECONDS

TO, FROM = "+918030752400", "+919811111111"
ASK = "1 1 1 1000 none silence_stream://20 silence_stream://50 exo_d [0-9] 1000"
DIAL = "{{origination_uuid={leg},ignore_early_media=true,originate_timeout=20{more}}}freetdm/PRI1/A/09876543210"


def told(wire: Wire) -> str:
    """The keys that DTMF events told of."""
    return "".join(f.get("DTMF-Digit") for f in wire.frames if f.name == "DTMF")


# --- keys; each rule seen on FreeSWITCH 1.10.12 ---


def test_a_key_ends_a_sleep_and_stays_for_a_question_that_is_queued_behind_it() -> None:
    with running(speed=None) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("answer")
        before = switch.clock.elapsed()
        phone.after(1, phone.press, "8")
        asleep, asked = wire.start("sleep", "3000"), wire.start("play_and_get_digits", ASK)
        wire.complete(asleep)
        assert switch.clock.elapsed() - before == pytest.approx(1.0, abs=0.3)
        assert wire.complete(asked).get("variable_exo_d") == "8"


def test_a_key_that_ended_a_sleep_is_eaten_by_the_park_behind_it() -> None:
    with running(speed=None) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("answer")
        wire.command("event plain DTMF")
        phone.after(1, phone.press, "7")
        wire.run("sleep", "3000")
        assert wire.run("play_and_get_digits", ASK).get("variable_exo_d") == ""
        assert told(wire) == "7", "eaten, and told"


def test_keys_in_a_park_are_eaten_one_with_each_frame() -> None:
    with running(speed=None) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("answer")
        wire.command("event plain DTMF")
        phone.press("12345")
        assert phone.session is not None
        digits = phone.session.digits
        eventually(lambda: not digits)
        assert wire.run("play_and_get_digits", ASK).get("variable_exo_d") == ""
        assert told(wire) == "12345"


def test_keys_in_a_prompt_or_a_message_are_eaten_although_a_question_is_queued(tmp_path: Path) -> None:
    with running(speed=None) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("answer")
        for application, argument in (("playback", "silence_stream://2500"), ("record", f"{tmp_path}/m.wav 3")):
            phone.after(1, phone.press, "9")
            eaten, asked = wire.start(application, argument), wire.start("play_and_get_digits", ASK)
            wire.complete(eaten)
            assert wire.complete(asked).get("variable_exo_d") == "", application


def test_keys_in_a_talk_go_to_the_agent() -> None:
    with running(speed=None, default_agent=AgentScript.answers(1, 10)) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        phone.after(5, phone.press, "4")
        talked, asked = wire.start("bridge", DIAL.format(leg="leg", more="")), wire.start("play_and_get_digits", ASK)
        wire.complete(talked)
        assert wire.complete(asked).get("variable_exo_d") == ""


def test_a_second_key_of_an_answer_is_what_the_next_question_must_not_take() -> None:
    """Typed ahead: the park eats one with each 20 ms, what is left leaks. flush_dtmf first."""
    with running(speed=None) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("answer")
        phone.after(0.5, phone.press, "123")
        first, second = (wire.start("play_and_get_digits", ASK.replace("1000", "3000")) for _ in range(2))
        assert wire.complete(first).get("variable_exo_d") == "1"
        assert wire.complete(second).get("variable_exo_d") == "2", "queued behind it, so nothing ate the key"
        wire.run("flush_dtmf")
        assert wire.run("play_and_get_digits", ASK).get("variable_exo_d") == ""


# --- a parked call ---

PARKED = json.loads((Path(__file__).parents[1] / "wire" / "recorded" / "idle_park.json").read_text())
ALL_THERE_ARE = "1 9 1 1000 none silence_stream://20 silence_stream://20 exo_d [0-9]+ 1000"


@pytest.mark.parametrize(("ms", "left"), PARKED["idle_ms"].items())
def test_an_idle_park_eats_a_key_each_frame(ms: str, left: str) -> None:
    """As many as FreeSWITCH, but one: when in a frame they came is chance. More, if this machine stood still."""
    with running(speed=None) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("answer")
        began = time.monotonic()
        phone.press("123456")
        if int(ms):
            gevent.sleep(int(ms) / 1000)
        question = wire.start("play_and_get_digits", ALL_THERE_ARE)
        frames = (time.monotonic() - began) / FRAME_SECONDS
        got = wire.complete(question).get("variable_exo_d") or ""
        assert "123456".endswith(got)
        eaten, seen = len("123456") - len(got), len("123456") - len(left)
        assert seen - 1 <= eaten <= max(seen, frames) + 1


@pytest.mark.parametrize(("applications", "left"), PARKED["behind_applications"].items())
def test_a_park_eats_a_key_behind_each_application(applications: str, left: str) -> None:
    with running(speed=None) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("answer")
        token = wire.start("sleep", "3000")
        phone.after(0.1, phone.press, "123456")
        wire.complete(token)
        for _ in range(int(applications)):
            wire.run("set", "exo_x=1")
        got = wire.run("play_and_get_digits", ALL_THERE_ARE).get("variable_exo_d") or ""
        assert left.endswith(got)  # and one more in each frame that this machine stood still


# --- telephones ---


def leg_events(watcher: Wire, leg: str) -> list[str]:
    watcher.event("CHANNEL_HANGUP_COMPLETE", Unique_ID=leg)
    return [f.name.removeprefix("CHANNEL_") for f in watcher.frames if f.get("Unique-ID") == leg]


@pytest.mark.parametrize(
    ("script", "events", "q850", "status"),
    [
        (AgentScript.announcement(8), "CREATE PROGRESS_MEDIA HANGUP_COMPLETE", "18", "NO_USER_RESPONSE"),
        (AgentScript.announcement(4, "SUBSCRIBER_ABSENT"), "CREATE PROGRESS_MEDIA HANGUP_COMPLETE", "20", "SUBSCRIBER_ABSENT"),
        (AgentScript.announcement(), "CREATE PROGRESS_MEDIA HANGUP_COMPLETE", "19", "NOANSWER"),
        (AgentScript.slow(18), "CREATE PROGRESS HANGUP_COMPLETE", "19", "NOANSWER"),
        (AgentScript(alert_after=None, answer_after=None), "CREATE HANGUP_COMPLETE", "19", "NOANSWER"),
        (AgentScript.unannounced(talks=5), "CREATE ANSWER HANGUP_COMPLETE", "16", "SUCCESS"),
        (AgentScript.slow(18, 1, 5), "CREATE PROGRESS ANSWER HANGUP_COMPLETE", "16", "SUCCESS"),
    ],
    ids=["announced, released 18", "announced, 20", "announced for ever", "alerts too late", "nothing", "no alerting", "late"],
)
def test_alerting_late_or_never(script: AgentScript, events: str, q850: str, status: str) -> None:
    with running(speed=None, default_agent=script) as (switch, app):
        watcher = event_socket(switch.event_socket_address)
        kinds = ["CREATE", "PROGRESS", "PROGRESS_MEDIA", "ANSWER", "HANGUP_COMPLETE"]
        watcher.command("event plain " + " ".join(f"CHANNEL_{kind}" for kind in kinds))
        switch.call(TO, FROM)
        wire = app.call()
        frame = wire.run("bridge", DIAL.format(leg="leg", more=""))
        assert frame.get("variable_DIALSTATUS") == status
        assert leg_events(watcher, "leg") == events.split()
        end = next(f for f in watcher.frames if f.name == "CHANNEL_HANGUP_COMPLETE")
        assert end.get("variable_hangup_cause_q850") == q850


# --- death of the switch ---


def test_a_killed_switch_cuts_everything_without_a_word(tmp_path: Path) -> None:
    with running(speed=None, cdr=tmp_path / "cdr", default_agent=AgentScript.answers(1, None)) as (switch, app):
        watcher = event_socket(switch.event_socket_address)
        watcher.command("event plain CHANNEL_HANGUP_COMPLETE RECORD_STOP")
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.run("set", "RECORD_BRIDGE_REQ=true")
        wire.run("record_session", f"{tmp_path}/talk.wav")
        wire.start("bridge", DIAL.format(leg="leg", more=""))
        wire.event("CHANNEL_BRIDGE")
        phone.after(30, switch.kill)
        assert phone.wait(WAIT)
        assert phone.cause == "NETWORK_OUT_OF_ORDER"
        assert wire.eof() == []
        assert watcher.eof() == []
        assert list(tmp_path.glob("cdr/*")) == []
        assert switch.channels == {}
        header = (tmp_path / "talk.wav").read_bytes()[:44]
        assert (int.from_bytes(header[4:8], "little"), int.from_bytes(header[40:44], "little")) == CUT
        talked = ((tmp_path / "talk.wav").stat().st_size - 44) / 16000
        assert 25 <= talked <= 28.5, "what had not reached the disk is lost"


def test_a_message_is_cut_too_and_another_switch_takes_the_place(tmp_path: Path) -> None:
    with running(speed=None) as (switch, app):
        address = switch.event_socket_address
        phone = switch.call(TO, FROM, speaks=60)
        wire = app.call()
        wire.run("answer")
        wire.start("record", f"{tmp_path}/m.wav 120 200 3")
        phone.after(20, switch.kill)
        assert phone.wait(WAIT)
        assert ((tmp_path / "m.wav").stat().st_size - 44) / 16000 == pytest.approx(18, abs=1)
        with EmbeddedSwitch(app.address, event_socket=address, speed=None) as again:
            assert event_socket(again.event_socket_address).api("status").startswith("UP")
            phone = again.call(TO, FROM)
            assert app.call().run("answer").get("variable_exo_entry") == "1"


def test_a_reset_connection_is_an_apps_death_too() -> None:
    with running(speed=None) as (switch, app):
        switch.call(TO, FROM)
        wire = app.call()
        gevent.sleep(0.12)  # less than 0.1 s counts as nobody there
        wire.reset()
        app._done[0].set()
        again = app.call()
        assert again.run("set", "exo_a=1").get("variable_exo_end") == "died"
        assert codes(switch) == []
