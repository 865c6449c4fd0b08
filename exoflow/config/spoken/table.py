"""How a table of words says a value. Indian grouping: crore (10,000,000), lakh (100,000), thousand, hundred."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, time
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


class Unsayable(ValueError):
    """The value is not of the kind it should be said as."""


@dataclass(frozen=True)
class Table:
    """One language's words, each a block of sound. Two forms that are equal are one block."""

    below_100: tuple[str, ...]  # 0 to 99
    hundred: str
    thousand: str
    lakh: str
    crore: str
    minus: str
    star: str
    hash: str
    rupee: str
    rupees: str
    paisa: str
    paise: str
    joint: str  # between rupees and paise
    days: tuple[str, ...]  # 1st to 31st
    months: tuple[str, ...]
    year_by_hundreds: range  # years said as nineteen | ninety eight; the others as numbers
    am: str
    pm: str
    oclock: str  # four | o'clock | P M
    oh: str  # four | oh | five

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
        scales = [self.hundred, self.thousand, self.lakh, self.crore]
        match kind:
            case "number":
                found = [*self.below_100, *scales, self.minus]
            case "digits":
                found = [*self.below_100[:10], self.star, self.hash]
            case "amount":
                rupees = [self.rupee, self.rupees, self.paisa, self.paise, self.joint]
                found = [*self.below_100, *scales, self.minus, *rupees]
            case "date":
                found = [*self.days, *self.months, *self.below_100, self.hundred, self.thousand]
            case "time":
                found = [*self.below_100[:60], self.oclock, self.oh, self.am, self.pm]
        return list(dict.fromkeys(found))

    # --- one kind each ---

    def _number(self, text: str) -> list[str]:
        if _NUMBER.match(text) is None or abs(int(text)) >= MAX_NUMBER:
            raise Unsayable(f"{text[:40]!r} is no whole number below {MAX_NUMBER:,}")
        number = int(text)
        return ([self.minus] if number < 0 else []) + self._cardinal(abs(number))

    def _cardinal(self, number: int) -> list[str]:
        """12,34,567 is twelve lakh thirty four thousand five hundred sixty seven."""
        said: list[str] = []
        for size, word in ((10**7, self.crore), (10**5, self.lakh), (1000, self.thousand), (100, self.hundred)):
            count, number = divmod(number, size)
            if count:
                said += [*self._cardinal(count), word]
        return said + ([self.below_100[number]] if number or not said else [])

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
            said += [*self._cardinal(rupees), self.rupee if rupees == 1 else self.rupees]
            if paise:
                said.append(self.joint)
        if paise:
            said += [self.below_100[paise], self.paisa if paise == 1 else self.paise]
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
        if year in self.year_by_hundreds:
            rest = [self.below_100[year % 100]] if year % 100 else [self.hundred]
            return [self.below_100[year // 100], *rest]
        return self._cardinal(year)

    def _time(self, text: str) -> list[str]:
        found = _TIME.match(text)
        if found is None:
            raise Unsayable(f"{text[:40]!r} is no time such as 16:30 or 1630")
        try:
            at = time(int(found[1]), int(found[2]))
        except ValueError as problem:
            raise Unsayable(f"{text[:40]!r} is no time: {problem}") from None
        hour = self.below_100[at.hour % 12 or 12]
        minute = [self.oclock] if at.minute == 0 else [self.below_100[at.minute]]
        if 0 < at.minute < 10:
            minute = [self.oh, *minute]
        return [hour, *minute, self.am if at.hour < 12 else self.pm]
