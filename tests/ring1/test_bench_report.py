"""bench/RESULTS.md is written anew by `make bench`, but for what other commands measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import report


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "RESULTS.md"
    monkeypatch.setattr(report, "RESULTS", path)
    return path


def write(*sections: str) -> None:
    report.write(sections, freeswitch="none", minutes=1.0, load=(0.0, 0.0))


def test_what_make_faults_measured_stays(results: Path) -> None:
    write("## The plain call", "old")
    by_hand = f"{report.BY_FAULTS}\n\n| what | measured |\n\n## Lists\n\nby hand, too\n"
    results.write_text(f"{results.read_text()}\n{by_hand}")
    for figure in ("new", "newer"):
        write("## The plain call", figure)
        text = results.read_text()
        assert text.endswith(f"\n\n{by_hand}")
        assert text.count(by_hand) == 1
        assert f"\n{figure}\n" in text
        assert "old" not in text


def test_the_kept_sections_are_found_in_the_page_that_is_there() -> None:
    assert report.RESULTS.read_text().count(f"\n{report.BY_FAULTS}\n") == 1


def test_a_reach_that_is_not_met_says_so() -> None:
    assert report.verdict(12.7, 4, " ms") == "at most 4 ms | **not met**"
    assert report.verdict(3.9, 4, " ms").endswith("**met**")
