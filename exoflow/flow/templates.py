"""The one door from values to texts that leave exoflow: `{name}` is filled, and what could become something else is taken out.

Nothing of it reaches the switch. JSON and forms are built from mappings whose texts are filled first and encoded as a whole
afterwards, so that a value can end no string and begin no field.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from exoflow.characters import one_line
from exoflow.config.actions import PLACEHOLDER
from exoflow.config.values import MAX_VARIABLE_CHARS
from exoflow.flow.here import Here

MAX_FILLED = 5000  # characters of one text with its values in it


class Texts:
    """Fills templates with what a call knows at this moment; `unset` are the names that had no value.

    `seen`: for what people or records will show; secret digits are stars in it.
    """

    def __init__(self, here: Here, *, seen: bool = False) -> None:
        values = here.hidden.shown(here.variables) if seen else here.variables
        self._values = {name: str(value) for name, value in values.items()} | built_in(here)
        if seen:
            self._values["digits"] = here.call.state.digits
        self.unset: list[str] = []

    def line(self, template: str) -> str:
        """One line: a journey's, a subject, a field. Control characters become spaces."""
        return self._fill(template, one_line)

    def text(self, template: str) -> str:
        """Several lines. The template's own line ends stay; a value is one line."""
        return "\n".join(self._fill(line, one_line) for line in template.splitlines())

    def json(self, value: Any) -> Any:
        """A JSON body's mapping with every text in it filled."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.json(item) for key, item in value.items()}
        return [self.json(item) for item in value] if isinstance(value, list) else value

    def _fill(self, template: str, clean: Callable[[str], str]) -> str:
        filled = ""
        at = 0
        for found in PLACEHOLDER.finditer(template):
            filled += clean(template[at : found.start()]) + (self._value(found[1]) if found[1] is not None else found[0][0])
            at = found.end()
        return (filled + clean(template[at:]))[:MAX_FILLED]

    def _value(self, name: str) -> str:
        value = self._values.get(name, "")
        if not value and name not in self.unset:
            self.unset.append(name)
        return one_line(value)[:MAX_VARIABLE_CHARS]


def built_in(here: Here) -> dict[str, str]:
    """What every call knows: see BUILT_IN."""
    facts = here.call.state.facts
    now = datetime.now(UTC).astimezone(ZoneInfo(here.account.time_zone))
    return {
        "account": here.account.name,
        "call": facts.id,
        "caller": facts.caller or "",
        "dialled": facts.dialled or "",
        "digits": here.digits,
        "flow": here.flow_name.partition("(")[0],  # without the values of its parameters
        "step": here.step,
        "time": now.strftime("%Y-%m-%d %H:%M"),
    }
