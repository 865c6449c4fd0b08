"""Whose call it is must be one account's and one flow's: numbers and dialled digits that two claim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exoflow.config.draft import AccountDraft, Draft
from exoflow.config.findings import Finding
from exoflow.config.model import Number
from exoflow.telephony.numbers import national

# exchanges send 2 to 10 digits, most often 4 or more; fewer are unique only in small blocks, so that a warning for
# each pair with the same 2 digits would be noise
ALIKE_DIGITS = 4


@dataclass(frozen=True, slots=True)
class _Claim:
    draft: AccountDraft
    index: int
    number: Number

    @property
    def line(self) -> int:
        return self.draft.document.find(("numbers", self.index, "number"))[0]

    def seen_from(self, other: _Claim) -> str:
        if other.draft is self.draft:
            return f"at line {self.line}"
        return f"in {self.draft.document.path}:{self.line}"

    def at(self, code: str, message: str, key: str) -> Finding:
        return self.draft.document.at(code, message, "numbers", self.index, key)


def check(draft: Draft) -> Iterator[Finding]:
    claims = [_Claim(a, i, number) for a in draft.accounts for i, number in enumerate(a.account.numbers)]
    yield from _numbers(claims)
    yield from _diverted(claims)
    for trunk in {c.number.trunk: None for c in claims}:
        yield from _digits([c for c in claims if c.number.trunk == trunk])


def _numbers(claims: list[_Claim]) -> Iterator[Finding]:
    first: dict[str, _Claim] = {}
    on_trunk: set[tuple[str, str]] = set()
    for claim in claims:
        number = claim.number
        earlier = first.setdefault(number.number, claim)
        same_flow = earlier.draft is claim.draft and earlier.number.entry == number.entry
        # one flow may have its number on two trunks, where the second is the operator's overflow
        if earlier is not claim and not (same_flow and (number.number, number.trunk) not in on_trunk):
            message = f"{number.number} is claimed already {earlier.seen_from(claim)}; a number belongs to one flow"
            yield claim.at("E501", message, "number")
        on_trunk.add((number.number, number.trunk))


def _diverted(claims: list[_Claim]) -> Iterator[Finding]:
    """A customer-facing number is one account's, which may divert it to several of its numbers in turn."""
    first: dict[str, _Claim] = {}
    for claim in claims:
        shown = claim.number.diverted_from
        if shown is None:
            continue
        earlier = first.setdefault(shown, claim)
        if shown == claim.number.number:
            message = f"{shown} cannot be diverted to itself; write the number that the customers dial"
            yield claim.at("E506", message, "diverted_from")
        elif earlier.draft is not claim.draft:
            message = f"{shown} is claimed already {earlier.seen_from(claim)}; a customer's number is one account's"
            yield claim.at("E501", message, "diverted_from")


def _digits(claims: list[_Claim]) -> Iterator[Finding]:
    """On one trunk: equal `dnis`, a `dnis` that is the end of another number, and numbers with the same end."""
    by_dnis: dict[str, _Claim] = {}
    for claim in claims:
        dnis = claim.number.dnis
        if dnis is not None and (earlier := by_dnis.setdefault(dnis, claim)) is not claim:
            message = (
                f"the digits {dnis} are claimed already {earlier.seen_from(claim)}; on one trunk each number needs its own"
            )
            yield claim.at("E502", message, "dnis")
    unset: dict[str, _Claim] = {}
    for claim in claims:
        if claim.number.dnis is not None:
            continue
        digits = national(claim.number.number)
        for length in range(2, len(digits) + 1):
            taker = by_dnis.get(digits[-length:])
            if taker is not None and taker.number.number != claim.number.number:
                message = (
                    f"the end of {claim.number.number} is the `dnis` {taker.number.dnis} {taker.seen_from(claim)}, "
                    "which would take its calls; write its own `dnis` here"
                )
                yield claim.at("E502", message, "number")
        earlier = unset.setdefault(digits[-ALIKE_DIGITS:], claim)
        if earlier.number.number != claim.number.number:
            alike = _common_end(digits, national(earlier.number.number))
            message = (
                f"{claim.number.number} ends in {alike} like {earlier.number.number} {earlier.seen_from(claim)}; if the "
                f"exchange sends {len(alike)} digits or fewer, such calls are nobody's: write what it sends as `dnis`"
            )
            yield claim.at("W503", message, "number")


def _common_end(one: str, other: str) -> str:
    length = next(
        (i for i, (a, b) in enumerate(zip(one[::-1], other[::-1], strict=False)) if a != b), min(len(one), len(other))
    )
    return one[len(one) - length :]
