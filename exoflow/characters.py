"""Which characters of a text from outside stay when it becomes one line.

`str.isprintable()` alone takes joiners for controls: without them words of Malayalam, Hindi or Persian fall apart, and so
do emoji.
"""

from __future__ import annotations

import re

# characters of category Cf that belong to words: joiners, direction marks, the tags of flags. Embeddings and overrides
# (U+202A to U+202E, U+2066 to U+2069) do not: they reorder what stands after them
_PARTS_OF_WORDS = frozenset("\u200c\u200d\u200e\u200f\u061c\u2060") | {chr(code) for code in range(0xE0020, 0xE0080)}


def belongs(character: str) -> bool:
    """Does it print, or is it a part of what does?"""
    return character.isprintable() or character in _PARTS_OF_WORDS


def one_line(text: str, instead: str = " ") -> str:
    """The text with `instead` for each control, line end and unprintable character; U+2028 and U+2029 are line ends, too."""
    if text.isprintable():
        return text
    return "".join(character if belongs(character) else instead for character in text)


# FreeSWITCH takes a file's name as a part of its own commands: a blank or quote shifts arguments, `!` joins files, `{}` and
# `[]` begin parameters, `$` is expanded, `;` `|` and `^` divide. Other scripts play, but are not recorded into
_PLAIN = re.compile(r"/[A-Za-z0-9_./@+=,-]{1,500}\Z")


def switch_takes_path(path: str) -> bool:
    """May an absolute path stand in every command for FreeSWITCH in which we write one?"""
    return _PLAIN.match(path) is not None and "/../" not in path + "/"
