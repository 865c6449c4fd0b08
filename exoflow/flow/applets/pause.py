"""pause: plays something, if it is told to, and waits."""

from __future__ import annotations

import time

from exoflow.config.steps import PauseStep
from exoflow.flow.here import PROMPT_MARGIN, Here


class Pause:
    """Plays `sound`, if there is one, then silence for `seconds` (up to 300). The caller is answered. Keys that are pressed
    meanwhile are the next question's.

    Branches: `next`.
    Caller gone: `next`, without a wait. Store gone: works as ever. CRM gone: works as ever.
    Journey: pause.waited (evidence seconds); switch.slow (broken off, ten seconds late); prompt.missing.
    """

    needs_caller = True

    def run(self, here: Here, step: PauseStep) -> str:
        here.answer()
        pause = step.pause
        if "until" not in here.data:
            if pause.sound is not None:
                here.play(pause.sound)
            here.keep(until=time.time() + pause.seconds)
        left = here.data["until"] - time.time()
        if left > 0 or here.has_ended:
            here.play_sound(lambda: f"silence_stream://{round(left * 1000)}", deadline=left + PROMPT_MARGIN)
        here.note("C", "pause.waited", f"Waited {pause.seconds:g} s", seconds=pause.seconds)
        return "next"

    def gone(self, here: Here, step: PauseStep) -> str:
        return "next"
