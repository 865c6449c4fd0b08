"""Recordings: of a talk (record_session, switch_ivr_async.c) and of a message (record, switch_ivr_play_say.c:575).

The files are true WAVs of the right length, channels and rate. A message has a voice as long as its caller speaks; talks are
silent.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exoflow.sim.apps import application
from exoflow.sim.arguments import separate
from exoflow.sim.frames import is_true

if TYPE_CHECKING:
    from exoflow.sim.session import Session

RATE = 8000
VOICE_SECONDS = 10.0  # of a message that sounds; the rest costs no disk
_VOICE = struct.pack("<20h", *(round(4000 * math.sin(math.tau * at / 20)) for at in range(20)))  # 400 Hz, -18 dB
_HEADER = 44  # bytes of a WAV's header
CUT = (8, 0)  # the lengths in the header of a WAV whose writer died (RIFF's and the sound's; seen on 1.10.12)
LOST_SECONDS = 2.0  # of audio that was not on disk yet when the switch was killed (seen on 1.10.12)


@dataclass
class TalkRecording:
    """A running record_session. With RECORD_BRIDGE_REQ only the time in a bridge counts."""

    path: Path
    channels: int
    bridge_only: bool
    since: float | None  # switch seconds when the part that runs now began
    seconds: float = 0.0

    def pause(self, now: float) -> None:
        if self.since is not None:
            self.seconds += now - self.since
            self.since = None


def _write_wav(path: Path, channels: int, seconds: float, *, cut: bool = False, voice: float = 0.0) -> int:
    """A WAV of 16 bit at 8 kHz, silent behind `voice` seconds; sparse, so an hour costs no disk. Its size in bytes. Raises
    OSError.

    `cut`: nobody came to write the lengths into its header.
    """
    data = int(seconds * RATE) * channels * 2
    lengths = CUT if cut else (36 + data, data)
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", lengths[0], b"WAVE", b"fmt ", 16, 1, channels, RATE, RATE * channels * 2, channels * 2,
        16, b"data", lengths[1],
    )  # fmt: skip
    with path.open("wb") as file:
        file.write(header)
        file.write((_VOICE * round(min(voice, seconds, VOICE_SECONDS) * RATE / len(_VOICE) * 2))[:data])
        file.truncate(_HEADER + data)
    return _HEADER + data


@application("record_session", needs_media=True)
def record_session(session: Session, argument: str) -> None:
    """Starts to record into a file; the folder is made. If that fails FreeSWITCH says nothing, and neither does this."""
    path = Path(separate(argument)[0] if argument else "")
    if str(path) in session.recordings:
        session.switch.log(f"Already recording [{path}]")  # and tells nobody (switch_ivr_async.c:2966)
        return
    variables = session.channel.variables
    channels = 2 if is_true(variables.get("RECORD_STEREO")) else 1
    try:
        _make_folder(path.parent)
        _write_wav(path, channels, 0)
    except OSError as e:
        session.switch.log(f"Error opening {path}: {e.strerror}")
        return
    bridge_only = is_true(variables.get("RECORD_BRIDGE_REQ"))
    talking = session.channel.bridged_to is not None
    now = session.switch.clock.elapsed()
    recording = TalkRecording(path, channels, bridge_only, now if talking or not bridge_only else None)
    session.recordings[str(path)] = recording
    if len(session.recordings) == 1:
        session.channel.before_report.append(lambda: _stop_all(session))
    session.switch.bus.fire("RECORD_START", session.channel, tail=[("Record-File-Path", str(path))])


@application("stop_record_session")
def stop_record_session(session: Session, argument: str) -> None:
    if argument.strip() == "all":
        _stop_all(session)
    elif recording := session.recordings.pop(argument.strip(), None):
        _stop(session, recording)


def talk_began(session: Session, at: int) -> None:
    """`at`: when the agent answered, microseconds; on a busy machine this greenlet hears of it later, by more switch time."""
    for recording in session.recordings.values():
        if recording.since is None:
            recording.since = _elapsed(session, at)


def talk_ended(session: Session, at: int) -> None:
    """`at`: when the agent's leg ended, microseconds."""
    for recording in session.recordings.values():
        if recording.bridge_only:
            recording.pause(_elapsed(session, at))


def _elapsed(session: Session, micros: int) -> float:
    """A timestamp in the clock's own seconds."""
    clock = session.switch.clock
    return clock.elapsed() - (clock.micros() - micros) / 1e6


