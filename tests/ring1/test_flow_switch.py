"""switch: the cases of a CRM's answer, of digits, numbers and variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hall import BYE, CALLER, OURS, Hall, entry, say, visited

from exoflow.config.steps import SwitchStep
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
ASK = {"passthru": {"url": "crm:/passthru"}, "ok": "which", "redirect": "which"}
SELECT = {"switch": {"on": "select"}, "cases": {"product1": "one", "2": "two"}, "otherwise": "other"}
ENDS = {"one": say("One."), "two": say("Two."), "other": say("Other."), "bye": BYE}


@pytest.mark.parametrize(
    ("status", "body", "step"),
    [
        (200, b'{"select": "product1"}', "one"),
        (200, b' {"select":"2","more":[1]}\n', "two"),
        (200, b'{"select": 2}', "two"),
        (200, b'{"select": "product9"}', "other"),
        (200, b'{"select": "Product1"}', "other"),
        (200, b'{"select": true}', "other"),
        (200, b'{"select": null}', "other"),
        (200, b'{"select": ["product1"]}', "other"),
        (200, b'{"choose": "product1"}', "other"),
        (200, b"product1", "other"),
        (200, b"", "other"),
        (200, b"[" * 5000, "other"),
        (200, b'{"select": "' + b"x" * 300 + b'"}', "other"),
        # only a 200 selects
        (302, b'{"select": "product1"}', "other"),
        (500, b'{"select": "product1"}', "other"),
    ],
)
def test_the_crm_selects(hall: Start, status: int, body: bytes, step: str) -> None:
    h = hall({"ask": ASK, "which": SELECT, **ENDS})
    h.crm.script("/passthru", Reply(status, body))
    _, state = h.run()
    assert visited(state) == ["ask", "which", step, "bye"]


def test_what_was_selected_is_in_the_journey(hall: Start) -> None:
    h = hall({"ask": ASK, "which": SELECT, **ENDS})
    h.crm.script("/passthru", Reply(200, b'{"select": "product1"}'))
    _, state = h.run()
    assert entry(state, "passthru.branch").evidence["select"] == "product1"
    assert entry(state, "switch.case").evidence == {"value": "product1", "case": "product1"}


def test_without_a_passthru_nothing_is_selected(hall: Start) -> None:
    h = hall({"which": SELECT | {"cases": {"x": "bye"}, "otherwise": "bye"}, "bye": BYE})
    _, state = h.run()
    assert "has not answered 200" in entry(state, "switch.otherwise").text


def test_a_later_passthru_takes_the_selection_back(hall: Start) -> None:
    again = {"passthru": {"url": "crm:/again"}, "ok": "which", "redirect": "which"}
    h = hall({"ask": ASK | {"ok": "again"}, "again": again, "which": SELECT, **ENDS})
    h.crm.script("/passthru", Reply(200, b'{"select": "product1"}'))
    h.crm.script("/again", Reply(500))
    _, state = h.run()
    assert visited(state) == ["ask", "again", "which", "other", "bye"]


@pytest.mark.parametrize(
    ("pressed", "step"), [("12", "one"), ("129", "two"), ("1", "other"), ("9", "two"), ("12345", "two"), ("", "other")]
)
def test_digits_and_their_beginnings(hall: Start, pressed: str, step: str) -> None:
    gather = {"gather": {"say": "Code?", "max_digits": 6, "attempts": 1}, "next": "which"}
    which = {"switch": {"on": "digits"}, "cases": {"12": "one", "12*": "two", "9": "two"}, "otherwise": "other"}
    h = hall({"ask": gather, "which": which, **ENDS})
    _, state = h.run(keys=[f"{pressed}#" if pressed else ""])
    assert visited(state) == ["ask", "which", step, "bye"]


@pytest.mark.parametrize(
    ("caller", "step"),
    [
        (CALLER, "one"),
        ("+919811155555", "two"),  # its beginning
        ("+919822200000", "three"),  # a shorter one
        ("+12025550123", "other"),
        (None, "four"),
    ],
)
def test_the_callers_number(hall: Start, caller: str | None, step: str) -> None:
    cases = {"09811100001": "one", "+9198111*": "two", "+9198*": "three", "withheld": "four"}
    which = {"switch": {"on": "caller"}, "cases": cases, "otherwise": "other"}
    h = hall({"which": which, **ENDS, "three": say("Three."), "four": say("Four.")})
    _, state = h.run(**({"withheld": True} if caller is None else {"from_number": caller}))
    assert visited(state) == ["which", step, "bye"]


@pytest.mark.parametrize(("case", "step"), [(OURS, "one"), ("+9180*", "one"), ("+9144*", "other")])
def test_the_number_that_was_dialled(hall: Start, case: str, step: str) -> None:
    steps = {"which": {"switch": {"on": "dialled"}, "cases": {case: "one"}, "otherwise": "other"}, **ENDS}
    steps.pop("two")
    _, state = hall(steps).run()
    assert visited(state) == ["which", step, "bye"]


@pytest.mark.parametrize(("value", "step"), [({"value": "gold"}, "one"), ({"value": 7, "type": "integer"}, "two")])
def test_a_variable(hall: Start, value: dict[str, Any], step: str) -> None:
    which = {"switch": {"variable": "plan"}, "cases": {"gold": "one", "7": "two"}, "otherwise": "other"}
    _, state = hall({"set": {"set": {"variables": {"plan": value}}, "next": "which"}, "which": which, **ENDS}).run()
    assert visited(state) == ["set", "which", step, "bye"]


def test_a_star_alone_is_the_key() -> None:
    step = SwitchStep.model_validate({"switch": {"on": "digits"}, "cases": {"*": "a", "1*": "b"}, "otherwise": "c"})
    assert [step.case_of(value) for value in ("*", "1", "1*", "19", "2")] == ["*", "1*", "1*", "1*", None]


def test_a_selection_is_no_pattern() -> None:
    step = SwitchStep.model_validate({"switch": {"on": "select"}, "cases": {"a*": "a"}, "otherwise": "c"})
    assert [step.case_of(value) for value in ("a*", "abc")] == ["a*", None]
