"""Addresses of recordings: short, nobody else's to make, and at an end when they should be."""

from __future__ import annotations

import base64
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exoflow.calls.links import MAX_SEQ, MAX_URL, BadLink, Link, Links, LinkSecretError, secret_of
from exoflow.config.model import MAX_PUBLIC_URL, Account, Web

NOW = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)
CALL = "0123456789abcdef0123456789abcdef"
SECRET = b"s" * 32
LINKS = Links("https://calls.example.in/exo/", SECRET, "mp3")
DAY = timedelta(days=1)


def account(days: int = 30) -> Account:
    flows = {"main": {"start": "bye", "steps": {"bye": {"hangup": {}}}}}
    return Account.model_validate({"name": "Acme", "flows": flows, "recordings": {"link_days": days}})


def address(links: Links = LINKS, seq: int = 1, days: int = 30, now: datetime = NOW) -> tuple[str, datetime]:
    found = links.address(CALL, seq, account(days), now)
    assert found is not None
    return found


def token(url: str) -> str:
    return url.rpartition("/")[2].partition(".")[0]


def test_what_is_made_is_read() -> None:
    url, end = address(seq=2)
    assert url.startswith("https://calls.example.in/exo/r/")
    assert url.endswith(".mp3")
    assert LINKS.read(token(url), NOW) == Link(CALL, 2)
    assert end == datetime(2026, 2, 5, tzinfo=UTC)


def test_it_is_the_same_all_day() -> None:
    assert address() == address(now=NOW + timedelta(hours=17))
    assert address() != address(now=NOW + timedelta(hours=18))


def test_it_ends() -> None:
    url, end = address(days=1)
    assert LINKS.read(token(url), end)
    with pytest.raises(BadLink) as caught:
        LINKS.read(token(url), end + timedelta(seconds=1))
    assert caught.value.expired


def test_nobody_makes_one_without_the_secret() -> None:
    strange = address(Links("https://calls.example.in", b"t" * 32, "mp3"))[0]
    with pytest.raises(BadLink) as caught:
        LINKS.read(token(strange), NOW)
    assert not caught.value.expired


def test_no_bit_of_it_can_be_changed() -> None:
    whole = base64.urlsafe_b64decode(token(address()[0]) + "==")
    for bit in range(len(whole) * 8):
        other = bytearray(whole)
        other[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadLink):
            LINKS.read(base64.urlsafe_b64encode(other).decode().rstrip("="), NOW)


@pytest.mark.parametrize("text", ["", "a", "abc", "A" * 50, "A" * 49, "é", "../../etc/passwd", "A" * 100_000])
def test_what_is_no_token_is_none(text: str) -> None:
    with pytest.raises(BadLink):
        LINKS.read(text, NOW)


def test_the_longest_is_short_enough_for_receivers() -> None:
    longest = "https://" + "a" * (MAX_PUBLIC_URL - 8)
    assert Web(public_url=longest).public_url == longest
    assert len(address(Links(longest, SECRET, "mp3"), MAX_SEQ, 3650)[0]) <= MAX_URL


@pytest.mark.parametrize(("call", "seq"), [(CALL, 0), (CALL, MAX_SEQ + 1), ("no id", 1), ("ab", 1), ("z" * 32, 1)])
def test_what_no_token_can_name_has_no_address(call: str, seq: int) -> None:
    assert LINKS.address(call, seq, account(), NOW) is None


def test_one_that_needs_no_key_says_so() -> None:
    found = LINKS.until(CALL, 3, NOW + DAY, free=True)
    assert found is not None
    assert LINKS.read(token(found[0]), NOW) == Link(CALL, 3, free=True)


def test_the_secret_outlives_a_restart_and_is_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "links"
    secret = secret_of(path)
    assert len(secret) == 32
    assert secret_of(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["links"]
    assert secret_of(tmp_path / "other") != secret


@pytest.mark.parametrize("text", ["", "no hex", "abcd", "é" * 64])
def test_a_file_without_a_secret_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "links"
    path.write_text(text)
    with pytest.raises(LinkSecretError, match="move it away"):
        secret_of(path)
    assert path.read_text() == text


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LinkSecretError, match="No such file"):
        secret_of(tmp_path / "absent" / "links")
