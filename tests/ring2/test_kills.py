"""A few of the kills of `make faults` (tests/faults): whole calls on a real FreeSWITCH, under an exoflow that dies."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from faults import away
from faults.judge import judge, judge_each, percentile
from faults.killed import Killed
from faults.kills import play, settle
from support.supervisor import RESTART_SECONDS

from ring2.box import Box
from ring2.network import Exchange
from ring2.site import entry

KILLS, SEED = 4, 11
SETTLED_SECONDS = 1.0  # of silence behind a restart: the call given to exoflow, looked up, and its prompt begun


@pytest.fixture
def site(switches: tuple[Box, Exchange], fs: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    running = Killed(*switches, tmp_path_factory.mktemp("killed") / "exoflow")
    try:
        running.start()
        yield running
    finally:
        running.stop()
        running.box.api("reloadxml")


def test_kills_at_random_moments_lose_nothing_and_do_nothing_twice(site: Killed) -> None:
    calls = play(site, KILLS, SEED)
    found = judge(site, calls)
    assert found.violations == []
    assert found.counts["calls that met a kill"] > KILLS
    starts = [life.ready_at - life.started_at for life in site.supervisor.lives if life.ready_at is not None]
    assert percentile(found.silences, 1) < RESTART_SECONDS + max(starts) + SETTLED_SECONDS, "a start takes as long as it takes"


def test_callers_who_leave_while_no_exoflow_is_there_have_their_records(site: Killed) -> None:
    took: list[float] = []
    calls = away.leaves(site, random.Random(SEED), took)
    assert max(took) < away.RECORD_SECONDS
    settle(site, calls)
    assert judge(site, calls).violations == []


def test_a_talk_that_ends_while_no_exoflow_is_there_is_recorded_apart_from_the_fallbacks(site: Killed) -> None:
    calls = away.talks_on(site, random.Random(SEED))
    settle(site, calls)
    assert judge_each(site, calls, served=True).violations == []
    state = site.stored(calls[0].channel)
    assert state is not None
    assert "The dialplan's fallback had the call until its end" in entry(state, "call.resumed").text
