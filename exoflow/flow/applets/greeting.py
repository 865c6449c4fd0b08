"""greeting: plays a prompt, then goes on."""

from __future__ import annotations

from exoflow.config.model import Flow
from exoflow.config.steps import GreetingStep, MenuStep
from exoflow.flow.here import Here

MAX_GREETINGS_IN_A_ROW = 10  # looked through for a menu behind them


class Greeting:
    """A greeting before a menu is played by the menu, in one piece with its prompt: keys pressed in a `playback` are eaten
    (facts, freeswitch-socket.md section 11), and who knows the menu types at once."""

    needs_caller = True

    def run(self, here: Here, step: GreetingStep) -> str:
        if _leads_to_menu(here.flow, step):
            here.pending.append(step.greeting)
            here.note("C", "greeting.joined", "Played together with the menu, so that the caller may type over it")
            return "next"
        here.answer()
        here.play(step.greeting)
        here.note("C", "greeting.played", "Greeting played to its end")
        return "next"

    def gone(self, here: Here, step: GreetingStep) -> str:
        return "next"


def _leads_to_menu(flow: Flow, step: GreetingStep) -> bool:
    for _ in range(MAX_GREETINGS_IN_A_ROW):
        following = flow.steps[step.next]
        if not isinstance(following, GreetingStep):
            return isinstance(following, MenuStep)
        step = following
    return False
