"""Flows with parameters: values that are missing, too many or of another type, and names in texts that are nobody's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from exoflow.config.checks.actions import may_name, variables
from exoflow.config.draft import AccountDraft, Draft
from exoflow.config.findings import DID_YOU_MEAN, Finding, did_you_mean
from exoflow.config.model import Flow, Parameter
from exoflow.config.parameters import FILLED_IN_CALLS, KEYS, MAX_ENTRIES, PLACEHOLDER, problem_with, used_in
from exoflow.config.steps import TransferStep
from exoflow.config.turns import Argument

NOT_FILLED = "a value is written out: no name is filled in it"


def _is_named(parameter: Parameter, value: Argument | None) -> bool:
    """Has the value a `{name}`? In an address it is a variable's."""
    return parameter.type != "url" and isinstance(value, str) and PLACEHOLDER.search(value) is not None


def check(draft: Draft) -> Iterator[Finding]:
    for account in draft.accounts:
        for i, number in enumerate(account.account.numbers):
            yield from _given(account, number.flow, number.arguments, ("numbers", i))
            flow_called = account.account.flows.get(number.flow)
            known = flow_called.parameters if flow_called is not None else {}
            for name, value in number.arguments.items():
                if name in known and _is_named(known[name], value):
                    yield account.document.at("E322", NOT_FILLED, "numbers", i, "with", name)
        # as written, and with the values that go into them
        for flow, name, step in (*account.steps(), *account.steps_as_run()):
            if isinstance(step, TransferStep):
                where = ("flows", flow, "steps", name, "transfer")
                yield from _given(account, step.transfer.flow, step.transfer.arguments, where)
        for name, flow_model in account.account.flows.items():
            yield from _flow(account, name, flow_model) if flow_model.parameters else _without(account, name, flow_model)
        if len(account.as_run().flows) >= MAX_ENTRIES:
            message = (
                f"the flows with their values are more than {MAX_ENTRIES}; look for a transfer that makes new values each time"
            )
            yield account.document.at("E321", message, "flows", key=True)


def _given(a: AccountDraft, flow: str, given: Mapping[str, Argument], where: tuple[Any, ...]) -> Iterator[Finding]:
    """The values that a number or a transfer gives to a flow."""
    if flow not in a.account.flows:
        return  # told elsewhere
    parameters = a.account.flows[flow].parameters
    for name, value in given.items():
        if name not in parameters:
            cure = did_you_mean(name, parameters) or f"; the flow `{flow}` has no `parameters`"
            yield a.document.at("E321", f"unknown parameter `{name}`{cure}", *where, "with", name, key=True)
        elif not (isinstance(value, str) and PLACEHOLDER.search(value)):
            problem = problem_with(parameters[name].type, value, a.account)
            if problem is not None:
                yield a.document.at("E321", f"`{name}` {problem}", *where, "with", name)
    for name, parameter in parameters.items():
        if name not in given and parameter.default is None:
            message = f"the flow `{flow}` needs a value for `{name}`; write it under `with`, or give the parameter a `default`"
            yield a.document.at("E321", message, *where, "flow")


def _flow(a: AccountDraft, flow_name: str, flow: Flow) -> Iterator[Finding]:
    """A flow's own parameters, and where its texts name them."""
    for name, parameter in flow.parameters.items():
        if _is_named(parameter, parameter.default):
            yield a.document.at("E322", NOT_FILLED, "flows", flow_name, "parameters", name, "default")
        if parameter.default is not None and (problem := problem_with(parameter.type, parameter.default, a.account)):
            where = ("flows", flow_name, "parameters", name, "default")
            yield a.document.at("E321", f"`default` {problem}", *where)
    used = set()
    known = None if a.broken else variables(a)  # what a broken step sets is not known
    for step_name, step in flow.steps.items():
        for path, key, name in used_in(step):
            where_used = ("flows", flow_name, "steps", step_name, *path)
            used.add(name)
            if name not in flow.parameters:
                if key in FILLED_IN_CALLS and (known is None or name in may_name(key, known)):
                    continue  # a variable
                near = did_you_mean(name, may_name(key, known or set())) if key in FILLED_IN_CALLS else ""
                cure = near if near.startswith(DID_YOU_MEAN) else did_you_mean(name, flow.parameters)
                message = f"unknown parameter `{name}`{cure}"
                yield a.document.at("E322", message, *where_used)
            elif flow.parameters[name].type not in KEYS[key]:
                message = f"`{name}` is a {flow.parameters[name].type}, which cannot stand in `{path[-1]}`"
                yield a.document.at("E322", message, *where_used)
    read = {word for name in flow.steps for word in _words(a.step_names(flow_name).get(name))}
    for name in flow.parameters:
        if name not in used and not any(name in word for word in read):
            message = f"no step uses the parameter `{name}`; write {{{name}}} into a text, or delete it"
            yield a.document.at("W323", message, "flows", flow_name, "parameters", name, key=True)


def _without(a: AccountDraft, flow_name: str, flow: Flow) -> Iterator[Finding]:
    """Names in a flow without parameters, where only a parameter can stand: no variable names a group or a flow. A file may
    have braces in its name."""
    for step_name, step in flow.steps.items():
        for path, key, name in used_in(step):
            if key not in FILLED_IN_CALLS and key != "play":
                message = f"unknown parameter `{name}`; the flow has no `parameters`, and no variable can stand here"
                yield a.document.at("E322", message, "flows", flow_name, "steps", step_name, *path)


def _words(value: Any) -> Iterator[str]:
    """All texts of a step as written: parameters are variables, too, and other applets name those in their own ways."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _words(inner)
