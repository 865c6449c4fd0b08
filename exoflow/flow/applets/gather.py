"""gather: asks for digits, and collects them."""

from __future__ import annotations

from typing import Any, NamedTuple

from exoflow.config.steps import GatherStep, Prompt
from exoflow.config.turns import MAX_DIGITS
from exoflow.config.turns import Gather as GatherSettings
from exoflow.crm.dialect import JSON_HEADERS
from exoflow.crm.heard import parse_gather
from exoflow.crm.http import Answer
from exoflow.flow import keys
from exoflow.flow.applets.menu import MAX_REPEATS
from exoflow.flow.asking import Question, ask_in_turn
from exoflow.flow.heard import SOUND_SECONDS, say_again, sounds
from exoflow.flow.here import Here
from exoflow.flow.hidden import STARS
from exoflow.flow.speech import sound_file
from exoflow.flow.variables import SET


class Gather:
    """Plays its prompt, with the greetings before it, and collects `digits` (or `min_digits` to `max_digits`); digits pressed
    meanwhile and typed ahead count as a menu's. They end by their number, by `end_key` (`#`), or by `digit_timeout` seconds
    without another (3); `timeout` (5 s) is for the first. `least` and `most` bound their value. `repeat_key` plays all of it
    again without costing an attempt, five times a visit. A star or hash among the digits makes them wrong; keys A to D are
    passed over.

    With `url` a CRM tells what is asked: a GET with all parameters and the header `Exotel-Version: 1.0`, answered by JSON
    within `url_timeout` seconds (5). `gather_prompt` is `{"text": …}` or `{"audio_url": …}` (audio as for a greeting) and must
    be there; `max_input_digits` (255, of which FreeSWITCH takes 128), `finish_on_key` (`#`, any key, or empty for none),
    `input_timeout` (5, for each digit), `repeat_menu` (0, further tries on no input), `repeat_gather_prompt` (the first one).
    One invalid key refuses the whole answer; then `fallback_url` is asked, and then the step's own settings count, if it has a
    prompt. A star or hash among digits that a CRM asks for is one of them.

    Good digits are the call's last ones (`digits` in the CRM's URLs, `switch: {on: digits}`) and the `variable`, if one is
    named. With `secret: true` (a PIN) only this process knows them, until the call's end: passthru and connect send them,
    `switch` goes by them, SMS and mail may have them in their texts. In the record, the journey, deliveries, pages and notes
    stand four stars, `say_value` does not say them, and FreeSWITCH has none in its log, its CDR and the call's variables;
    only of a caller who hangs up within the question, or types ahead of it or while no exoflow is there, its CDR has the
    keys. A secret does not survive this process: when another one gets the call there are no last digits, the variable has no
    value, and steps that go by them take their `otherwise` or `failed`.

    Branches: `next`; `otherwise` after the last of `attempts` without good digits, or with nothing to ask (`next` unless set).
    Caller gone: `otherwise`, so that a CRM behind it still hears of the call. Store gone: works as ever. CRM gone: with `url`
    `fallback_url`, then the step's own question, then `otherwise`.
    Journey: gather.digits (evidence digits, attempt); gather.no_input, gather.invalid (one an attempt); gather.repeat; set.done
    (the variable); gather.wrong_digits or gather.no_digits (given up: the call's reason); digits.late_end,
    digits.passed_over, digits.too_many; with `url` as for a greeting (crm.own_prompt is its own question), crm.gather
    (evidence words or audio, digits, end_key, seconds, attempts), gather.nothing.
    """

    needs_caller = True

    def run(self, here: Here, step: GatherStep) -> str:
        here.answer()
        asked = question_of(here, step.gather)
        if asked is None:
            return _not_asked(here, step)
        gather, prompts, again = asked
        whole, here.pending = [*here.pending, *prompts], []
        attempt, repeats, digits = here.data.get("attempt", 1), here.data.get("repeats", 0), here.data.get("digits", "")
        end_key = gather.end_key.replace("none", "")
        while attempt <= gather.attempts:
            digits, ended_by = keys.several(
                here,
                _prompts(here, gather, whole, again),
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


class Asked(NamedTuple):
    """What is asked: by which settings, with which prompts at first, and with which on a repeat."""

    settings: GatherSettings
    prompts: list[Prompt]
    again: list[Prompt]


def question_of(here: Here, gather: GatherSettings) -> Asked | None:
    """As the CRM tells, else as it is written in the step; None if there is neither. Kept with the step. Raises Disconnected,
    CallEnded."""
    own = Asked(gather, [gather], [gather]) if gather.is_given else None
    if not gather.urls:
        return own
    if (kept := here.data.get("asked")) is not None:
        files = [[sound_file(path) for path in kept[name]] for name in ("prompts", "again")] if kept else []
        return Asked(gather.model_copy(update=kept["settings"]), *files) if kept else own
    here.session.raise_if_disconnected()
    say_again(here)
    here.keep(asking=True)
    question = Question(
        gather.urls,
        lambda answer: _told(here, gather, answer),
        timeout=gather.url_timeout,
        read_seconds=2 * SOUND_SECONDS,  # of two prompts
        hold=gather.hold,
        headers=JSON_HEADERS,
    )
    told = ask_in_turn(here, question)
    here.session.raise_if_disconnected()
    if told is not None:
        here.note("F", "crm.gather", "The CRM told what is asked", **told["evidence"])
    elif own is not None:
        here.note("F", "crm.own_prompt", "The step's own question is asked, for the CRM told none that can be")
    here.keep(asking=None, asked={} if told is None else {name: told[name] for name in ("settings", "prompts", "again")})
    here.call.on_disk()  # an answered CRM is not asked twice, whatever dies now
    return question_of(here, gather)


def _told(here: Here, gather: GatherSettings, answer: Answer) -> dict[str, Any]:
    """A CRM's answer as changes of the step's settings, and its sounds. Waits; raises BadAnswer and what `sounds` does."""
    found = parse_gather(answer)
    first, again = sounds(here, found.prompt), sounds(here, found.repeat_prompt)
    settings: dict[str, Any] = {
        "digits": None,
        "min_digits": 1,
        "max_digits": min(found.most, MAX_DIGITS),
        "end_key": found.end_key or "none",
        "timeout": found.seconds,
        "digit_timeout": found.seconds,
        "attempts": found.attempts,
        **dict.fromkeys(("say", "play", "least", "most", "invalid", "no_input", "repeat_key")),
    }
    shown = {"digits": settings["max_digits"], "end_key": found.end_key, "seconds": found.seconds, "attempts": found.attempts}
    paths = {name: [prompt.play for prompt in one.prompts] for name, one in (("prompts", first), ("again", again))}
    return {"settings": settings, "evidence": {**first.evidence, **shown}, **paths}


def _not_asked(here: Here, step: GatherStep) -> str:
    if here.pending:
        prompts, here.pending = here.pending, []
        here.play(*prompts)
    branch = _without(step)
    here.note("C", "gather.nothing", f"There is nothing to ask: on to {step.branches()[branch]}")
    return branch


def _prompts(here: Here, gather: GatherSettings, whole: list[Prompt], again: list[Prompt]) -> list[Prompt]:
    """What is played at this attempt, by what the last one came to."""
    plays = here.data.get("plays", "whole")
    if plays == "whole":
        return whole
    reaction = gather.invalid if plays == "invalid" else gather.no_input
    return again if reaction is None else [reaction, *again]


def _without(step: GatherStep) -> str:
    return "next" if step.otherwise is None else "otherwise"


def _problem(gather: GatherSettings, digits: str) -> str | None:
    """What is wrong with them; None if nothing is."""
    if not digits:
        return "are none"
    if not digits.isdecimal():
        return None if gather.any_keys else "have a star or hash among them"
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
