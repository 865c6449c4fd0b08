"""The fault ring: exoflow is killed, starved and misled, and what happened is counted (`make faults`).

Each module here with a `run()` is one experiment; it yields rows, and prints nothing but what it is doing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EMBEDDED, FREESWITCH = "embedded switch", "FreeSWITCH"


@dataclass(frozen=True)
class Row:
    """What one experiment showed in one place. `told` are its counts, or why it was not run."""

    experiment: str
    where: str
    result: Literal["held", "BROKEN", "NOT SHOWN"]
    told: str

    @classmethod
    def judged(cls, experiment: str, where: str, violations: int, told: str) -> Row:
        return cls(experiment, where, "BROKEN" if violations else "held", told)
