"""Texts with `{name}` in them: how they are written, and the names that every call has. Pure.

`{{` and `}}` stand for braces as such. What a name stands for is put in once, during the call (flow/templates.py,
flow/speech.py); a flow's parameters are put in while the configuration is loaded (config/parameters.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from pydantic_core import PydanticCustomError

# what a template may name beside the account's own variables
BUILT_IN = (
    *("account", "call", "caller", "dialled", "digits", "flow"),
    *("outcome", "reason", "recording", "step", "time"),
)
SPOKEN_BUILT_IN = ("account", "caller", "dialled", "digits", "time")  # those of them that can be said to a caller
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
VARIABLE = r"^[a-z][a-z0-9_]{0,39}$"


def names_in(text: str) -> list[str]:
    """The names a template asks for, in order."""
    return [found[1] for found in PLACEHOLDER.finditer(text) if found[1] is not None]


def is_template(text: str) -> bool:
    """Is it sent or spoken otherwise than it is written?"""
    return "{" in text or "}" in text


def checked(text: str) -> str:
    """The template, if it is one. Raises PydanticCustomError."""
    for found in PLACEHOLDER.finditer(text) if is_template(text) else ():
        if found[0] in ("{", "}"):
            raise PydanticCustomError(
                "template", "the text has a lone `{brace}`; a brace as such is written twice", {"brace": found[0]}
            )
        if found[1] is not None and re.match(VARIABLE, found[1]) is None:
            raise PydanticCustomError(
                "template", "`{given}` is no name of a variable; a brace as such is written twice", {"given": found[0]}
            )
    return text


def without_names(text: str) -> str:
    """A text that stands outside of every call. Raises PydanticCustomError if it names a variable, or has a brace."""
    if is_template(text):
        raise PydanticCustomError("template", "no variable is known here, and braces cannot stand here; write it out", {})
    return text


def pieces(template: str) -> Iterator[tuple[str, str | None]]:
    """Text and the name behind it, in order; the last one has none. Doubled braces are single ones in it."""
    text, at = "", 0
    for found in PLACEHOLDER.finditer(template):
        text += template[at : found.start()]
        at = found.end()
        if found[1] is None:
            text += found[0][0]
        else:
            yield text, found[1]
            text = ""
    yield text + template[at:], None


def filled(template: str, value: Callable[[str], str], literal: Callable[[str], str] = str) -> str:
    """The text with `value(name)` for each name; what stands between goes through `literal`."""
    return "".join(literal(text) + ("" if name is None else value(name)) for text, name in pieces(template))


def escaped(text: str) -> str:
    """A value for a template that is filled later: its braces are braces."""
    return text.replace("{", "{{").replace("}", "}}")
