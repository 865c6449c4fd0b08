"""voicemail: asks for a message and records it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

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

    Branches: `next`.
    Caller gone: `next`; what he had said is kept. Store gone: works as ever. CRM gone: works as ever.
    Journey: voicemail.taken, voicemail.endless (broken off); recording.good (evidence file, seconds), recording.declined, or
    recording.<problem> (unwritable, not_started, no_file).
    """

    needs_caller = True

    def run(self, here: Here, step: VoicemailStep) -> str:
        if here.consent is False:
            here.note("H", recordings.DECLINED, "No message is taken: the caller refused to be recorded")
            return "next"
        here.answer()
        voicemail = step.voicemail
        here.play(voicemail)
        here.play_sound(BEEP, deadline=QUICK_SECONDS)
        here.execute("set", f"playback_terminators={END_KEY}")
        recording = recordings.new(here, "voicemail", 1, datetime.now(UTC))
        here.call.add_recording(recording)
        if problem := recordings.unwritable(recording):
            # told to record there all the same, FreeSWITCH hangs the caller up (mod_dptools.c:3283)
            recordings.fail(here, here.step, recording, "unwritable", problem)
            return "next"
        argument = f"{recording.path} {voicemail.max_seconds} {SILENCE_LEVEL} {voicemail.silence_seconds}"
        # unlike record_session, `record` makes no folder: without one FreeSWITCH hangs the caller up
        here.execute("mkdir", str(Path(recording.path).parent))
        with here.parts.lines.recording(recording.path) as events:
            try:
                here.execute("record", argument, deadline=voicemail.max_seconds + RECORD_MARGIN)
                here.note("H", "voicemail.taken", "The caller's message was taken")
            except CallEnded:
                if events.started.is_set():
                    here.note("H", "voicemail.taken", "The caller hung up after speaking")
                raise
            except DeadlineExceeded:
                here.failed("H", "voicemail.endless", "The message did not end within its limit and was broken off")
                here.break_off()
            finally:
                recordings.check(here, here.step, recording, events, None)
        here.execute("set", "playback_terminators=none")
        return "next"

    def gone(self, here: Here, step: VoicemailStep) -> str:
        return "next"
