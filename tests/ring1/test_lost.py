"""Calls whose switch died: an end for each, once, and what was recorded of them is kept."""

from __future__ import annotations

import struct
import wave
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cdrworld import World

from exoflow.calls import lost as lost_module
from exoflow.calls.lost import LostCalls
from exoflow.calls.model import Leg, Placed, Recording
from exoflow.calls.wav import repair
from exoflow.errors import Disconnected
from exoflow.lines.listing import Channel

CHANNEL = "5f8b28d1-82cc-4a5f-8e6a-ee2b64a21456"


# --- WAV files --------------------------------------------------------------------------------------


def wav(path: Path, seconds: float = 2.0, channels: int = 2, *, riff: int | None = None, data: int | None = None) -> bytes:
    """A sound, of whose lengths in the header some are as if its writer had died; its samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = bytes(at % 251 for at in range(int(seconds * 8000) * channels * 2))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples)
    whole = bytearray(path.read_bytes())
    for at, length in ((4, riff), (40, data)):
        if length is not None:
            whole[at : at + 4] = struct.pack("<I", length)
    path.write_bytes(whole)
    return samples


def played(path: Path) -> bytes:
    with wave.open(str(path)) as file:
        return file.readframes(10**9)


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFF0])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_header_without_lengths_is_completed(tmp_path: Path, length: int, channels: int) -> None:
    samples = wav(tmp_path / "a.wav", 2.0, channels, riff=length, data=length)
    assert repair(tmp_path / "a.wav") == 2.0
    assert played(tmp_path / "a.wav") == samples
    assert struct.unpack("<I", (tmp_path / "a.wav").read_bytes()[4:8])[0] == len(samples) + 36


def test_half_a_frame_at_the_end_is_kept_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    samples = wav(path, 1.0, 2, riff=0, data=0)
    path.write_bytes(path.read_bytes() + b"abc")
    assert repair(path) == 1.0
    assert played(path) == samples
    assert path.read_bytes().endswith(b"abc")


def test_a_whole_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wav(path, 1.5)
    before = path.read_bytes() + b"LIST\x04\x00\x00\x00abcd"  # what some writers put behind the sound
    path.write_bytes(before)
    assert repair(path) == 1.5
    assert path.read_bytes() == before


def test_chunks_before_the_sound_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    samples = wav(path, 1.0, 1, riff=0xFFFFFFFF, data=0xFFFFFFFF)
    raw = path.read_bytes()
    path.write_bytes(raw[:12] + b"LIST\x05\x00\x00\x00abcde\x00" + raw[12:])
    assert repair(path) == 1.0
    assert played(path) == samples


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WAVEdata\0\0\0\0",
        b"OggS" + b"\0" * 100,
        b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff",
    ],
)
def test_what_is_no_sound_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert repair(tmp_path / "a.wav") is None
    assert (tmp_path / "a.wav").read_bytes() == content


def test_a_file_without_a_sample_has_no_sound(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav", 0.0, riff=0, data=0)
    assert repair(tmp_path / "a.wav") is None


def test_no_link_is_followed(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav", 1.0, data=0)
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    assert repair(tmp_path / "b.wav") is None
    assert repair(tmp_path / "missing.wav") is None


# --- lost calls -------------------------------------------------------------------------------------


class Switch:
    """What it says when it is asked."""

    def __init__(self) -> None:
        self.up, self.uuid, self.there, self.answers = True, "core-1", set[str](), True
        self.ending: set[str] = set()  # hung up, and their CDRs are not written yet

    def exists(self, channel: str) -> bool:
        if not self.answers:
            raise Disconnected("uuid_exists")
        return channel in self.there

    def channels(self) -> list[Channel]:
        return [Channel(uuid, "inbound", "8030752400") for uuid in self.there | self.ending]

    def core(self) -> str:
        return self.uuid


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(lost_module, "GONE_SECONDS", 0.0)
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def switch() -> Switch:
    return Switch()


def looker(world: World, switch: Switch, *, net: bool = True) -> LostCalls:
    return LostCalls(world.net if net else None, world.book, switch, lambda: world.config, world.sessions.__contains__)


def test_the_switch_died_and_is_back(world: World, switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_module, "GONE_SECONDS", 1000.0)
    call = world.call(CHANNEL)
    switch.there.add(CHANNEL)
    lost = looker(world, switch)
    lost.look()
    assert not call.closed
    switch.uuid, switch.there = "core-2", set()
    lost.look()
    state = world.record()
    assert (state.outcome, state.reason) == ("lost", "switch_lost")
    assert "started again" in state.journey[-1].text
    assert [one.type for one in world.deliveries(state)] == ["call.missed"]
    lost.look()
    assert len(world.deliveries(state)) == 1


def test_a_channel_that_has_gone_without_a_cdr(world: World, switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_module, "GONE_SECONDS", 0.05)
    call = world.call(CHANNEL)
    lost = looker(world, switch)
    lost.look()
    assert not call.closed  # the file may be on its way
    lost_module.gevent.sleep(0.06)
    lost.look()
    assert (call.state.outcome, call.state.reason) == ("lost", "switch_lost")
    assert str(world.cdr) in call.state.journey[-1].text


def test_an_end_comes_within_half_a_minute_of_a_start() -> None:
    """The promise of docs/design.md: two looks, one of them late, and the patience with FreeSWITCH's disk."""
    assert lost_module.GONE_SECONDS + 2 * lost_module.LOOK_SECONDS + 5 < 30


