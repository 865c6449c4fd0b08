"""What docs/reliability.md and `make faults` say is shown by a test is shown by one that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from faults import EMBEDDED, Row, trials
from faults.__main__ import experiments

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"


def test_each_test_that_the_page_names_is_there() -> None:
    named = 0
    for line in PAGE.read_text().splitlines():
        where = "ring 1"
        for ring, name in re.findall(r"(ring [12])|`(test_\w+)`", line):
            where = ring or where
            if name:
                named += 1
                assert (TESTS / where.replace(" ", "") / f"{name}.py").exists(), f"{where} has no {name}"
    assert named > 30


def test_each_experiment_that_the_page_names_is_there() -> None:
    known = set(experiments([]))
    named = {word for words in re.findall(r"`make faults` \(([a-z, ]+)\)", PAGE.read_text()) for word in words.split(", ")}
    assert named
    assert named <= known


@pytest.mark.parametrize("trial", trials.TRIALS, ids=lambda trial: trial.name)
def test_a_trials_tests_are_there(trial: trials.Trial) -> None:
    assert bool(trial.tests or trial.real) != bool(trial.missing)
    for ring, tests in (("ring1", trial.tests), ("ring2", trial.real)):
        for one in tests:
            file, _, name = one.partition("::")
            assert f"def {name or 'test_'}" in (TESTS / ring / file).read_text()


@pytest.mark.parametrize(
    ("body", "result", "told"),
    [
        ("assert True", "held", "1 tests held"),
        ("assert False", "BROKEN", "1 failed"),
        ("import pytest; pytest.skip('not here')", "NOT SHOWN", "1 skipped"),
        ("import pytest; pytest.xfail('stock')", "held", "1 tests held"),
    ],
)
def test_a_row_says_how_its_tests_ended(tmp_path: Path, body: str, result: str, told: str) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(f"def test_it():\n    {body}\n")
    row = trials.row(trials.Trial("it"), EMBEDDED, [str(file)])
    assert (row.result, row.told.partition(":")[0]) == (result, told)


def test_no_test_is_no_success(tmp_path: Path) -> None:
    row = trials.row(trials.Trial("it"), EMBEDDED, [str(tmp_path / "test_none.py")])
    assert isinstance(row, Row)
    assert row.result == "NOT SHOWN"
