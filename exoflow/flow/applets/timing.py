"""timing: is the business open?"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from exoflow.config.hours import is_open
from exoflow.config.steps import TimingStep
from exoflow.flow.here import Here


class Timing:
    """Compares the time in the account's `time_zone` with `hours`, and the day with the account's `holidays` unless
    `holidays: false`. A holiday with `open` spans is a day as any other within them, whose `hours` decide, and holiday before
    and after: Diwali, say, from 13:00. The time is this machine's.

    Branches: `open`; `closed`; `holiday` (`closed` unless set).
    Caller gone: works as ever. Store gone: works as ever. CRM gone: works as ever.
    Journey: timing.open, timing.closed, timing.holiday (evidence local: the time it went by; holiday: the day's name);
    timing.no_library (the library of holidays has gone; the day is taken as a working day).
    """

    needs_caller = False

    def run(self, here: Here, step: TimingStep) -> str:
        local = here.parts.clock().astimezone(ZoneInfo(here.account.time_zone))
        shown = f"{local:%A} {local:%H:%M}"
        evidence: dict[str, Any] = {"local": local.isoformat(timespec="minutes")}
        holiday = _holiday(here, local) if step.timing.holidays else None
        if holiday is not None:
            branch = "closed" if step.holiday is None else "holiday"
            text = f"{local:%d %B} {local:%H:%M} is a holiday ({holiday}): on to {step.branches()[branch]}"
            here.note("C", "timing.holiday", text, holiday=holiday, **evidence)
            return branch
        branch = "open" if is_open(step.timing.spans(), local) else "closed"
        here.note("C", f"timing.{branch}", f"{shown} is {branch}: on to {step.branches()[branch]}", **evidence)
        return branch

    def gone(self, here: Here, step: TimingStep) -> str:
        return "closed"


def _holiday(here: Here, local: datetime) -> str | None:
    """The holiday's name. The library was there when the configuration was read; it may have been taken away."""
    try:
        return here.account.holidays.name_at(local)
    except (ImportError, NotImplementedError) as problem:
        text = f"The library of holidays cannot tell ({problem}): taken as a working day; run `exoflow check`"
        here.note("C", "timing.no_library", text)
        return None
