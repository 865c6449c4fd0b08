"""Scalars of YAML 1.2, the place of everything, and limits against hostile files."""

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
        "base: &base {a: 1, b: {c: 2}}\n"
        "one: {<<: *base, a: 3}\n"
        "two:\n  b: 4\n  <<: [{b: 5, d: 6}, *base]\n"
        "three: *base\n",
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
    lines += [f"{n}: &{n} [{', '.join([f'*{before}'] * 10)}]" for before, n in zip(names, names[1:], strict=False)]
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
    assert str(finding).startswith("/nonexistent/exoflow.yaml:1:1: error: E101 cannot be read: No such file or directory; check")


PIECES = st.sampled_from(
    "a b : - [ ] { } , & * < ! ? # | > ' \" % @ ` ~ \n \t << 0 1 no +91 trunks: flows: steps: menu: keys: say: name: start: main: "
    "numbers: agents: groups: next: hangup: {} []".split(" ") + [" ", "  ", "\n", "\n  ", ": ", "- ", "\x00", "\u2028", "é"]
)


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
