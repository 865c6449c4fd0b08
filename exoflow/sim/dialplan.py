"""The project's own `dialplan/`, read and followed as mod_dialplan_xml of FreeSWITCH 1.10.12 does (parse_exten, 98-640).

A hunt goes through the extensions of a context and collects the actions of those that match; `inline` ones run at once.
What the files say and why is in the files and in docs/freeswitch-conf.md. An attribute that is not known here is an error:
better than to pass over a condition that the real switch would look at.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from exoflow.errors import ExoflowError
from exoflow.sim import times
from exoflow.sim.expand import expand
from exoflow.sim.frames import is_true

if TYPE_CHECKING:
    from exoflow.sim.session import Session

CONTEXT = "from-pri"
_DIRECTIVE = re.compile(r'<X-PRE-PROCESS\s+cmd="(\w+)"\s+data="([^"]*)"\s*/>')
_GLOBAL = re.compile(r"\$\$\{([\w.-]+)\}")
_GROUP = re.compile(r"\$(\d{1,2})")
_INLINE = {"set", "multiset", "unset", "export", "log"}  # of the applications here those with SAF_ROUTING_EXEC
_KNOWN = {
    "extension": {"name", "continue"},
    "condition": {"field", "expression", "break", "regex", "require-nested", *times.ATTRIBUTES},
    "regex": {"field", "expression", *times.ATTRIBUTES},
    "action": {"application", "data", "inline", "loop"},
    "anti-action": {"application", "data", "inline", "loop"},
}


class DialplanError(ExoflowError):
    """The dialplan's files are not there, or say something that this switch does not know. Names the file or element."""


def folder() -> Path:
    """Where `dialplan/` and `freeswitch-conf/` are: beside the package in a checkout, else where the wheel put them.

    Raises DialplanError.
    """
    checkout = Path(__file__).parents[2]
    installed = Path(sysconfig.get_path("data")) / "share" / "exoflow"
    for place in (checkout, installed, Path(sys.prefix) / "share" / "exoflow"):
        if (place / "dialplan" / "from-pri.xml").is_file():
            return place
    raise DialplanError(f"dialplan/from-pri.xml is neither in {checkout} nor in {installed}: install exoflow again")


@dataclass(frozen=True)
class Action:
    """One application with its argument, `$${…}` and `${…}` still in it."""

    application: str
    data: str
    inline: bool
    times: int


@dataclass(frozen=True)
class Test:
    """`field` None: met at the time that `when` has, always if it has none."""

    field: str | None
    expression: str
    when: dict[str, str]


@dataclass(frozen=True)
class Condition:
    """`regexes` stand for the one test when `rule` names how many of them must be met."""

    test: Test
    stops: str
    rule: str = ""
    regexes: tuple[Test, ...] = ()
    actions: tuple[Action, ...] = ()
    otherwise: tuple[Action, ...] = ()
    nested: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Extension:
    name: str
    goes_on: bool
    conditions: tuple[Condition, ...] = field(repr=False)


@dataclass
class Route:
    """What a hunt found: the actions to run, under the name of the first extension that had one.

    `at` is the action that runs or ran last, `children` what execute_extension ran meanwhile.
    """

    name: str
    number: str
    actions: list[Action] = field(default_factory=list)
    at: int = -1
    children: list[Route] = field(default_factory=list)


