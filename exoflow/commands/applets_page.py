"""The text of docs/applets.md: every applet from its model, its docstring and its example, and the table of all limits."""

from __future__ import annotations

import ast
import importlib
import io
import pkgutil
import re
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import exoflow
from exoflow.config.stepbase import Step
from exoflow.config.steps import MODELS, STEPS
from exoflow.config.templates import BUILT_IN, SPOKEN_BUILT_IN
from exoflow.flow.applets import APPLETS

EXAMPLES = Path(exoflow.__file__).parents[1] / "examples" / "applets"
ACCOUNT = EXAMPLES.parent / "branches/accounts/branches.yaml"
# what an applet's docstring says, line by line, after the description
SAID = ("Branches", "Caller gone", "Store gone", "CRM gone", "Journey")

_LIMITED = (
    *("config", "prompts", "flow", "agents", "crm", "calls", "esl", "lines", "store", "telephony"),
    *("reload", "serve", "supervision"),
)
_LIMIT = re.compile(
    r"(?:MAX|MIN|PER)_[A-Z_0-9]+|[A-Z][A-Z_0-9]*_(?:SECONDS|MS|DAYS|BYTES|CHARS|AFTER|EVERY|MARGIN|ATTEMPTS|SIZE|ROOM)"
    r"|[A-Z_]+_(?:MOST|KEPT|AT_ONCE|A_(?:SCAN|LOOK|MINUTE))|MOST_\w+|LINGER\w*"
    r"|SCHEDULE|BACKLOG|BATCH|CONNECTIONS|FAILURES|READERS|THREADS"
)
_FACTS = re.compile(r"\s*\(facts, [^)]*\)")  # where a rule comes from is for who reads the code
_INTRO = """# Applets

A flow is made of steps, and each step does one thing: the applet whose key it has. Beside that key stand the step's branches,
which name the step that comes next. Times are in seconds. Each `say` and each `play` is a prompt: a text (or one a language,
`{{en: …, hi: …}}`) that `exoflow prompts build` renders, or a sound file.

## Values in texts

`{{name}}` stands for a variable, or for what every call has:
{built_in}.
Variables come from `set`, from a `gather` with `variable`, and from a flow's `parameters`. A name that nothing gives a value is
an error of `exoflow check`. A brace as such is written twice: `{{{{` and `}}}}`.

* In {templates}: as it is, on one line; in a form or a JSON body encoded as a whole.
* In `url` and `fallback_url` of a step: percent-encoded, within its path segment or its parameter; never in scheme, host or
  port. A value that would make a path segment `.` or `..` counts as none.
* In `sms.headers`: as it is; other characters than printable ASCII, and `%`, percent-encoded as UTF-8. What comes from the
  environment, by `${{NAME}}`, is sent as it is there.
* In every `say`: spoken, in the language of the text. There {spoken} and variables can stand.

In a `say` an integer is said as a number and digits one by one, as by [say_value](#say_value), from the blocks that
`exoflow prompts build` renders. Of a text a date (2026-11-23), a time (16:30) and a number (+91…) are said so, too; any other
text is spoken by the engine during the call, which takes some 0.4 s the first time. What cannot be spoken is left out; the
journey has `prompt.filled` (evidence words, left_out).

`outcome` and `reason` are those that the call would have if it ended at this step, as in a delivery; `recording` is the address
of its last recording, which needs `web.public_url`; `time` is when the step began. A value that is not there is empty text, and
the journey's line has its name under `unset`. A value is put in once: braces in it are braces. When a call comes back after its
socket was lost, the texts are the same. Secret digits (`gather`) are stars in the journey and are not spoken. Addresses of an
account (`deliveries`, `crm`, `call_backs`) and `fallback.say` take no names.

## Requests

A request to a CRM whose address would have more than 8,000 characters goes without the call's `CustomField`, and if that is not
enough without the oldest attempts on agents; the journey has `crm.left_out` (evidence left_out, chars), once a call.

For each applet it is said what it does when the caller, the store or the CRM is gone. An entry of the journey is written as its
code, with what shows it (its evidence) in brackets. One that is the call's reason is so if the call was missed; a call that
was answered or served, or left a message, has none.

This page is written by `exoflow schema --applets > docs/applets.md`.
"""
_NAMES = {"built_in": BUILT_IN, "spoken": SPOKEN_BUILT_IN}
_FLOWS = """## Where flows stand

Each business has a file in `accounts/` beside the main file, with its numbers, agents and groups, and its flows; `start`
names the first step of a flow. What the callers of a number meet is the flow beside it.

With `parameters` a flow is written once for several numbers: each gives its values under `with`, and so does a `transfer`.
`{name}` then stands for the value in `say`, `play`, `url`, `fallback_url`, `group` and `flow`, and it is a variable. In `say`
it is a part of the text, which is rendered with it. Its type is `text`, `number`, `file`, `url`, `group` or `flow`; one with a
`default` may be left out.

`holidays` has `dates` (`2026-11-08`, or `01-26` for every year; with hours of work as here), and `country: IN` with
`region: KA` takes those of the `holidays` library (`pip install holidays`) beside them. The own dates win, and so do days
under `working: ["2026-08-15"]`, on which the business works although the library has them.
"""


