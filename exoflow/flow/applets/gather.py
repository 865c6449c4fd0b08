"""gather: asks for digits, and collects them."""

from __future__ import annotations

from exoflow.config.steps import GatherStep, Prompt
from exoflow.config.turns import Gather as GatherSettings
from exoflow.flow import keys
from exoflow.flow.applets.menu import MAX_REPEATS
from exoflow.flow.here import Here
from exoflow.flow.hidden import STARS
from exoflow.flow.variables import SET


class Gather:
    """Plays its prompt, with the greetings before it, and collects `digits` (or `min_digits` to `max_digits`); digits pressed
    meanwhile count. They end by their number, by `end_key` (`#`), or by `digit_timeout` seconds without another (3);
    `timeout` (5 s) is for the first. `least` and `most` bound their value. `repeat_key` plays all of it again without costing
    an attempt, five times a visit. A star or hash among the digits makes them wrong.

    Good digits are the call's last ones (`digits` in the CRM's URLs, `switch: {on: digits}`) and the `variable`, if one is
    named. With `secret: true` (a PIN) only this process knows them, until the call's end: passthru and connect send them,
    `switch` goes by them, SMS and mail may have them in their texts. In the record, the journey, deliveries, pages and notes
    stand four stars, `say_value` does not say them, and FreeSWITCH has none in its log, its CDR and the call's variables;
    only of a caller who hangs up within the question, or types while no exoflow is there, its CDR has the keys. A secret does
    not survive this process: when another one gets the call there are no last digits, the variable has no value, and steps
    that go by them take their `otherwise` or `failed`.

    Branches: `next`; `otherwise` after the last of `attempts` without good digits (`next` unless set).
    Caller gone: `otherwise`, so that a CRM behind it still hears of the call. Store gone: works as ever. CRM gone: works as
    ever.
    Journey: gather.digits (evidence digits, attempt); gather.no_input, gather.invalid (one an attempt); gather.repeat; set.done
    (the variable); gather.wrong_digits or gather.no_digits (given up: the call's reason); digits.late_end.
    """

    needs_caller = True

    def run(self, here: Here, step: GatherStep) -> str:
        here.answer()
        gather = step.gather
        whole: list[Prompt] = [*here.pending, gather]
        here.pending = []
        attempt, repeats, digits = here.data.get("attempt", 1), here.data.get("repeats", 0), here.data.get("digits", "")
        end_key = gather.end_key.replace("none", "")
        while attempt <= gather.attempts:
            digits, ended_by = keys.several(
                here,
                _prompts(here, gather, whole),
                most=gather.longest,
                timeout=gather.timeout,
                digit_timeout=gather.digit_timeout,
                end_keys=end_key + (gather.repeat_key or ""),
                secret=gather.secret,
            )
            if gather.repeat_key in (ended_by, digits) and repeats < MAX_REPEATS:
                repeats += 1
                here.note("C", "gather.repeat", f"Key {gather.repeat_key}: it is asked again", key=gather.repeat_key)
                here.keep(repeats=repeats, plays="whole")
                continue
            problem = _problem(gather, digits)
            if problem is None:
                if not ended_by and len(digits) == gather.longest:
                    here.at.late = end_key  # many callers press it all the same
                _keep(here, step, digits, attempt)
                return "next"
            of = f"attempt {attempt} of {gather.attempts}"
            digits = STARS if digits and gather.secret else digits
            if digits:
                here.note("C", "gather.invalid", f"Digits {digits} {problem} ({of})", digits=digits, attempt=attempt)
            else:
                here.note(
                    "C", "gather.no_input", f"No digit within {gather.timeout:g} s after the prompt ({of})", attempt=attempt
                )
            attempt += 1
            here.keep(attempt=attempt, digits=digits, plays="invalid" if digits else "no_input")
        code = "gather.wrong_digits" if digits else "gather.no_digits"
        branch = _without(step)
        here.failed("C", code, f"No good digits in {gather.attempts} attempts: on to {step.branches()[branch]}")
        return branch

    def gone(self, here: Here, step: GatherStep) -> str:
        return _without(step)


def _prompts(here: Here, gather: GatherSettings, whole: list[Prompt]) -> list[Prompt]:
    """What is played at this attempt, by what the last one came to."""
    plays = here.data.get("plays", "whole")
    if plays == "whole":
        return whole
    reaction = gather.invalid if plays == "invalid" else gather.no_input
    return [gather] if reaction is None else [reaction, gather]


def _without(step: GatherStep) -> str:
    return "next" if step.otherwise is None else "otherwise"


def _problem(gather: GatherSettings, digits: str) -> str | None:
    """What is wrong with them; None if nothing is."""
    if not digits.isdecimal():
        return "are none" if not digits else "have a star or hash among them"
    if len(digits) < gather.fewest:
        return f"are fewer than {gather.fewest}"
    if gather.least is not None and int(digits) < gather.least:
        return f"are less than {gather.least}"
    if gather.most is not None and int(digits) > gather.most:
        return f"are more than {gather.most}"
    return None


def _keep(here: Here, step: GatherStep, digits: str, attempt: int) -> None:
    seen, name = STARS if step.gather.secret else digits, step.gather.variable
    if step.gather.secret:
        here.hidden.digits = digits
    here.call.digits(seen)
    here.note("C", "gather.digits", f"Digits {seen} lead to {step.next}", digits=seen, attempt=attempt)
    if name is None:
        return
    here.variables[name] = digits
    if step.gather.secret:
        here.hidden.put(name, digits)
        here.note("C", SET, f"{name} is {seen}", values={}, hidden=[name])
    else:
        here.hidden.forget(name)
        here.note("C", SET, f"{name} is {digits}", values={name: digits})
