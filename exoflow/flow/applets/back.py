"""back: leads the caller back to where he came from."""

from __future__ import annotations

from typing import Any

from exoflow.config.steps import BackStep
from exoflow.flow.here import Here
from exoflow.flow.progress import Place

CHOICES = ("menu", "gather")


class Back:
    """`to: choice` goes to the last menu or gather before the step that led here: from a submenu to the menu above it, from an
    announcement to the menu that led to it. `to: step` goes to the step before the one that led here, whatever it is. Also into
    the flow that the call came from. Going back again goes further back.

    Branches: `otherwise`, when there is nothing to go back to, or after `times` (5) in one call at this step.
    Caller gone: `otherwise`, for there is nobody to be led back. Store gone: works as ever. CRM gone: works as ever.
    Journey: back (evidence to_step, to_flow if it is another); back.nowhere, back.often (on by `otherwise`).
    """

    needs_caller = True

    def run(self, here: Here, step: BackStep) -> str | Place:
        here_is = here.place
        if here.at.backs.get(here_is, 0) >= step.back.times:
            here.note("C", "back.often", f"Gone back {step.back.times} times already: on to {step.otherwise}")
            return "otherwise"
        index = _index(here, step)
        if index is None:
            here.note("C", "back.nowhere", f"There is nothing to go back to: on to {step.otherwise}")
            return "otherwise"
        here.at.backs[here_is] = here.at.backs.get(here_is, 0) + 1
        place = here.at.way[index]
        elsewhere: dict[str, Any] = {"to_flow": place.flow} if place.flow != here.flow_name else {}
        here.note("C", "back", f"Back to {place.step}", to_step=place.step, **elsewhere)
        del here.at.way[index:]  # it comes there anew
        return place

    def gone(self, here: Here, step: BackStep) -> str:
        return "otherwise"


def _index(here: Here, step: BackStep) -> int | None:
    """Where on the way it goes back to. The way's end is this step, before it is the one that led here."""
    led = len(here.at.way) - 2
    if led < 1:
        return None
    if step.back.to == "step":
        return led - 1
    for index in range(led - 1, -1, -1):
        place = here.at.way[index]
        if place != here.at.way[led] and here.account.flows[place.flow].steps[place.step].applet in CHOICES:
            return index
    return None
