"""urllib3's connections with the checks it lacks: whom we are connected to, and how much a server may send.

Also the one place that knows what its errors, and those of http.client, ssl and the sockets, mean for an engineer.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import gevent
import requests
from gevent import socket as gevent_socket
from urllib3 import exceptions as u3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from exoflow.crm.addresses import IPNetwork, why_refused
from exoflow.crm.resolver import Resolver

FailureReason = Literal["url", "dns", "refused", "address", "tls", "timeout", "reset", "body", "open"]

# Bytes of one answer on the wire, headers, interim answers and chunk sizes included: 64 KiB of body in chunks of one byte
# make 400 KiB. Without it a server that sends "100 Continue" or one endless chunk size for ever is read for ever, and
# since its bytes are always there already, the loop would not even see the deadline.
MAX_ANSWER_BYTES = 512 * 1024
KEPT_SECONDS = 30.0  # without use; servers close theirs after 60 s and more, and a slow CRM's crowd is not kept for ever


@dataclass(slots=True)
class Trail:
    """How far the request under way has come, for the sentence of its failure, and how much of an answer it takes."""

    waiting_for: str = "nothing was begun"
    looking_up: str = ""  # the name, while it is looked up
    in_handshake: bool = False
    status: int | None = None
    most_bytes: int = MAX_ANSWER_BYTES  # on the wire


trail: ContextVar[Trail] = ContextVar("trail")


@dataclass(frozen=True, slots=True)
class Checks:
    """What a new connection is held against."""

    resolver: Resolver
    allowed: tuple[IPNetwork, ...]


class Refusal(Exception):
    """A failure whose reason is known where it happens. No OSError, so that it passes through urllib3 as it is."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason, detail)


class _Metered(io.RawIOBase):
    """The bytes of one answer, counted."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._most = self._left = trail.get().most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise Refusal("body", f"the answer has more than {self._most // 1024} KiB with its headers")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: io.BufferedReader = io.BufferedReader(_Metered(self.fp.detach()))


class _Connecting:
    """Looks up, connects and checks the peer: before TLS, before any byte of ours."""

    checks: Checks
    host: str
    port: int
    timeout: Any  # seconds; http.py always gives them
    _dns_host: str

    def _new_conn(self) -> socket.socket:
        here = trail.get()
        here.looking_up = self.host
        try:
            targets = self.checks.resolver.resolve(self._dns_host, self.port)
        except (OSError, UnicodeError) as problem:
            why = getattr(problem, "strerror", None) or "not a host name"
            raise Refusal("dns", f"the name {self.host} cannot be looked up: {why}") from None
        here.looking_up = ""
        problems: list[Refusal] = []
        for family, address in targets:
            here.waiting_for = f"still connecting to {address[0]} port {self.port} (a host that is down, or a firewall)"
            try:
                # a dead first address leaves time for the others
                return self._connected(family, address, self.timeout / len(targets))
            except Refusal as refusal:
                problems.append(refusal)
        raise problems[-1]

    def _connected(self, family: int, address: Any, seconds: float) -> socket.socket:
        self._check(address[0])
        sock = gevent_socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(seconds)
            sock.connect(address)
            self._check(sock.getpeername()[0])
        except OSError as problem:
            sock.close()
            raise _not_connected(problem, f"{address[0]} port {self.port}", seconds) from None
        except BaseException:  # the deadline, or a peer that is refused
            sock.close()
            raise
        here = trail.get()
        here.in_handshake = isinstance(self, HTTPSConnection)
        here.waiting_for = "still in the TLS handshake" if here.in_handshake else _NO_BYTE
        return sock  # type: ignore[no-any-return]

    def _check(self, address: str) -> None:
        if (kind := why_refused(address, self.checks.allowed)) is not None:
            told = address if address == self.host else f"{self.host} leads to {address}"
            raise Refusal("address", f"{told}, {kind}, which this account may not reach")


_NO_BYTE = "connected, but no answer came"


def _not_connected(problem: OSError, peer: str, seconds: float) -> Refusal:
    if isinstance(problem, ConnectionRefusedError):
        return Refusal("refused", f"nothing listens at {peer}")
    if isinstance(problem, TimeoutError):
        return Refusal("timeout", f"no connection to {peer} within {seconds:.3g} s (a host that is down, or a firewall)")
    return Refusal("refused", f"cannot connect to {peer}: {problem.strerror or type(problem).__name__}")


class _Http(_Connecting, HTTPConnection):
    response_class = _Response

    def __init__(self, *args: Any, checks: Checks, **kwargs: Any) -> None:
        self.checks = checks
        super().__init__(*args, **kwargs)


class _Https(_Connecting, HTTPSConnection):
    response_class = _Response

    def __init__(self, *args: Any, checks: Checks, **kwargs: Any) -> None:
        self.checks = checks
        super().__init__(*args, **kwargs)

    def connect(self) -> None:
        super().connect()
        here = trail.get()
        here.in_handshake, here.waiting_for = False, _NO_BYTE


class _AskAgainOnce:
    """A kept connection may be closed by the server in the very moment it is used again: then the request was not seen, and
    goes out once more on a new connection (RFC 9110, 9.2.2). Within the same deadline, and never on a new connection."""

    def _make_request(self, conn: Any, *args: Any, **kwargs: Any) -> Any:
        kept = not conn.is_closed
        trail.get().waiting_for = _NO_BYTE
        try:
            return super()._make_request(conn, *args, **kwargs)  # type: ignore[misc]
        except ConnectionError:
            if not kept:
                raise
            conn.close()
            return super()._make_request(conn, *args, **kwargs)  # type: ignore[misc]


class _NotForEver:
    """Closes kept connections that nobody has used for KEPT_SECONDS: urllib3 keeps as many as there ever were at once."""

    pool: Any  # urllib3's queue
    sweeping = False

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.used_at = time.monotonic()
        super()._put_conn(conn)  # type: ignore[misc]
        if not self.sweeping:
            self.sweeping = True
            gevent.spawn_later(KEPT_SECONDS, _sweep, weakref.ref(self))


def _sweep(of: weakref.ref[_NotForEver]) -> None:
    """For a closed connection its place in the queue is left, for which urllib3 makes a new one when it is taken.

    The pool is known weakly: urllib3 closes one by letting go of it.
    """
    pool = of()
    if pool is None or pool.pool is None:
        return
    queue, now = pool.pool.queue, time.monotonic()
    for place, conn in enumerate(queue):
        if conn is not None and (conn.is_closed or now - conn.used_at >= KEPT_SECONDS):
            conn.close()
            queue[place] = None
    pool.sweeping = any(conn is not None for conn in queue)
    if pool.sweeping:
        gevent.spawn_later(KEPT_SECONDS, _sweep, of)


class _HttpPool(_NotForEver, _AskAgainOnce, HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(_NotForEver, _AskAgainOnce, HTTPSConnectionPool):
    ConnectionCls = _Https


def pool_classes(checks: Checks) -> dict[str, Any]:
    """What urllib3's PoolManager makes its pools with (`pool_classes_by_scheme`)."""
    return {"http": partial(_HttpPool, checks=checks), "https": partial(_HttpsPool, checks=checks)}


