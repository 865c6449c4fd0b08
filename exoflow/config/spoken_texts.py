"""What a text with `{name}` in it is spoken of: its own words, and blocks of sound for the values. Pure.

By a value's type it is said as `say_value` says it: integers as numbers, digits one by one, dates and times that are written
as such. Any other text is spoken by the engine during the call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from exoflow.config.actions import SetStep, all_blocks, blocks
from exoflow.config.model import Account
from exoflow.config.spoken import Kind, Unsayable, spoken_language, words
from exoflow.config.stepbase import Block, Prompt
from exoflow.config.templates import is_template, names_in, pieces
from exoflow.config.turns import GatherStep
from exoflow.config.values import Value
from exoflow.telephony.numbers import national

_TEXT: tuple[Kind, ...] = ("date", "time", "digits")  # as which a text is said if it is written as one
_OF_TYPE: dict[str, tuple[Kind, ...]] = {"integer": ("number",), "number": ("number",), "digits": ("digits",)}
_OF_CALL: dict[str, tuple[Kind, ...]] = {
    "caller": ("digits",),
    "dialled": ("digits",),
    "digits": ("digits",),
    "time": ("date", "time"),
    "account": (),
}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}(?::[0-9]{2})?\Z")
_NUMBER = re.compile(r"\+[0-9]{8,15}\Z")
_EDGES = " ,.;:!?।"  # that are left of a text when the value before it is cut out


def kinds_of(name: str, account: Account) -> set[Kind] | None:
    """As what a variable's values may be said; None if nothing gives it a value."""
    if name in _OF_CALL:
        return set(_OF_CALL[name])
    found: set[Kind] = set()
    for flow in account.flows.values():
        if (parameter := flow.parameters.get(name)) is not None:
            found.update(_OF_TYPE.get(parameter.type, _TEXT))
        for step in flow.steps.values():
            if isinstance(step, SetStep) and (variable := step.set.variables.get(name)) is not None:
                found.update(_OF_TYPE.get(variable.type, _TEXT))
            elif isinstance(step, GatherStep) and step.gather.variable == name:
                found.add("digits")
    return found or None


def as_blocks(name: str, value: Value, language: str, account: Account) -> list[Prompt] | None:
    """The blocks that say a value, in a language with a table; None if only the engine can speak it."""
    kinds = kinds_of(name, account) or set()
    try:
        if isinstance(value, int):
            return blocks(words("number", value, language), language)
        said: list[str] = []
        for part in value.split(" ") if kinds >= {"date", "time"} else [value]:
            if _DATE.match(part) and "date" in kinds:
                said += words("date", part, language)
            elif _TIME.match(part) and "time" in kinds:
                said += words("time", part, language)
            elif _NUMBER.match(part) and "digits" in kinds:
                said += words("digits", national(part), language)
            elif kinds == {"digits"}:
                said += words("digits", part, language)
            else:
                return None
        return blocks(said, language)
    except Unsayable:
        return None


def texts_of(prompt: Prompt) -> Iterator[tuple[Prompt | None, str | None]]:
    """A single prompt's own words as prompts of their own, each with the name behind it."""
    for text, name in pieces(str(prompt.say)):
        spoken = text.strip().lstrip(_EDGES)
        own = prompt.model_copy(update={"say": spoken}) if any(c.isalnum() for c in spoken) else None
        yield own, name


def is_filled(prompt: Prompt) -> bool:
    """Is it spoken otherwise than it is written?"""
    return isinstance(prompt.say, str) and not isinstance(prompt, Block) and is_template(prompt.say)


def rendered(prompts: Iterable[Prompt], account: Account) -> Iterator[Prompt]:
    """Single prompts as `exoflow prompts build` renders them: their own words, and every block that their values may need.
    A text with a name that nothing gives a value stays as it is written, for `check` refuses it."""
    for prompt in prompts:
        known = {name: kinds_of(name, account) for name in names_in(str(prompt.say))} if is_filled(prompt) else {}
        if not is_filled(prompt) or None in known.values():
            yield prompt
            continue
        yield from (own for own, _ in texts_of(prompt) if own is not None)
        language = spoken_language(prompt.language or account.language, account.language)
        for kind in sorted({kind for kinds in known.values() for kind in kinds or ()}):
            yield from all_blocks(kind, language)


def needs_engine(prompt: Prompt, account: Account) -> Sequence[str]:
    """The names whose values only the engine can speak, at least some of them."""
    names = names_in(str(prompt.say)) if is_filled(prompt) else []
    of = {name: kinds_of(name, account) or set() for name in names}
    return [name for name, kinds in of.items() if kinds >= set(_TEXT) or name == "account"]
