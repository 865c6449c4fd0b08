"""Signatures of deliveries, after Standard Webhooks 1.0.0 (standardwebhooks.com, "Signature scheme").

Signed is `<id>.<timestamp>.<body>` with HMAC-SHA256; the receiver refuses a timestamp more than 5 minutes off.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from exoflow.errors import ExoflowError

SECRET_PREFIX = "whsec_"
# the standard's bounds of a secret, in bytes
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64  # as above


class BadSecret(ExoflowError):
    """The secret of an account's deliveries is not what the standard asks for. Never carries the secret."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f"deliveries.secret: {problem}; make one with "
            """`python3 -c 'import base64, os; print("whsec_" + base64.b64encode(os.urandom(32)).decode())'`"""
        )


def secret_key(secret: str) -> bytes:
    """The key within `whsec_<base64>`. Raises BadSecret."""
    text = secret.strip()
    if not text.startswith(SECRET_PREFIX):
        raise BadSecret(f"must begin with {SECRET_PREFIX}")
    encoded = text.removeprefix(SECRET_PREFIX)
    try:
        # receivers take unpadded base64 as well
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadSecret(f"is no base64 after {SECRET_PREFIX}") from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise BadSecret(f"has {len(key)} bytes, needs {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}")
    return key


def sign(secret: str, msg_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64 of the HMAC>` for the header `webhook-signature`; `timestamp` in Unix seconds. Raises BadSecret."""
    signed = b"%s.%d.%s" % (msg_id.encode(), timestamp, body)
    mac = hmac.new(secret_key(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


def headers(secret: str, msg_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a signed delivery: same `msg_id` over all its attempts, a new timestamp each. Raises BadSecret."""
    return {
        "webhook-id": msg_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, msg_id, timestamp, body),
    }
