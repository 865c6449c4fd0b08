"""What a check has to say to the engineer: one line a mistake, at the place of the mistake, with the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """`line` and `col` count from 1."""

    path: Path
    line: int
    col: int
    level: Level
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.col}: {self.level}: {self.code} {self.message}"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean `x`?` for a near miss, else what there is to choose from."""
    names = sorted(set(known))
    # case first: difflib does not see that `Support` and `support` are one word
    near = [n for n in names if n.lower() == wrong.lower()] or difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean `{near[0]}`?"
    if not names:
        return ""
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"; there is: {shown}"
