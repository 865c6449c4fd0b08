"""What is known of a call, as it is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from exoflow.calls.model import Entry, in_order

BEGAN = datetime(2026, 11, 8, 20, tzinfo=UTC)


def entry(seq: int, seconds: float) -> Entry:
    return Entry(seq, BEGAN + timedelta(seconds=seconds), "C", f"line.{seq}", "")


def test_what_was_found_out_later_stands_where_it_belongs() -> None:
    lines = [entry(1, 0), entry(2, 10), entry(3, 3600), entry(4, 5), entry(5, 20), entry(6, 3601)]
    assert [one.seq for one in in_order(lines)] == [1, 4, 2, 5, 3, 6]


def test_two_clocks_do_not_change_the_order() -> None:
    """FreeSWITCH's times are some tens of milliseconds behind ours."""
    lines = [entry(1, 10), entry(2, 9.98), entry(3, 9.5), entry(4, 10.1)]
    assert [one.seq for one in in_order(lines)] == [1, 2, 3, 4]
