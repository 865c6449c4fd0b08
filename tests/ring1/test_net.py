"""The last net: CDR files close the records of calls that nobody had, each once, and go only when that is on disk."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from cdrworld import World, fallback_with, wav

from exoflow.calls import net as net_module
from exoflow.calls.call import Call
from exoflow.calls.cdr import CallEnd
from exoflow.calls.model import Leg


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(net_module, "LEGS_SECONDS", 0.3)
    made = World(tmp_path)
    yield made
    made.close()


# --- calls that nobody had ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "q850", "cure", "account"),
    [
        ("limit", 17, "exoflow_max_in", "acme"),
        ("drain", 41, "exoflow_drain", "acme"),
        ("number", 1, "ask the operator", None),
        ("caller", 21, "SIP gateway", "acme"),
    ],
)
def test_a_call_refused_at_the_door_has_its_record(world: World, why: str, q850: int, cure: str, account: str | None) -> None:
    world.put(f"refused-{why}")
    world.look()
    state = world.record()
    assert (state.outcome, state.reason, state.ended_by, state.q850) == ("refused", f"door.{why}", "exoflow", q850)
    assert state.facts.account == account
    (line,) = [one for one in state.journey if one.code == f"door.{why}"]
    assert line.stage == "B"
    assert cure in line.text
    assert f"heard {q850}" in line.text
    assert state.journey[0].code == "call.arrived"
    sent = world.deliveries(state)
    assert [one.type for one in sent] == ([] if account is None else ["call.missed"])
    assert world.files == []


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("refused-limit", "door.limit"),
        ("refused-drain", "door.drain"),
        ("fallback-refused", "fallback.refused"),
        ("fallback-deaths", "fallback.deaths"),
    ],
)
def test_calls_that_no_app_had_are_counted_once_in_the_hour_in_which_they_ended(world: World, file: str, name: str) -> None:
    for _ in range(3):
        world.put(file)
    world.look()
    world.restart()
    world.put(file)
    world.look()
    ended = world.records()[0].ended_at
    assert ended is not None
    hour = ended.replace(minute=0, second=0, microsecond=0)
    assert world.counted() == {(hour, name, "PRI1"): 4.0}


def test_a_call_that_was_ours_and_then_the_fallbacks_is_counted(world: World) -> None:
    world.call(world.put("fallback-deaths"))
    world.look()
    assert [(name, trunk, amount) for (_, name, trunk), amount in world.counted().items()] == [("fallback.deaths", "PRI1", 1.0)]


def test_who_is_refused_by_exoflow_itself_is_counted_by_exoflow_itself(world: World) -> None:
    world.put("refused-limit", exo_refused="app")
    world.put("left-before-an-app")
    world.look()
    assert len(world.records()) == 2
    assert world.counted() == {}


def test_a_withheld_number_stays_withheld(world: World) -> None:
    world.put("refused-limit")
    world.look()
    facts = world.record().facts
    assert (facts.caller, facts.caller_raw, facts.caller_withheld) == (None, "", True)


def test_a_call_that_exoflow_itself_refused_without_a_record(world: World) -> None:
    world.put("refused-limit", exo_refused="app")
    world.put("refused-limit", exo_refused="lunch")
    world.look()
    texts = {state.reason: state.journey[-1].text for state in world.records()}
    assert "switch.max_calls" in texts["door.app"]
    assert "lunch" in texts["door.lunch"]


def test_whom_exoflow_refuses_it_may_be_recording_at_the_moment(world: World) -> None:
    channel = world.put("refused-limit", exo_refused="app", age=0)
    world.look()
    assert world.records() == []
    assert world.files == [f"{channel}.cdr.json"]


def test_a_file_from_before_the_clock_was_put_right(world: World) -> None:
    world.put("left-before-an-app", age=-365 * 86400)
    world.look()
    assert world.record().reason == "door.left"


@pytest.mark.parametrize("why", ["refused", "guard", "deaths"])
def test_a_call_that_heard_the_fallbacks_announcement(world: World, why: str) -> None:
    world.put(f"fallback-{why}")
    world.look()
    state = world.record()
    assert (state.outcome, state.reason, state.facts.account) == ("missed", "door.fallback", "acme")
    (line,) = [one for one in state.journey if one.code == "door.fallback"]
    assert "announcement" in line.text
    assert line.evidence == {"why": why}
    assert state.answered_at is not None
    assert [one.type for one in world.deliveries(state)] == ["call.missed"]
    assert world.files == []


def test_a_call_that_the_fallback_connected(world: World) -> None:
    fallback_with(world, "busy", "answered")
    world.look()
    state = world.record()
    assert (state.outcome, state.reason) == ("answered", "")
    assert [(leg.outcome, leg.agent, leg.number) for leg in state.legs] == [
        ("busy", "asha", "+919876543210"),
        ("answered", "asha", "+919876543210"),
    ]
    assert 0.8 < state.legs[1].talk_seconds < 1.5
    assert {"door.fallback", "leg.busy", "leg.talked"} <= {one.code for one in state.journey}
    assert [one.type for one in world.deliveries(state)] == ["call.ended"]
    assert world.files == []


@pytest.mark.parametrize(("recorded", "state"), [(1.1, "good"), (0.0, "failed"), (9.0, "failed")])
def test_the_fallbacks_recording_is_judged_like_any(world: World, recorded: float, state: str) -> None:
    path = world.config.switch.recordings / "acme" / "fallback.wav"
    if recorded:
        wav(path, recorded)
    fallback_with(world, "answered", exo_fallback_record=str(path), RECORD_STEREO="true")
    world.look()
    (recording,) = world.record().recordings
    assert (recording.state, recording.channels, recording.path) == (state, 2, str(path))
    assert recording.seconds == (recorded or None)
    assert (recording.problem == "") is (state == "good")


def test_no_file_elsewhere_is_taken_for_a_recording(world: World) -> None:
    wav(world.folder / "elsewhere.wav", 1.1)
    fallback_with(world, "answered", exo_fallback_record=f"{world.config.switch.recordings}/../elsewhere.wav")
    world.look()
    assert world.record().recordings == []


def test_a_call_whose_fallback_reached_nobody(world: World) -> None:
    fallback_with(world, "busy", "no-answer")
    world.look()
    state = world.record()
    assert (state.outcome, state.wanted_agent, [leg.outcome for leg in state.legs]) == ("missed", True, ["busy", "no_answer"])
    assert world.deliveries(state)[0].type == "call.missed"


def test_a_caller_who_left_before_any_app(world: World) -> None:
    world.put("left-before-an-app")
    world.look()
    state = world.record()
    assert (state.outcome, state.reason, state.ended_by, state.caller_left) == ("abandoned", "door.left", "caller", True)
    assert state.ended_at is not None
    assert state.facts.created_at < state.ended_at
    assert len(world.deliveries(state)) == 1


def test_a_call_that_an_app_may_still_be_taking_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_module, "ARRIVAL_SECONDS", 0.3)
    channel = world.put("left-before-an-app", age=0)
    world.look()
    assert world.records() == []
    call = world.call(channel)
    world.sessions.add(channel)
    gevent.sleep(0.35)
    world.look()
    assert world.record().facts.id == call.id
    assert world.files == [f"{channel}.cdr.json"]


def test_a_record_that_was_never_written_keeps_the_id_that_the_channel_bears(world: World) -> None:
    """The app marked the channel, and died while the store was slow."""
    channel = world.put("left-after-a-death")
    world.look()
    assert world.record().facts.id == "0123456789abcdef" * 2
    assert world.record().facts.channel == channel


def test_no_record_is_written_over_by_anothers_id(world: World) -> None:
    first = world.put("left-after-a-death")
    world.look()
    second = world.put("left-after-a-death")
    world.look()
    assert {state.facts.channel for state in world.records()} == {first, second}
    assert len({state.facts.id for state in world.records()}) == 2


# --- calls that were ours -------------------------------------------------------------------------


def test_a_call_with_a_session_is_left_to_it_and_the_file_goes_with_the_record(world: World) -> None:
    channel = str(uuid.uuid4())
    call = world.call(channel)
    world.sessions.add(channel)
    world.put("served", channel)
    world.look()
    assert (world.finished, world.files) == ([], [f"{channel}.cdr.json"])
    assert call.close("served")
    world.sessions.clear()
    world.look()
    assert (world.finished, world.files) == ([], [])
    assert len(world.deliveries(world.record())) == 1


def test_a_call_without_an_app_is_finished(world: World) -> None:
    channel = world.put("left-after-a-death")
    call = world.call(channel)
    world.look()
    assert (world.finished, world.files) == ([call.id], [])
    assert world.record().outcome == "served"


def test_a_call_of_a_dead_process_is_finished(world: World) -> None:
    channel = world.put("left-after-a-death")
    call = world.call(channel)
    world.restart()
    world.look()
    assert (world.finished, world.files) == ([call.id], [])
    assert world.record().outcome == "served"
    assert len(world.deliveries(world.record())) == 1


def test_the_agents_files_are_there_when_a_call_is_finished(world: World) -> None:
    """They are written at the same moment, but not always before the caller's."""
    channel = world.put("left-after-a-death")
    call = world.call(channel)
    call.add_leg(Leg("leg-answered", 1, "+919876543210", "PRI1"))
    there: list[bool] = []

    def finish(call: Call, end: CallEnd) -> None:
        there.append(world.path("leg-answered").exists())
        world._finish(call, end)

    world.finish = finish
    gevent.spawn_later(0.1, world.put, "leg-answered", "leg-answered", age=0)
    world.look()
    assert there == [True]
    assert world.files == []


