"""The time that calls go by: the machine's, or the one that `exoflow call --at` has set for this process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_ahead = timedelta()  # of the machine's clock


def utcnow() -> datetime:
    """Now, aware, in UTC."""
    return datetime.now(UTC) + _ahead


def set_to(moment: datetime) -> None:
    """It is `moment` (aware) now, and time goes on from there, for the whole process."""
    global _ahead
    _ahead = moment - datetime.now(UTC)


def by_machine(moment: datetime) -> datetime:
    """What the machine's clock says at `moment`: receivers of signed requests compare with theirs."""
    return moment - _ahead
