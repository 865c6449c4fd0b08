"""What an applet is."""

from __future__ import annotations

from typing import Any, Protocol

from exoflow.flow.here import Here
from exoflow.flow.progress import Place


class Applet(Protocol):
    """One kind of step. An applet is one file, has no state, and tells which branch of its step comes next."""

    @property
    def needs_caller(self) -> bool:
        """Is it passed over, by its `gone` branch, once the caller has left?"""

    def run(self, here: Here, step: Any) -> str | Place | None:
        """Does the step; returns the branch to take (a key of `step.branches()`), a place elsewhere, None at the flow's end.

        Raises CallEnded when the caller leaves; then `gone` says how the flow goes on.
        """

    def gone(self, here: Here, step: Any) -> str | Place | None:
        """The branch to take when the caller left in this step or before it; None: nothing follows."""
