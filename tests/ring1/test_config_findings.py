"""Each folder in tests/config is a configuration with mistakes; `findings.txt` beside it says what is found, and where."""

import re
from pathlib import Path

import pytest

from exoflow.config.findings import RULES, rules_page
from exoflow.config.load import load

CONFIGS = Path(__file__).parent.parent / "config"
CASES = sorted(folder.parent.name for folder in CONFIGS.glob("*/findings.txt"))
ENVIRON = {"EXOFLOW_TEST_SECRET": "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0"}
# shown by tests of their own: files that are too large, not there, or of the other kind; names of folders and ports
ELSEWHERE = {"E101", "E102", "E111", "E610", "W611", "W612", "E808"}


@pytest.mark.parametrize("case", CASES)
def test_findings(case, monkeypatch):
    monkeypatch.chdir(CONFIGS / case)
    loaded = load(Path("exoflow.yaml"), ENVIRON)
    found = [str(f).replace(str(CONFIGS / case), "{case}") for f in loaded.findings]
    assert found == Path("findings.txt").read_text().splitlines()
    assert (loaded.config is None) == any(": error: " in line for line in found)


YAML = sorted(file.name for file in (CONFIGS / "yaml").glob("*.yaml"))


@pytest.mark.parametrize("name", YAML)
def test_yaml(name, monkeypatch):
    """Mistakes in the YAML itself: the first line of the file's `.txt` is the finding, no text means none."""
    monkeypatch.chdir(CONFIGS / "yaml")
    found = [str(f) for f in load(Path(name), {}).findings if f.code.startswith("E1")]
    expected = Path(name).with_suffix(".txt")
    assert found == (expected.read_text().splitlines() if expected.exists() else [])


def test_every_rule_is_shown():
    shown = {
        code for file in CONFIGS.rglob("*.txt") for code in re.findall(r"(?:error|warning): ([EW]\d{3}) ", file.read_text())
    }
    assert shown | ELSEWHERE == set(RULES)


def test_documentation_lists_every_rule():
    assert (CONFIGS.parents[1] / "docs/config-findings.md").read_text() == rules_page()
