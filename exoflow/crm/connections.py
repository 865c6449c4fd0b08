"""urllib3's connections with the checks it lacks: whom we are connected to, and how much a server may send.

Also the one place that knows what its errors, and those of http.client, ssl and the sockets, mean for an engineer.
"""

from __future__ import annotations

import http
import http.client
import io
import socket
import ssl
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
import requests
from gevent import socket as gevent_socket
from urllib3 import exceptions as u3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from exoflow.crm import answer_head
from exoflow.crm.addresses import IPNetwork, why_refused
from exoflow.crm.failures import FailureReason, Refusal
from exoflow.crm.resolver import Resolver

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
    repeatable: bool = False  # may go out once more if a kept connection had died
    reached: bool = False  # a connection was made: what fails from here on is not the whole host's
    status: int | None = None  # of the final answer
    most_bytes: int = MAX_ANSWER_BYTES  # on the wire


trail: ContextVar[Trail] = ContextVar("trail")


@dataclass(frozen=True, slots=True)
class Checks:
    """What a new connection is held against."""

    resolver: Resolver
    allowed: tuple[IPNetwork, ...]


class _Metered(io.RawIOBase):
    """The bytes of one answer, counted."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._most = self._left = trail.get().most_bytes
        self.closing = False  # nothing more is taken from the socket

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.closing:
            return None
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise Refusal("body", f"the answer has more than {self._most // 1024} KiB with its headers")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


_BODILESS = frozenset({http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED})


class _Response(http.client.HTTPResponse):
    """An answer whose head is read by crm/answer_head.py, and that tells whether its connection is still in step."""

    _method: str
    _check_close: Callable[[], bool]

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._metered = _Metered(self.fp.detach())
        self.fp: io.BufferedReader = io.BufferedReader(self._metered)
        self.in_step = True

    def begin(self) -> None:
        """As http.client's, which reads the head by a parser of mails. Raises Refusal, OSError, HTTPException."""
        self.version, self.status, self.reason = answer_head.read_status(self.fp)
        self.code = trail.get().status = self.status
        self.headers = self.msg = answer_head.read_headers(self.fp)
        self.chunked, self.chunk_left = answer_head.is_chunked(self.headers), None
        length = None if self.chunked else answer_head.body_length(self.headers)
        self.length = length
        self.will_close = self._check_close()
        if self._method == "HEAD" or self.status in _BODILESS:
            # a server that sends a body all the same may send it after the next request went out
            self.in_step = not (self._method == "HEAD" or length or self.chunked)
            self.length, self.chunked = 0, False
        elif self.length is None and not self.chunked:
            self.will_close = True

    def _close_conn(self) -> None:
        """The body has been read. A byte more belongs to no request: what comes next on the connection is another's."""
        self._metered.closing = True
        self.in_step = self.in_step and not self.fp.peek(1)
        super()._close_conn()  # type: ignore[misc]


class _InStep:
    """Knows its last answer: a connection that carries a byte that nobody asked for is never used again."""

    last_answer: _Response | None = None

    def getresponse(self) -> Any:
        answer = super().getresponse()  # type: ignore[misc]
        self.last_answer = answer._original_response
        return answer

    @property
    def in_step(self) -> bool:
        return self.last_answer is None or self.last_answer.in_step


class _Connecting(_InStep):
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
        here.reached = not here.in_handshake
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
        here.in_handshake, here.reached, here.waiting_for = False, True, _NO_BYTE


class _AskAgainOnce:
    """A kept connection may be closed by the server in the very moment it is used again. A question of which no byte of an
    answer came goes out once more then, on a new connection and within the same deadline. What acts (a POST, an SMS by GET) is
    never repeated: the server may have done it (RFC 9110, 9.2.2)."""

    def _make_request(self, conn: Any, *args: Any, **kwargs: Any) -> Any:
        here, kept = trail.get(), not conn.is_closed
        here.waiting_for, here.reached = _NO_BYTE, kept
        try:
            return super()._make_request(conn, *args, **kwargs)  # type: ignore[misc]
        except ConnectionError:
            if not kept or not here.repeatable or here.status is not None:
                raise
            conn.close()
            here.reached = False
            return super()._make_request(conn, *args, **kwargs)  # type: ignore[misc]


class _NotForEver:
    """Closes kept connections that nobody has used for KEPT_SECONDS: urllib3 keeps as many as there ever were at once."""

    pool: Any  # urllib3's queue
    sweeping = False

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.used_at = time.monotonic()
            if not conn.in_step:
                conn.close()
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
