"""Recordings: where they go, and whether they are what they should be."""

from __future__ import annotations

import os
import time
import wave
from contextlib import suppress
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import gevent

from exoflow.calls import speech
from exoflow.calls.model import Leg, Recording
from exoflow.errors import ExoflowError
from exoflow.esl import safety
from exoflow.flow.here import QUICK_SECONDS, Here
from exoflow.lines.legs import RecordingEvents

DECLINED = "recording.declined"  # the journey's line where a caller's refusal (applet `consent`) is kept
NOTHING_SAID = "recording.nothing_said"
STOP_SECONDS = 2.0  # from a talk's end to RECORD_STOP: the file is closed within milliseconds
START_SECONDS = 1.0  # from the beginning to RECORD_START
FILE_POLL_INTERVAL = 0.05  # seconds between two looks at a file that is not closed yet
FOLDER_LEVELS = 4  # account, year, month, day
TOLERANCE_SECONDS = 1.0  # a file may be shorter than the talk by a frame or two; a second is missing sound
TOLERANCE_SHARE = 0.02  # of a long talk: clocks of line and switch differ


def new(here: Here, kind: Literal["talk", "voicemail"], channels: int, now: datetime) -> Recording:
    """A recording with its path: one folder a day in the account's time zone, named after the call."""
    state = here.call.state
    day = now.astimezone(ZoneInfo(here.account.time_zone)).strftime("%Y/%m/%d")
    name = f"{state.facts.id}-{len(state.recordings) + 1}.wav"
    # not a Path, for the reason that calls/cdr.path_of has
    path = os.path.join(here.parts.config.switch.recordings, here.account_id, day, name)
    return Recording(kind, safety.path(path), channels)


def make_folder(here: Here, recording: Recording) -> None:
    """Has FreeSWITCH make the folder of a recording's day, once a day for each account. Raises CallEnded, Disconnected,
    DeadlineExceeded.

    Level by level: asked for all at once it fails when another call makes one of them meanwhile
    (libs/apr/file_io/unix/dir.c:286), and of calls that begin a day together one stays without its recording.
    """
    folder = os.path.dirname(recording.path)
    made = here.parts.recording_folders
    if made.get(here.account_id) == folder:
        return
    levels = [folder]
    while len(levels) < FOLDER_LEVELS:
        levels.insert(0, os.path.dirname(levels[0]))
    for level in levels:
        here.execute("mkdir", level)
    made[here.account_id] = folder


def unwritable(recording: Recording) -> str | None:
    """Why a file cannot be made there, as far as this side can see; in a thread, for disks may be slow."""
    problem: str | None = gevent.get_hub().threadpool.apply(_problem_of_folder, (os.path.dirname(recording.path),))
    return problem


def length(recording: Recording) -> float | None:
    """Seconds of sound that are in the file; None if there is no such file, or no sound in it."""
    seconds: float | None = gevent.get_hub().threadpool.apply(_wav_seconds, (recording.path,))
    return seconds


def nothing_said(here: Here, step: str, recording: Recording, why: str) -> None:
    """A message in which nothing is said is none: somebody has to call back."""
    recording.state, recording.problem = "failed", f"nothing was said: {why}"
    here.at.reason = NOTHING_SAID
    here.call.update_recording(recording)
    seconds = recording.seconds
    here.call.note("H", NOTHING_SAID, f"No message: {why}", step=step, file=recording.path, seconds=seconds)


def fail(here: Here, step: str, recording: Recording, what: str, text: str) -> None:
    """A recording that is not what it should be; the call goes on."""
    recording.state, recording.problem = "failed", text
    if recording.kind == "voicemail":
        here.at.reason = f"recording.{what}"  # a lost message is a missed call; a talk without its recording is a talk
    here.call.update_recording(recording)
    here.call.note("H", f"recording.{what}", f"Recording failed: {text}", step=step, file=recording.path)


def _is_anything_said(recording: Recording) -> bool:
    said: bool = gevent.get_hub().threadpool.apply(speech.is_anything_said, (recording.path,))
    return said


def _is_there(recording: Recording) -> bool:
    there: bool = gevent.get_hub().threadpool.apply(os.path.isfile, (recording.path,))
    return there


