"""From a document to a typed model, and from pydantic's errors to findings an engineer can act on."""

from __future__ import annotations

import copy
import json
import os
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from exoflow.config.findings import Finding, did_you_mean
from exoflow.config.stepbase import ALTERNATIVE
from exoflow.config.steps import MODELS, STEPS, Step, tag_of
from exoflow.config.yaml12 import Document

M = TypeVar("M", bound=BaseModel)
Where = tuple[Any, ...]

# where a pattern was not met: what would meet it
_FORMS = {
    "dnis": '2 to 10 digits in quotes, e.g. "2400"',
    "std_code": 'the STD code, 2 to 4 digits in quotes without the 0, e.g. "80"',
    "dial_prefix": 'up to 6 digits in quotes, e.g. "0"',
    "cli": 'digits in quotes, without +, e.g. "8030752400"',
    "listen": "host:port, e.g. 127.0.0.1:8084",
    "smtp": "host:port, e.g. localhost:25",
    "contacts": "an e-mail address",
    "mail.to": "an e-mail address",
    "from": "an e-mail address",
    "email": "an e-mail address",
    "public_url": "http:// or https://, a host, and a path if need be, e.g. https://calls.example.in",
    "span": "letters, digits, `.`, `_` and `-`, as in freetdm.conf",
    "gateway": "letters, digits, `.`, `_` and `-`, as in the SIP profile",
    "variables": "small letters, digits and `_`, a letter first, at most 40",
    "headers": "letters, digits and `-`, a letter first",
    **dict.fromkeys(("agree", "refuse"), 'one key of a phone in quotes: "0" to "9", "*" or "#"'),
    "trunks": "letters, digits, `.`, `_` and `-`",
    **dict.fromkeys(("say", "play", "language", "to", "voices"), "a language's code, e.g. en, hi or en-IN"),
    **dict.fromkeys(("parameters", "with"), "small letters, digits and `_`, a letter first"),
    "country": "two or three capital letters, e.g. IN",
    "region": "as in the `holidays` library, e.g. KA",
}
# where a single value stands for a mapping: the key it was meant for
_MEANT = {
    **dict.fromkeys(("greeting", "menu", "gather", "voicemail", "consent"), "say"),
    **dict.fromkeys(("hold", "sound", "ringback", "before", "after", "wrong_key", "no_input", "invalid"), "say"),
    **dict.fromkeys(("note", "page"), "text"),
    **dict.fromkeys(("passthru", "sms"), "url"),
    "connect": "group",
    "hangup": "cause",
    "language": "to",
    "pause": "seconds",
    "say_value": "variable",
    "switch": "on",
    "transfer": "flow",
    "back": "to",
    "agent": "state",
}
_NAME_FORM = "letters, digits, `_`, and after the first of them also `.`, `-` and spaces; at most 64"
_CUSTOM = {
    "our_number": "E504",
    "agent_number": "E505",
    "hangup_cause": "E307",
    "environment": "E702",
    "template": "E204",
    "language": "E204",
    "hours": "E204",
    "control_character": "E204",
}


class Shaped(Generic[M]):
    """A model built as far as it goes: with mistakes left out, so that the other checks can still speak."""

    def __init__(self, model: M | None, findings: list[Finding], broken: set[Where]) -> None:
        self.model, self.findings = model, findings
        self.broken = broken  # the paths of steps that had to be left out


def shape(model: type[M], document: Document, environ: Mapping[str, str] = os.environ) -> Shaped[M]:
    """Validates a document; never raises. `model` of the answer is None where nothing could be built."""
    if not isinstance(document.value, dict):
        found = (
            []
            if document.findings
            else [document.at("E203", f"the file must be a mapping (`key: value`), not {_kind(document.value)}")]
        )
        return Shaped(None, found, set())
    context = {"base": document.path.parent.absolute(), "environ": environ}
    try:
        return Shaped(model.model_validate(document.value, context=context), [], set())
    except ValidationError as error:
        errors = error.errors(include_url=False)
    findings = list(dict.fromkeys(_translate(e, model, document) for e in errors))
    value = copy.deepcopy(document.value)
    broken: set[Where] = set()
    left_out = [_leave_out(e, value, broken) for e in errors]  # each of them, also after one that cannot be
    if not all(left_out):
        return Shaped(None, findings, broken)
    try:
        return Shaped(model.model_validate(value, context=context), findings, broken)
    except ValidationError:
        return Shaped(None, findings, broken)


