"""Files that are no sounds, and users who may not read one."""

from __future__ import annotations

import os
import struct
import wave
from pathlib import Path

import pytest
from hall import BYE, Hall

from exoflow.config.load import load
from exoflow.linesound import wav
from exoflow.soundfiles import first_closed, why_no_sound
from exoflow.unplayable import MAX_SOUNDS, Unplayable

SOUND = wav(bytes(16_000))
ALAW = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 6, 1, 8000, 8000, 1, 8) + b"data\x04\0\0\0abcd"
STRANGE = ALAW.replace(struct.pack("<IH", 16, 6), struct.pack("<IH", 16, 0x55))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.wav", SOUND, ""),
        ("a.wav", ALAW, ""),
        ("a.wav", b"OggS" + bytes(100), ""),
        ("a.ogg", b"OggS" + bytes(100), ""),
        ("a.mp3", b"\xff\xfb\x90" + bytes(100), ""),
        ("a.PCMA", b"\xd5" * 100, ""),
        ("a.wav", b"", "is empty"),
        ("a.wav", b"this is text and no sound at all " * 300, "is no sound: it begins with 'this is text and'"),
        ("a.wav", SOUND[:44], "is a WAV without sound in it"),
        ("a.wav", SOUND[:20], "is a WAV without sound in it"),
        ("a.wav", STRANGE, "is a WAV of a form that FreeSWITCH does not play (0x55); make it PCM"),
        ("a.wav", b"<html>" + bytes(100), "is no sound: it begins with '<html>"),
    ],
)
def test_file_is_a_sound_by_its_first_bytes(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    assert why_no_sound(tmp_path / name).startswith(problem)
    assert bool(why_no_sound(tmp_path / name)) == bool(problem)


def test_every_wav_of_python_s_own_library_is_a_sound(tmp_path):
    for channels, width, rate in ((1, 2, 8000), (2, 2, 16_000), (1, 1, 8000), (1, 3, 48_000)):
        with wave.open(str(tmp_path / "a.wav"), "wb") as file:
            file.setparams((channels, width, rate, 0, "NONE", ""))
            file.writeframes(bytes(6 * width * channels))
        assert why_no_sound(tmp_path / "a.wav") == ""


def test_folder_that_a_user_may_not_enter_is_named(tmp_path):
    sound = tmp_path / "prompts" / "a.wav"
    sound.parent.mkdir(mode=0o750)
    sound.write_bytes(SOUND)
    for folder in [tmp_path, *tmp_path.parents[:-1]]:
        if not folder.stat().st_mode & 0o001:
            return  # the machine's own temporary folder is closed: nothing to be shown here
    group = sound.stat().st_gid
    assert first_closed(sound, 65_534, frozenset()) == str(sound.parent)
    assert first_closed(sound, 65_534, frozenset({group})) == ""
    os.chmod(sound, 0o600)
    assert first_closed(sound, 65_534, frozenset({group})) == str(sound)
    assert first_closed(sound, os.geteuid(), frozenset()) == ""


def test_sound_that_is_none_is_found_at_its_place(tmp_path):
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts/hello.wav").write_bytes(b"this is text and no sound at all " * 300)
    (tmp_path / "exoflow.yaml").write_text("trunks: {PRI1: {span: PRI1}}\nprompts: {engine: text}\n")
    (tmp_path / "accounts/clinic.yaml").write_text(
        'name: Clinic\nnumbers:\n  - {number: "+918030752400", trunk: PRI1, flow: main}\nflows:\n  main:\n'
        "    start: hi\n    steps:\n      hi: {greeting: {play: hello.wav}, next: bye}\n      bye: {hangup: {}}\n"
    )
    [found] = [one for one in load(tmp_path / "exoflow.yaml", {}).findings if one.code == "W611"]
    assert found.line == 8
    assert "hello.wav is no sound: it begins with 'this is text and'" in found.message


def test_ringback_that_is_no_sound_becomes_ringing_and_is_told(hall, tmp_path):
    sound = tmp_path / "music.wav"
    sound.write_bytes(SOUND)
    connect = {"group": "support", "record": "none", "ringback": {"play": str(sound)}}
    site: Hall = hall({"talk": {"connect": connect, "answered": "bye", "unanswered": "bye"}, "bye": BYE})
    Path(sound).write_bytes(b"this is text and no sound at all " * 300)
    phone, state = site.run()
    assert state.outcome == "answered"
    [told] = [entry for entry in state.journey if entry.code == "prompt.unplayable"]
    assert "music.wav is no sound" in told.text
    assert not any("tone v=-20" in heard.text for heard in phone.heard)
    assert "music.wav is no sound" in site.service._unplayable.problem()


def test_health_tells_a_sound_until_it_was_played():
    sounds = Unplayable()
    assert sounds.problem() == ""
    for number in range(MAX_SOUNDS + 5):
        sounds.add(f"/a{number}.wav", "could not be opened by FreeSWITCH")
    assert sounds.problem().startswith(f"/a0.wav could not be opened by FreeSWITCH (and {MAX_SOUNDS - 1} more); ")
    for number in range(MAX_SOUNDS):
        sounds.played(lambda number=number: f"/a{number}.wav")
    assert sounds.problem() == ""


def test_menu_and_greeting_whose_file_is_no_sound_are_told_once_a_step(hall, tmp_path):
    sound = tmp_path / "hello.wav"
    sound.write_bytes(SOUND)
    prompt = {"play": str(sound)}
    steps = {
        "hi": {"greeting": prompt, "next": "ask"},
        "ask": {"menu": {**prompt, "attempts": 2, "timeout": 2}, "keys": {"1": "bye"}, "otherwise": "last"},
        "last": {"greeting": prompt, "next": "bye"},
        "bye": BYE,
    }
    site: Hall = hall(steps)
    sound.write_bytes(b"this is text and no sound at all " * 300)
    _, state = site.run()
    codes = [entry.code for entry in state.journey if entry.code.startswith(("prompt.", "greeting.played", "menu."))]
    assert codes == ["prompt.unplayable", "menu.no_input", "menu.no_input", "menu.no_keys", "prompt.unplayable"]