# --- what an error means ------------------------------------------------------------------------

ERRORS = (OSError, ValueError, http.client.HTTPException, u3.HTTPError)  # requests' own are OSErrors

_NOT_HTTP = (
    http.client.BadStatusLine,
    http.client.LineTooLong,
    http.client.UnknownProtocol,
    u3.InvalidHeader,
    requests.exceptions.InvalidHeader,
)


def diagnose(error: BaseException, deadline: float, here: Trail) -> tuple[FailureReason, str]:
    """Reason and sentence for what came out of requests. Never the error's own text: it holds the URL with its secrets."""
    causes = list(_causes(error))

    def first(kinds: Any) -> Any:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if certificate := first(ssl.SSLCertVerificationError):
        return "tls", f"the certificate is refused: {certificate.verify_message.rstrip('.')}"
    if here.in_handshake and (handshake := first((ssl.SSLError, u3.SSLError, ConnectionError))):
        why = (getattr(handshake, "reason", None) or "the connection was closed").replace("_", " ").lower()
        return "tls", f"the TLS handshake failed: {why}"
    if here.looking_up and isinstance(error, TimeoutError):
        return "dns", f"the name {here.looking_up} was not looked up within {deadline:g} s"
    if first((requests.Timeout, u3.TimeoutError, TimeoutError)):
        return "timeout", f"not done within {deadline:g} s: {here.waiting_for}"
    if first((ConnectionError, u3.IncompleteRead, http.client.IncompleteRead, ssl.SSLError)):
        if here.status is None:
            return "reset", "the connection was closed without an answer"
        return "reset", f"the connection was closed within the answer (status {here.status})"
    if first(_NOT_HTTP) or first(http.client.HTTPException):
        return "body", "what came back is not HTTP"
    if first((requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, u3.LocationValueError, UnicodeError)):
        return "url", "not a URL that can be asked"
    return "reset", f"the connection failed ({type(causes[-1]).__name__})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and everything it was made of; libraries hide the cause in args, in `reason` or in the context."""
    queue, seen = [error], set[int]()
    while queue:
        one = queue.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        queue += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
