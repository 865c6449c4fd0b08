"""Recordings fetched by their addresses from the web server of a whole exoflow."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import stat
import wave
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from callsapi import KEY, TOKEN, TOKEN_HASH
from gevent import socket
from hall import ASHA, BYE, SECRET, Hall, eventually
from sqlalchemy import update

from exoflow.calls.model import CallState
from exoflow.sim import AgentScript
from exoflow.store import tables as t
from exoflow.web import mp3, recordings

Start = Callable[..., Hall]

PUBLIC = "https://calls.example.in"
STEPS: dict[str, Any] = {
    "agents": {"connect": {"numbers": [ASHA], "record": "dual"}, "answered": "tell", "unanswered": "bye"},
    "tell": {"passthru": {"url": "crm:/passthru"}, "ok": "bye", "redirect": "bye", "failed": "bye"},
    "bye": BYE,
}
KEYS = {"api": {"keys": [{"key": KEY, "token_hash": TOKEN_HASH}]}}
BASIC = {"Authorization": "Basic " + base64.b64encode(f"{KEY}:{TOKEN}".encode()).decode()}


class Fetched:
    """An answer, whole."""

    def __init__(self, answer: HTTPResponse) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()


def fetch(h: Hall, url: str, method: str = "GET", **headers: str) -> Fetched:
    assert h.service.web is not None
    eventually(lambda: h.service.web.address)
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"{method} {target} HTTP/1.1", "Host: calls.example.in", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection(h.service.web.address, timeout=30) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = HTTPResponse(connection, method=method)
        answer.begin()
        return Fetched(answer)


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is installed, unless a test says so."""
    monkeypatch.setattr("exoflow.serve.find", lambda: None)


@pytest.fixture
def talked(hall: Start) -> Callable[..., tuple[Hall, CallState, str]]:
    """A call with a recorded talk, and its RecordingUrl as the passthru behind it had it."""

    def run(main: dict[str, Any] | None = None, **account: Any) -> tuple[Hall, CallState, str]:
        web = {"listen": "127.0.0.1:0", "public_url": PUBLIC, **(main or {})}
        h = hall(STEPS, agents={ASHA: AgentScript.answers(1, 4)}, account=account, main={"web": web})
        _, call = h.run()
        (asked,) = h.crm.to("/passthru")
        url = asked.get("RecordingUrl")
        assert url is not None
        assert asked.get("RecordingAvailableBy")
        return h, call, url

    return run


Talked = Callable[..., tuple[Hall, CallState, str]]


def test_the_address_of_a_passthru_leads_to_the_file(talked: Talked) -> None:
    h, call, url = talked()
    assert url.startswith(f"{PUBLIC}/r/")
    assert len(url) <= 140
    got = fetch(h, url)
    assert (got.status, got.headers["Content-Type"]) == (200, "audio/wav")
    assert got.body == Path(call.recordings[0].path).read_bytes()
    assert got.headers["Content-Disposition"] == f'inline; filename="{call.facts.id}-1.wav"'
    assert got.headers["X-Content-Type-Options"] == "nosniff"


def test_deliveries_have_the_same_address(talked: Talked) -> None:
    events = ["recording.ready", "call.ended"]
    h, _, url = talked(deliveries={"url": "crm:/deliveries", "secret": SECRET, "events": events})
    ready, ended = (one.event["data"] for one in h.crm.wait_for_deliveries(2))
    assert ready["recording"]["url"] == ended["recordings"][0]["url"] == url
    assert datetime.fromisoformat(ready["recording"]["url_until"]) > datetime.now(UTC) + timedelta(days=30)


def test_without_a_public_url_there_is_no_address(hall: Start) -> None:
    h = hall(STEPS, agents={ASHA: AgentScript.answers(1, 4)}, main={"web": {"listen": "127.0.0.1:0"}})
    h.run()
    (asked,) = h.crm.to("/passthru")
    assert asked.get("RecordingUrl") is None
    assert fetch(h, f"{PUBLIC}/r/x.wav").status == 404


def test_it_outlives_a_restart(talked: Talked) -> None:
    h, call, url = talked()
    h.service.stop()
    h.serve()
    assert fetch(h, url).body == Path(call.recordings[0].path).read_bytes()
    assert stat.S_IMODE((h.folder / "exoflow.db.links").stat().st_mode) == 0o600


