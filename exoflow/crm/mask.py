"""What an account may see of its URLs and answers: everything but the secrets in them. Pure, never raises on odd text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

from exoflow.characters import belongs

MASK = "***"
EXCERPT_BYTES = 200  # of an answer in the journey
MAX_URL_CHARS = 500  # of a URL in the journey: a delivery carries the whole journey in 20 kB

# a key is secret if one of its words is among these, or it contains one of those
_SECRET_WORDS = frozenset(
    {"key", "apikey", "pass", "pwd", "auth", "authorization", "sig", "sign", "hmac", "jwt", "bearer", "otp", "pin"}
    | {"session", "credential", "credentials"}
)
_SECRET_PARTS = ("token", "secret", "passw", "passphrase", "signature", "apikey")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# parts of a path: `T0`, `v2_beta` and `passthru2` are words; a token is longer, and a UUID is one
MIN_TOKEN_WORD = 10  # characters between `-`, `_`, `.`, `~` and `:`, with letters and digits
MIN_TOKEN_CHARS = 20  # of a whole part with small and capital letters and digits, whatever divides it
_TOKEN_WORDS = re.compile(r"[-_.~:]")
_MIN_SECRET_CHARS = 4  # shorter values are not looked for in answers: `1` is everywhere

_AUTHORITY = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:)?//([^/?#]*)")
_NAMED_VALUE = re.compile(r"""(?P<key>[A-Za-z0-9_.-]{1,64})(?P<between>["']?\s*[:=]\s*["']?)(?P<value>[^\s"'&,;}<]+)""")


def is_secret_key(key: str, extra_keys: Collection[str] = ()) -> bool:
    """Does a parameter of this name carry a secret? `extra_keys` are the account's own (`crm.mask`)."""
    if extra_keys:
        lowered = key.lower()
        if any(lowered == extra.lower() for extra in extra_keys):
            return True
    return _is_secret(key)


@lru_cache(1024)  # every request has the dialect's own twenty names
def _is_secret(key: str) -> bool:
    lowered = key.lower()
    if any(part in lowered for part in _SECRET_PARTS):
        return True
    return any(word.lower() in _SECRET_WORDS for word in _WORDS.findall(key))


def mask_url(url: str, extra_keys: Collection[str] = ()) -> str:
    """The URL as people may see it: no userinfo, no values of secret query keys, no parts of the path that look like a secret
    or stand behind a prefix of `crm.mask`, no fragment, at most 500 characters."""
    shown = url.partition("#")[0]
    if found := _AUTHORITY.match(shown):
        userinfo, at, _ = found.group(2).rpartition("@")
        if at:
            shown = shown[: found.start(2)] + MASK + shown[found.start(2) + len(userinfo) :]
    path, question, query = shown.partition("?")
    shown = _mask_path(path, extra_keys)
    if question:
        shown += "?" + "&".join(_mask_pair(pair, extra_keys) for pair in query.split("&"))
    shown = _printable(shown)
    return shown if len(shown) <= MAX_URL_CHARS else shown[: MAX_URL_CHARS - 1] + "…"


def _mask_path(url: str, extra_keys: Collection[str]) -> str:
    """Chat hooks carry their secret in the path: `/services/T0/B0/…`, `/bot123:…/sendMessage`."""
    found = _AUTHORITY.match(url)
    at = found.end() if found else 0
    path = url[at:]
    for prefix in extra_keys:
        if prefix.startswith("/") and path.startswith(prefix) and len(path) > len(prefix):
            return url[: at + len(prefix)] + MASK
    return url[:at] + "/".join(MASK if _looks_secret(part) else part for part in path.split("/"))


@lru_cache(1024)
def _looks_secret(part: str) -> bool:
    """Is it a token, and no word: letters and digits mixed, and long?"""
    plain = unquote_plus(part)
    if len(plain) >= MIN_TOKEN_CHARS and _is_mixed(plain) and plain.lower() != plain != plain.upper():
        return True
    return any(len(word) >= MIN_TOKEN_WORD and _is_mixed(word) for word in _TOKEN_WORDS.split(plain))


def _is_mixed(text: str) -> bool:
    return any(c.isdigit() for c in text) and any(c.isalpha() for c in text)


def _mask_pair(pair: str, extra_keys: Collection[str]) -> str:
    key, equals, value = pair.partition("=")
    return f"{key}={MASK}" if equals and value and is_secret_key(unquote_plus(key), extra_keys) else pair


def mask_values(value: Any, extra_keys: Collection[str] = ()) -> Any:
    """A form's or a JSON body's mapping as people may see it: no values of secret keys, at any depth."""
    if isinstance(value, Mapping):
        return {k: MASK if is_secret_key(str(k), extra_keys) else mask_values(v, extra_keys) for k, v in value.items()}
    return [mask_values(part, extra_keys) for part in value] if isinstance(value, list) else value


def _secrets_of(url: str, extra_keys: Collection[str]) -> Iterator[str]:
    """The secret values within a URL, as written and as the receiver reads them."""
    if (found := _AUTHORITY.match(url)) and "@" in found.group(2):
        userinfo = found.group(2).rpartition("@")[0]
        yield from (userinfo, *userinfo.split(":", 1))
    path = _AUTHORITY.sub("", url.partition("#")[0].partition("?")[0])
    for prefix in extra_keys:
        if prefix.startswith("/") and path.startswith(prefix):
            yield path.removeprefix(prefix)
    yield from (part for part in path.split("/") if _looks_secret(part))
    for pair in url.partition("#")[0].partition("?")[2].split("&"):
        key, _, value = pair.partition("=")
        if value and is_secret_key(unquote_plus(key), extra_keys):
            yield from (value, unquote_plus(value))


def excerpt(body: bytes, url: str = "", extra_keys: Collection[str] = ()) -> str:
    """The first 200 bytes of an answer as text: without the secrets of the URL asked, without values under secret names."""
    # masked before it is cut: half of a secret at the cut would go unnoticed
    text = body[: EXCERPT_BYTES * 4].decode("utf-8", "replace")
    for secret in sorted(set(_secrets_of(url, extra_keys)), key=len, reverse=True):
        if len(secret) >= _MIN_SECRET_CHARS:
            text = text.replace(secret, MASK)
    text = _NAMED_VALUE.sub(
        lambda m: m["key"] + m["between"] + MASK if is_secret_key(m["key"], extra_keys) else m[0],
        text,
    )
    return _printable(text.encode()[:EXCERPT_BYTES].decode("utf-8", "ignore"))


def _printable(text: str) -> str:
    """Control characters escaped: what a server sends must not move a terminal's cursor."""
    return "".join(c if belongs(c) else c.encode("unicode_escape").decode() for c in text)
