"""What `exoflow call` takes from its user: which of our numbers is called, and at what time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import click

from exoflow.characters import one_line
from exoflow.config.model import Account, Config
from exoflow.sim.switch import exchange_number
from exoflow.telephony.numbers import to_e164

AT_FORMS = ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
AT_YEARS = range(1970, 2100)  # what every zone and the store can hold
MOST_SHOWN = 20  # numbers of a list that is there to be read


@dataclass(frozen=True)
class Dialled:
    """One of our numbers, as it is dialled, and where it comes in."""

    number: str
    span: str  # the span's or the gateway's name
    account: Account


def dialled(config: Config, to: str | None) -> Dialled:
    """The number of ours that `to` means; the only one for None. Raises click.UsageError that has the numbers there are."""
    ours = [number.number for account in config.accounts.values() for number in account.numbers]
    if not ours:
        raise click.UsageError("no account has a number; write one under `numbers` of an account's file")
    if to is None and len(ours) > 1:
        raise click.UsageError(f"which number is called? Write --to with one of:\n{_listed(config)}")
    number = plain(ours[0] if to is None else to)
    digits, ton = exchange_number(number)
    for name, trunk in config.trunks.items():
        if routes := config.candidates(digits, name, ton):
            return Dialled(number, trunk.span or trunk.gateway or name, routes[0].account)
    raise click.BadParameter(f"{to!r} is no number of ours; there are:\n{_listed(config)}", param_hint="--to")


def plain(number: str) -> str:
    """Without spaces and dashes if it is a whole number of any country, else as it is."""
    return (to_e164(number) if number.strip().startswith("+") else None) or number.strip()


def moment_of(text: str, account: Account) -> datetime:
    """The time that `--at` says, in the account's zone. Raises click.BadParameter."""
    zone = ZoneInfo(account.time_zone)
    for form in AT_FORMS:
        try:
            found = datetime.strptime(text.strip(), form).replace(tzinfo=zone)
        except ValueError:
            continue
        if found.year in AT_YEARS:
            return found
    raise click.BadParameter(f'{text!r} is no time; write e.g. "2026-11-08 20:00", in the account\'s zone', param_hint="--at")


def _listed(config: Config) -> str:
    lines = list(_lines(config))
    more = [f"  and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
    return "\n".join([*lines[:MOST_SHOWN], *more])


def _lines(config: Config) -> Iterator[str]:
    for key, account in config.accounts.items():
        for number in account.numbers:
            yield f"  {number.number}  {one_line(account.name, '?')} ({key}), flow {number.flow}"