def page() -> str:
    """The whole page. Needs the examples, which are in the project's folder and not in an installed package."""
    templates = ", ".join(f"`{name}`" for name in ("note", "sms", "mail", "page"))
    names = {what: ", ".join(f"`{name}`" for name in found) for what, found in _NAMES.items()}
    parts = [_INTRO.format(templates=templates, **names)]
    parts.append(f"{_FLOWS}\n```yaml\n{ACCOUNT.read_text(encoding='utf-8')}```\n\n## The applets\n")
    parts.append("\n".join(f"* [{name}](#{name}): {_summary(step)}" for name, step in STEPS.items()) + "\n")
    parts += [_applet(name) for name in STEPS]
    parts.append(_limits_table())
    return "\n".join(parts)


def _summary(step: type[Step]) -> str:
    return str(step.model_fields[step.applet].description)


def _applet(name: str) -> str:
    description, said = sections(name)
    lines = [f"## {name}\n", description, "", "| key | takes | unless set | what |", "| --- | --- | --- | --- |"]
    models = [model for model in MODELS.values() if model.applet == name]
    lines += _rows(models, name)
    lines += ["", *(f"* **{what}**: {text}" for what, text in said.items()), ""]
    example = EXAMPLES / f"{name}.yaml"
    lines += ["```yaml", example.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(lines)


def sections(name: str) -> tuple[str, dict[str, str]]:
    """An applet's docstring: the description, and what it says under each of SAID."""
    text = textwrap.dedent("    " + (type(APPLETS[name]).__doc__ or ""))
    heads = re.compile(rf"(?:^|(?<=\. )|(?<=\n))({'|'.join(SAID)}): ")
    pieces = heads.split(text)
    said = {what: _FACTS.sub("", " ".join(part.split())) for what, part in zip(pieces[1::2], pieces[2::2], strict=True)}
    paragraphs = _FACTS.sub("", pieces[0]).strip().split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(part.split()), 128, break_on_hyphens=False) for part in paragraphs), said


# --- keys ---------------------------------------------------------------------------------------


def _rows(models: list[type[Step]], name: str) -> list[str]:
    """A row a key; of an applet with two forms the keys that the second adds, or that it lets have other values."""
    rows: dict[str, list[str]] = {}
    for i, model in enumerate(models):
        form = "" if i == 0 else (model.__doc__ or "").rstrip(".") + ": "
        schema = model.model_json_schema()
        defs, fields = schema.get("$defs", {}), schema["properties"]
        settings = _resolved(fields.pop(name), defs)
        for key, row in _keys(settings, defs, f"{name}."):
            known = rows.setdefault(key, row)
            if known is not row and known[0] != row[0]:
                known[0] += f" or {row[0]}"
        for key, field in fields.items():
            required = key in schema.get("required", ())
            takes = "a step" if key in model.BRANCHES else "mapping to a step"  # all that stands beside an applet's key
            rows.setdefault(key, [takes, _default(field, required), form + field.get("description", "")])
    return [f"| `{key}` | " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for key, row in rows.items()]


def _keys(settings: dict[str, Any], defs: dict[str, Any], prefix: str) -> Iterator[tuple[str, list[str]]]:
    """The keys of an applet's own mapping, with those of the mappings in it."""
    if "properties" not in settings:
        yield prefix.rstrip("."), [_takes(settings, defs), "needed", settings.get("description", "")]
        return
    for key, field in settings["properties"].items():
        row = [_takes(field, defs), _default(field, key in settings.get("required", ())), field.get("description", "")]
        yield prefix + key, row
        for choice in field.get("anyOf", [field]):
            value = _value_of(choice)
            inner = _resolved(choice if value is None else value, defs)
            # prompts are told of once, at the top of the page
            if "properties" in inner and inner.get("title") != "Prompt":
                yield from _keys(inner, defs, f"{prefix}{key}." if value is None else f"{prefix}{key}.<name>.")