def test_an_earlier_processs_call_is_found_too(world: World, switch: Switch) -> None:
    world.call(CHANNEL)
    world.restart()
    looker(world, switch).look()
    assert world.record().outcome == "lost"
    assert len(world.deliveries(world.record())) == 1


def test_what_came_back_and_was_closed_here_is_not_lost_afterwards(world: World, switch: Switch) -> None:
    world.call(CHANNEL)
    world.restart()
    lost = looker(world, switch)
    switch.there.add(CHANNEL)
    lost.look()
    call = world.book.resume(CHANNEL)
    assert call is not None
    call.close("served")
    switch.there.clear()
    lost.look()
    assert world.record().outcome == "served"


@pytest.mark.parametrize("why", ["a session", "a channel", "its end", "a file", "not begun", "no answer"])
def test_who_is_not_lost(world: World, switch: Switch, why: str) -> None:
    call = world.call(CHANNEL)
    lost = looker(world, switch)
    if why == "a session":
        world.sessions.add(CHANNEL)
    elif why == "a channel":
        switch.there.add(CHANNEL)
    elif why == "its end":
        switch.ending.add(CHANNEL)
    elif why == "not begun":
        call.state.facts.placed = Placed(None, 30, 60)
    elif why == "a file":
        world.write(CHANNEL, "{", age=0)  # not even whole yet
    else:
        switch.answers = False
    for _ in range(3):
        try:
            lost.look()
        except Disconnected:
            assert why == "no answer"
    assert not call.closed


def test_where_no_cdrs_are_read_the_codes_tell_whose_fault_it_was(
    world: World, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_module, "REENTRY_SECONDS", 0.0)
    world.call("earlier")
    world.restart()
    world.call("now")
    looker(world, switch, net=False).look()
    assert {state.facts.channel: state.reason for state in world.records()} == {"earlier": "app_restart", "now": "socket_lost"}


def recorded(world: World, path: Path, **progress: Any) -> None:
    call = world.call(CHANNEL)
    now = datetime.now(UTC)
    call.add_leg(Leg("leg", 1, "+919876543210", "PRI1", "asha", setup_at=now, answered_at=now))
    if progress:
        call.state.progress = {"flow": "main", "step": "bye", "data": {"recording": str(path), **progress}}
    else:
        call.add_recording(Recording("voicemail", str(path), 1))


@pytest.mark.parametrize("progress", [{"channels": 2}, {}])
def test_a_recording_that_was_cut_off_is_playable_and_its_length_is_noted(
    world: World, switch: Switch, progress: dict[str, Any]
) -> None:
    path = world.config.switch.recordings / "acme" / "a.wav"
    samples = wav(path, 3.0, 2, riff=0xFFFFFFFF, data=0xFFFFFFFF)
    recorded(world, path, **progress)
    looker(world, switch).look()
    state = world.record()
    assert played(path) == samples
    (recording,) = state.recordings
    assert (recording.state, recording.seconds, recording.path) == ("failed", 3.0, str(path))
    assert "3.0 s are there" in recording.problem
    assert [one.code for one in state.journey][-2:] == ["recording.cut_off", "switch_lost"]
    assert state.legs[0].outcome == "answered"
    assert world.deliveries(state)[0].type == "call.ended"  # they had talked


def test_a_recording_of_a_talk_that_never_began_is_none(world: World, switch: Switch) -> None:
    path = world.config.switch.recordings / "acme" / "a.wav"
    wav(path, 0.0, riff=0, data=0)
    recorded(world, path, channels=2)
    looker(world, switch).look()
    assert world.record().recordings == []


def test_nothing_outside_the_recordings_folder_is_touched(world: World, switch: Switch) -> None:
    path = world.folder / "elsewhere.wav"
    wav(path, 1.0, riff=0, data=0)
    before = path.read_bytes()
    recorded(world, path, channels=2)
    looker(world, switch).look()
    assert path.read_bytes() == before
    assert world.record().outcome == "lost"
