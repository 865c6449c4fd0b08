"""Prompts and keys on the embedded switch: lengths, barge-in, terminators, what is eaten and what is kept."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest
from simclient import WAIT, codes, event_socket, running

from exoflow.sim.sounds import ENDLESS, NoSound, sounds_of

TO, FROM = "+918030752400", "+919811111111"
ASK = "1 1 {tries} {timeout} none {prompt} {invalid} exo_d [123] 2000"


def wav(path: Path, seconds: float, text: str = "") -> Path:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\0" * int(8000 * seconds))
    if text:
        path.with_suffix(".txt").write_text(text)
    return path


def ask(prompt: object, *, tries: int = 1, timeout: int = 3000, invalid: object = "silence_stream://50") -> str:
    return ASK.format(tries=tries, timeout=timeout, prompt=prompt, invalid=invalid)


def test_lengths_and_texts(tmp_path: Path) -> None:
    welcome = wav(tmp_path / "welcome.wav", 1.5, "Welcome to Acme.")
    (sound,) = sounds_of(str(welcome))
    assert (sound.seconds, sound.text, sound.file) == (1.5, "Welcome to Acme.", str(welcome))
    both = sounds_of(f"file_string://{welcome}!{tmp_path}/missing.wav!{welcome}")
    assert [s.seconds for s in both] == [1.5, 1.5]
    assert sounds_of("tone_stream://%(400,200,400,450);%(400,2000,400,450)")[0].seconds == 3.0
    assert sounds_of("tone_stream://v=-24;%(300,2700,425);loops=-1")[0].seconds == ENDLESS
    assert sounds_of("tone_stream://L=3;%(100,100,350)")[0].seconds == pytest.approx(0.6)
    assert sounds_of("silence_stream://2000")[0].seconds == 2.0
    assert sounds_of("local_stream://moh")[0].seconds == ENDLESS
    with pytest.raises(NoSound):
        sounds_of(f"{tmp_path}/missing.wav")


def test_playback_lasts_its_switch_time_and_is_heard(tmp_path: Path) -> None:
    prompt = wav(tmp_path / "p.wav", 20.0, "A long story.")
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        before = switch.clock.elapsed()
        assert wire.run("playback", str(prompt)).get("Application-Response") == "FILE PLAYED"
        assert switch.clock.elapsed() - before >= 20.0
        assert phone.texts == ["A long story."]
        assert phone.heard[0].seconds >= 20.0


def test_playing_to_an_unanswered_caller_is_early_media() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        assert wire.run("playback", "tone_stream://%(100,0,400)").get("Answer-State") == "early"
        assert phone.answered_at is None


def test_a_missing_file_is_told_and_counted(tmp_path: Path) -> None:
    with running() as (switch, app):
        switch.call(TO, FROM)
        wire = app.call()
        assert wire.run("playback", f"{tmp_path}/gone.wav").get("Application-Response") == "FILE NOT FOUND"
        assert codes(switch) == ["missing_sound"]


def test_keys_in_playback_are_eaten_except_the_star_that_ends_it() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        token = wire.start("playback", "tone_stream://%(1000,0,400);loops=-1")
        phone.wait_until(lambda p: bool(p.heard), WAIT)
        phone.press("12*3")
        assert wire.complete(token).get("Application-Response") == "FILE PLAYED"
        assert wire.run("play_and_get_digits", ask("silence", timeout=1000)).get("variable_exo_d") == ""


def test_a_key_breaks_the_prompt_and_is_the_answer() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM, keys="2")
        wire = app.call()
        frame = wire.run("play_and_get_digits", ask("tone_stream://%(60000,0,400)"))
        assert (frame.get("variable_exo_d"), frame.get("variable_read_result")) == ("2", "success")
        assert phone.heard[0].seconds < 30
        assert phone.pressed == ["2"]


def test_a_key_in_the_greeting_counts_for_the_menu_in_one_file_string(tmp_path: Path) -> None:
    greeting, menu = wav(tmp_path / "g.wav", 30, "Welcome."), wav(tmp_path / "m.wav", 30, "Dial 1.")
    with running() as (switch, app):
        phone = switch.call(TO, FROM, keys="1")
        wire = app.call()
        frame = wire.run("play_and_get_digits", ask(f"file_string://{greeting}!{menu}"))
        assert frame.get("variable_exo_d") == "1"
        assert phone.texts == ["Welcome."], "the menu was not needed any more"


def test_a_wrong_key_is_kept_aside_and_asked_again(tmp_path: Path) -> None:
    sorry = wav(tmp_path / "sorry.wav", 1, "That is not one of them.")
    with running() as (switch, app):
        phone = switch.call(TO, FROM, keys=["9", "3"])
        wire = app.call()
        frame = wire.run("play_and_get_digits", ask("tone_stream://%(500,0,400)", tries=3, invalid=sorry))
        assert (frame.get("variable_exo_d"), frame.get("variable_exo_d_invalid")) == ("3", "9")
        assert [h.text for h in phone.heard if h.file] == ["That is not one of them."]


def test_silence_burns_all_tries_and_the_last_invalid_prompt_plays_too(tmp_path: Path) -> None:
    sorry = wav(tmp_path / "sorry.wav", 0.5, "I heard nothing.")
    with running() as (switch, app):
        phone = switch.call(TO, FROM, keys="-")
        wire = app.call()
        before = switch.clock.elapsed()
        frame = wire.run("play_and_get_digits", ask("silence", tries=2, timeout=200, invalid=sorry))
        assert frame.get("variable_read_result") == "failure"
        assert phone.texts == ["I heard nothing."] * 2
        assert switch.clock.elapsed() - before >= 3.0, "a timeout below 1000 ms is raised to it"


def test_several_digits_a_terminator_and_a_partial_entry() -> None:
    collect = "2 4 1 3000 # silence silence_stream://50 exo_pin \\d+ 1000"
    with running() as (switch, app):
        phone = switch.call(TO, FROM, keys=["12#", "1", "1234"])
        wire = app.call()
        frame = wire.run("play_and_get_digits", collect)
        assert (frame.get("variable_exo_pin"), frame.get("variable_read_terminator_used")) == ("12", "#")
        frame = wire.run("play_and_get_digits", collect)
        assert (frame.get("variable_exo_pin"), frame.get("variable_read_result")) == ("1", "failure"), "partial digits stay"
        frame = wire.run("play_and_get_digits", collect)
        assert (frame.get("variable_exo_pin"), frame.get("variable_read_result")) == ("1234", "success")
        assert phone.pressed == list("12#11234")


def test_digits_typed_ahead_leak_into_the_next_prompt_unless_flushed() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        phone.press("33")
        assert wire.run("play_and_get_digits", ask("tone_stream://%(5000,0,400)")).get("variable_exo_d") == "3"
        wire.run("flush_dtmf")
        assert wire.run("play_and_get_digits", ask("silence", timeout=1000)).get("variable_exo_d") == ""


def test_tries_of_zero_ask_nothing_and_an_eleventh_argument_transfers_away() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        assert wire.run("play_and_get_digits", ask("silence", tries=0)).get("variable_exo_d") == ""
        wire.run("play_and_get_digits", ask("silence", timeout=1000) + " None")
        assert phone.wait(WAIT)
        assert codes(switch) == ["failure_transfer"]
        assert phone.cause == "UNALLOCATED_NUMBER"


def test_a_text_of_keys_is_used_up_question_by_question() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM, keys="1-2")
        wire = app.call()
        answers = [wire.run("play_and_get_digits", ask("silence")).get("variable_exo_d") for _ in range(3)]
        assert answers == ["1", "", "2"]
        assert phone.pressed == ["1", "2"]


def test_a_voicemail_ends_in_silence_at_the_star_or_with_the_caller(tmp_path: Path) -> None:
    with running() as (switch, app):
        watcher = event_socket(switch.event_socket_address)
        watcher.command("event plain RECORD_START RECORD_STOP")
        phone = switch.call(TO, FROM, speaks=6)
        wire = app.call()
        wire.run("answer")
        wire.run("mkdir", f"{tmp_path}/a/b")
        frame = wire.run("record", f"{tmp_path}/a/quiet.wav 60 200 3")
        assert frame.get("variable_silence_hits_exhausted") == "true"
        assert sounds_of(f"{tmp_path}/a/quiet.wav")[0].seconds == pytest.approx(9, abs=0.5)
        assert wire.run("record", f"{tmp_path}/short.wav 5 200 30").get("variable_record_seconds") == "5"
        wire.start("record", f"{tmp_path}/left.wav 60 200 30")
        watcher.event("RECORD_START", Record_File_Path=f"{tmp_path}/left.wav")
        phone.hangup()
        assert watcher.event("RECORD_STOP", Record_File_Path=f"{tmp_path}/left.wav").get("variable_record_seconds")
        assert (tmp_path / "left.wav").stat().st_size >= 44
