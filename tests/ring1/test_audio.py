"""Audio by its URL: checked, kept by validators, bounded, one fetch for all; and sounds made once."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from support.http_server import RawServer, answer

from exoflow.crm.audio import FRESH_SECONDS, MAX_AUDIO_BYTES, AudioCache, BadAudio, line_sound
from exoflow.crm.http import CrmClient, CrmFailure
from exoflow.crm.shelf import IN_USE_SECONDS, Shelf, ShelfFull
from exoflow.linesound import wav

SOUND = wav(b"\x01\x02" * 4000)  # half a second
OTHER = wav(b"\x05\x06" * 2000)


class Site:
    """A CRM's file server: `answers` are sent in turn, the last one stays; `gate` holds them back."""

    def __init__(self) -> None:
        self.answers = [answer(SOUND, content_type="audio/wav")]
        self.gate = Event()
        self.gate.set()
        self.server = RawServer(self._send)

    def _send(self, sock: Any, request: bytes) -> bool:
        self.gate.wait(5)
        sock.sendall(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        return True

    @property
    def asked(self) -> list[str]:
        return [request.decode() for request in self.server.requests]


class World:
    def __init__(self, site: Site, client: CrmClient, folder: Path) -> None:
        self.site, self.client, self.folder = site, client, folder
        self.now = 1000.0
        self.cache = self.new()

    def new(self, **more: Any) -> AudioCache:
        return AudioCache(self.folder, self.client, clock=lambda: self.now, **more)

    def fetch(self, path: str = "/a.wav", *, cache: AudioCache | None = None, account: str = "acme", **more: Any) -> Any:
        url = f"http://127.0.0.1:{self.site.server.port}{path}"
        settings = {"deadline": 5.0, "allow_private": ["127.0.0.0/8"], **more}
        return (cache or self.cache).fetch(url, account=account, **settings)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    site, client = Site(), CrmClient()
    with site.server:
        yield World(site, client, tmp_path / "fetched")
    client.close()


def test_it_is_fetched_once_and_kept(world: World) -> None:
    first = world.fetch()
    assert first.came == "fetched"
    assert line_sound(first.path.read_bytes()) == SOUND
    assert world.folder in first.path.parents
    assert world.fetch() == (first.path, "kept")
    assert len(world.site.asked) == 1
    assert world.cache.counters["audio.fetched"] == world.cache.counters["audio.kept"] == 1


def test_a_file_is_asked_for_by_its_validators(world: World) -> None:
    more = b'ETag: "v1"\r\nLast-Modified: Mon, 05 Jan 2026 10:00:00 GMT\r\n'
    world.site.answers = [answer(SOUND, more=more), answer(b"", status="304 Not Modified"), answer(OTHER)]
    first = world.fetch()
    world.now += FRESH_SECONDS + 1
    assert world.fetch() == (first.path, "kept")
    assert 'If-None-Match: "v1"' in world.site.asked[1]
    assert "If-Modified-Since: Mon, 05 Jan 2026 10:00:00 GMT" in world.site.asked[1]
    assert world.fetch().came == "kept"  # looked at lately
    assert len(world.site.asked) == 2
    world.now += FRESH_SECONDS + 1
    changed = world.fetch()
    assert changed == (first.path, "fetched")
    assert changed.path.read_bytes() == OTHER


def test_the_next_process_knows_what_is_there(world: World) -> None:
    world.site.answers = [answer(SOUND, more=b'ETag: "v1"\r\n'), answer(b"", status="304 Not Modified")]
    path = world.fetch().path
    assert world.fetch(cache=world.new()) == (path, "kept")
    assert 'If-None-Match: "v1"' in world.site.asked[1]


@pytest.mark.parametrize("sent", [answer(b"", status="503 Away"), b"nonsense\r\n\r\n"])
def test_a_server_that_fails_leaves_the_copy_in_use(world: World, sent: bytes) -> None:
    path = world.fetch().path
    world.site.answers = [sent]
    world.now += FRESH_SECONDS + 1
    assert world.fetch() == (path, "stale")
    assert world.cache.counters["audio.stale"] == 1


def test_one_account_does_not_hear_what_another_may_reach(world: World) -> None:
    world.fetch()
    with pytest.raises(CrmFailure) as caught:
        world.fetch(account="other", allow_private=[])
    assert caught.value.reason == "address"


def _wav(rate: int = 8000, width: int = 2, channels: int = 1, seconds: float = 0.1) -> bytes:
    sound = wav(bytes(int(rate * seconds) * width * channels))
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * width * channels, width * channels, 8 * width)
    return sound.replace(sound[20:36], form)


