"""Asks CRMs over HTTP, with an end to every wait.

requests alone has no total deadline, follows redirects, unpacks gzip bombs, and connects wherever a name leads. Here each
request ends within its deadline, reads at most 64 KiB (2 MiB of audio), follows nothing (302 is an answer in the dialect), and
reaches a private address only if the account allows it. Every failure is a CrmFailure with its own reason.

requests' Session is not used: its cookies would go from one account's call to another's, and for a redirect it reads and
unpacks the whole body even when told not to follow. Its adapter does the work.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import certifi
import gevent
import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.util.ssl_ import create_urllib3_context

from exoflow import __version__
from exoflow.crm import connections
from exoflow.crm.addresses import networks
from exoflow.crm.breaker import Breaker, CircuitOpen
from exoflow.crm.connections import Checks, Trail, diagnose, pool_classes
from exoflow.crm.failures import FailureReason, Refusal
from exoflow.crm.mask import excerpt, mask_url
from exoflow.crm.resolver import Resolver
from exoflow.errors import ExoflowError

MAX_BODY_BYTES = 64 * 1024  # an agents' list of 50 numbers has 4 KiB; more is a mistaken URL or an attack
MAX_URL_CHARS = 8000  # servers' usual limit of a request line
STATUS_ONLY_SECONDS = 2.0  # for the body of an answer whose status is all that counts, once that has come
POOL_SIZE = 100  # kept connections a host: 100 callers at once open none anew (facts, dependencies.md section 5)

# registered content codings (RFC 9110, 8.4.1, and the registry behind it); other words change no byte
_PACKINGS = frozenset({"gzip", "compress", "deflate", "br", "zstd", "dcb", "dcz", "exi", "aes128gcm", "pack200-gzip"})
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

_CURES: dict[FailureReason, str] = {
    "url": "correct the URL in the account's file",
    "dns": "check the host's name in the URL, and this machine's name servers",
    "refused": "is the CRM running, are host and port in the URL right, and does a firewall let us through?",
    "address": "if the account may reach it, add its network to crm.allow_private",
    "tls": "renew or correct the certificate at the CRM; the URL's host must be a name in it",
    "timeout": "make the CRM answer sooner, or give the step a longer `timeout`",
    "reset": "look into the CRM's own log: its server, or a proxy before it, dropped the request",
    "body": "the URL must lead to the CRM's own answer, plain and short, not to a page or a file",
    "open": "cure the last failure; `exoflow crm test` asks the CRM now, and it is asked again by itself",
}


class CrmFailure(ExoflowError):
    """There is no usable answer. `url` is masked; `status` is set if the CRM got as far as a status line; `circuit` is the
    breaker's evidence, empty if it was closed."""

    def __init__(
        self,
        reason: FailureReason,
        url: str,
        ms: int,
        detail: str,
        status: int | None = None,
        circuit: Mapping[str, Any] | None = None,
        *,
        reached: bool = False,
    ) -> None:
        """`reached`: a connection was made, so that the host as a whole is not dead."""
        self.reason, self.url, self.ms, self.detail, self.status = reason, url, ms, detail, status
        self.reached = reached
        self.circuit = circuit or {}
        self.cure = _CURES[reason]
        super().__init__(f"{url}: {detail} (after {ms} ms); {self.cure}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a CRM answered, whatever the status. `url` and `excerpt` are masked: the account may see them. `circuit` is the
    breaker's evidence, empty if it was closed."""

    status: int
    headers: Mapping[str, str]  # names in any case
    body: bytes
    ms: int
    url: str
    excerpt: str = ""  # the body's first 200 bytes
    unread: str = ""  # why the body was not read, where only the status counts; it is empty then
    circuit: Mapping[str, Any] = field(default_factory=dict)


class _Adapter(HTTPAdapter):
    """requests' adapter on our connections."""

    def __init__(self, checks: Checks, context: ssl.SSLContext, pool_size: int) -> None:
        self._checks, self._context = checks, context
        super().__init__(pool_connections=pool_size, pool_maxsize=pool_size)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = pool_classes(self._checks)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: the authorities are in our context; requests would load them anew for every connection."""


@cache
def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Reading 140 authorities takes 40 ms, so it is done once."""
    context = create_urllib3_context()
    context.load_default_certs()
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


class CrmClient:
    """One for the process. Connections are kept by account and host: what one account's server sends is never another's."""

    def __init__(self, pool_size: int = POOL_SIZE, *, ca_file: Path | None = None, resolver: Resolver | None = None) -> None:
        """Trusted are the system's authorities, Mozilla's (certifi) and those in `ca_file`."""
        self._pool_size, self._resolver = pool_size, resolver or Resolver()
        self._context = _trusting(ca_file)
        self._adapters: dict[tuple[str, tuple[str, ...]], _Adapter] = {}
        self.breaker = Breaker()
        self.in_flight = 0  # requests that wait for their answer: a rehearsal's clock must not overtake them

    def get(
        self,
        url: str,
        params: Sequence[tuple[str, str]] = (),
        *,
        deadline: float,
        allow_private: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        mask: Collection[str] = (),
        account: str = "",
        waits: bool = False,
        circuit: str = "",
        head: bool = False,
        most_bytes: int = MAX_BODY_BYTES,
        status_only: bool = False,
        once: bool = False,
    ) -> Answer:
        """Asks by GET, or by HEAD; `params` follow the URL's own query.

        `deadline` in seconds is for everything, from the name's look-up to the body's last byte, of which there may be
        `most_bytes`; `mask` are further secret query keys; `account` is whose connections are used, and whose circuit breaker
        it passes if a caller `waits`; `circuit` is the address without a call's values in it, by which the breaker knows it.
        Any status is an Answer. With `status_only` it is one whatever its body is: one that cannot be read is empty. `once`: it
        acts, and is not repeated when a kept connection turns out to be dead.
        Raises CrmFailure.
        """
        whole = with_params(url, params)
        method = "HEAD" if head else "GET"
        reach = tuple(allow_private)
        asked = _Asked(method, whole, None, deadline, account, reach, headers, mask, most_bytes, status_only, once)

        def ask() -> Answer:
            return self._ask(asked)

        if not waits:
            return ask()
        try:
            with self.breaker.passing(account, circuit or url, mask) as passage:
                try:
                    answer = ask()
                except CrmFailure as failure:
                    passage.failed(failure.reason, failure.detail, reached=failure.reached)
                    failure.circuit = passage.evidence
                    raise
                passage.answered()
                return replace(answer, circuit=passage.evidence)
        except CircuitOpen as refused:
            detail, evidence = refused.detail, refused.evidence
        raise CrmFailure("open", mask_url(whole, mask), 0, detail, circuit=evidence)

    def post(
        self,
        url: str,
        body: bytes,
        *,
        deadline: float,
        allow_private: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        mask: Collection[str] = (),
        account: str = "",
    ) -> Answer:
        """Sends `body` by POST, once, in whatever way the connection ends; the URL keeps its query. Of the answer the status
        counts: its body is waited for at most STATUS_ONLY_SECONDS. For the rest as `get`. Raises CrmFailure.
        """
        reach = tuple(allow_private)
        return self._ask(_Asked("POST", url, body, deadline, account, reach, headers, mask, status_only=True, once=True))

    def close(self) -> None:
        """Closes the kept connections; requests under way end by themselves."""
        for adapter in self._adapters.values():
            adapter.close()
        self._adapters.clear()

    def _ask(self, asked: _Asked) -> Answer:
        begun, deadline = time.monotonic(), asked.deadline
        most = connections.MAX_ANSWER_BYTES + asked.most_bytes - MAX_BODY_BYTES
        here = Trail(most_bytes=most, repeatable=not asked.once)
        headers: Mapping[str, str] = {}
        url = mask_url(asked.url, asked.mask)
        self.in_flight += 1
        token, timer = connections.trail.set(here), gevent.Timeout(deadline)
        try:
            with timer:
                request = _request(asked)
                response = self._adapter(asked).send(request, stream=True, timeout=deadline, verify=True)
                headers = CaseInsensitiveDict(response.headers)
                content = _read(response, here, asked)
        except gevent.Timeout as over:
            if over is not timer:
                raise
            reason, detail = diagnose(TimeoutError(), deadline, here)
        except Refusal as refusal:
            reason, detail = refusal.reason, refusal.detail
        except connections.ERRORS as error:
            reason, detail = diagnose(error, deadline, here)
        else:
            assert here.status is not None
            shown = excerpt(content, asked.url, asked.mask)
            return Answer(here.status, headers, content, _ms(begun), url, shown)
        finally:
            self.in_flight -= 1
            connections.trail.reset(token)
        if asked.status_only and here.status is not None:
            return Answer(here.status, headers, b"", _ms(begun), url, unread=detail)
        # raised out here, without a cause: the libraries' own errors carry the whole URL with its secrets
        raise CrmFailure(reason, url, _ms(begun), detail, here.status, reached=here.reached)

    def _adapter(self, asked: _Asked) -> _Adapter:
        key = (asked.account, asked.allow_private)
        if key not in self._adapters:
            try:
                checks = Checks(self._resolver, networks(asked.allow_private))
            except ValueError as problem:
                raise Refusal("address", f"crm.allow_private holds what is no network: {problem}") from None
            self._adapters[key] = _Adapter(checks, self._context, self._pool_size)
        return self._adapters[key]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request, as `get` and `post` take it."""

    method: str
    url: str
    body: bytes | None
    deadline: float
    account: str
    allow_private: tuple[str, ...]
    headers: Mapping[str, str] | None
    mask: Collection[str]
    most_bytes: int = MAX_BODY_BYTES
    status_only: bool = False
    once: bool = False


def _ms(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)


def with_params(url: str, params: Sequence[tuple[str, str]]) -> str:
    """The URL with `params` behind its own query, which stays as it is: many carry a key there (facts, exotel-dialect.md)."""
    base = url.partition("#")[0]
    if not params:
        return base
    joint = "" if base.endswith(("?", "&")) else "&" if "?" in base else "?"
    return base + joint + urlencode(params)


def _request(asked: _Asked) -> requests.PreparedRequest:
    if (problem := _url_problem(asked.url)) is not None:
        raise Refusal("url", problem)
    ours = {"User-Agent": f"exoflow/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    # of a URL with one lone `%` requests would quote every escape once more
    url = _LONE_PERCENT.sub("%25", asked.url)
    return requests.Request(asked.method, url, headers=ours | dict(asked.headers or {}), data=asked.body).prepare()


def _url_problem(url: str) -> str | None:
    if any(c <= " " or c == "\x7f" for c in url):  # urlsplit would drop newlines silently
        return "the URL has a space or a control character"
    if len(url) > MAX_URL_CHARS:
        return f"the URL has {len(url)} characters with its parameters; servers take {MAX_URL_CHARS}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "the URL's host or port cannot be read"
    if parts.scheme.lower() not in ("http", "https"):
        return "the URL must begin with https:// or http://"
    if not parts.hostname or port == 0:
        return "the URL names no host" if not parts.hostname else "nobody listens at port 0"
    return None


def _read(response: requests.Response, here: Trail, asked: _Asked) -> bytes:
    """The body as it came, not unpacked. Gives the connection back; closes it if the body is not wanted to its end."""
    raw, most = response.raw, asked.most_bytes
    seconds = STATUS_ONLY_SECONDS if asked.method == "POST" else None
    late = Refusal("timeout", f"the body did not come within {seconds} s of the status {here.status}")
    try:
        here.waiting_for = f"status {here.status} came, but not the whole answer"
        if packed := _packed(response.headers.get("content-encoding", "")):
            raise Refusal("body", f"the answer is packed ({packed[:20]!r}) although it was asked for plain")
        with gevent.Timeout(seconds, late):
            content = b""
            while part := raw.read(most + 1 - len(content), decode_content=False):
                content += part
                if len(content) > most:
                    raise Refusal("body", f"the answer (status {here.status}) has more than {most // 1024} KiB")
    except BaseException:
        raw.close()
        raise
    return content


def _packed(encodings: str) -> str:
    """The first encoding that changes the body. A charset or `none` in its place is wrong, often seen, and changes nothing."""
    named = (part.strip().lower() for part in encodings.split(","))
    return next((one for one in named if one.removeprefix("x-") in _PACKINGS), "")