def _where(loc: Iterable[Any]) -> tuple[Where, bool]:
    """The path in the document, and whether the key itself is meant. pydantic puts a step's tag behind its name."""
    parts = [part for part in loc if not (isinstance(part, str) and part.startswith(ALTERNATIVE))]
    if len(parts) > 4 and parts[0] == "flows" and parts[2] == "steps":
        del parts[4]
    if parts and parts[-1] == "[key]":
        return tuple(parts[:-1]), True
    return tuple(parts), False


def _leave_out(error: ErrorDetails, value: Any, broken: set[Where]) -> bool:
    """Takes the mistake out of the raw value: an unknown key alone, else the whole step, else the key."""
    where, _ = _where(error["loc"])
    in_step = len(where) >= 4 and where[0] == "flows" and where[2] == "steps"
    if in_step and error["type"] != "extra_forbidden":
        where = where[:4]
        broken.add(where)
    elif error["type"] == "missing":
        return False
    for part in where[:-1]:
        if isinstance(value, dict) and part not in value:
            return True  # went with an earlier mistake
        value = value[part]
    if not where or not isinstance(value, dict):
        return False
    value.pop(where[-1], None)
    return True


def _translate(error: ErrorDetails, root: type[BaseModel], document: Document) -> Finding:
    where, is_key = _where(error["loc"])
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    name = next((part for part in reversed(where) if isinstance(part, str)), "file")  # a list's entry: the list's name
    if kind == "extra_forbidden":
        return document.at("E201", _unknown_key(root, where, document), *where, key=True)
    if kind == "missing":
        return document.at("E202", _missing(where), *where[:-1], key=True)
    if kind == "applet":
        code, message, at = _applet(given)
        return document.at(code, message, *where, *at, key=True)
    if kind in _CUSTOM:
        subject = f"`{name}` " if kind in ("hours", "control_character") else ""
        return document.at(_CUSTOM[kind], subject + error["msg"], *where)
    if kind == "value_error":
        return document.at("E206", f"`{name}` {error['msg'].removeprefix('Value error, ')}", *where, key=True)
    if (wanted := _wanted(kind)) is not None:
        return document.at("E203", f"`{name}` {_wrong_type(wanted, given, name)}", *where)
    subject = f"the name `{name}`" if is_key and kind == "string_pattern_mismatch" else f"`{name}`"
    return document.at("E204", f"{subject} {_not_allowed(kind, where, given, context, error['msg'])}", *where, key=is_key)


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"`{value}`" if isinstance(value, str) else f"the number {value}"


def _wanted(kind: str) -> str | None:
    if kind in ("string_type", "path_type"):
        return "text"
    if kind in ("int_type", "int_from_float", "float_type"):
        return "number"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return "mapping"
    if kind == "list_type":
        return "list"
    return "switch" if kind == "bool_type" else None


def _wrong_type(wanted: str, given: Any, name: str = "") -> str:
    if given is None:
        return "is empty; write a value, or delete the line"
    if wanted == "text" and isinstance(given, (bool, int, float)):
        shown = str(given).lower() if isinstance(given, bool) else given
        return f'must be a text; write it in quotes: "{shown}"'
    if wanted == "list" and isinstance(given, (str, int, float)):
        return f'must be a list: ["{given}"]'
    if wanted == "mapping" and name in _MEANT and isinstance(given, (str, int, float)):
        return f"must be a mapping: {{{_MEANT[name]}: {json.dumps(given, ensure_ascii=False)}}}"
    if wanted == "text" and isinstance(given, dict):
        return "must be a text, not a mapping; a text that begins with { needs quotes"
    examples = {
        "text": "a text",
        "number": "a number without quotes, leading zeros or +, e.g. 5",
        "mapping": "a mapping (`key: value`)",
        "list": "a list, e.g. [asha, ravi]",
        "switch": "`true` or `false`",
    }
    return f"must be {examples[wanted]}, not {_kind(given)}"


def _not_allowed(kind: str, where: Where, given: Any, context: dict[str, Any], message: str) -> str:
    if kind == "literal_error" and len(where) > 2 and where[-2] == "keys":
        return 'is no key of a phone; keys are 0 to 9, "*" and "#"'
    if kind == "literal_error" and context.get("expected") in ("True", "False"):
        return _wrong_type("switch", given)
    if kind == "literal_error" and given is None and "'#'" in str(context.get("expected")):
        return 'is empty; # begins a comment, so write "#" in quotes'
    if kind == "literal_error":
        choices = [c.strip("'") for c in str(context.get("expected", "")).replace(" or ", ", ").split(", ")]
        return f"cannot be {_kind(given)}{did_you_mean(str(given), choices)}"
    if kind == "string_pattern_mismatch":
        named = [part for part in where if isinstance(part, str)]
        places = (".".join(named[-2:]), *reversed(named[-2:]))
        form = next((_FORMS[place] for place in places if place in _FORMS), _NAME_FORM)
        return f"must be {form}; not `{given}`"
    if kind in ("string_too_short", "too_short") and not given:
        return "is empty; write at least one"
    limits = {
        "greater_than_equal": ("ge", "must be at least {}"),
        "less_than_equal": ("le", "must be at most {}"),
        "greater_than": ("gt", "must be more than {}"),
        "less_than": ("lt", "must be less than {}"),
        "string_too_short": ("min_length", "must have at least {} characters"),
        "string_too_long": ("max_length", "must have at most {} characters"),
        "too_short": ("min_length", "must have at least {} entries"),
        "too_long": ("max_length", "must have at most {} entries"),
    }
    if kind in limits:
        limit, text = limits[kind]
        shown = "" if "length" in limit else f", not {given}"
        return text.format(f"{context[limit]:g}") + shown
    return message