def check(here: Here, step: str, recording: Recording, events: RecordingEvents | None, talk: Leg | None) -> None:
    """Judges a recording that has been stopped: good only if it was begun, written, and as long as it should be; a message only
    if something is said in it.

    May run beside the call, which is then at another step than `step`. `talk` is the leg whose talk it
    is, as long as which it must be (None: a message of any length). `events` is None when the call was away
    while it was recorded: the file alone tells then. Waits START_SECONDS and STOP_SECONDS at most.
    """
    if events is not None:
        # nothing comes from an event socket that is not there: a talk is then never known to be whole, a message is by its file
        watched = here.parts.lines.up or events.started.is_set()
        begun = events.started.wait(START_SECONDS if watched else 0)
        # the switch tells nobody a second time of a recording that a process before us began: then there is its file
        if not begun and recording.kind == "voicemail" and here.caller_gone and length(recording) is None:
            nothing_said(here, step, recording, "the caller hung up at the tone")
            return
        if not begun and (length(recording) is None if watched else recording.kind == "talk"):
            fail(here, step, recording, "not_started", _why_not_started(here))
            return
        recording.started_at = events.started_at or recording.started_at
        events.stopped.wait(STOP_SECONDS if watched else 0)
    if talk is not None:
        # RECORD_START comes when the recording is asked for, before the ringing; the file's first sound is the talk's
        recording.started_at = talk.answered_at
    stopped = events is not None and events.stopped.is_set()
    seconds = length(recording) if stopped else _length_when_closed(recording)
    said = recording.kind != "voicemail" or _is_anything_said(recording)
    if recording.state != "pending":
        return  # judged meanwhile: the call had come back
    if seconds is None and recording.kind == "voicemail" and _is_there(recording):
        nothing_said(here, step, recording, "the file has no sound in it")
        return
    if seconds is None:
        problem = "was discarded as empty" if events is not None and events.discarded else "is not there, or has no sound in it"
        fail(here, step, recording, "no_file", f"the file {problem}; look at the disk and at FreeSWITCH's log")
        return
    recording.seconds = round(seconds, 3)
    wanted = seconds if talk is None else talk.talk_seconds
    if abs(seconds - wanted) > max(TOLERANCE_SECONDS, TOLERANCE_SHARE * wanted):
        text = f"the file has {seconds:.1f} s of a talk of {wanted:.1f} s; look at the disk and at FreeSWITCH's log"
        fail(here, step, recording, "wrong_length", text)
        return
    if not said:
        nothing_said(here, step, recording, f"{seconds:.1f} s without a voice")
        return
    recording.state = "good"
    here.call.update_recording(recording)
    text = f"Recorded {seconds:.1f} s"
    here.call.note("H", "recording.good", text, step=step, file=recording.path, seconds=recording.seconds)


def _length_when_closed(recording: Recording) -> float | None:
    """As `length`, of a file that may still be written: its header tells no length before it is closed. Waits STOP_SECONDS."""
    until = time.monotonic() + STOP_SECONDS
    while (seconds := length(recording)) is None and time.monotonic() < until:
        gevent.sleep(FILE_POLL_INTERVAL)
    return seconds


def check_left(here: Here) -> None:
    """Judges what the process before had no time to, beside the call that has come back; not what its step still needs.

    The call may have been lost between a talk's end and the end of its recording: that is made up for.
    """
    for recording in here.call.state.recordings:
        if recording.state == "pending" and recording.path != here.data.get("recording"):
            if recording.kind == "talk" and not here.caller_gone:
                with suppress(ExoflowError):
                    here.session.execute("stop_record_session", recording.path, deadline=QUICK_SECONDS)
            talk = here.call.state.talk_leg if recording.kind == "talk" else None
            here.afterwards(check, here, here.step, recording, None, talk)


def _why_not_started(here: Here) -> str:
    lines = here.parts.lines
    if not lines.up:
        return f"whether FreeSWITCH recorded is unknown, for its event socket is not connected: {lines.problem}"
    return f"FreeSWITCH never began to record: make sure its user can write to {here.parts.config.switch.recordings}"


def _problem_of_folder(folder: str) -> str | None:
    there = folder
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        return f"{there} is no folder; move it away, or set switch.recordings"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} is not writable; make it so for FreeSWITCH's user and for exoflow's"
    return None


def _wav_seconds(path: str) -> float | None:
    """By the file's header. In a thread: disks may be slow."""
    try:
        with wave.open(path) as sound:
            return sound.getnframes() / sound.getframerate() or None
    except (OSError, EOFError, wave.Error):
        return None
