"""menu: offers keys, and takes one."""

from __future__ import annotations

from exoflow.config.steps import Menu as MenuSettings
from exoflow.config.steps import MenuStep, Prompt
from exoflow.flow import keys
from exoflow.flow.heard import prompts_told
from exoflow.flow.here import Here

MAX_REPEATS = 5  # of one visit; who wants to hear it more often has to choose


class Menu:
    """Plays its prompt, with the greetings before it, and takes one key; keys pressed meanwhile count, and so do those typed
    ahead since the last question, while a passthru, a pause or a greeting stood between. `repeat_key` plays all of it again
    without costing an attempt, five times a visit. Keys A to D, which a tone detector makes of a voice, cost none either: the
    menu is played again, ten times at most. A sound that FreeSWITCH cannot open costs no time: a tone is played instead
    (prompt.unplayable). With `url` a CRM tells what is played, as for a greeting.

    Branches: one a key under `keys`; `otherwise` after the last of `attempts` without a good key, or with nothing to play.
    Caller gone: the flow ends, for the choice was his. Store gone: works as ever. CRM gone: with `url` `fallback_url`, then the
    own prompt, then `otherwise`.
    Journey: menu.key (evidence key, attempt); menu.wrong_key, menu.no_input (one an attempt); menu.repeat; menu.wrong_keys or
    menu.no_keys (given up: the call's reason); digits.late_end (the end key of digits before, not counted);
    digits.passed_over (evidence keys: A to D); digits.too_many (more keys typed ahead than a question takes: none counts); with
    `url` as for a greeting, and menu.nothing.
    """

    needs_caller = True

    def run(self, here: Here, step: MenuStep) -> str:
        here.answer()
        menu = step.menu
        offer = prompts_told(here, menu)
        whole, here.pending = [*here.pending, *offer], []
        if not offer:
            if whole:
                here.play(*whole)
            here.note("C", "menu.nothing", f"There is nothing to offer: on to {step.otherwise}")
            return "otherwise"
        attempt, repeats, key = here.data.get("attempt", 1), here.data.get("repeats", 0), here.data.get("key", "")
        known = {*step.keys, menu.repeat_key or ""}
        while attempt <= menu.attempts:
            key = keys.one(here, _prompts(here, menu, offer, whole), timeout=menu.timeout, keys=known)
            if key in step.keys:
                here.call.digits(key)
                here.note("C", "menu.key", f"Key {key} leads to {step.keys[key]}", key=key, attempt=attempt)
                return f"keys.{key}"
            if key and key == menu.repeat_key and repeats < MAX_REPEATS:
                repeats += 1
                here.note("C", "menu.repeat", f"Key {key}: the menu is played again", key=key)
                here.keep(repeats=repeats, plays="whole")
                continue
            here.note("C", *_missed(key, menu.timeout, attempt, menu.attempts), key=key, attempt=attempt)
            attempt += 1
            here.keep(attempt=attempt, key=key, plays="wrong_key" if key else "no_input")
        here.failed(
            "C",
            "menu.wrong_keys" if key else "menu.no_keys",
            f"No valid key in {menu.attempts} attempts: on to {step.otherwise}",
        )
        return "otherwise"

    def gone(self, here: Here, step: MenuStep) -> None:
        """The choice is the caller's: without him there is no way on."""


def _prompts(here: Here, menu: MenuSettings, offer: list[Prompt], whole: list[Prompt]) -> list[Prompt]:
    """What is played at this attempt, by what the last one came to."""
    plays = here.data.get("plays", "whole")
    if plays == "whole":
        return whole
    reaction = menu.wrong_key if plays == "wrong_key" else menu.no_input
    return offer if reaction is None else [reaction, *offer]


def _missed(key: str, timeout: float, attempt: int, attempts: int) -> tuple[str, str]:
    of = f"attempt {attempt} of {attempts}"
    if key:
        return "menu.wrong_key", f"Key {key} is none of the menu's ({of})"
    return "menu.no_input", f"No key within {timeout:g} s after the prompt ({of})"
