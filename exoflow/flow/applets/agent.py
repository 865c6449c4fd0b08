"""agent: an agent who calls us switches himself on or off."""

from __future__ import annotations

from exoflow.calls.call import LEG_COMMIT_SECONDS
from exoflow.config.steps import AgentStep
from exoflow.errors import StoreError
from exoflow.flow.here import Here


class Agent:
    """Switches the agent who calls on or off: by the number that he calls from, which must be one under `agents` and not be
    withheld. Who is off is not rung, whoever names him, until he is switched on: here, or by `exoflow agents on`. What a caller
    tells as his number is the network's word: let such a flow ask for a code, by `gather` and `switch`, if that is not enough.

    Branches: `done`; `unknown` if no agent of the account has the caller's number.
    Caller gone: works as ever. Store gone: it counts until exoflow is restarted. CRM gone: works as ever.
    Journey: agent.on, agent.off (evidence agent, number); agent.unknown; store.slow (not on disk yet).
    """

    needs_caller = False

    def run(self, here: Here, step: AgentStep) -> str:
        number = here.call.state.facts.caller
        names = [name for name, agent in here.account.agents.items() if agent.number == number]
        if not names:
            here.note("C", "agent.unknown", f"No agent of the account has the caller's number: on to {step.unknown}")
            return "unknown"
        for name in names:
            self._switch(here, name, step.agent.state, str(number))
        return "done"

    def _switch(self, here: Here, name: str, state: str, number: str) -> None:
        try:
            written = here.parts.staff.switch(here.account_id, name, state == "on", "phone")
            written.wait(LEG_COMMIT_SECONDS)
            on_disk = written.ready() and written.successful()
        except StoreError:
            on_disk = False
        takes = "takes calls" if state == "on" else "takes no more calls"
        here.note("C", f"agent.{state}", f"{name} {takes}", agent=name, number=number)
        if not on_disk:
            here.note("C", "store.slow", f"That {name} {takes} is not on disk yet; a restart may forget it")

    def gone(self, here: Here, step: AgentStep) -> None:
        """Never asked: it runs without a caller."""
