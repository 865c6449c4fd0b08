"""language: chooses the language of all that the caller hears from here on."""

from __future__ import annotations

from exoflow.config.steps import LanguageStep
from exoflow.flow.here import Here


class Language:
    """From here on prompts with texts or files in several languages are played in `to`, also in other flows of the call; where
    that is missing, in the account's `language`. Values are said in it, too (`say_value`). Each text was rendered by the voice
    of its language (`prompts.voices`).

    Branches: `next`.
    Caller gone: works as ever. Store gone: works as ever. CRM gone: works as ever.
    Journey: language.chosen (evidence language).
    """

    needs_caller = False

    def run(self, here: Here, step: LanguageStep) -> str:
        here.language = step.language.to
        here.note("C", "language.chosen", f"The caller hears {here.language} from here on", language=here.language)
        return "next"

    def gone(self, here: Here, step: LanguageStep) -> str:
        return "next"
