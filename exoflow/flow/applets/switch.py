"""switch: tells cases apart by what is known of the call."""

from __future__ import annotations

from exoflow.config.steps import SwitchStep
from exoflow.config.turns import WITHHELD
from exoflow.flow.here import Here


class Switch:
    """Goes on by one value: `on: select` is the `{"select": "…"}` that the last passthru's answer 200 had as its body (facts,
    exotel-dialect.md section 3); `on: digits` the last digits pressed; `on: caller` and `on: dialled` a number of the call in
    E.164, or `withheld`; `variable` a variable. Under `cases` digits and numbers may end in `*` for any further digits; the
    longest case that fits wins.

    Branches: one a case; `otherwise` if none fits or nothing is known.
    Caller gone: works as ever. Store gone: works as ever. CRM gone: after a failed passthru there is no select, so it is
    `otherwise`.
    Journey: switch.case (evidence value, case); switch.otherwise (evidence value, and in words why).
    """

    needs_caller = False

    def run(self, here: Here, step: SwitchStep) -> str:
        value, absent = _value(here, step)
        case = step.case_of(value) if value is not None else None
        if case is not None:
            here.note("F", "switch.case", f"{value} is the case {case}: on to {step.cases[case]}", value=value, case=case)
            return f"cases.{case}"
        why = absent if value is None else f"{value} is none of the cases"
        here.note("F", "switch.otherwise", f"{why}: on to {step.otherwise}", value=value)
        return "otherwise"

    def gone(self, here: Here, step: SwitchStep) -> str:
        return "otherwise"


def _value(here: Here, step: SwitchStep) -> tuple[str | None, str]:
    """What is switched on; or None, and why there is nothing."""
    state = here.call.state
    match step.switch.on:
        case "select":
            return here.selected, 'The last passthru has not answered 200 with {"select": "…"} as its body'
        case "digits":
            return state.digits or None, "No digits were pressed yet"
        case "caller":
            return WITHHELD if state.facts.caller_withheld else state.facts.caller, "The caller's number cannot be read"
        case "dialled":
            return state.facts.dialled, "The number that was dialled is not known"
    name = step.switch.variable or ""
    found = here.variables.get(name)
    return None if found is None else str(found), f"The variable {name} has no value"
