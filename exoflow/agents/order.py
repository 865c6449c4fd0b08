"""In which order a group's agents are tried. Pure rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from exoflow.agents.groups import Candidate
from exoflow.config.people import Ring


def arranged(
    ring: Ring, agents: Sequence[Candidate], *, marked: str | None, freed_at: Callable[[str], datetime | None]
) -> list[Candidate]:
    """All of them, the one to be tried first in front. Who cannot be rung now is passed over by who asks.

    `marked` is the number that was tried last in this flow; `freed_at` tells when the last talk of a number ended.
    """
    if ring == "equally":
        return _equally(agents, marked)
    if ring == "longest_idle":
        return _longest_idle(agents, freed_at)
    return list(agents)


def _equally(agents: Sequence[Candidate], marked: str | None) -> list[Candidate]:
    """Phone number ascending, from behind the marked one; those up to it go to the end (facts, exotel-dialect.md section 4.1).

    A marked number that is busy, or no more in the group, is a place between the others all the same.
    """
    ascending = sorted(agents, key=lambda one: one.number)
    if marked is None:
        return ascending
    return [one for one in ascending if one.number > marked] + [one for one in ascending if one.number <= marked]


def _longest_idle(agents: Sequence[Candidate], freed_at: Callable[[str], datetime | None]) -> list[Candidate]:
    """Who has not talked at all, as far as is known, in the group's order; then who has been free for longest."""
    known = [(one, freed_at(one.number)) for one in agents]
    talked = [(one, at) for one, at in known if at is not None]
    return [one for one, at in known if at is None] + [one for one, _ in sorted(talked, key=lambda pair: pair[1])]
