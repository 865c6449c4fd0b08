"""How FreeSWITCH takes an application's argument apart (switch_utils.c: switch_separate_string and its unescaping)."""

from __future__ import annotations

import re

_ESCAPES = {"s": " ", "n": "\n", "r": "\r", "t": "\t"}


def separate(text: str) -> list[str]:
    """Words between spaces; single quotes group; `\\s` is a space, `\\d` stays as it is; `^^:` names another delimiter."""
    if found := re.match(r"\^\^(.)", text):
        return text[3:].split(found[1])
    words, word, quoted, begun = [], "", False, False
    at = 0
    while at < len(text):
        char = text[at]
        following = text[at + 1] if at + 1 < len(text) else ""
        if char == "\\" and (following in _ESCAPES or following in ("'", "\\")) and following:
            word += _ESCAPES.get(following, following)
            begun = True
            at += 1
        elif char == "'":
            quoted, begun = not quoted, True
        elif char == " " and not quoted:
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word += char
            begun = True
        at += 1
    if begun:
        words.append(word)
    return words


def variables_of(text: str) -> tuple[dict[str, str], str]:
    """Takes a `{a=1,b='x,y'}` (or `[…]`) from the front: its variables, and the rest. `^^:` changes the comma."""
    closing = {"{": "}", "[": "]", "<": ">"}.get(text[:1])
    if closing is None:
        return {}, text
    end, quoted = 1, False
    while end < len(text) and (quoted or text[end] != closing):
        quoted ^= text[end] == "'"
        end += 1
    inner = text[1:end]
    delimiter = ","
    if found := re.match(r"\^\^(.)", inner):
        delimiter, inner = found[1], inner[3:]
    found_variables = {}
    for pair in split_outside(inner, delimiter):
        name, equals, value = pair.partition("=")
        if equals:
            found_variables[name.strip()] = value.strip().strip("'").replace("\\,", ",")
    return found_variables, text[end + 1 :]


def split_outside(text: str, delimiter: str) -> list[str]:
    """Splits on a delimiter outside quotes and brackets; a backslash protects it."""
    parts, part, depth, quoted, at = [], "", 0, False, 0
    while at < len(text):
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] == delimiter:
            part += char + delimiter
            at += 2
            continue
        if char == "'":
            quoted = not quoted
        elif char in "{[" and not quoted:
            depth += 1
        elif char in "}]" and not quoted:
            depth -= 1
        if text.startswith(delimiter, at) and not quoted and depth == 0:
            parts.append(part)
            part = ""
            at += len(delimiter)
            continue
        part += char
        at += 1
    return [*parts, part]
