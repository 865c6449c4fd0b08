"""voicemail: the prompt, the beep, the message, and what ends it."""

from __future__ import annotations

import wave
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hall import BYE, WAIT, Hall, codes, entry, say, visited

from exoflow.flow import recording
from exoflow.sim.apps import recording as apps

Start = Callable[..., Hall]


def voicemail(**how: Any) -> dict[str, Any]:
    message = {"say": "Leave a message.", "max_seconds": 30, "silence_seconds": 2, **how}
    return {"message": {"voicemail": message, "next": "thanks"}, "thanks": say("Thank you."), "bye": BYE}


def length(path: str) -> float:
    with wave.open(path) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getsampwidth()) == (1, 8000, 2)
        return sound.getnframes() / sound.getframerate()


def test_a_message_ends_with_silence(hall: Start) -> None:
    h = hall(voicemail())
    phone, state = h.run(speaks=6.0)
    assert phone.texts[0] == "Leave a message."
    assert phone.texts[1].startswith("tone ")  # the beep
    assert phone.texts[2:] == ["Thank you."]
    assert visited(state) == ["message", "thanks", "bye"]
    (message,) = state.recordings
    assert (message.kind, message.state, message.channels, message.problem) == ("voicemail", "good", 1, "")
    assert message.seconds == pytest.approx(8, abs=1)
    assert length(message.path) == pytest.approx(message.seconds, abs=0.01)
    assert message.started_at is not None
    assert (state.outcome, state.reason) == ("voicemail", "")
    assert entry(state, "voicemail.taken").stage == "H"
    assert h.switch.violations == []


def test_a_message_ends_at_its_limit(hall: Start) -> None:
    h = hall(voicemail(max_seconds=5))
    _, state = h.run(speaks=60.0)
    assert state.recordings[0].seconds == pytest.approx(5, abs=1)
    assert visited(state) == ["message", "thanks", "bye"]


def test_a_message_ends_with_a_key(hall: Start) -> None:
    h = hall(voicemail())
    phone = h.call(speaks=1000.0)
    h.until(lambda: h.executed("record"))
    phone.after(3, phone.press, "5")  # no end of a message
    phone.after(6, phone.press, "#")
    state = h.ended(phone)
    assert state.recordings[0].seconds == pytest.approx(6, abs=1)
    assert state.outcome == "voicemail"


def test_a_caller_who_hangs_up_after_speaking_has_left_a_message(hall: Start) -> None:
    h = hall(voicemail())
    phone = h.call(speaks=1000.0)
    h.until(lambda: h.executed("record"))
    phone.after(4, phone.hangup)
    state = h.ended(phone)
    (message,) = state.recordings
    assert message.state == "good"
    assert (state.outcome, state.reason, state.ended_by) == ("voicemail", "", "caller")
    (delivery,) = h.crm.wait_for_deliveries(1)
    assert delivery.event["data"]["recordings"][0]["state"] == "good"


def test_a_caller_who_hangs_up_in_the_prompt_has_left_none(hall: Start) -> None:
    h = hall(voicemail())
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    phone.hangup()
    state = h.ended(phone)
    assert state.recordings == []
    assert h.executed("record") == []
    assert (state.outcome, state.reason) == ("abandoned", "caller.left")


@pytest.mark.parametrize("act", ["waits", "presses #", "hangs up", "hangs up while exoflow is away"])
def test_who_says_nothing_has_left_no_message(hall: Start, act: str) -> None:
    h = hall(voicemail())
    phone = h.call(speaks=0)
    h.until(lambda: h.executed("record"))
    if act == "presses #":
        phone.after(0.5, phone.press, "#")
    elif act == "hangs up":
        phone.after(0.5, phone.hangup)
    elif act == "hangs up while exoflow is away":
        with h.switch.clock.held():
            h.lose_socket(phone)
            phone.hangup()
    state = h.ended(phone)
    (message,) = state.recordings
    assert (message.state, message.problem.partition(":")[0]) == ("failed", "nothing was said")
    assert (state.outcome, state.reason) == ("missed", "recording.nothing_said")
    assert entry(state, "recording.nothing_said").stage == "H"
    assert not {"voicemail.taken", "recording.good"} & set(codes(state))
    assert [one.type for one in h.deliveries(state)] == ["call.missed"]


def test_the_files_lie_in_the_days_folder_of_the_accounts_zone(hall: Start) -> None:
    h = hall(voicemail(), account={"time_zone": "Pacific/Kiritimati"})
    _, state = h.run()
    today = datetime.now(ZoneInfo("Pacific/Kiritimati")).strftime("%Y/%m/%d")
    assert Path(state.recordings[0].path) == h.folder / "recordings" / "acme" / today / f"{state.facts.id}-1.wav"


# --- faults ------------------------------------------------------------------------------------------


def test_of_two_callers_who_begin_a_day_at_once_both_can_leave_a_message(hall: Start, another_call_first: None) -> None:
    """Without its folder FreeSWITCH hangs a caller up."""
    h = hall(voicemail())
    (h.folder / "recordings").mkdir()
    _, state = h.run(speaks=5.0)
    assert [recording.state for recording in state.recordings] == ["good"]


def test_a_folder_that_is_a_file(hall: Start) -> None:
    """FreeSWITCH's `record` hangs up where it cannot write; so it is never told to."""
    h = hall(voicemail())
    (h.folder / "recordings").write_text("")
    phone, state = h.run()
    assert h.executed("record") == []
    assert phone.texts[-1] == "Thank you."
    assert visited(state) == ["message", "thanks", "bye"]
    (message,) = state.recordings
    assert message.state == "failed"
    told = entry(state, "recording.unwritable")
    assert told.stage == "H"
    assert "switch.recordings" in told.text
    assert (state.outcome, state.reason) == ("missed", "recording.unwritable")
    assert "voicemail.taken" not in codes(state)


def test_without_the_event_socket_a_message_is_known_by_its_file(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    # nobody waits for events that cannot come
    monkeypatch.setattr(recording, "START_SECONDS", 10 * WAIT)
    monkeypatch.setattr(recording, "STOP_SECONDS", 10 * WAIT)
    h = hall(voicemail(), lines=False)
    _, state = h.run(speaks=4.0)
    (message,) = state.recordings
    assert message.state == "good"
    assert message.seconds == pytest.approx(6, abs=1)
    assert state.outcome == "voicemail"


def test_a_message_that_has_gone_from_the_disk(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    h = hall(voicemail())
    real = apps._write_wav

    def lost(path: Path, channels: int, seconds: float, **_: Any) -> int:
        size = real(path, channels, seconds)
        if seconds:
            path.unlink()
        return size

    monkeypatch.setattr(apps, "_write_wav", lost)
    _, state = h.run()
    assert state.recordings[0].state == "failed"
    assert entry(state, "recording.no_file").stage == "H"
    assert (state.outcome, state.reason) == ("missed", "recording.no_file")
