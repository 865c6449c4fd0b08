"""hangup: ends the call, with a cause that an unanswered caller's exchange hears."""

from __future__ import annotations

from exoflow.config.steps import HangupStep
from exoflow.flow.here import Here


class Hangup:
    needs_caller = False

    def run(self, here: Here, step: HangupStep) -> None:
        cause = step.hangup.cause
        if here.caller_gone:
            here.note("C", "hangup.after", "The flow ends here; the caller had already left")
            return
        here.note("C", "hangup", f"The flow ends the call ({cause})", cause=cause)
        here.session.hang_up(cause)

    def gone(self, here: Here, step: HangupStep) -> None:
        """Nothing follows a hangup."""
