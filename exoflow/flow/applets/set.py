"""set: gives names to values for the rest of the call."""

from __future__ import annotations

from typing import Any

from exoflow.config.actions import SetStep
from exoflow.config.values import Unfit, Value
from exoflow.flow.here import Here
from exoflow.flow.hidden import STARS
from exoflow.flow.variables import MISSING, SET, find


class Set:
    """Gives names to values for the rest of the call: the last digits pressed, the caller's or the dialled number, the last
    passthru's JSON answer by key, or constants. Only a value of the variable's type is taken, else its `default`. Values
    stay in the app: the switch never sees them, so nothing in them is expanded or run. `say_value`, `switch` and `{name}`
    in texts and addresses use them. When a call comes back after its socket was lost, they are read again from
    its journey. Secret digits (`gather`) stay secret under a further name, and are not there again.

    Branches: `next`; `failed` if a variable got no value (`next` unless set).
    Caller gone: works as ever. Store gone: works as ever. CRM gone: what comes `from: crm` has no value.
    Journey: set.done (evidence values); set.missing (one for each variable without a value, and why).
    """

    needs_caller = False

    def run(self, here: Here, step: SetStep) -> str:
        found: dict[str, Value] = {}
        missing = False
        for name, variable in step.set.variables.items():
            try:
                found[name] = find(variable, here.call.state, here.crm_said, here.digits)
            except Unfit as problem:
                here.variables.pop(name, None)
                here.hidden.forget(name)
                here.note("C", MISSING, f"`{name}` has no value: what was to become it {problem}", variable=name)
                missing = True
        here.variables.update(found)
        if found:
            _note(here, step, found)
        return "failed" if missing and step.failed is not None else "next"

    def gone(self, here: Here, step: SetStep) -> None:
        """Never asked: it runs without a caller and ends by itself."""


def _note(here: Here, step: SetStep, found: dict[str, Value]) -> None:
    """The journey's line; of secret digits it has the names alone."""
    secret = here.digits != "" and here.call.state.digits == STARS
    for name, value in found.items():
        if secret and step.set.variables[name].source == "gathered":
            here.hidden.put(name, str(value))
        else:
            here.hidden.forget(name)
    seen = {name: value for name, value in found.items() if name not in here.hidden}
    evidence: dict[str, Any] = {"values": seen} | ({"hidden": sorted(set(found) - set(seen))} if len(seen) < len(found) else {})
    text = ", ".join(f"{name} = {value}" for name, value in here.hidden.shown(found).items())
    here.note("C", SET, f"Known from here: {text}", **evidence)
