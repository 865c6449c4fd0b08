"""hangup: ends the call, with a cause that an unanswered caller's exchange hears."""

from __future__ import annotations

from exoflow.config.steps import HangupStep
from exoflow.flow.here import Here


class Hangup:
    """Ends the call with a Q.850 cause. The exchange of a caller who was not answered yet hears it: USER_BUSY is an engaged
    tone that costs him nothing.

    Branches: none, the flow ends here.
    Caller gone: noted, and the flow ends. Store gone: works as ever. CRM gone: works as ever.
    Journey: hangup (evidence cause); hangup.after (the caller had left).
    """

    needs_caller = False

    def run(self, here: Here, step: HangupStep) -> None:
        cause = step.hangup.cause
        if here.caller_gone:
            if not here.data:
                why = "; the caller had already left" if here.call.state.caller_left else ""
                here.note("C", "hangup.after", f"The flow ends here{why}")
            return
        if not here.data:
            here.note("C", "hangup", f"The flow ends the call ({cause})", cause=cause)
            here.keep(told=True)
        here.session.hang_up(cause)

    def gone(self, here: Here, step: HangupStep) -> None:
        """Nothing follows a hangup."""
