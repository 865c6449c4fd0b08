"""Reads a YAML file with the scalars of YAML 1.2 and remembers where everything stands.

PyYAML's own rules (YAML 1.1) damage flows: `+919876543210` loses its plus, `12:30` becomes 750, `0123` 83, `no` False,
and of a duplicate key the last value wins in silence (facts, dependencies.md section 6). So the values are built here,
straight from libyaml's events: keys are always text, plain scalars become numbers only where nobody could mean a text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from exoflow.config.findings import Finding, finding

MAX_BYTES: Final = 1 << 20  # 2,000 steps have some 300 kB; parsing 1 MiB takes about a second
MAX_DEPTH: Final = 50  # a flow nests 8 deep; recursion elsewhere stays far below Python's limit
MAX_NODES: Final = 250_000  # aliases counted as often as they are used, so an alias bomb ends here
MAX_TEXT: Final = 10_000  # characters of one value; the longest prompt has 2,000
TOO_DEEP: Final = f"nested deeper than {MAX_DEPTH} levels; no part of a configuration is"

_INT: Final = re.compile(r"0|-?[1-9][0-9]{0,8}")  # longer ones are telephone numbers
_FLOAT: Final = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None, "~": None, "": None}
_TEXT_TAGS: Final = (None, "!", "tag:yaml.org,2002:str")
# what YAML allows in a file (spec 1.2.2, section 5.1); the rest would end libyaml's reading without a place
_NOT_PRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Mark = tuple[int, int]  # line and column, from 1


@dataclass(slots=True)
class Place:
    """Where a value stands, and where the keys and values in it do."""

    mark: Mark
    keys: dict[Any, Mark] = field(default_factory=dict)
    values: dict[Any, Place | Mark] = field(default_factory=dict)


@dataclass(slots=True)
class Document:
    path: Path
    value: Any = None
    text: str = ""  # as it was read
    place: Place | Mark = (1, 1)
    findings: list[Finding] = field(default_factory=list)

    def find(self, where: tuple[Any, ...], *, key: bool = False) -> Mark:
        """Line and column of the value at this path, or of its key; of the longest part of the path that exists."""
        place, mark = self.place, self.place.mark if isinstance(self.place, Place) else self.place
        for i, part in enumerate(where):
            if not isinstance(place, Place) or part not in place.values:
                break
            last = i == len(where) - 1
            key_mark = place.keys.get(part)
            place = place.values[part]
            mark = place.mark if isinstance(place, Place) else place
            # a mapping or list inside is best shown by the key in front of it
            if key_mark is not None and ((key and last) or isinstance(place, Place)):
                mark = key_mark
        return mark

    def at(self, code: str, message: str, *where: Any, key: bool = False) -> Finding:
        line, col = self.find(where, key=key)
        return finding(code, message, self.path, line, col)


def read(path: Path) -> Document:
    """Reads one file; whatever is wrong with it stands in the document's findings."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        return Document(path, findings=[finding("E101", _unreadable(path, error), path, line=0)])
    return parse(path, raw)


def _unreadable(path: Path, error: OSError) -> str:
    """Why a file was not read, and the cure."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file; name the main file with `-c`"
    if isinstance(error, IsADirectoryError):
        return f"this is a folder; name a file in it, e.g. {path / 'exoflow.yaml'}"
    if isinstance(error, PermissionError):
        return "this user may not read it; check the rights of the file and of its folders"
    return f"cannot be read: {error.strerror}"


def parse(path: Path, raw: bytes) -> Document:
    """A file's bytes, as if they had been read from `path`."""
    document = Document(path)
    if len(raw) > MAX_BYTES:
        message = f"larger than {MAX_BYTES // 1024} KiB; split it into several accounts"
        document.findings.append(finding("E102", message, path, line=0))
        return document
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", "replace")
        line, col = _position(before)
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        document.findings.append(finding("E103", message, path, line, col))
        return document
    if odd := _NOT_PRINTABLE.search(text):
        line, col = _position(text[: odd.start()])
        message = f"control character U+{ord(odd.group()):04X}; delete it or write it as an escape in double quotes"
        document.findings.append(finding("E103", message, path, line, col))
        return document
    document.text = text
    _Builder(document, text).build()
    return document


