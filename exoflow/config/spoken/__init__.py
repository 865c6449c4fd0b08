"""Values as words: which recorded or rendered blocks say a number, an amount, a date. Pure tables, no I/O.

A block is a text, spoken and kept like any other prompt; `exoflow prompts build` renders all that a flow can need, so that
nothing is rendered during a call. A language is a table of words (see english.py); another one is a file like it, listed here.
The words of 0 to 99 and the rules for larger numbers were compared with the CLDR's spell-out rules (common/rbnf) and with how
espeak-ng reads figures.
"""

from exoflow.config.spoken.bengali import BENGALI
from exoflow.config.spoken.english import ENGLISH
from exoflow.config.spoken.hindi import HINDI
from exoflow.config.spoken.kannada import KANNADA
from exoflow.config.spoken.marathi import MARATHI
from exoflow.config.spoken.table import KINDS, Kind, Table, Unsayable
from exoflow.config.spoken.tamil import TAMIL
from exoflow.config.spoken.telugu import TELUGU

LANGUAGES: dict[str, Table] = {
    "en": ENGLISH,
    "hi": HINDI,
    "bn": BENGALI,
    "kn": KANNADA,
    "mr": MARATHI,
    "ta": TAMIL,
    "te": TELUGU,
}
LAST_RESORT = "en"


def table_of(language: str) -> Table | None:
    """The words of a language: its own table, or that of the language without its region (`hi-IN`)."""
    return LANGUAGES.get(language) or LANGUAGES.get(language.partition("-")[0])


def spoken_language(wanted: str, default: str) -> str:
    """The language in which a caller hears values: his own if it has a table, else the account's, else English."""
    return next((name for name in (wanted, default) if table_of(name) is not None), LAST_RESORT)


def words(kind: Kind, value: str | int, language: str) -> list[str]:
    """The blocks that say a value in a language with a table. Raises Unsayable."""
    return _table(language).words(kind, value)


def all_words(kind: Kind, language: str) -> list[str]:
    """Every block that a value of this kind may need in a language with a table."""
    return _table(language).blocks(kind)


def _table(language: str) -> Table:
    table = table_of(language)
    if table is None:
        raise KeyError(f"no words of values in {language}; ask spoken_language first")
    return table


__all__ = [
    "KINDS",
    "LANGUAGES",
    "LAST_RESORT",
    "Kind",
    "Table",
    "Unsayable",
    "all_words",
    "spoken_language",
    "table_of",
    "words",
]
