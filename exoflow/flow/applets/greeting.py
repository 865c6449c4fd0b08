"""greeting: plays a prompt, then goes on."""

from __future__ import annotations

from exoflow.config.actions import ConsentStep
from exoflow.config.model import Flow
from exoflow.config.steps import GatherStep, GreetingStep, MenuStep
from exoflow.flow.here import Here

MAX_GREETINGS_IN_A_ROW = 10  # looked through for a menu behind them


class Greeting:
    """Plays a prompt, or several in their order. A greeting before a menu or a gather is played by that, in one piece with its
    prompt: keys pressed in a `playback` are eaten (facts, freeswitch-socket.md section 11), and who knows the menu types at
    once.

    Branches: `next`.
    Caller gone: `next`. Store gone: works as ever. CRM gone: works as ever.
    Journey: greeting.played; greeting.joined (played by the menu that follows); prompt.missing (a tone instead).
    """

    needs_caller = True

    def run(self, here: Here, step: GreetingStep) -> str:
        if leads_to_choice(here.flow, step.next):
            here.pending += step.prompts
            here.note("C", "greeting.joined", "Played together with the menu, so that the caller may type over it")
            return "next"
        here.answer()
        here.play(*step.prompts)
        here.note("C", "greeting.played", "Greeting played to its end")
        return "next"

    def gone(self, here: Here, step: GreetingStep) -> str:
        return "next"


def leads_to_choice(flow: Flow, step_name: str) -> bool:
    """Is this step one that takes keys, or are there only greetings before one?"""
    for _ in range(MAX_GREETINGS_IN_A_ROW):
        step = flow.steps[step_name]
        if not isinstance(step, GreetingStep):
            return isinstance(step, (MenuStep, GatherStep, ConsentStep))
        step_name = step.next
    return False
