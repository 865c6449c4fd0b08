"""The last net: CDR files close the records of calls that nobody had, each once, and go only when that is on disk."""

from __future__ import annotations

import json
import os
import time
import uuid
import wave
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
import pytest
from hall import eventually

from exoflow.calls import net as net_module
from exoflow.calls.book import CallBook
from exoflow.calls.call import Call
from exoflow.calls.cdr import CallEnd
from exoflow.calls.cdrfolder import STRANGE, STRANGE_MOST
from exoflow.calls.lookup import Delivery, deliveries_of
from exoflow.calls.model import CallFacts, CallState, Leg
from exoflow.calls.net import Net
from exoflow.config.load import load
from exoflow.config.model import Config
from exoflow.store import open_store
from exoflow.store.counts import by_hour
from exoflow.store.sqlite import Store

RECORDED = Path(__file__).parents[1] / "cdr"
MAIN = {
    "switch": {"event_socket": {"password": "x"}, "cdr": "cdr", "recordings": "recordings"},
    "prompts": {"engine": "text"},
    "trunks": {"PRI1": {"span": "PRI1", "std_code": "80"}},
}
ACCOUNT = {
    "name": "Acme",
    "numbers": [{"number": "+918030752400", "trunk": "PRI1", "flow": "main"}],
    "agents": {"asha": {"number": "+919876543210"}},
    "deliveries": {"url": "https://crm.example/calls", "secret": "whsec_" + "QUJD" * 8},
    "flows": {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}},
}


