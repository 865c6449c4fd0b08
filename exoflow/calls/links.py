"""Addresses of recordings that end: `<web.public_url>/r/<token>.mp3`, signed with HMAC-SHA256.

A token names a call, one of its recordings and a time; nobody can make one without the secret, which lies in a file and so
outlives restarts. Short, for receivers in the field lose an event whose `RecordingUrl` has more than 140 characters (facts,
exotel-dialect.md, last section).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from exoflow.calls.model import CallState, Recording
from exoflow.config.model import Account
from exoflow.errors import ExoflowError

Ending = Literal["mp3", "wav"]

MAX_URL = 140  # characters; receivers lose the event with a longer one
MAX_SEQ = 127  # recordings of one call that can be named; a flow has one or two
SECRET_BYTES = 32  # as long as what HMAC-SHA256 makes of it
_MAC_BYTES = 16  # 128 bits: nobody guesses that
_FORM = struct.Struct(">16sBI")  # call, recording, seconds since 1970
_FREE = 0x80  # beside the recording's number: whoever has the address needs no key
_DAY = timedelta(days=1)


class BadLink(ExoflowError):
    """No token of ours, or one whose time is over (`expired`)."""

    def __init__(self, *, expired: bool = False) -> None:
        self.expired = expired
        super().__init__("the link has expired; ask for a new one" if expired else "there is no such recording")


class LinkSecretError(ExoflowError):
    """The file of the links' secret cannot be used."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a token names: the call, and which of its recordings (1 is the first). `free`: it needs no key besides."""

    call_id: str
    seq: int
    free: bool = False


class Links:
    """Makes and reads addresses."""

    def __init__(self, base: str, secret: bytes, ending: Ending) -> None:
        """`base`: `web.public_url`. `ending`: what new addresses ask for."""
        self._base, self._ending = base.rstrip("/"), ending
        self._key = hmac.digest(secret, b"exoflow recording link 1", "sha256")

    def address(self, call_id: str, seq: int, account: Account, now: datetime) -> tuple[str, datetime] | None:
        """The address and when it ends: `recordings.link_days` from the end of this day (UTC), so that it is the same all day.
        None for a recording that no token can name."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return self.until(call_id, seq, midnight + _DAY * (1 + account.recordings.link_days))

    def urls(self, state: CallState, account: Account, now: datetime) -> Callable[[Recording], str]:
        """`address` without its end, of the call's recordings; empty for what has none."""

        def url(recording: Recording) -> str:
            found = self.address(state.facts.id, state.recordings.index(recording) + 1, account, now)
            return "" if found is None else found[0]

        return url

    def until(self, call_id: str, seq: int, end: datetime, *, free: bool = False) -> tuple[str, datetime] | None:
        """The same for an end of one's own."""
        if not 1 <= seq <= MAX_SEQ or len(call_id) != 32:
            return None
        try:
            named = _FORM.pack(bytes.fromhex(call_id), seq | (_FREE if free else 0), int(end.timestamp()))
        except (ValueError, struct.error):
            return None
        token = urlsafe_b64encode(named + self._mac(named)).decode().rstrip("=")
        return f"{self._base}/r/{token}.{self._ending}", end

    def read(self, token: str, now: datetime) -> Link:
        """Raises BadLink."""
        try:
            whole = urlsafe_b64decode(token + "=" * (-len(token) % 4))
            named, mac = whole[: _FORM.size], whole[_FORM.size :]
            call, seq, end = _FORM.unpack(named)
        except (binascii.Error, ValueError, struct.error):
            raise BadLink from None
        if not hmac.compare_digest(mac, self._mac(named)):
            raise BadLink
        if end < now.timestamp():
            raise BadLink(expired=True)
        return Link(call.hex(), seq & MAX_SEQ, bool(seq & _FREE))

    def _mac(self, named: bytes) -> bytes:
        return hmac.digest(self._key, named, hashlib.sha256)[:_MAC_BYTES]


def beside(store: Path, what: str) -> Path:
    """A file or folder that belongs to a store."""
    return store.with_name(f"{store.name}.{what}")


def secret_of(path: Path) -> bytes:
    """The secret in a file, which is made if it is not there. Raises LinkSecretError."""
    try:
        try:
            return _read(path)
        except FileNotFoundError:
            return _made(path)
    except OSError as error:
        raise LinkSecretError(f"{path}: {error.strerror}; exoflow's user must be able to read it, or to make it") from error


def _read(path: Path) -> bytes:
    text = path.read_text(errors="replace").strip()
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) < SECRET_BYTES:
        cure = (
            f"move it away, and a new one is made; addresses that were given out then end. It holds {SECRET_BYTES} bytes in hex"
        )
        raise LinkSecretError(f"{path}: is no secret of recordings' addresses; {cure}")
    return secret


def _made(path: Path) -> bytes:
    """Whole or not at all, also if two begin at once."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        os.unlink(new)
    return _read(path)