def cut_recordings(session: Session) -> None:
    """What a killed switch leaves of the recordings that ran."""
    for recording in session.recordings.values():
        recording.pause(session.switch.clock.elapsed())
        try:
            _write_wav(recording.path, recording.channels, max(0.0, recording.seconds - LOST_SECONDS), cut=True)
        except OSError as e:
            session.switch.log(f"Error writing {recording.path}: {e.strerror}")
    session.recordings.clear()


def _stop_all(session: Session) -> None:
    while session.recordings:
        _stop(session, session.recordings.popitem()[1])


def _stop(session: Session, recording: TalkRecording) -> None:
    recording.pause(session.switch.clock.elapsed())
    try:
        size = _write_wav(recording.path, recording.channels, recording.seconds)
        cause = "success-silence" if session.channel.hung_up else "success-maxtime"
        if not recording.seconds:  # nobody talked: the file is taken away again (switch_ivr_async.c:1661)
            recording.path.unlink()
            session.channel.set("RECORD_DISCARDED", "true")
            size, cause = 0, "empty-file"
    except OSError as e:
        session.switch.log(f"Error writing {recording.path}: {e.strerror}")
        size, cause = 0, "uri-failure"
    _results(session, recording.seconds, size)
    session.channel.set("record_completion_cause", cause)
    tail = [("Record-File-Path", str(recording.path)), ("Record-Completion-Cause", cause)]
    session.switch.bus.fire("RECORD_STOP", session.channel, tail=tail)


def _results(session: Session, seconds: float, size: int) -> None:
    for name, value in (
        ("record_file_size", size),
        ("record_samples", int(seconds * RATE)),
        ("record_seconds", int(seconds)),
        ("record_ms", int(seconds * 1000)),
    ):
        session.channel.set(name, str(value))


@application("mkdir")
def mkdir(session: Session, argument: str) -> None:
    """Makes a folder and those above it, and says nothing when it cannot (mod_dptools.c:661)."""
    try:
        _make_folder(Path(argument))
    except OSError as e:
        session.switch.log(f"mkdir {argument}: {e.strerror}")


def _make_folder(path: Path) -> None:
    """With those above it, and as badly as libs/apr/file_io/unix/dir.c:265: a folder that was missing, and that another call
    makes while this one makes those above it, is an error (FileExistsError)."""
    try:
        _mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_folder(path.parent)
        _mkdir(path)


def _mkdir(path: Path) -> None:
    path.mkdir()


@application("record", needs_media=True)
def record(session: Session, argument: str) -> None:
    """`path [limit s] [silence threshold] [silence s]`: ends at the limit, after silence, at `*`, or with the caller."""
    words = separate(argument)
    if not words:
        return
    path = Path(words[0])
    limit = _number(words, 1)
    silence = _number(words, 3)
    try:
        _write_wav(path, 1, 0)  # into a folder that is there: only record_session makes one
    except OSError as e:
        session.switch.log(f"Error opening {path}: {e.strerror}")
        # switch_ivr_record_file: a file that cannot be opened resets the call
        session.channel.hangup("DESTINATION_OUT_OF_ORDER")
        return
    session.channel.set("silence_hits_exhausted", "false")
    session.switch.bus.fire("RECORD_START", session.channel, tail=[("Record-File-Path", str(path))])
    speaks = session.phone.speaks()
    length = min(speaks + silence if silence else float("inf"), limit or float("inf"))
    began = session.switch.clock.elapsed()
    terminators = session.channel.variables.get("playback_terminators", "*")

    def star() -> bool:
        while session.digits:
            if session.take_key() in terminators:
                return True
        return False

    session.recordings[str(path)] = TalkRecording(path, 1, bridge_only=False, since=began)
    ending = session.wait(None if length == float("inf") else length, star)
    session.recordings.pop(str(path), None)
    seconds = min(session.switch.clock.elapsed() - began, length)
    if ending == "time" and silence and (not limit or speaks + silence < limit):
        session.channel.set("silence_hits_exhausted", "true")
    try:
        size = _write_wav(path, 1, seconds, voice=speaks)
    except OSError as e:
        session.switch.log(f"Error writing {path}: {e.strerror}")
        size = 0
    _results(session, seconds, size)
    session.switch.bus.fire("RECORD_STOP", session.channel, tail=[("Record-File-Path", str(path))])


def _number(words: list[str], at: int) -> float:
    return float(words[at]) if len(words) > at and words[at].isdigit() else 0.0