class Dialplan:
    """One context's extensions. Raises DialplanError when its files cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contexts = _contexts(path)

    def read_again(self) -> Dialplan:
        """The same files as they are now. Raises DialplanError."""
        _contexts.cache_clear()
        return Dialplan(self.path)

    def hunt(self, session: Session, destination: str, context: str) -> Route | None:
        """The actions for a destination, the inline ones done; None when no extension had any."""
        route: Route | None = None
        for extension in self.contexts.get(context, ()):
            actions: list[Action] = []
            proceed, acted = self._extension(session, extension.conditions, destination, actions)
            if acted:
                route = route or Route(extension.name, destination)
                route.actions.extend(actions)
            if proceed and not extension.goes_on:
                break
        return route

    def _extension(
        self, session: Session, conditions: tuple[Condition, ...], destination: str, found: list[Action]
    ) -> tuple[bool, bool]:
        """Goes through an extension's conditions: whether the hunt may end with it, and whether it had any action."""
        proceed = acted = False
        for condition in conditions:
            true, match = self._true(session, condition, destination)
            proceed = true
            for action in condition.actions if true else condition.otherwise:
                acted = proceed = True
                self._take(session, action, match if true else None, found)
            if condition.stops == "always" or condition.stops == ("on-true" if true else "on-false"):
                break
            if proceed and condition.nested:
                proceed, inner = self._extension(session, condition.nested, destination, found)
                acted = acted or inner
                if not proceed and condition.stops != "never":
                    break
        return proceed, acted

    def _take(self, session: Session, action: Action, match: re.Match[str] | None, found: list[Action]) -> None:
        data = self._globals(session, action.data)
        if match is not None:
            data = _GROUP.sub(lambda one: (match[int(one[1])] or "") if int(one[1]) <= match.re.groups else "", data)
        for _ in range(action.times):
            if action.inline and action.application in _INLINE:
                session.execute(action.application, data)
            elif action.inline:
                text = f"{action.application} cannot run inline: FreeSWITCH passes over it"
                session.switch.complain("inline", text, session)
            else:
                found.append(Action(action.application, data, inline=False, times=1))

    def _true(self, session: Session, condition: Condition, destination: str) -> tuple[bool, re.Match[str] | None]:
        """Is it met, and by what: the groups that `$1` stands for, if the expression has any."""
        if condition.rule:
            matches = [self._met(session, test, destination) for test in condition.regexes]
            true = {"all": all(matches), "any": any(matches), "xor": sum(map(bool, matches)) == 1}[condition.rule]
            met = [match for match in matches if isinstance(match, re.Match)]
            return true, met[-1] if met and "(" in met[-1].re.pattern else None
        found = self._met(session, condition.test, destination)
        if isinstance(found, bool):
            return found, None
        if found is not None and "(" in found.re.pattern:
            session.channel.set("DP_MATCH", None)
            for group in (found[0], *found.groups()):
                session.channel.add("DP_MATCH", group or "")
            return True, found
        return found is not None, None

    def _met(self, session: Session, test: Test, destination: str) -> re.Match[str] | bool | None:
        """Where a field is, the time beside it counts for nothing (mod_dialplan_xml.c:409)."""
        if test.field is not None:
            return self._match(session, test.field, test.expression, destination)
        offset = session.channel.variables.get("tod_tz_offset", "")
        return times.met(test.when, session.switch.clock.micros(), offset) is not False

    def _match(self, session: Session, name: str, expression: str, destination: str) -> re.Match[str] | None:
        if "$" in name:
            value = expand(session, self._globals(session, name))
        elif name == "destination_number":
            value = destination
        else:
            value = session.channel.field(name)
        return _compiled(expand(session, self._globals(session, expression))).search(value)

    @staticmethod
    def _globals(session: Session, text: str) -> str:
        """`$${…}`, which FreeSWITCH replaces when it reads the file; here at each use, so that a change needs no reload."""
        if "$${" not in text:
            return text
        return _GLOBAL.sub(lambda found: session.switch.globals.get(found[1], ""), text)


@cache
def _compiled(expression: str) -> re.Pattern[str]:
    # PCRE calls the very end of the text `\z`, Python `\Z`; and its `\d` are ASCII's digits
    return re.compile(expression.replace(r"\z", r"\Z"), re.ASCII)


def read_globals(path: Path) -> dict[str, str]:
    """The `set` directives of a vars.xml."""
    found: dict[str, str] = {}
    for command, data in _DIRECTIVE.findall(path.read_text(encoding="utf-8")):
        if command == "set":
            name, _, value = data.partition("=")
            found[name] = value
    return found


@cache
def _contexts(path: Path) -> dict[str, tuple[Extension, ...]]:
    text = "\n".join(_lines(path))
    try:
        root = ET.fromstring(f"<dialplan>{text}</dialplan>")
    except ET.ParseError as error:
        raise DialplanError(f"{path} and what it includes is no XML: {error}") from error
    return {
        context.get("name", ""): tuple(_extension(one) for one in context.iterfind("extension"))
        for context in root.iterfind("context")
    }


def _lines(path: Path) -> Iterator[str]:
    """A file with its includes, as FreeSWITCH's preprocessor makes it (switch_xml.c preprocess): line by line.

    A line that has `include` in angle brackets is dropped, so is each directive; an include's files come in order of name.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DialplanError(f"{path} cannot be read: {error}") from error
    for line in lines:
        if found := _DIRECTIVE.search(line):
            if found[1] == "include":
                for included in sorted(path.parent.glob(found[2])):
                    yield from _lines(included)
        elif "<include>" not in line and "</include>" not in line and not line.startswith("<?xml"):
            yield line


def _extension(element: ET.Element) -> Extension:
    _check(element)
    conditions = tuple(_condition(one) for one in element.iterfind("condition"))
    return Extension(element.get("name", "UNKNOWN"), is_true(element.get("continue")), conditions)


def _condition(element: ET.Element) -> Condition:
    _check(element)
    rule = element.get("regex", "")
    if rule not in ("", "all", "any", "xor"):
        raise DialplanError(f'<condition regex="{rule}"> is not known')
    for one in element.iterfind("regex"):
        _check(one)
    return Condition(
        _test(element),
        element.get("break", "on-false"),
        rule,
        tuple(_test(one) for one in element.iterfind("regex")),
        tuple(_action(one) for one in element.iterfind("action")),
        tuple(_action(one) for one in element.iterfind("anti-action")),
        tuple(_condition(one) for one in element.iterfind("condition")),
    )


def _test(element: ET.Element) -> Test:
    when = {name: element.get(name, "") for name in times.ATTRIBUTES if name in element.keys()}  # noqa: SIM118
    return Test(element.get("field"), element.get("expression", ""), when)


def _action(element: ET.Element) -> Action:
    _check(element)
    data = (element.text or "").strip() or element.get("data", "")
    return Action(element.get("application", ""), data, is_true(element.get("inline")), int(element.get("loop", "1")))


def _check(element: ET.Element) -> None:
    unknown = set(element.keys()) - _KNOWN[element.tag]
    children = {child.tag for child in element} - set(_KNOWN)
    if unknown or children:
        raise DialplanError(
            f"<{element.tag} {element.attrib}>: {sorted(unknown | children)} is not known to the embedded switch"
        )