def test_a_call_that_comes_back_while_its_file_is_read_is_left_alone(world: World) -> None:
    channel = world.put("left-after-a-death")
    call = world.call(channel)
    call.add_leg(Leg("leg-missing", 1, "+919876543210", "PRI1"))  # waited for
    gevent.spawn_later(0.1, world.sessions.add, channel)
    world.look()
    assert (world.finished, call.closed) == ([], False)
    assert world.files == [f"{channel}.cdr.json"]


@pytest.mark.parametrize("error", [KeyError("a fault of ours"), net_module.ExoflowError("the store")])
def test_steps_that_cannot_be_done_leave_an_end_all_the_same(world: World, error: Exception) -> None:
    def fails(call: Call, end: CallEnd) -> None:
        raise error

    world.finish = fails
    channel = world.put("left-after-a-death")
    call = world.call(channel)
    call.wants_agent()
    call.add_leg(Leg("leg-answered", 1, "+919876543210", "PRI1"))
    world.put("leg-answered", "leg-answered")
    world.look()
    state = world.record()
    assert (state.outcome, state.ended_by, state.cause) == ("answered", "caller", "NORMAL_CLEARING")
    assert 0.8 < state.legs[0].talk_seconds < 1.5
    assert [one.type for one in world.deliveries(state)] == ["call.ended"]
    assert world.files == []


def test_steps_that_hang_leave_an_end_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_module, "ENDING_SECONDS", 0.1)
    world.finish = lambda call, end: gevent.sleep(60)
    world.call(world.put("left-after-a-death"))
    world.look()
    assert world.record().outcome == "abandoned"
    assert world.files == []


def test_a_call_of_ours_that_ended_in_the_fallback(world: World) -> None:
    channel = fallback_with(world, "answered")
    call = world.call(channel)
    world.look()
    state = world.record()
    assert world.finished == [call.id]
    assert [leg.outcome for leg in state.legs] == ["answered"]
    assert "door.fallback" in {one.code for one in state.journey}
