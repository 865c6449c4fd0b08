"""Flows written once and used by several numbers: each set of values for a flow's parameters makes a flow of its own.

This happens while the configuration is loaded, so that prompts are rendered and addresses checked as callers will meet them.
The values are variables of the call, too, for the steps that take variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from exoflow.config import templates
from exoflow.config.model import Account, Flow, ParameterType
from exoflow.config.steps import TransferStep
from exoflow.config.templates import escaped, is_template, names_in
from exoflow.config.turns import Argument, entry_name

MAX_ENTRIES = 1000  # flows of one account with their values; transfers that make their own values longer and longer never end

URL_KEYS = ("url", "fallback_url")  # of a step's settings
FILLED_IN_CALLS = ("say", *URL_KEYS)  # where a name that is no parameter's is a variable's
# the keys whose texts may name a parameter, and the types it may have there
KEYS: dict[str, frozenset[str]] = {
    "say": frozenset({"text", "number"}),
    "play": frozenset({"file"}),
    **dict.fromkeys(URL_KEYS, frozenset({"text", "number", "url"})),
    "group": frozenset({"group"}),
    "flow": frozenset({"flow"}),
    "arguments": frozenset({"text", "number", "file", "url", "group", "flow"}),
}
PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]{0,39})\}")


def complete(flow: Flow, given: Mapping[str, Argument]) -> dict[str, Argument] | None:
    """A value for each of the flow's parameters, the given one or the default; None if one is missing."""
    if not flow.parameters:
        return {}
    values = {name: given.get(name, parameter.default) for name, parameter in flow.parameters.items()}
    return None if None in values.values() else {name: value for name, value in values.items() if value is not None}


def as_run(account: Account) -> Account:
    """The account with its flows as they are run: those with parameters once for each set of values, under its own name."""
    flows: dict[str, Flow] = {name: flow for name, flow in account.flows.items() if not flow.parameters}
    numbers = []
    todo: list[tuple[str, Mapping[str, Argument]]] = [(name, {}) for name in flows]
    for number in account.numbers:
        values = complete(account.flows[number.flow], number.arguments) if number.flow in account.flows else None
        numbers.append(number if values is None else number.model_copy(update={"arguments": values}))
        todo.append((number.flow, number.arguments))
    done: dict[str, Flow] = {}
    while todo and len(done) < MAX_ENTRIES:
        name, given = todo.pop()
        template = account.flows.get(name)
        values = None if template is None else complete(template, given)
        if template is None or values is None or (entry := entry_name(name, values)) in done:
            continue
        # an address is made of values as it is of any other query
        types = {parameter: template.parameters[parameter].type for parameter in values}
        quoted = {word: value if types[word] == "url" else quote(str(value), safe="") for word, value in values.items()}
        steps = {step: _transfer(account, _filled(model, "", values, quoted)) for step, model in template.steps.items()}
        done[entry] = template.model_copy(update={"steps": steps})
        done[entry].set_arguments(values)
        todo += [(s.transfer.flow, s.transfer.arguments) for s in steps.values() if isinstance(s, TransferStep)]
    ordered = {name: done[name] for name in flows if name in done}
    return account.model_copy(update={"flows": ordered | done, "numbers": numbers})


def _transfer(account: Account, step: Any) -> Any:
    """A transfer with a value for every parameter of where it leads, so that it finds the flow by its name."""
    if not isinstance(step, TransferStep) or step.transfer.flow not in account.flows:
        return step
    values = complete(account.flows[step.transfer.flow], step.transfer.arguments)
    if values is None:
        return step
    return step.model_copy(update={"transfer": step.transfer.model_copy(update={"arguments": values})})


def _filled(value: Any, key: str, values: Mapping[str, Argument], quoted: Mapping[str, Argument]) -> Any:
    """`value` with the parameters' values in the texts that may name them, `quoted` ones in an address; itself where there is
    nothing to fill."""
    if not values:
        return value
    if isinstance(value, BaseModel):
        fields = ((name, getattr(value, name)) for name in type(value).model_fields)
        changed = {name: new for name, old in fields if (new := _filled(old, name, values, quoted)) is not old}
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, dict):
        filled = {name: _filled(inner, key, values, quoted) for name, inner in value.items()}
        return value if all(filled[name] is value[name] for name in value) else filled
    if isinstance(value, list):
        listed = [_filled(inner, key, values, quoted) for inner in value]
        return value if all(a is b for a, b in zip(listed, value, strict=True)) else listed
    if isinstance(value, str) and key in FILLED_IN_CALLS and is_template(value):
        given = quoted if key in URL_KEYS else {name: escaped(str(text)) for name, text in values.items()}
        return templates.PLACEHOLDER.sub(lambda found: str(given.get(found[1] or "", found[0])), value)
    if isinstance(value, str) and key in KEYS and PLACEHOLDER.search(value):
        if key == "arguments" and (whole := PLACEHOLDER.fullmatch(value)) is not None:
            return values.get(whole[1], value)  # a number stays one
        return PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), value)
    return value


def used_in(value: Any, key: str = "", where: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Every parameter that a part of a flow names: path, key, and the parameter's name."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from used_in(getattr(value, name), name, (*where, field.alias or name))
    elif isinstance(value, (dict, list)):
        inside: Iterable[tuple[str | int, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        for part, inner in inside:
            yield from used_in(inner, key, (*where, part))
    elif isinstance(value, str) and key in KEYS:
        names = names_in(value) if key in FILLED_IN_CALLS else [found[1] for found in PLACEHOLDER.finditer(value)]
        yield from ((where, key, name) for name in names)


def problem_with(kind: ParameterType, value: Argument, account: Account) -> str | None:
    """What keeps a value from being a parameter's; None if nothing does. Files and addresses are seen where they are used."""
    if kind == "number":
        return None if isinstance(value, int) else "is no number; write it without quotes"
    if not isinstance(value, str):
        return f'is no text; write it in quotes: "{value}"'
    if kind == "group" and value not in account.groups:
        return "is no group of this account"
    if kind == "flow" and value not in account.flows:
        return "is no flow of this account"
    if kind == "file" and (value.startswith("/") or ".." in value):
        return "leads out of its folder; write a path below it"
    return None
