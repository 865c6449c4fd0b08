"""The last net's files: each counts once whatever dies, agents' legs go with their call, and what is no CDR."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from cdrworld import RECORDED, World, fallback_with
from hall import eventually

from exoflow.calls import net as net_module
from exoflow.calls.cdrfolder import STRANGE, STRANGE_MOST


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(net_module, "LEGS_SECONDS", 0.3)
    made = World(tmp_path)
    yield made
    made.close()


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
    def refuses(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("exoflow.calls.cdrfolder.os.unlink", refuses)
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