class World:
    """A folder, a book with its store, and the net; sessions are names in a set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cdr = folder / "cdr"
        self.cdr.mkdir()
        (folder / "accounts").mkdir()
        (folder / "exoflow.yaml").write_text(json.dumps(MAIN))
        (folder / "accounts" / "acme.yaml").write_text(json.dumps(ACCOUNT))
        found = load(folder / "exoflow.yaml", {})
        assert found.config is not None, found.errors
        self.config: Config = found.config
        self.sessions: set[str] = set()
        self.finished: list[str] = []
        self.finish: Callable[[Call, CallEnd], None] = self._finish
        self.open()

    def open(self) -> None:
        self.store: Store = open_store(f"sqlite:///{self.folder / 'calls.db'}")
        self.book = CallBook(self.store, accounts=self.config.accounts.get)
        self.net = Net(
            self.cdr, self.book, lambda: self.config, self.sessions.__contains__, lambda call, end: self.finish(call, end)
        )

    def close(self) -> None:
        self.net.stop()
        self.store.close()

    def restart(self) -> None:
        """Another process: what was in memory has gone."""
        self.close()
        self.open()

    def _finish(self, call: Call, end: CallEnd) -> None:
        self.finished.append(call.id)
        call.caller_gone(end.ended_at, end.cause, end.q850)
        call.close("served", "", end.ended_at)

    # --- files ---

    def put(self, name: str, channel: str = "", *, age: float = 60.0, **variables: Any) -> str:
        """A recorded CDR as that of a channel of its own, `age` seconds old; its channel. A variable of None is taken out."""
        channel = channel or str(uuid.uuid4())
        cdr = json.loads((RECORDED / f"{name}.cdr.json").read_bytes())
        cdr["variables"] |= {"uuid": channel, **variables}
        cdr["variables"] = {key: value for key, value in cdr["variables"].items() if value is not None}
        return self.write(channel, json.dumps(cdr), age=age)

    def write(self, channel: str, text: str, *, age: float = 60.0) -> str:
        path = self.path(channel)
        path.write_text(text)
        os.utime(path, (time.time() - age, time.time() - age))
        return channel

    def path(self, channel: str) -> Path:
        return self.cdr / f"{channel}.cdr.json"

    @property
    def files(self) -> list[str]:
        return sorted(entry.name for entry in self.cdr.iterdir() if entry.is_file())

    # --- calls ---

    def call(self, channel: str, **changes: Any) -> Call:
        """A call of ours that is going on, on disk."""
        facts = {
            "id": uuid.uuid4().hex, "channel": channel, "created_at": datetime.now(UTC),
            "trunk": "PRI1", "dialled_raw": "8030752400", "caller_raw": "09812345678", "dialled": "+918030752400",
            "caller": "+919812345678", "account": "acme", "flow": "main", **changes,
        }  # fmt: skip
        call = self.book.open(CallFacts(**facts), self.config.accounts["acme"])
        assert call.on_disk()
        return call

    def look(self) -> None:
        """Scans until all that can be done now is done."""
        while self.net.scan():
            pass
        self.settle()
        self.net.scan()  # removes the files of what has been closed

    def settle(self) -> None:
        eventually(lambda: not self.net._busy)

    def records(self) -> list[CallState]:
        return self.book.recent(1000)

    def record(self) -> CallState:
        (state,) = self.records()
        return state

    def counted(self) -> dict[tuple[datetime, str, str], float]:
        self.store.write(lambda connection: None)
        found = self.store.read(lambda connection: by_hour(connection, datetime(2020, 1, 1, tzinfo=UTC)))
        return {(hour, name, trunk): amount for hour, name, trunk, amount in found}

    def deliveries(self, state: CallState) -> list[Delivery]:
        return self.store.read(lambda connection: deliveries_of(connection, state.facts.id))


def wav(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(round(seconds * 8000) * 4))


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


def fallback_with(world: World, *legs: str, **variables: str) -> str:
    """A call whose fallback rang these."""
    channel = str(uuid.uuid4())
    rung = [(f"{channel[:8]}-{at}", name) for at, name in enumerate(legs)]
    listed = "|:".join(f"{leg};Outbound Call;09876543210" for leg, _ in rung)
    world.put("fallback-refused", channel, originated_legs=f"ARRAY::{listed}", **variables)
    for leg, name in rung:
        cdr = json.loads((RECORDED / f"leg-{name}.cdr.json").read_bytes())
        cdr["variables"] |= {
            "uuid": leg,
            "originating_leg_uuid": channel,
            "exo_fallback_leg": "1",
            "exo_fallback_trunk": "PRI1",
        }
        cdr["callflow"][-1]["caller_profile"]["destination_number"] = "09876543210"
        world.write(leg, json.dumps(cdr))
    return channel


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


# --- each once, whatever dies ---------------------------------------------------------------------


def test_killed_between_commit_and_removal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("refused-limit")
    channel = world.put("left-after-a-death")
    world.call(channel)
    monkeypatch.setattr(net_module.cdrfolder, "remove", lambda folder, uuids: [])
    world.look()
    assert len(world.files) == 2
    monkeypatch.undo()
    world.restart()
    world.look()
    assert world.files == []
    assert len(world.records()) == 2
    assert [len(world.deliveries(state)) for state in world.records()] == [1, 1]


def test_killed_before_the_commit(world: World) -> None:
    """Nothing of it is on disk: the file is there, and is read again."""
    world.put("refused-limit")
    world.net.scan()
    world.net.stop()
    world.restart()
    world.look()
    assert len(world.records()) == 1
    assert len(world.deliveries(world.record())) == 1
    assert world.files == []


def test_both_files_of_one_call_and_a_copy_of_one(world: World) -> None:
    channel = fallback_with(world, "answered")
    copy = world.write("copy", world.path(channel).read_text())
    world.look()
    assert len(world.records()) == 1
    assert world.files == []
    assert (world.cdr / STRANGE / f"{copy}.cdr.json").exists()


def test_many_looks_at_once_make_one_record(world: World) -> None:
    fallback_with(world, "answered")
    gevent.joinall([gevent.spawn(world.net.scan) for _ in range(5)], raise_error=True)
    world.look()
    assert len(world.records()) == 1


# --- agents' legs ---------------------------------------------------------------------------------


def test_a_leg_goes_with_its_call_and_a_strangers_after_a_day(world: World) -> None:
    channel = str(uuid.uuid4())
    call = world.call(channel)
    world.sessions.add(channel)
    known = world.put("leg-busy", "leg-1", originating_leg_uuid=channel)
    young = world.put("leg-busy", "leg-2", age=3600)
    world.put("leg-busy", "leg-3", age=25 * 3600)
    world.look()
    assert world.files == [f"{known}.cdr.json", f"{young}.cdr.json"]
    call.close("served")
    world.net._later.clear()
    world.look()
    assert world.files == [f"{young}.cdr.json"]


def test_a_call_of_another_dialplan_is_nobodys(world: World) -> None:
    for age in (60, 25 * 3600):
        cdr = json.loads((RECORDED / "left-before-an-app.cdr.json").read_bytes())
        cdr["variables"] = {k: v for k, v in cdr["variables"].items() if not k.startswith("exo_")} | {"uuid": f"old-{age}"}
        cdr["callflow"][-1]["caller_profile"]["context"] = "internal"
        world.write(f"old-{age}", json.dumps(cdr), age=age)
    world.look()
    assert (world.records(), world.files) == ([], ["old-60.cdr.json"])


# --- files that are none, and folders that are none -----------------------------------------------


def test_what_is_no_cdr_is_put_aside_when_it_can_no_longer_become_one(world: World) -> None:
    world.write("young", "{", age=0)
    world.write("old", "{", age=60)
    (world.cdr / "link.cdr.json").symlink_to("/etc/passwd")
    os.utime(world.cdr / "link.cdr.json", (0, 0), follow_symlinks=False)
    (world.cdr / "notes.txt").write_text("somebody's own")
    world.look()
    assert world.files == ["notes.txt", "young.cdr.json"]
    assert sorted(entry.name for entry in (world.cdr / STRANGE).iterdir()) == ["link.cdr.json", "old.cdr.json"]
    assert world.net.counts["strange"] == 2


def test_a_file_that_is_being_written_is_read_when_it_is_whole(world: World) -> None:
    whole = (RECORDED / "refused-limit.cdr.json").read_text()
    channel = json.loads(whole)["variables"]["uuid"]
    world.write(channel, whole[:500], age=0)
    world.look()
    assert world.records() == []
    world.write(channel, whole, age=0)
    world.net._later.clear()
    world.look()
    assert world.record().outcome == "refused"


def test_the_subfolder_of_strange_files_is_bounded(world: World) -> None:
    for at in range(STRANGE_MOST + 20):
        world.write(f"old-{at}", "{", age=1000 - at)
    world.look()
    assert len(list((world.cdr / STRANGE).iterdir())) == STRANGE_MOST
    assert not (world.cdr / STRANGE / "old-0.cdr.json").exists()
    assert world.files == []


def test_a_folder_that_is_not_there_or_none(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.cdr.rmdir()
    assert world.net.scan() is False
    world.cdr.write_text("a file")
    assert world.net.scan() is False
    assert "cannot be read" in caplog.text


def test_files_that_may_not_be_removed_make_no_second_record(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuses)
    world.put("refused-limit")
    world.look()
    world.look()
    assert len(world.records()) == 1
    assert caplog.text.count("does not let its files be removed") == 1


def test_a_store_that_is_behind_makes_nobody_a_stranger(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("refused-limit")
    monkeypatch.setattr(type(world.store), "behind", property(lambda self: True), raising=False)
    world.look()
    assert (world.records(), len(world.files)) == ([], 1)
    monkeypatch.undo()
    world.look()
    assert (len(world.records()), world.files) == (1, [])


# --- a weekend away -------------------------------------------------------------------------------


def test_ten_thousand_files_hold_nobody_up(world: World) -> None:
    """Refused, served by the fallback, and left: worked off in the background while the event loop goes on."""
    whole = {
        name: json.loads((RECORDED / f"{name}.cdr.json").read_bytes())
        for name in ("refused-limit", "fallback-refused", "left-before-an-app", "leg-busy")
    }
    for at in range(10_000):
        cdr = whole[tuple(whole)[at % 4]]
        cdr["variables"]["uuid"] = channel = f"channel-{at}"
        if at % 4 == 3:
            cdr["variables"]["originating_leg_uuid"] = f"channel-{at - 1}"
        world.write(channel, json.dumps(cdr))
    stalls: list[float] = []

    def heart() -> None:
        while True:
            before = time.monotonic()
            gevent.sleep(0.005)
            stalls.append(time.monotonic() - before - 0.005)

    beating = gevent.spawn(heart)
    world.net.start()
    started = time.monotonic()
    eventually(lambda: world.net.counts["recorded"] == 7500, 120)
    took = time.monotonic() - started
    eventually(lambda: world.files == [], 60)
    beating.kill()
    stalls.sort()
    p99 = stalls[int(len(stalls) * 0.99)]
    print(f"\n10,000 files, 7,500 records in {took:.1f} s; the loop stood still {stalls[-1]:.3f} s at most, p99 {p99:.4f} s")
    assert stalls[-1] < 0.5
    count = world.store.read(lambda c: c.exec_driver_sql("SELECT count(*), count(DISTINCT channel) FROM calls").one())
    assert tuple(count) == (7500, 7500)
