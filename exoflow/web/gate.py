"""Who may ask the APIs of calls and agents, and how often: Basic auth with the account's keys, a rate for each key.

scrypt runs in a thread, one at a time: calls must not notice that somebody tries tokens. A token that was found good is
remembered as an HMAC under a key that lives as long as the process; a key that is taken out of the configuration counts no
more at once, as remembered is by its hash.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import math
import secrets
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable

import gevent
from gevent.lock import BoundedSemaphore

from exoflow.config.model import Account, ApiKey
from exoflow.web.answers import Refusal
from exoflow.web.apikeys import MAX_TOKEN, matches

REQUESTS_A_MINUTE = 200  # of one key; a page costs the store's thread some ms, so that calls notice none of it
CHECKS_A_MINUTE = 10  # of one key's token: each costs a core 50 ms; a good token needs one as long as the process lives
REMEMBERED = 1000  # tokens found good, and keys whose rate is known; more keys than that share a box with no calls
CHECK_SECONDS = 3.0  # waiting for one's turn at scrypt, within the server's REQUEST_SECONDS

_WHO = [("WWW-Authenticate", 'Basic realm="exoflow"')]


class Rate:
    """So many a minute for each name, all of them at once if need be."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = a_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, most: int | None = None) -> None:
        """Raises Refusal (429), with the seconds to wait, if none is left. `most`: if this name has a rate of its own."""
        now, most = self._clock(), self._most if most is None else most
        left, at = self._left.pop(name, (float(most), now))
        left = min(most, left + (now - at) * most / 60)
        self._left[name] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        if left < 1:
            seconds = math.ceil((1 - left) * 60 / most)
            raise Refusal(429, f"more than {most} in a minute; wait and try again", [("Retry-After", str(seconds))])


class Gate:
    """Lets requests through. `account`: the configuration as it is now."""

    def __init__(self, account: Callable[[str], Account | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._account = account
        self._requests, self._checks = Rate(REQUESTS_A_MINUTE, clock), Rate(CHECKS_A_MINUTE, clock)
        self._placed = Rate(1, clock)
        self._secret = secrets.token_bytes(32)
        self._good: OrderedDict[str, bytes] = OrderedDict()  # by token_hash
        self._turn = BoundedSemaphore(1)

    def enter(self, account_id: str, authorization: str) -> Account:
        """The account, for whom the header `Authorization` names a key of it with its token. Raises Refusal: 401, 429, 503.

        An account that does not exist is answered like a wrong token. A key's name is no secret, its token is.
        """
        name, token = _credentials(authorization)
        account = self._account(account_id)
        key = next((key for key in account.api.keys if key.key == name), None) if account is not None else None
        if account is None or key is None:
            raise Refusal(401, "no such key and token for this account", _WHO)
        self._check(account_id, key, token)
        self._requests.take(f"{account_id}/{name}")
        return account

    def may_place(self, account_id: str, account: Account) -> None:
        """Is this account let in to place a call, and has it one left this minute? Raises Refusal: 403, 429."""
        if not account.api.place_calls:
            raise Refusal(403, "this account may not place calls (api.place_calls)")
        self._placed.take(account_id, account.api.calls_a_minute)

    def _check(self, account_id: str, key: ApiKey, token: str) -> None:
        if self._remembers(key, token):
            return
        if not self._turn.acquire(timeout=CHECK_SECONDS):
            raise Refusal(503, "too many tokens are being checked; try again", [("Retry-After", "1")])
        try:
            if self._remembers(key, token):
                return
            self._checks.take(f"{account_id}/{key.key}")
            if not gevent.get_hub().threadpool.apply(matches, (token, key.token_hash)):
                raise Refusal(401, "no such key and token for this account", _WHO)
            self._good[key.token_hash] = self._digest(token)
            if len(self._good) > REMEMBERED:
                self._good.popitem(last=False)
        finally:
            self._turn.release()

    def _remembers(self, key: ApiKey, token: str) -> bool:
        good = self._good.get(key.token_hash)
        return good is not None and hmac.compare_digest(good, self._digest(token))

    def _digest(self, token: str) -> bytes:
        return hmac.new(self._secret, token.encode("utf-8", "replace"), hashlib.sha256).digest()


def _credentials(authorization: str) -> tuple[str, str]:
    """Name and token of Basic auth (RFC 7617). Raises Refusal (401)."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            name, colon, token = b64decode(encoded.strip(), validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            raise Refusal(401, "Authorization cannot be read; it is Basic and base64 of KEY:TOKEN", _WHO) from None
        if colon and 0 < len(token) <= MAX_TOKEN:
            return name, token
    raise Refusal(401, "a key and its token are needed, by Basic auth", _WHO)