def test_head_tells_its_size(talked: Talked) -> None:
    h, call, url = talked()
    got = fetch(h, url, "HEAD")
    assert (got.status, got.body) == (200, b"")
    assert int(got.headers["Content-Length"]) == Path(call.recordings[0].path).stat().st_size
    assert got.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("wanted", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=44-", 44, None),
        ("bytes=-7", -7, None),
        ("bytes=0-999999999", 0, None),
    ],
)
def test_a_range_is_sent_alone(talked: Talked, wanted: str, begin: int, end: int | None) -> None:
    h, call, url = talked()
    whole = Path(call.recordings[0].path).read_bytes()
    got = fetch(h, url, Range=wanted)
    first = begin % len(whole)
    last = (len(whole) if end is None else end) - 1
    assert (got.status, got.body) == (206, whole[begin:end])
    assert got.headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"


@pytest.mark.parametrize("wanted", ["bytes=5-1", "bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=x-", "bytes"])
def test_what_is_no_range_or_several_gets_the_whole(talked: Talked, wanted: str) -> None:
    h, call, url = talked()
    got = fetch(h, url, Range=wanted)
    assert (got.status, got.body) == (200, Path(call.recordings[0].path).read_bytes())


@pytest.mark.parametrize("wanted", ["bytes=9999999-", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(talked: Talked, wanted: str) -> None:
    h, call, url = talked()
    got = fetch(h, url, Range=wanted)
    assert (got.status, got.headers["Content-Range"]) == (416, f"bytes */{Path(call.recordings[0].path).stat().st_size}")


def test_a_range_of_another_version_gets_the_whole(talked: Talked) -> None:
    h, _, url = talked()
    version = fetch(h, url).headers["ETag"]
    assert fetch(h, url, **{"Range": "bytes=0-3", "If-Range": version}).status == 206
    assert fetch(h, url, **{"Range": "bytes=0-3", "If-Range": '"other"'}).status == 200


def test_one_whose_time_is_over_is_gone(talked: Talked, monkeypatch: pytest.MonkeyPatch) -> None:
    h, call, _ = talked()
    over = h.service.links.until(call.facts.id, 1, datetime.now(UTC) - timedelta(seconds=1))
    got = fetch(h, over[0])
    assert (got.status, b"expired" in got.body) == (410, True)


def test_another_name_leads_nowhere(talked: Talked) -> None:
    h, call, url = talked()
    token = url.rpartition("/")[2]
    changed = token[:10] + ("A" if token[10] != "A" else "B") + token[11:]
    for path in (changed, "../exoflow.db", "%2e%2e/exoflow.db", token + "/../../exoflow.db", token.replace(".wav", ".db"), ""):
        assert fetch(h, f"{PUBLIC}/r/{path}").status == 404
    other = h.service.links.until(call.facts.id, 2, datetime.now(UTC) + timedelta(days=1))
    assert fetch(h, other[0]).status == 404
    assert fetch(h, url, "POST").status == 405


@pytest.mark.parametrize("path", ["/etc/passwd", "{0}/exoflow.db", "{0}/recordings/../exoflow.db", "{0}/recordings"])
def test_a_record_that_names_another_file_does_not_get_it(talked: Talked, path: str) -> None:
    h, _, url = talked()
    wrong = path.format(h.folder)
    h.service.store.write(lambda c: c.execute(update(t.recordings).values(path=wrong)))
    got = fetch(h, url)
    assert (got.status, got.body) == (404, b"there is no such recording\n")


def test_a_link_in_the_folder_is_not_followed(talked: Talked) -> None:
    h, call, url = talked()
    path = Path(call.recordings[0].path)
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert fetch(h, url).status == 404
    path.unlink()
    os.mkfifo(path)
    assert fetch(h, url).status == 404


def test_with_a_key_it_needs_the_key(talked: Talked) -> None:
    h, _, url = talked(recordings={"access": "key"}, **KEYS)
    refused = fetch(h, url)
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="exoflow"')
    assert fetch(h, url, **BASIC).status == 200


def test_the_calls_api_has_it_and_one_that_needs_no_key(talked: Talked) -> None:
    h, call, url = talked(recordings={"access": "key"}, **KEYS)
    path = f"{PUBLIC}/v1/Accounts/acme/Calls/{call.facts.id}.json"
    shown = json.loads(fetch(h, path, **BASIC).body)["Call"]
    assert (shown["RecordingUrl"], shown["PreSignedRecordingUrl"]) == (url, None)
    shown = json.loads(fetch(h, f"{path}?RecordingUrlValidity=5", **BASIC).body)["Call"]
    free = shown["PreSignedRecordingUrl"]
    assert free != url
    assert fetch(h, free).status == 200


def test_a_recording_that_runs_is_not_ready(talked: Talked) -> None:
    h, _, url = talked()
    h.service.store.write(lambda c: c.execute(update(t.recordings).values(state="pending")))
    assert fetch(h, url).status == 200  # its call is over: nobody writes to it any more
    h.service.store.write(lambda c: c.execute(update(t.calls).values(outcome=None)))
    got = fetch(h, url)
    assert (got.status, got.headers["Retry-After"]) == (503, "5")


def test_many_at_once_are_refused_in_the_open(talked: Talked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "DOWNLOADS", 1)
    h, _, url = talked()
    assert fetch(h, url).status == 200
    assert fetch(h, url).status == 200  # a turn is given back
    for path in (f"{PUBLIC}/r/wrong.wav", url):
        fetch(h, path)
    pages = next(iter(_pages(h)))
    assert pages._turns.acquire(blocking=False)
    got = fetch(h, url)
    pages._turns.release()
    assert (got.status, got.headers["Retry-After"]) == (503, "10")
    assert fetch(h, url).status == 200


def _pages(h: Hall) -> Iterator[recordings.RecordingPages]:
    application = h.service.web._application
    for cell in application.__closure__:
        if isinstance(cell.cell_contents, recordings.RecordingPages):
            yield cell.cell_contents


# --- MP3 --------------------------------------------------------------------------------------------


def fake(tmp_path: Path, script: str) -> mp3.Command:
    """An encoder of our own: $1 is the WAV, $2 the MP3, $3 its channels."""
    program = tmp_path / "encoder"
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)
    return lambda wav, made, channels: [str(program), str(wav), str(made), str(channels)]


ENCODES = 'echo x >> "$0.runs"; (echo ID3 $3; cat "$1") > "$2"\n'


def test_it_is_sent_as_mp3_made_once(talked: Talked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = fake(tmp_path, ENCODES)
    monkeypatch.setattr("exoflow.serve.find", lambda: command)
    h, call, url = talked()
    assert url.endswith(".mp3")
    got = fetch(h, url)
    assert (got.status, got.headers["Content-Type"]) == (200, "audio/mpeg")
    assert got.body == b"ID3 2\n" + Path(call.recordings[0].path).read_bytes()
    assert fetch(h, url, Range="bytes=0-2").body == b"ID3"
    assert fetch(h, url.replace(".mp3", ".wav")).headers["Content-Type"] == "audio/wav"
    assert (tmp_path / "encoder.runs").read_text() == "x\n"
    assert len(list((h.folder / "exoflow.db.mp3").iterdir())) == 1


@pytest.mark.parametrize("script", ["exit 1\n", "exit 0\n", 'echo half > "$2"; exit 3\n', "exec sleep 600\n"])
def test_an_encoder_that_fails_leaves_the_wav(
    talked: Talked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(mp3, "ENCODE_SECONDS", 2.0)
    command = fake(tmp_path, script)
    monkeypatch.setattr("exoflow.serve.find", lambda: command)
    h, call, url = talked()
    got = fetch(h, url)
    assert (got.status, got.headers["Content-Type"]) == (200, "audio/wav")
    assert got.body == Path(call.recordings[0].path).read_bytes()
    assert list((h.folder / "exoflow.db.mp3").iterdir()) == []


def test_the_folder_of_mp3s_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mp3, "KEPT_BYTES", 1000)
    command = fake(tmp_path, 'head -c 300 /dev/zero > "$2"\n')
    encoder = mp3.Encoder(tmp_path / "kept", command)
    made = []
    for number in range(6):
        wav = tmp_path / f"{number}.wav"
        wav.write_bytes(b"RIFF")
        found = encoder.mp3_of(wav, 1)
        assert found is not None
        os.utime(found, (number, number))
        made.append(found)
    left = [path for path in made if path.exists()]
    assert sum(path.stat().st_size for path in left) <= 1000
    assert made[-1] in left
    assert made[0] not in left


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("encoder", ["lame", "ffmpeg"])
def test_an_encoder_makes_an_mp3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, channels: int) -> None:
    if (path := shutil.which(encoder)) is None:
        pytest.skip(f"{encoder} is not installed")
    monkeypatch.setattr(shutil, "which", lambda name: path if name == encoder else None)
    wav = tmp_path / "talk.wav"
    with wave.open(str(wav), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(2 * channels * 8000 * 10))
    made = mp3.Encoder(tmp_path / "kept", mp3.find()).mp3_of(wav, channels)
    assert made is not None
    kbits = made.stat().st_size * 8 / 10 / 1000
    assert kbits == pytest.approx(mp3.KBITS_A_CHANNEL * channels, rel=0.15)
    head = io.BytesIO(made.read_bytes()).read(3)
    assert head[:2] in (b"\xff\xf3", b"\xff\xe3") or head == b"ID3"


def test_without_an_encoder_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert mp3.find() is None
    assert mp3.Encoder(tmp_path, None).mp3_of(tmp_path / "a.wav", 1) is None
