"""greeting: plays a prompt, then goes on."""

from __future__ import annotations

from exoflow.config.actions import ConsentStep
from exoflow.config.model import Flow
from exoflow.config.steps import GatherStep, GreetingStep, MenuStep
from exoflow.flow.heard import prompts_told
from exoflow.flow.here import Here

MAX_GREETINGS_IN_A_ROW = 10  # looked through for a menu behind them


class Greeting:
    """Plays a prompt, or several in their order, or what a CRM tells: `url` gets a GET, behind a HEAD, with `CallSid`, `From`,
    `To` and `DialWhomNumber`, and answers `text/plain` within `url_timeout` seconds (5): a text, which is spoken, or audio URLs
    one a line, played in order; JSON with `greeting_url` will do, too. Audio is a WAV of 8 kHz, 16 bit, mono, at most 2 MB,
    kept by its URL and asked for anew by its ETag or Last-Modified after a minute. If nothing can be played, `fallback_url` is
    asked, and then the greeting's own `say` or `play` is played. The caller hears `hold` meanwhile.

    A greeting before a menu or a gather is played by that, in one piece with its prompt, so that a key ends it: who knows the
    menu types at once. Keys pressed in another greeting end nothing, and are the next question's.

    Branches: `next`; `failed` if no CRM told anything and the step has no prompt (`next` unless set).
    Caller gone: `next`. Store gone: works as ever. CRM gone: `fallback_url`, then the own prompt, then `failed`.
    Journey: greeting.played; greeting.joined (played by the menu that follows); prompt.missing,
    prompt.unplayable (a tone instead); with `url` crm.<status> or crm.<problem>, crm.bad_answer
    (evidence key, answer), crm.unplayable (its audio or text; evidence answer), crm.fallback_url,
    crm.again (asked once more, for the call's socket was lost in the question), crm.prompt
    (evidence words, or audio and came: fetched, kept, or stale, for its server failed),
    crm.own_prompt, greeting.nothing.
    """

    needs_caller = True

    def run(self, here: Here, step: GreetingStep) -> str:
        prompts = step.prompts
        if step.asks is not None:
            here.answer()  # who waits for a CRM must hear something
            prompts = prompts_told(here, step.asks)
            if not prompts:
                branch = "next" if step.failed is None else "failed"
                here.note("C", "greeting.nothing", f"There is nothing to play: on to {step.branches()[branch]}")
                return branch
        if leads_to_choice(here.flow, step.next):
            here.pending += prompts
            here.note("C", "greeting.joined", "Played together with the menu, so that the caller may type over it")
            return "next"
        here.answer()
        if here.play(*prompts):
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
