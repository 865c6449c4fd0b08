"""A CRM on loopback: answers passthru and connect, receives deliveries and checks their signatures. For demos and tests.

Paths: `/passthru` (200), `/greeting` (a text to speak), `/gather` (a question as JSON), `/connect` (the agents as JSON),
`/agents` (the agents as plain text), `/deliveries` (POST). HEAD gets the same headers as GET.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pywsgi import WSGIServer

logger = logging.getLogger(__name__)

SIGNATURE_SECONDS = 300  # Standard Webhooks: how far a timestamp may be off


@dataclass(frozen=True)
class Request:
    """One request as it arrived. `params` keeps order and repeats of the query."""

    at: float
    method: str
    path: str
    params: list[tuple[str, str]]
    headers: dict[str, str]  # names in lower case
    body: bytes
    signed: bool = False  # a delivery whose signature is right

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.params if key == name), None)

    @property
    def event(self) -> dict[str, Any]:
        """A delivery's JSON."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Reply:
    """What a path answers; `delay` in seconds of the wall clock, before anything is sent."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"
    delay: float = 0.0
    headers: Sequence[tuple[str, str]] = ()

    @classmethod
    def agents(cls, *numbers: str, **more: Any) -> Reply:
        """The connect URL's JSON: `record`, `recording_channels`, `max_ringing_duration`, … as keywords."""
        body = {"fetch_after_attempt": False, "destination": {"numbers": list(numbers)}, **more}
        return cls(200, json.dumps(body).encode(), "application/json")

    @classmethod
    def gather(cls, text: str, **more: Any) -> Reply:
        """The gather URL's JSON: `max_input_digits`, `finish_on_key`, … as keywords."""
        return cls(200, json.dumps({"gather_prompt": {"text": text}, **more}).encode(), "application/json")

    @classmethod
    def plain(cls, *numbers: str) -> Reply:
        return cls(200, ",".join(numbers).encode())


Script = Reply | Callable[[Request], Reply]


class _Server(WSGIServer):  # type: ignore[misc]
    """Sends at once: on a kept connection Nagle's algorithm would hold each answer's body back for 40 ms."""

    def handle(self, sock: socket.socket, address: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle(sock, address)


@dataclass
class DemoCrm:
    """`agents` are what `/connect` and `/agents` name; `script(path, …)` changes what a path answers."""

    agents: Sequence[str] = ()
    secret: str = ""
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    deliveries: list[Request] = field(default_factory=list)  # as they came, repeats too
    record: bool | None = True

    def __post_init__(self) -> None:
        self._scripts: dict[str, deque[Script]] = {}
        self._came = Event()
        self._server: WSGIServer | None = None

    # --- life ---

    def start(self) -> None:
        """Raises OSError when the port is taken."""
        self._server = _Server(("127.0.0.1", self.port), self._serve, log=None, error_log=logger)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(timeout=0)

    def __enter__(self) -> DemoCrm:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def url(self, path: str) -> str:
        assert self._server is not None, "not started"
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    # --- what it answers ---

    def script(self, path: str, *replies: Script) -> None:
        """One reply a request; the last stays."""
        self._scripts[path] = deque(replies)

    def _reply(self, request: Request) -> Reply:
        script = self._scripts.get(request.path)
        if script:
            reply = script.popleft() if len(script) > 1 else script[0]
            return reply if isinstance(reply, Reply) else reply(request)
        if request.path == "/passthru":
            return Reply(200, b"OK")
        if request.path == "/greeting":
            return Reply(200, b"Good morning.")
        if request.path == "/gather":
            return Reply.gather("Your order's six digits, please.", max_input_digits=6)
        if request.path == "/connect":
            more = {} if self.record is None else {"record": self.record, "recording_channels": "dual"}
            return Reply.agents(*self.agents, **more)
        if request.path == "/agents":
            return Reply.plain(*self.agents)
        if request.path == "/deliveries":
            return Reply(204) if request.signed or not self.secret else Reply(401, b"signature is not ours")
        return Reply(404, b"no such page")

    # --- what it received ---

    def to(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    def wait_for(self, enough: Callable[[DemoCrm], bool], seconds: float = 5.0) -> bool:
        """Until `enough` is true, looked at after each request, at most so many wall seconds."""
        with gevent.Timeout(seconds, False):
            while not enough(self):
                self._came.wait()
        return enough(self)

    def wait_for_deliveries(self, count: int, seconds: float = 5.0) -> list[Request]:
        self.wait_for(lambda crm: len(crm.deliveries) >= count, seconds)
        return self.deliveries

    # --- the server ---

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read() if environ.get("CONTENT_LENGTH") or "wsgi.input_terminated" in environ else b""
        headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        request = Request(
            time.time(),
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True),
            headers,
            body,
            bool(self.secret) and signature_is_right(self.secret, headers, body),
        )
        self.requests.append(request)
        if request.path == "/deliveries":
            self.deliveries.append(request)
        self._came.set()
        self._came.clear()
        reply = self._reply(request)
        if reply.delay:
            gevent.sleep(reply.delay)
        length = [] if reply.status in (204, 304) else [("Content-Length", str(len(reply.body)))]
        start_response(
            f"{reply.status} {'OK' if reply.status < 300 else 'Other'}",
            [("Content-Type", reply.content_type), *length, *reply.headers],
        )
        return [reply.body] if length and request.method != "HEAD" else []


def signature_is_right(secret: str, headers: dict[str, str], body: bytes, *, now: float | None = None) -> bool:
    """A receiver's check after Standard Webhooks 1.0.0, written for itself: it shares no code with the sender."""
    identity, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not identity or not timestamp.isdigit():
        return False
    if abs((time.time() if now is None else now) - int(timestamp)) > SIGNATURE_SECONDS:
        return False
    try:
        encoded = secret.removeprefix("whsec_")
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    wanted = base64.b64encode(hmac.new(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()).decode()
    given = (part.partition(",") for part in headers.get("webhook-signature", "").split(" "))
    return any(version == "v1" and hmac.compare_digest(text, wanted) for version, _, text in given)
