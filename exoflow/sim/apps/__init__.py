"""The applications this switch has, one family a file. An application gets the session and its expanded argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from exoflow.sim.session import Session

Run = Callable[["Session", str], None]


class Application(NamedTuple):
    name: str
    run: Run
    needs_media: bool  # without SAF_SUPPORT_NOMEDIA: an unanswered caller gets early media first


APPLICATIONS: dict[str, Application] = {}


def application(name: str, *, needs_media: bool = False) -> Callable[[Run], Run]:
    """Registers a function as the application of that name."""

    def register(run: Run) -> Run:
        APPLICATIONS[name] = Application(name, run, needs_media)
        return run

    return register