def _position(before: str) -> Mark:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _TooMuch(Exception):
    """A limit was passed; the finding is written and reading ends."""


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read."""

    value: dict[str, Any] | list[Any]
    place: Place
    anchor: str | None
    nodes: int = 1  # in it, aliases counted in full
    height: int = 1  # levels in it
    key: str | None = None  # read, its value comes next
    key_mark: Mark = (0, 0)
    merges: list[tuple[Any, Place | Mark, Mark]] = field(default_factory=list)
    merging: bool = False


@dataclass(slots=True)
class _Anchored:
    value: Any
    place: Place | Mark
    nodes: int
    height: int


class _Builder:
    """Values and places from libyaml's events, without recursion."""

    def __init__(self, document: Document, text: str) -> None:
        self.document, self.text = document, text
        self.stack: list[_Open] = []
        self.anchors: dict[str, _Anchored] = {}
        self.nodes = 0
        self.documents = 0

    def build(self) -> None:
        try:
            for event in yaml.parse(self.text, Loader=yaml.CSafeLoader):
                self._take(event)
        except _TooMuch:
            return
        except yaml.MarkedYAMLError as error:
            self._syntax(error)
            return
        except yaml.YAMLError as error:
            self._found("E104", f"not YAML: {error}", (1, 1))
            return
        if self.documents == 0 or self.document.value is None:
            self._found("E106", "the file is empty; `examples/acme` shows what belongs in it", (1, 1))

    def _found(self, code: str, message: str, mark: Mark) -> None:
        self.document.findings.append(finding(code, message, self.document.path, *mark))

    def _syntax(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        line, col = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        lines = self.text.splitlines()
        shown = "\n".join(lines[max(0, line - 2) : line])  # the mistake is often in the line before
        problem = " ".join(filter(None, (error.context, error.problem)))
        if "maximum nesting depth" in problem:  # of 1,000, from libyaml 0.2.6 on: its scanner is ahead of its events
            self._found("E105", TOO_DEEP, (line, col))
            return
        self._found("E104", f"not YAML: {problem}; {_syntax_cure(shown, problem)}", (line, col))

    def _take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        assert mark is not None  # libyaml's events have one
        at = (mark.line + 1, mark.column + 1)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, at)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._open(event, at)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor or "", at)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self._found("E106", "a second document (`---`) in one file; make it a file of its own", at)
                raise _TooMuch

    def _scalar(self, event: yaml.ScalarEvent, at: Mark) -> None:
        text = event.value
        if len(text) > MAX_TEXT:
            self._found("E105", f"a value of {len(text)} characters; at most {MAX_TEXT} are taken", at)
            raise _TooMuch
        if event.tag not in _TEXT_TAGS:
            self._found("E107", f"the tag {event.tag} is not taken; write the plain value", at)
        plain = event.tag is None and event.implicit[0]
        if self._wants_key():
            self._key(text, at, merge=plain and text == "<<")
            return
        value = _plain(text) if plain else text
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(value, at, 1, 0)
        self._count(1, at)
        self._put(value, at, 1, 0)

    def _open(self, event: yaml.CollectionStartEvent, at: Mark) -> None:
        if self._wants_key():
            self._found("E105", "a list or mapping cannot be a key; quote the key if it is a text", at)
            raise _TooMuch
        if event.tag not in (None, "!"):
            self._found("E107", f"the tag {event.tag} is not taken; leave it out", at)
        if len(self.stack) >= MAX_DEPTH:
            self._too_deep(at)
        self._count(1, at)
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.stack.append(_Open(value, Place(at), event.anchor))

    def _close(self) -> None:
        done = self.stack.pop()
        for value, place, mark in done.merges:
            self._merge(done, value, place, mark)
        if done.anchor is not None:
            self.anchors[done.anchor] = _Anchored(done.value, done.place, done.nodes, done.height)
        self._put(done.value, done.place, done.nodes, done.height)

    def _alias(self, name: str, at: Mark) -> None:
        if self._wants_key():
            self._found("E105", f'the alias *{name} cannot be a key; the star key of a phone is written "*"', at)
            raise _TooMuch
        anchored = self.anchors.get(name)
        if anchored is None:
            self._found("E108", f"no anchor &{name} before this alias{_inside(self.stack, name)}", at)
            raise _TooMuch
        if len(self.stack) + anchored.height > MAX_DEPTH:
            self._too_deep(at)
        self._count(anchored.nodes, at)
        self._put(anchored.value, anchored.place, anchored.nodes, anchored.height)

    def _too_deep(self, at: Mark) -> None:
        self._found("E105", TOO_DEEP, at)
        raise _TooMuch

    def _count(self, nodes: int, at: Mark) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self._found("E105", f"more than {MAX_NODES} values, aliases counted in full; write less with aliases", at)
            raise _TooMuch

    def _wants_key(self) -> bool:
        return bool(self.stack) and self.stack[-1].key is None and isinstance(self.stack[-1].value, dict)

    def _key(self, text: str, at: Mark, *, merge: bool) -> None:
        inside = self.stack[-1]
        inside.key, inside.key_mark, inside.merging = text, at, merge

    def _put(self, value: Any, place: Place | Mark, nodes: int, height: int) -> None:
        """Puts a finished value where it belongs."""
        if not self.stack:
            self.document.value, self.document.place = value, place
            return
        inside = self.stack[-1]
        inside.nodes += nodes
        inside.height = max(inside.height, height + 1)
        if isinstance(inside.value, list):
            inside.place.values[len(inside.value)] = place
            inside.value.append(value)
            return
        key, mark = inside.key, inside.key_mark
        assert key is not None
        inside.key = None
        if inside.merging:
            inside.merges.append((value, place, mark))
        elif key in inside.value:
            self._found("E110", f"duplicate key `{key}` (first at line {inside.place.keys[key][0]}); remove one of them", mark)
        else:
            inside.value[key] = value
            inside.place.keys[key], inside.place.values[key] = mark, place

    def _merge(self, into: _Open, value: Any, place: Place | Mark, mark: Mark) -> None:
        """`<<: *base` gives what `base` has and this mapping has not; of a list the first wins."""
        sources = (
            list(zip(value, place.values.values(), strict=True))
            if isinstance(value, list) and isinstance(place, Place)
            else [(value, place)]
        )
        assert isinstance(into.value, dict)
        for source, source_place in sources:
            if not isinstance(source, dict) or not isinstance(source_place, Place):
                self._found("E109", "`<<` takes a mapping or a list of mappings, e.g. `<<: *base`", mark)
                continue
            for key in source.keys() - into.value.keys():
                into.value[key] = source[key]
                into.place.keys[key], into.place.values[key] = source_place.keys[key], source_place.values[key]


def _plain(text: str) -> Any:
    """What an unquoted scalar is."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first.isdigit() or first == "-":
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def _inside(stack: list[_Open], name: str) -> str:
    return "; it is used inside itself" if any(o.anchor == name for o in stack) else "; anchors come first, aliases after"


def _syntax_cure(lines: str, problem: str) -> str:
    """The usual slips, by what stands in the line and the one before."""
    if re.search(r"^ *\t", lines, re.MULTILINE):
        return "indent with spaces, not with tabs"
    if re.search(r"(^|[\s{,])\*\s*:", lines):
        return 'quote the star key: "*"'
    if re.search(r"[{,]\s*#", lines):
        return 'look for a missing `}`, `]` or comma, and quote the hash key: "#"'
    if "flow mapping" in problem or "flow sequence" in problem:
        return "look for a missing `}`, `]` or comma; a text with `: `, `{` or `#` in it needs quotes"
    if "mapping values are not allowed" in problem:
        return "a text with `: ` in it needs quotes; else look at the indentation"
    if "alias" in problem or "anchor" in problem:
        return "a text that begins with * or & needs quotes"
    return "look at the indentation, quotes and colons of this and the line before"
