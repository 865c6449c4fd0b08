"""voicemail: asks for a message and records it."""

from __future__ import annotations

import os

from exoflow.calls.model import Recording
from exoflow.clock import utcnow
from exoflow.config.steps import Voicemail as VoicemailSettings
from exoflow.config.steps import VoicemailStep
from exoflow.errors import CallEnded, DeadlineExceeded
from exoflow.flow import recording as recordings
from exoflow.flow.here import QUICK_SECONDS, Here
from exoflow.prompts import BEEP

END_KEY = "#"
SILENCE_LEVEL = 200  # energy below which a line is silent; FreeSWITCH's own examples use it
RECORD_MARGIN = 15.0  # seconds beyond the message's limit before its end is given up


class Voicemail:
    """Plays its prompt and a tone, and records what the caller says: until he hangs up, presses `#`, is silent for
    `silence_seconds` or has spoken `max_seconds`. Passed over if the caller refused to be recorded (`consent`).

    Nothing but silence, or the noise of the line, is no message: the recording has failed, and a call that came to nothing
    else is `missed`, so that somebody calls back. What counts is 0.2 s of sound that is louder than the line's
    own noise; a short "hello" is a message.

    Branches: `next`.
    Caller gone: `next`; what he had said is kept. Store gone: works as ever. CRM gone: works as ever.
    Journey: voicemail.taken, voicemail.endless (broken off); recording.good (evidence file, seconds), recording.declined, or
    recording.<problem> (nothing_said, unwritable, not_started, no_file).
    """

    needs_caller = True

    def run(self, here: Here, step: VoicemailStep) -> str:
        if here.consent is False:
            here.note("H", recordings.DECLINED, "No message is taken: the caller refused to be recorded")
            return "next"
        here.answer()
        voicemail = step.voicemail
        recording = _under_way(here)
        if recording is None:
            here.play(voicemail)
            here.play_sound(lambda: BEEP, deadline=QUICK_SECONDS)
            recording = _begin(here)
        if recording.state == "pending" and (here.has_ended or recordings.length(recording) is not None):
            here.came_back("the message had been recorded")
            recordings.check(here, here.step, recording, None, None)
            _taken(here, recording, "The caller's message was taken while exoflow was away")
        elif recording.state == "pending":
            _record(here, voicemail, recording)
        here.execute("set", "playback_terminators=none")
        return "next"

    def gone(self, here: Here, step: VoicemailStep) -> str:
        recording = _under_way(here)
        if recording is not None and recording.state == "pending":  # nobody saw its end
            recordings.check(here, here.step, recording, None, None)
            _taken(here, recording, "The caller hung up after speaking, while exoflow was away")
        return "next"


def _under_way(here: Here) -> Recording | None:
    """The recording that was begun when this step was kept."""
    return next((one for one in here.call.state.recordings if one.path == here.data.get("recording")), None)


def _taken(here: Here, recording: Recording, text: str) -> None:
    if recording.state == "good" and not here.data.get("taken"):
        here.note("H", "voicemail.taken", text)
        here.keep(taken=True)


def _begin(here: Here) -> Recording:
    recording = recordings.new(here, "voicemail", 1, utcnow())
    here.call.add_recording(recording)
    here.keep(recording=recording.path)
    if problem := recordings.unwritable(recording):
        # told to record there all the same, FreeSWITCH hangs the caller up (mod_dptools.c:3283)
        recordings.fail(here, here.step, recording, "unwritable", problem)
    return recording


def _record(here: Here, voicemail: VoicemailSettings, recording: Recording) -> None:
    recordings.make_folder(here, recording)
    # once more, should it have been removed: unlike record_session, `record` makes none, and without one the caller is hung up
    here.execute("mkdir", os.path.dirname(recording.path))
    here.execute("set", f"playback_terminators={END_KEY}")
    argument = f"{recording.path} {voicemail.max_seconds} {SILENCE_LEVEL} {voicemail.silence_seconds}"
    with here.parts.lines.recording(recording.path) as events:
        here.session.lease_off()  # a transfer out of `record` hangs the caller up; it ends by itself
        text = "The caller's message was taken"
        try:
            here.drop_keys(here.perform("record", lambda: argument, deadline=voicemail.max_seconds + RECORD_MARGIN))
        except CallEnded:
            recordings.check(here, here.step, recording, events, None)
            _taken(here, recording, "The caller hung up after speaking")
            raise
        except DeadlineExceeded:
            here.failed("H", "voicemail.endless", "The message did not end within its limit and was broken off")
            here.break_off()
            text = "The caller's message was taken, and broken off"
        finally:
            here.session.lease_on()
        recordings.check(here, here.step, recording, events, None)
        _taken(here, recording, text)