def _applet(given: Any) -> tuple[str, str, Where]:
    """What is wrong with a step that names no applet or several; and which of its keys shows it."""
    if not isinstance(given, dict):
        return "E203", f"a step must be a mapping with one of {', '.join(STEPS)}; this is {_kind(given)}", ()
    named = [name for name in STEPS if name in given]
    if named:
        shown = " and ".join(f"`{name}`" for name in named)
        return "E205", f"a step does one thing: {shown} need a step each", (named[1],)
    branches = {"next"} | {b for s in STEPS.values() for b in (*s.BRANCHES, "keys")}
    odd = [key for key in given if key not in branches]
    if odd:
        return "E205", f"unknown applet `{odd[0]}`{did_you_mean(odd[0], STEPS)}", (odd[0],)
    return "E205", f"the step does nothing; give it one of: {', '.join(STEPS)}", ()


# --- what a model takes at a path ---------------------------------------------------------------


def _models(annotation: Any, part: Any) -> Any:
    """The annotation one step further down a path; None where the path leaves the models."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _models(get_args(annotation)[0], part)
    if origin in (Union, types.UnionType):
        found = (_models(a, part) for a in get_args(annotation))
        return next((f for f in found if f is not None), None)
    if origin is dict:
        return get_args(annotation)[1]
    if origin is list:
        return get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return next((f.annotation for n, f in annotation.model_fields.items() if part in (n, f.alias)), None)
    return None


def _model_at(root: type[BaseModel], where: Where, value: Any) -> type[BaseModel] | None:
    at: Any = root
    for i, part in enumerate(where):
        value = value[part] if isinstance(value, (dict, list)) else None
        is_step = i == 3 and where[0] == "flows" and where[2] == "steps"
        at = MODELS.get(tag_of(value) or "") if is_step else _models(at, part)
    while get_origin(at) in (Annotated, Union, types.UnionType):
        at = next((a for a in get_args(at) if a is not type(None)), None)
    return at if isinstance(at, type) and issubclass(at, BaseModel) else None


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _unknown_key(root: type[BaseModel], where: Where, document: Document) -> str:
    wrong = str(where[-1])
    model = _model_at(root, where[:-1], document.value)
    if model is None:
        return f"unknown key `{wrong}`"
    if issubclass(model, Step):
        settings = _model_at(root, (*where[:-1], model.applet), document.value)
        if settings is not None and wrong in _keys(settings):
            return f"`{wrong}` belongs into `{model.applet}: {{…}}`, not beside it"
    step = _model_at(root, where[:4], document.value) if len(where) == 6 else None
    if step is not None and issubclass(step, Step) and wrong in _keys(step):
        return f"`{wrong}` belongs beside `{step.applet}:`, not into it"
    return f"unknown key `{wrong}`{did_you_mean(wrong, _keys(model))}"


def _missing(where: Where) -> str:
    return f"`{where[-1]}` is missing{_MISSING.get(str(where[-1]), '')}"


_MISSING = {
    "next": "; name the step that follows, e.g. `next: bye`",
    "otherwise": "; name the step when no other branch is taken, e.g. `otherwise: bye`",
    "keys": "; say which key leads to which step, e.g. `keys: {1: support}`",
    "ok": "; name the step for answer 200",
    "redirect": "; name the step for answer 302",
    "answered": "; name the step after the talk, e.g. `answered: bye`",
    "unanswered": "; name the step if no agent answers",
    "start": "; name the flow's first step",
    "flow": "; name the flow that answers this number",
    "trunk": "; name the trunk the number is on",
    "url": "; write the CRM's address",
    "from": "; write the sender's e-mail address",
    "trunks": "; name at least one, e.g. `trunks: {PRI1: {span: PRI1}}`",
    "flows": "; an account needs at least one flow",
}
