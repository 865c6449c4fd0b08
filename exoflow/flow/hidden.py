"""What a caller typed and nobody may read afterwards: a PIN. Only this process knows it, and only until the call has ended.

In its place stand stars in the call's record, its journey, its deliveries and everywhere else. Whoever gets the call when
this process has died does not know it: a variable without a value then, as if nothing had been pressed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STARS = "****"  # always four: how many digits a PIN has is nobody's business either


class Hidden:
    """A call's. `digits` are the last ones that were typed to be hidden."""

    def __init__(self) -> None:
        self.digits = ""
        self._values: dict[str, str] = {}  # by the variables that hold them

    def put(self, name: str, value: str) -> None:
        self._values[name] = value

    def forget(self, name: str) -> None:
        """The variable has another value now."""
        self._values.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def shown(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables as they may be seen."""
        return {name: STARS if name in self else value for name, value in variables.items()}

    def cover(self, text: str) -> str:
        """A text of somebody who was told them, such as a CRM's answer, with stars in their place."""
        for value in sorted({self.digits, *self._values.values()}, key=len, reverse=True):
            text = text.replace(value, STARS) if value else text
        return text