@pytest.mark.parametrize(
    ("body", "because"),
    [
        (b"<html>not here</html>", "no WAV"),
        (b"ID3\x03" + bytes(500), "no WAV"),
        (b"", "no WAV"),
        (SOUND[:30], "no WAV"),
        (wav(b""), "no sound in it"),
        (_wav(rate=44100), "44100 Hz, 16 bit, 1 channels"),
        (_wav(width=1), "8000 Hz, 8 bit"),
        (_wav(channels=2), "2 channels"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff", "no WAV"),
    ],
)
def test_what_is_no_line_sound_is_refused_with_the_cure(world: World, body: bytes, because: str) -> None:
    world.site.answers = [answer(body)]
    with pytest.raises(BadAudio, match=because) as caught:
        world.fetch("/a.wav?key=SECRET")
    assert "ffmpeg" in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert list(world.folder.glob("*.wav")) == []


def test_a_header_that_promises_hours_and_further_chunks_are_forgiven() -> None:
    endless = SOUND[:40] + b"\xff\xff\xff\x7f" + SOUND[44:]
    assert line_sound(endless) == SOUND
    assert line_sound(endless + b"\0") == SOUND  # half a sample
    listed = SOUND[:36] + b"LIST" + struct.pack("<I", 4) + b"INFO" + SOUND[36:]
    listed = listed[:4] + struct.pack("<I", len(listed) - 8) + listed[8:]
    assert line_sound(listed) == SOUND


@pytest.mark.parametrize(("status", "cure"), [("404 Not Found", "404"), ("302 Found", "302")])
def test_another_status_is_no_sound(world: World, status: str, cure: str) -> None:
    world.site.answers = [answer(SOUND, status=status)]
    with pytest.raises(BadAudio, match=cure):
        world.fetch()


def test_a_file_that_is_too_big_is_not_read_to_its_end(world: World) -> None:
    world.site.answers = [answer(wav(bytes(MAX_AUDIO_BYTES)))]
    with pytest.raises(CrmFailure, match="more than 2048 KiB"):
        world.fetch()


def test_callers_who_want_the_same_wait_for_one_fetch(world: World) -> None:
    world.site.gate.clear()
    callers = [gevent.spawn(world.fetch) for _ in range(20)]
    gevent.idle()
    assert world.cache.in_flight == 1
    callers[0].kill()  # who came first hangs up
    world.site.gate.set()
    gevent.joinall(callers, timeout=5)
    assert {caller.value.path for caller in callers[1:]} == {world.cache._shelf.path(_key(world))}
    assert len(world.site.asked) == 1
    assert world.cache.in_flight == 0


def _key(world: World) -> str:
    return f"acme\0http://127.0.0.1:{world.site.server.port}/a.wav"


def test_it_ends_within_its_deadline(world: World) -> None:
    world.site.gate.clear()
    with pytest.raises((CrmFailure, BadAudio)):
        world.fetch(deadline=0.2)
    world.site.gate.set()


def test_a_folder_that_cannot_be_written_is_told(world: World, tmp_path: Path) -> None:
    (tmp_path / "fetched").write_text("a file stands there")
    with pytest.raises(BadAudio, match="cannot be written"):
        world.fetch()


def test_a_sound_is_made_once_and_outside_the_loops_thread(world: World) -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(threading.get_ident())
        return SOUND

    waiting = [gevent.spawn(world.cache.made, "morning", make, text="Good morning", deadline=5) for _ in range(5)]
    gevent.joinall(waiting, timeout=5)
    (path,) = {caller.value for caller in waiting}
    assert path.read_bytes() == SOUND
    assert len(made) == 1
    assert world.new().made("morning", make, text="Good morning", deadline=5) == path
    assert len(made) == 1
    assert world.cache.made("evening", make, text="Good evening", deadline=5) != path
    assert path.with_suffix(".txt").read_text() == "Good morning"


def test_making_that_takes_too_long_is_given_up(world: World) -> None:
    with pytest.raises(BadAudio, match=r"within 0\.1 s"):
        world.cache.made("slow", lambda: Event().wait(5) or SOUND, text="Slow", deadline=0.1)


# --- the bound ------------------------------------------------------------------------------------


def _aged(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_longest_unused_goes_and_is_counted(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "s", most_bytes=3 * len(SOUND))
    paths = [shelf.put(name, SOUND, {"ETag": name}) for name in "abc"]
    for age, path in zip((2, 3, 1), paths, strict=True):
        _aged(path, age * IN_USE_SECONDS)
    shelf = Shelf(tmp_path / "s", most_bytes=3 * len(SOUND))  # the next process
    assert shelf.take("b") == paths[1]  # in use again
    shelf.put("d", SOUND)
    assert [shelf.take(name) is not None for name in "abcd"] == [False, True, True, True]
    assert shelf.dropped == 1
    assert not paths[0].with_suffix(".json").exists()
    assert shelf.notes("c") == {"ETag": "c"}


def test_what_callers_hear_is_never_taken_away(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "s", most_bytes=2 * len(SOUND))
    shelf.put("a", SOUND)
    shelf.put("b", SOUND)
    with pytest.raises(ShelfFull, match="no more fits"):
        shelf.put("c", SOUND)
    assert shelf.refused == 1
    assert shelf.put("a", OTHER).read_bytes() == OTHER  # in its own place


def test_a_file_that_was_taken_away_is_fetched_again(world: World) -> None:
    path = world.fetch().path
    path.unlink()
    assert world.fetch() == (path, "fetched")
    assert line_sound(path.read_bytes()) == SOUND


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    left = tmp_path / "s" / ".making-x"
    left.mkdir(parents=True)
    (left / "made.wav").write_bytes(SOUND)
    _aged(left, 3600)
    assert Shelf(tmp_path / "s").take("a") is None
    assert not left.exists()
