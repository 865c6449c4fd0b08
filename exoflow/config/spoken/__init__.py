"""Values as words: which recorded or rendered blocks say a number, an amount, a date. Pure tables, no I/O.

A block is a text, spoken and kept like any other prompt; `exoflow prompts build` renders all that a flow can need, so that
nothing is rendered during a call. A language is a table of words (see english.py); another one is a file like it, listed here.
"""

from exoflow.config.spoken.english import ENGLISH
from exoflow.config.spoken.table import KINDS, Kind, Table, Unsayable

LANGUAGES: dict[str, Table] = {"en": ENGLISH}


def spoken_language(wanted: str) -> str:
    """The table for a caller's language: its own, that of the language without its region, else English."""
    return next((name for name in (wanted, wanted.partition("-")[0]) if name in LANGUAGES), "en")


__all__ = ["KINDS", "LANGUAGES", "Kind", "Table", "Unsayable", "spoken_language"]
