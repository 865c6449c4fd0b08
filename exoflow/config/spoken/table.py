"""How a table of words says a value. Indian grouping: crore (10,000,000), lakh (100,000), thousand, hundred."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from itertools import chain
from typing import Literal, get_args

Kind = Literal["number", "digits", "amount", "date", "time"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_NUMBER = 10**12  # 99,999 crore and more need a second "crore" that nobody follows by ear
MAX_DIGITS = 32  # said one by one; FreeSWITCH joins at most 128 files in one sound, and a caller hears no more anyway

_NUMBER = re.compile(r"[+-]?[0-9]{1,15}\Z")
_AMOUNT = re.compile(r"([+-]?)([0-9]{1,15})(?:\.([0-9]{1,2}))?\Z")
_DIGITS = re.compile(rf"[0-9*#]{{1,{MAX_DIGITS}}}\Z")
_ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ].*)?\Z", re.S)
_KEYED_DATE = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{4})\Z")
_TIME = re.compile(r"(?:[0-9-]{10}[T ])?([0-9]{2}):?([0-9]{2})(?::[0-9]{2}(?:\.[0-9]*)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?\Z")
_BY_HUNDREDS = range(1100, 2000)  # years that languages say as nineteen hundred ninety eight, if they do at all

Behind = Literal["nothing", "number", "noun"]  # what follows a number: its end, more of it, or what it counts
COUNT = "{}"


class Unsayable(ValueError):
    """The value is not of the kind it should be said as."""


@dataclass(frozen=True)
class Forms:
    """How a word stands by what follows it. `|` parts blocks of sound, `{}` is the count before it."""

    last: str
    more: str | None = None  # before a further number; as at the end unless set
    noun: str | None = None  # before what is counted; as at the end unless set

    def behind(self, what: Behind) -> list[str]:
        form = {"nothing": None, "number": self.more, "noun": self.noun}[what]
        return (self.last if form is None else form).split("|")

    def blocks(self) -> set[str]:
        return {block for form in (self.last, self.more, self.noun) if form for block in form.split("|")} - {COUNT}


@dataclass(frozen=True)
class Counted:
    """A word with its count: {} rupees, but one rupee."""

    many: Forms
    special: Mapping[int, Forms] = field(default_factory=dict)

    def words(self, count: int, say: Callable[[int], list[str]], behind: Behind = "nothing") -> list[str]:
        form = self.special.get(count, self.many).behind(behind)
        return list(chain.from_iterable(say(count) if block == COUNT else [block] for block in form))

    def blocks(self) -> set[str]:
        return self.many.blocks().union(*(forms.blocks() for forms in self.special.values()))


@dataclass(frozen=True)
class Table:
    """One language's words, each a block of sound. Two forms that are equal are one block."""

    below_100: tuple[str, ...]  # 0 to 99
    hundred: Counted
    thousand: Counted
    lakh: Counted
    crore: Counted
    minus: str
    star: str
    hash: str
    rupee: Counted  # its form before a number is the one before paise
    paisa: Counted
    days: tuple[str, ...]  # 1st to 31st, as a date says them
    months: tuple[str, ...]
    day_parts: Mapping[int, str]  # from which hour on it is called so; the last one goes on after midnight
    hour: Counted  # its form before a number is the one before minutes
    minute: Counted
    counting: Mapping[int, str] = field(default_factory=dict)  # of below_100: those that are others before what is counted
    time_order: tuple[str, ...] = ("part", "hour", "minute")
    century: Counted | None = None  # years 1100 to 1999 by hundreds; as numbers without it

    def __post_init__(self) -> None:
        assert (len(self.below_100), len(self.days), len(self.months)) == (100, 31, 12)

    def words(self, kind: Kind, value: str | int) -> list[str]:
        """The blocks that say a value, in their order. Raises Unsayable."""
        text = str(value).strip()
        match kind:
            case "number":
                return self._number(text)
            case "digits":
                return self._digits(text)
            case "amount":
                return self._amount(text)
            case "date":
                return self._date(text)
            case "time":
                return self._time(text)

    def blocks(self, kind: Kind) -> list[str]:
        """Every block that a value of this kind may need."""
        numbers = [*self.below_100, *self.counting.values(), *_blocks(self.hundred, self.thousand, self.lakh, self.crore)]
        found: Iterable[str]
        match kind:
            case "number":
                found = [*numbers, self.minus]
            case "digits":
                found = [*self.below_100[:10], self.star, self.hash]
            case "amount":
                found = [*numbers, self.minus, *_blocks(self.rupee, self.paisa)]
            case "date":
                years = _blocks(self.hundred, self.thousand, *([self.century] if self.century else []))
                found = [*self.days, *self.months, *self.below_100, *self.counting.values(), *years]
            case "time":
                found = [*self.below_100[:60], *(word for n, word in self.counting.items() if n < 60)]
                found += [*_blocks(self.hour, self.minute), *self.day_parts.values()]
        return list(dict.fromkeys(found))

    # --- one kind each ---

    def _number(self, text: str) -> list[str]:
        if _NUMBER.match(text) is None or abs(int(text)) >= MAX_NUMBER:
            raise Unsayable(f"{text[:40]!r} is no whole number below {MAX_NUMBER:,}")
        number = int(text)
        return ([self.minus] if number < 0 else []) + self._cardinal(abs(number))

    def _cardinal(self, number: int, behind: Behind = "nothing") -> list[str]:
        """12,34,567 is twelve lakh thirty four thousand five hundred sixty seven."""
        said: list[str] = []
        for size, unit in ((10**7, self.crore), (10**5, self.lakh), (1000, self.thousand), (100, self.hundred)):
            count, number = divmod(number, size)
            if count:
                said += unit.words(count, self._count, "number" if number else behind)
        if number or not said:
            word = self.below_100[number]
            said.append(self.counting.get(number, word) if behind == "noun" else word)
        return said

    def _count(self, number: int) -> list[str]:
        return self._cardinal(number, "noun")

    def _digits(self, text: str) -> list[str]:
        if _DIGITS.match(text) is None:
            raise Unsayable(f"{text[:40]!r} is not 1 to {MAX_DIGITS} digits, * or #")
        return [{"*": self.star, "#": self.hash}.get(c) or self.below_100[int(c)] for c in text]

    def _amount(self, text: str) -> list[str]:
        found = _AMOUNT.match(text.replace(",", ""))
        if found is None or int(found[2]) >= MAX_NUMBER:
            raise Unsayable(f"{text[:40]!r} is no amount such as 1250 or 1250.50")
        rupees, paise = int(found[2]), int((found[3] or "").ljust(2, "0"))
        said = [self.minus] if found[1] == "-" and (rupees or paise) else []
        if rupees or not paise:
            said += self.rupee.words(rupees, self._count, "number" if paise else "nothing")
        if paise:
            said += self.paisa.words(paise, self._count)
        return said

    def _date(self, text: str) -> list[str]:
        if found := _ISO_DATE.match(text):
            year, month, day = map(int, found.groups())
        elif found := _KEYED_DATE.match(text):
            day, month, year = map(int, found.groups())
        else:
            raise Unsayable(f"{text[:40]!r} is no date such as 2026-11-23 or 23112026")
        try:
            date(year, month, day)
        except ValueError as problem:
            raise Unsayable(f"{text[:40]!r} is no date: {problem}") from None
        return [self.days[day - 1], self.months[month - 1], *self._year(year)]

    def _year(self, year: int) -> list[str]:
        if self.century is None or year not in _BY_HUNDREDS:
            return self._cardinal(year)
        hundreds, rest = divmod(year, 100)
        said = self.century.words(hundreds, self._count, "number" if rest else "nothing")
        return said + ([self.below_100[rest]] if rest else [])

    def _time(self, text: str) -> list[str]:
        found = _TIME.match(text)
        if found is None:
            raise Unsayable(f"{text[:40]!r} is no time such as 16:30 or 1630")
        try:
            at = time(int(found[1]), int(found[2]))
        except ValueError as problem:
            raise Unsayable(f"{text[:40]!r} is no time: {problem}") from None
        begun = [word for hour, word in self.day_parts.items() if hour <= at.hour]
        parts = {
            "part": [begun[-1] if begun else [*self.day_parts.values()][-1]],
            "hour": self.hour.words(at.hour % 12 or 12, self._count, "number" if at.minute else "nothing"),
            "minute": self.minute.words(at.minute, self._count) if at.minute else [],
        }
        return [block for name in self.time_order for block in parts[name]]


def _blocks(*words: Counted) -> list[str]:
    """In a fixed order, so that prompts are rendered and reported in one."""
    return sorted(set[str]().union(*(word.blocks() for word in words)))
