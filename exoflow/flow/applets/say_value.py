"""say_value: says a number, digits, an amount, a date or a time."""

from __future__ import annotations

from typing import Any

from exoflow.config.actions import SayValueStep, blocks
from exoflow.config.spoken import Unsayable, words
from exoflow.flow.applets.greeting import leads_to_choice
from exoflow.flow.here import Here


class SayValue:
    """Says a value with blocks of sound (`twelve`, `lakh`, `rupees`, …) that `exoflow prompts build` has rendered, or that were
    recorded and put in their place, joined with `before` and `after` into one sound. Nothing is rendered during a call.
    Numbers and amounts are grouped as in India: crore, lakh, thousand. A time is said as it is written, offsets are not
    converted.

    A caller hears the value in the language that a `language` step chose. Where exoflow has no words in that, it is the
    account's language, and English if it has none in that either.

    Branches: `next`; `failed` if there is no such value to say (`next` unless set).
    Caller gone: `next`. Store gone: works as ever. CRM gone: works as ever. A block whose file has gone is a short tone.
    Journey: say_value.said, or say_value.joined (said by the menu or gather behind it; evidence value, kind, language);
    say_value.unfit (nothing was said, and why); prompt.missing, prompt.unplayable.
    """

    needs_caller = True

    def run(self, here: Here, step: SayValueStep) -> str:
        settings = step.say_value
        language = step.language_for(here.language, here.account.language)
        value = settings.value if settings.variable is None else here.variables.get(settings.variable)
        try:
            if value is None:
                raise Unsayable(f"`{settings.variable}` has no value")
            if settings.variable is not None and settings.variable in here.hidden:
                raise Unsayable(f"`{settings.variable}` holds secret digits, which are not said aloud")
            said = words(settings.kind, value, language)
        except Unsayable as problem:
            here.note("C", "say_value.unfit", f"Nothing said: {problem}", kind=settings.kind)
            return "failed" if step.failed is not None else "next"
        before, after = settings.before, settings.after
        prompts = [*([before] if before else []), *blocks(said, language), *([after] if after else [])]
        evidence: dict[str, Any] = {"value": value, "kind": settings.kind, "language": language}
        if leads_to_choice(here.flow, step.next):
            here.pending += prompts
            text = f"{value} is said as {settings.kind} together with the menu, so that the caller may type over it"
            here.note("C", "say_value.joined", text, **evidence)
            return "next"
        here.answer()
        if here.play(*prompts):
            here.note("C", "say_value.said", f"Said {value} as {settings.kind} in {language}", **evidence)
        return "next"

    def gone(self, here: Here, step: SayValueStep) -> str:
        return "next"
