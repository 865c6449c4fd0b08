"""Recordings of a talk: when they begin, what they hold, and what is said when they are not what they should be."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hall import ASHA, BYE, RAVI, WAIT, Hall, codes, entry, say

from exoflow.sim import AgentScript
from exoflow.sim.apps import recording as apps

Start = Callable[..., Hall]


def connect(record: str, **how: Any) -> dict[str, Any]:
    connect = {"numbers": [ASHA, RAVI], "record": record, "ring_seconds": 5, **how}
    return {"agents": {"connect": connect, "answered": "after", "unanswered": "bye"}, "after": say("Goodbye."), "bye": BYE}


def frames(path: str) -> tuple[int, float]:
    with wave.open(path) as sound:
        return sound.getnchannels(), sound.getnframes() / sound.getframerate()


@pytest.mark.parametrize(("record", "channels"), [("mono", 1), ("dual", 2)])
def test_a_recording_holds_the_talk_and_nothing_else(hall: Start, record: str, channels: int) -> None:
    h = hall(connect(record), agents={ASHA: AgentScript.silent(), RAVI: AgentScript.answers(3, 10)})
    _, state = h.run()
    (recording,) = state.recordings
    assert (recording.kind, recording.state, recording.channels) == ("talk", "good", channels)
    talk = state.talk_leg
    assert talk is not None
    assert recording.seconds == pytest.approx(talk.talk_seconds, abs=1)
    assert recording.seconds == pytest.approx(10, abs=1.5)
    assert frames(recording.path) == (channels, pytest.approx(recording.seconds, abs=0.01))
    good = entry(state, "recording.good")
    assert (good.stage, good.step) == ("H", "agents")
    assert good.evidence["file"] == recording.path
    assert len(h.executed("record_session")) == len(h.executed("stop_record_session")) == 1
    assert h.switch.violations == []


def test_none_is_none(hall: Start) -> None:
    h = hall(connect("none"))
    _, state = h.run()
    assert state.recordings == []
    assert h.executed("record_session") == []
    assert not (h.folder / "recordings").exists()


def test_without_a_talk_there_is_no_recording(hall: Start) -> None:
    h = hall(connect("dual"), agents={ASHA: AgentScript.busy(), RAVI: AgentScript.busy()})
    _, state = h.run()
    assert state.recordings == []
    assert not [code for code in codes(state) if code.startswith("recording.")]
    assert list((h.folder / "recordings").rglob("*.wav")) == []


def test_two_talks_of_a_call_are_two_files(hall: Start) -> None:
    steps = connect("mono") | {
        "after": {"connect": {"numbers": [RAVI], "record": "dual"}, "answered": "bye", "unanswered": "bye"}
    }
    h = hall(steps)
    _, state = h.run()
    assert [(r.state, r.channels, Path(r.path).name) for r in state.recordings] == [
        ("good", 1, f"{state.facts.id}-1.wav"),
        ("good", 2, f"{state.facts.id}-2.wav"),
    ]


def test_a_caller_who_ends_the_talk_ends_the_recording(hall: Start) -> None:
    h = hall(connect("dual"), agents={ASHA: AgentScript.answers(1, None)})
    phone = h.call()
    assert phone.wait_until(lambda p: p.talked_at is not None, WAIT)
    phone.after(5, phone.hangup)
    state = h.ended(phone)
    (recording,) = state.recordings
    assert recording.state == "good"
    assert recording.seconds == pytest.approx(5, abs=1)
    assert (state.outcome, state.ended_by) == ("answered", "caller")
    assert h.crm.wait_for_deliveries(1)[0].event["data"]["recordings"][0]["state"] == "good"


def test_of_two_calls_that_begin_a_day_at_once_both_are_recorded(hall: Start, another_call_first: None) -> None:
    """FreeSWITCH fails with one of them, if it is left to make the folders by itself."""
    h = hall(connect("dual"), agents={ASHA: AgentScript.answers(1, 4)})
    (h.folder / "recordings").mkdir()
    _, state = h.run()
    assert [recording.state for recording in state.recordings] == ["good"]


def test_a_days_folder_is_made_once(hall: Start) -> None:
    h = hall(connect("mono"), agents={ASHA: AgentScript.answers(1, 4)})
    h.run()
    _, state = h.run()
    account = h.folder / "recordings" / "acme"
    year, month, day = Path(state.recordings[0].path).parent.relative_to(account).parts
    assert h.executed("mkdir") == [
        str(account),
        f"{account}/{year}",
        f"{account}/{year}/{month}",
        f"{account}/{year}/{month}/{day}",
    ]


# --- faults ------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_costs_the_recording_only(hall: Start) -> None:
    h = hall(connect("dual"), agents={ASHA: AgentScript.answers(1, 4)})
    (h.folder / "recordings").write_text("")
    phone, state = h.run()
    (recording,) = state.recordings
    assert recording.state == "failed"
    told = entry(state, "recording.not_started")
    assert (told.stage, told.step) == ("H", "agents")
    assert "write to" in told.text or "no folder" in told.text
    assert str(h.folder / "recordings") in told.text
    assert state.outcome == "answered"
    assert state.legs[0].talk_seconds == pytest.approx(4, abs=2)
    assert phone.texts == ["Goodbye."]


@pytest.mark.parametrize(
    ("factor", "code"), [(0.5, "recording.wrong_length"), (1.5, "recording.wrong_length"), (0, "recording.no_file")]
)
def test_a_file_of_another_length_than_the_talk_is_not_good(
    hall: Start, monkeypatch: pytest.MonkeyPatch, factor: float, code: str
) -> None:
    real = apps._write_wav
    monkeypatch.setattr(apps, "_write_wav", lambda path, channels, seconds: real(path, channels, seconds * factor))
    h = hall(connect("mono"), agents={ASHA: AgentScript.answers(1, 10)})
    _, state = h.run()
    (recording,) = state.recordings
    assert recording.state == "failed"
    assert recording.problem in entry(state, code).text
    assert "look at the disk" in recording.problem
    assert state.outcome == "answered"


def test_without_the_event_socket_it_is_not_known_to_be_good(hall: Start) -> None:
    h = hall(connect("mono"), agents={ASHA: AgentScript.answers(1, 4)}, lines=False)
    phone, state = h.run()
    (recording,) = state.recordings
    assert recording.state == "failed"
    assert "event socket is not connected" in recording.problem
    assert Path(recording.path).exists()
    assert phone.texts == ["Goodbye."]
