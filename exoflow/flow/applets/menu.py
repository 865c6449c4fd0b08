"""menu: offers keys, and takes one."""

from __future__ import annotations

from exoflow.config.steps import MenuStep, Prompt
from exoflow.flow.here import Here

ANY_KEY = "[0-9*#]"


class Menu:
    needs_caller = True

    def run(self, here: Here, step: MenuStep) -> str:
        here.answer()
        menu = step.menu
        offer = Prompt(say=menu.say, play=menu.play)
        prompts = [*here.pending, offer]
        here.pending = []
        key = ""
        for attempt in range(1, menu.attempts + 1):
            key = here.collect(prompts, timeout=menu.timeout, pattern=ANY_KEY)
            if key in step.keys:
                here.call.digits(key)
                here.note("C", "menu.key", f"Key {key} leads to {step.keys[key]}", key=key, attempt=attempt)
                return f"keys.{key}"
            here.note("C", *_missed(key, menu.timeout, attempt, menu.attempts), key=key, attempt=attempt)
            reaction = menu.wrong_key if key else menu.no_input
            prompts = [offer] if reaction is None else [reaction, offer]
        here.failed(
            "C",
            "menu.wrong_keys" if key else "menu.no_keys",
            f"No valid key in {menu.attempts} attempts: on to {step.otherwise}",
        )
        return "otherwise"

    def gone(self, here: Here, step: MenuStep) -> None:
        """The choice is the caller's: without him there is no way on."""


def _missed(key: str, timeout: float, attempt: int, attempts: int) -> tuple[str, str]:
    of = f"attempt {attempt} of {attempts}"
    if key:
        return "menu.wrong_key", f"Key {key} is none of the menu's ({of})"
    return "menu.no_input", f"No key within {timeout:g} s after the prompt ({of})"
