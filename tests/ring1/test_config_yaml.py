"""Scalars of YAML 1.2, the place of everything, and limits against hostile files."""

import copy
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exoflow.config import yaml12
from exoflow.config.load import load

YAML = Path(__file__).parent.parent / "config/yaml"


def test_scalars_stay_what_they_look_like():
    document = yaml12.read(YAML / "scalars.yaml")
    assert document.findings == []
    assert document.value == {
        "plus": "+919876543210",
        "long": "918030752400",
        "zero": "0123",
        "clock": "12:30",
        "no": "no",
        "yes": "Yes",
        "date": "2026-01-05",
        "octal": "0o17",
        "hex": "0x1F",
        "exponent": "1e3",
        "under": "1_000",
        "infinity": ".inf",
        "int": 42,
        "minus": -7,
        "nought": 0,
        "float": 2.5,
        "true": True,
        "null": None,
        "tilde": None,
        "empty": None,
        "quoted": "42",
        "single": "true",
        "block": "two\nlines\n",
        "list": [1, "no", "1"],
        "1": "one",
    }


def _read(tmp_path, text):
    file = tmp_path / "x.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return yaml12.read(file)


def test_merge_and_alias(tmp_path):
    document = _read(
        tmp_path,
        "base: &base {a: 1, b: {c: 2}}\none: {<<: *base, a: 3}\ntwo:\n  b: 4\n  <<: [{b: 5, d: 6}, *base]\nthree: *base\n",
    )
    assert document.findings == []
    assert document.value["one"] == {"a": 3, "b": {"c": 2}}
    assert document.value["two"] == {"b": 4, "d": 6, "a": 1}
    assert document.value["three"] is document.value["base"]
    # what came by a merge or an alias stands where it was written
    assert document.find(("one", "a")) == (2, 21)
    assert document.find(("one", "b", "c")) == (1, 27)
    assert document.find(("three", "a")) == (1, 17)


def test_places(tmp_path):
    document = _read(tmp_path, "a:\n  - x: ü\n    y: [1, 2]\n  - {z: 3}\n")
    assert document.find(("a",)) == (1, 1)
    assert document.find(("a", 0, "x")) == (2, 8)
    assert document.find(("a", 0, "x"), key=True) == (2, 5)
    assert document.find(("a", 0, "y", 1)) == (3, 12)
    assert document.find(("a", 1, "z")) == (4, 9)
    # of a path that is not there, the longest part that is
    assert document.find(("a", 1, "nowhere", 5)) == (4, 5)
    assert document.find(("nowhere",)) == (1, 1)


def test_column_counts_characters_not_bytes(tmp_path):
    assert _read(tmp_path, 'a: {"नमस्ते": 1, b: 2}\n').find(("a", "b")) == (1, 21)


def test_byte_order_mark_and_windows_lines(tmp_path):
    document = _read(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert document.value == {"a": 1, "b": 2}
    assert document.find(("b",), key=True) == (2, 1)


def _bomb():
    names = "abcdefghijklmnop"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{before}'] * 10)}]" for before, n in itertools.pairwise(names)]
    return "\n".join(lines)


def _deep_by_aliases():
    deep = f"{'[' * 40}{']' * 40}"
    return f"a: &a {deep}\nb: {'[' * 20}*a{']' * 20}\n"


HOSTILE = {
    "alias bomb": (_bomb(), "E105"),
    "deep list": ("a: " + "[" * 400_000, "E105"),
    "deep block": ("- " * 400_000 + "x", "E105"),
    "deep mapping": ("a: " + "{a: " * 200_000, "E105"),
    "deep by aliases": (_deep_by_aliases(), "E105"),
    "long value": ("store: " + "x" * 900_000, "E105"),
    "large file": ("a: b\n" * 300_000, "E102"),
    "many values": ("a: [" + "1," * 400_000 + "]", "E105"),
    "lone surrogate": ('a: "\\ud800"', "E104"),
    "not a file": (None, "E101"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_one_finding(name, tmp_path):
    text, code = HOSTILE[name]
    file = tmp_path / "exoflow.yaml"
    if text is None:
        file.mkdir()
    else:
        file.write_text(text)
    loaded = load(file, {})
    assert loaded.config is None
    assert [f.code for f in loaded.findings] == [code]


def test_missing_file_names_the_cure():
    [finding] = load(Path("/nonexistent/exoflow.yaml"), {}).findings
    assert str(finding) == ("/nonexistent/exoflow.yaml: error: E101 there is no such file; name the main file with `-c`")


WORDS = ("a", "1", "no", "+91", "<<", "trunks:", "flows:", "steps:", "menu:", "keys:", "say:", "main:", "next:", "{}", "[]")
PIECES = st.sampled_from([*WORDS, *":-[]{},&*<!?#|>'\"%@`~ \n\t\x00\u2028é", "  ", "\n  ", ": ", "- "])


@given(st.lists(PIECES, max_size=60).map("".join) | st.binary(max_size=100))
@settings(max_examples=150, deadline=None)
def test_no_file_makes_the_check_fail(tmp_path_factory, text):
    """Whatever stands in a file, the answer is findings: as main file and as an account's."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "exoflow.yaml").write_text("trunks: {PRI1: {span: PRI1}}\naccounts: 'a*.yaml'\n")
    account = folder / "acme.yaml"
    account.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert load(folder / "exoflow.yaml", {}).errors
    assert load(account, {}).errors


def _paths(value, path=()):
    """Every place in a tree."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _paths(inner, (*path, key))


DESIGN = {
    "exoflow.yaml": yaml12.read(YAML.parent / "design/exoflow.yaml").value,
    "accounts/acme.yaml": yaml12.read(YAML.parent / "design/accounts/acme.yaml").value,
}
ODD = [
    None,
    5,
    2.5,
    True,
    "",
    "x",
    "${x}",
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    {"say": "a", "menu": {}},
    {"hangup": []},
    "main",
    ["bye"],
]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_value_in_any_place_makes_the_check_fail(tmp_path_factory, data):
    """Odd values where something else belongs: findings at places in the file, never an exception."""
    files = copy.deepcopy(DESIGN)
    for _ in range(data.draw(st.integers(1, 3))):
        *inner, last = data.draw(st.sampled_from([(f, *p) for f, tree in files.items() for p in _paths(tree)]))
        at = files
        for part in inner:
            at = at[part]
        at[last] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    folder = tmp_path_factory.mktemp("odd")
    (folder / "accounts").mkdir()
    (folder / "esl.password").write_text("test")
    for name, tree in files.items():
        (folder / name).write_text(json.dumps(tree, indent=1))
    loaded = load(folder / "exoflow.yaml", {})
    assert (loaded.config is None) == bool(loaded.errors)
    for finding in loaded.findings:
        lines = finding.path.read_text().splitlines()
        assert 1 <= finding.line <= len(lines)
        assert 1 <= finding.col <= len(lines[finding.line - 1])
