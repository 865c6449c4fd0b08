"""Keys of the Calls API: a name and a token. Only the token's scrypt hash is kept; the token is shown once, when it is made.

Parameters as RFC 7914 names them: N = 2^14, r = 8, p = 1 cost some 50 ms and 16 MiB. A token has 192 random bits, so that no
hash of it could be tried out anyway; scrypt is for tokens that somebody chose himself and hashed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

LOG2_N, R, P = 14, 8, 1
SALT_BYTES = 16
HASH_BYTES = 32
TOKEN_BYTES = 24
MAX_TOKEN = 200  # characters; a longer one is nobody's, and costs nothing


@dataclass(frozen=True)
class NewKey:
    """`token` is to be handed over and forgotten; `key` and `token_hash` go into the account's file."""

    key: str
    token: str
    token_hash: str


def new_key(name: str | None = None) -> NewKey:
    """`name`: of the key, if it is not to be made up.

    Hexadecimal, so that `https://KEY:TOKEN@host/` needs no escapes; a letter first, so that YAML sees no number.
    """
    token = secrets.token_hex(TOKEN_BYTES)
    return NewKey(name or f"k{secrets.token_hex(8)}", token, hashed(token))


def hashed(token: str) -> str:
    """`scrypt$14$8$1$<salt>$<hash>`, both base64url without padding. Takes some 50 ms."""
    salt = secrets.token_bytes(SALT_BYTES)
    return f"scrypt${LOG2_N}${R}${P}${_text(salt)}${_text(_scrypt(token, salt))}"


def matches(token: str, token_hash: str) -> bool:
    """Is it the token of this hash (of the form that the configuration takes)? Takes some 50 ms whatever it is."""
    salt, wanted = (urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token_hash.split("$")[-2:])
    return hmac.compare_digest(_scrypt(token, salt), wanted)


def _scrypt(token: str, salt: bytes) -> bytes:
    return hashlib.scrypt(token.encode("utf-8", "replace"), salt=salt, n=2**LOG2_N, r=R, p=P, dklen=HASH_BYTES)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
