"""switch: tells cases apart by what is known of the call."""

from __future__ import annotations

from exoflow.config.steps import SwitchStep
from exoflow.config.turns import WITHHELD
from exoflow.flow.here import Here
from exoflow.flow.hidden import STARS


class Switch:
    """Goes on by one value: `on: select` is the `{"select": "…"}` that the last passthru's answer 200 had as its body (facts,
    exotel-dialect.md section 3); `on: digits` the last digits pressed; `on: caller` and `on: dialled` a number of the call in
    E.164, or `withheld`; `variable` a variable. With `digits`, `caller` and `dialled` a case may end in `*` for any
    further digits, and the longest that fits wins; of a variable and of `select` it is the whole value.

    Branches: one a case; `otherwise` if none fits or nothing is known.
    Caller gone: works as ever. Store gone: works as ever. CRM gone: after a failed passthru there is no select, so it is
    `otherwise`.
    Journey: switch.case (evidence value, case); switch.otherwise (evidence value, and in words why).
    """

    needs_caller = False

    def run(self, here: Here, step: SwitchStep) -> str:
        value, absent = _value(here, step)
        case = step.case_of(value) if value is not None else None
        seen = STARS if value is not None and _is_secret(here, step) else value
        if case is not None:
            shown = STARS if seen == STARS else case
            here.note("F", "switch.case", f"{seen} is the case {shown}: on to {step.cases[case]}", value=seen, case=shown)
            return f"cases.{case}"
        why = absent if value is None else f"{seen} is none of the cases"
        here.note("F", "switch.otherwise", f"{why}: on to {step.otherwise}", value=seen)
        return "otherwise"

    def gone(self, here: Here, step: SwitchStep) -> str:
        return "otherwise"


def _is_secret(here: Here, step: SwitchStep) -> bool:
    if step.switch.on == "digits":
        return here.call.state.digits == STARS
    return step.switch.variable is not None and step.switch.variable in here.hidden


def _value(here: Here, step: SwitchStep) -> tuple[str | None, str]:
    """What is switched on; or None, and why there is nothing."""
    state = here.call.state
    match step.switch.on:
        case "select":
            return here.selected, 'The last passthru has not answered 200 with {"select": "…"} as its body'
        case "digits":
            return here.digits or None, "No digits were pressed yet"
        case "caller":
            return WITHHELD if state.facts.caller_withheld else state.facts.caller, "The caller's number cannot be read"
        case "dialled":
            return state.facts.dialled, "The number that was dialled is not known"
    name = step.switch.variable or ""
    found = here.variables.get(name)
    return None if found is None else str(found), f"The variable {name} has no value"