def _value_of(field: dict[str, Any]) -> dict[str, Any] | None:
    """What stands under the names of a mapping whose names are free."""
    found = next(iter(field.get("patternProperties", {}).values()), field.get("additionalProperties"))
    return found if isinstance(found, dict) else None


def _resolved(field: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = defs[field["$ref"].rsplit("/", 1)[-1]] if "$ref" in field else field
    return found


def _takes(field: dict[str, Any], defs: dict[str, Any]) -> str:
    """What a key takes, in words."""
    choices = [choice for kind in ("anyOf", "oneOf") for choice in field.get(kind, ()) if choice.get("type") != "null"]
    if choices:
        return " or ".join(dict.fromkeys(_takes(choice, defs) for choice in choices))
    if "$ref" in field:
        return "prompt" if field["$ref"].endswith("/Prompt") else "mapping"
    if "const" in field or "enum" in field:
        return ", ".join(f"`{_shown(value)}`" for value in field.get("enum", [field.get("const")]))
    kind = field.get("type")
    if kind in ("integer", "number"):
        return ("whole number" if kind == "integer" else "number") + _range(field, "minimum", "maximum", "")
    if kind == "array":
        return f"list of {_takes(field['items'], defs)}" + _range(field, "minItems", "maxItems", "")
    if kind == "object":
        values = _value_of(field)
        return f"mapping to {_takes(values, defs)}" if values else "mapping"
    if kind == "boolean":
        return "`true`, `false`"
    return "text" + _range(field, "", "maxLength", " characters")


def _range(field: dict[str, Any], low: str, high: str, unit: str) -> str:
    least, most = field.get(low), field.get(high)
    if "exclusiveMinimum" in field:
        return f", above {field['exclusiveMinimum']:g}" + (f", to {most:g}" if most is not None else "")
    if least is not None and most is not None:
        return f", {least:g} to {most:g}{unit}"
    return f", to {most:g}{unit}" if most is not None else f", from {least:g}{unit}" if least is not None else ""


def _default(field: dict[str, Any], required: bool) -> str:
    value = field.get("default")
    if required:
        return "needed"
    return "" if value is None or value == {} else f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


# --- limits -------------------------------------------------------------------------------------


def _limits_table() -> str:
    lines = [
        "## Deadlines and limits\n",
        "Every wait ends, and everything that comes from outside has a bound. In seconds where the name says",
    ]
    lines += ["`SECONDS`, `AFTER`, `EVERY` or `MARGIN`. Limits of single keys are in the tables above.\n"]
    lines += ["| limit | value | where | why |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + [f"| `{name}` | {value} | {where} | {why} |" for name, value, where, why in limits()]) + "\n"


def limits() -> Iterator[tuple[str, str, str, str]]:
    """Every constant that bounds something: its name, value, file, and the comment that says why."""
    for package in _LIMITED:
        module = importlib.import_module(f"exoflow.{package}")
        names = [module.__name__]
        if hasattr(module, "__path__"):
            names += sorted(found.name for found in pkgutil.walk_packages(module.__path__, module.__name__ + "."))
        for name in names:
            if ".migrations" not in name:
                yield from _limits_of(name)


def _limits_of(module_name: str) -> Iterator[tuple[str, str, str, str]]:
    module = importlib.import_module(module_name)
    assert module.__file__ is not None
    source = Path(module.__file__).read_text(encoding="utf-8")
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    where = module_name.removeprefix("exoflow.").replace(".", "/")
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name):
            name = target.id
            value = getattr(module, name)
            if _LIMIT.fullmatch(name) and _is_number(value):
                why = comments.get(node.end_lineno or 0) or _above(comments, source.splitlines(), node.lineno)
                yield name, _number(value), where, why.replace("|", "\\|")


def _above(comments: dict[int, str], lines: list[str], line: int) -> str:
    """The comment in the lines right above, if they have nothing else."""
    found: list[str] = []
    while (line := line - 1) in comments and lines[line - 1].lstrip().startswith("#"):
        found.insert(0, comments[line])
    return " ".join(found)


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(_is_number(item) for item in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_number(item) for item in value)
    return f"{value:,}".removesuffix(".0") if isinstance(value, int) or value >= 1000 else f"{value:g}"
