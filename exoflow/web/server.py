"""gevent's WSGI server with limits: for pages that anybody on the network may ask for, beside calls that must not notice.

One request a connection, REQUEST_SECONDS for all of it unless its application takes more, CONNECTIONS at once; the rest
waits in the kernel's backlog.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

from exoflow.web.answers import COMMON, KINDS, STATUS, Refusal, encoded, form_of, is_api

log = logging.getLogger("exoflow.web")

CONNECTIONS = 50
REQUEST_SECONDS = 5.0  # from the connection to the answer's last byte; longer than any look takes
LISTEN_AGAIN_SECONDS = 1.0  # a port that an earlier process still holds is tried again
BODY_BYTES = 16_384  # of a POST or PUT that is read; above it the application sees none, and a Content-Length that is too large
EMPTY_LINES = 4  # before a request line; some clients send one after the body of an earlier request (RFC 9112, 2.2)
WHY = {
    400: "the request cannot be read; it is HTTP/1.1 with one header a line",
    414: "the request line is too long",
    500: "this request failed; exoflow's log has why",
    503: f"this took longer than {REQUEST_SECONDS:.0f} s; try again",
}

_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)  # RFC 9112, section 3.2.2

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Handler(WSGIHandler):  # type: ignore[misc]
    path: str

    def handle(self) -> None:
        self._limit = gevent.Timeout.start_new(REQUEST_SECONDS)
        try:
            super().handle()
        except gevent.Timeout as over:
            if over is not self._limit:
                raise
        finally:
            self._limit.close()

    def _more_time(self, seconds: float) -> None:
        """From now on, for what takes longer by its nature."""
        self._limit.close()
        self._limit = gevent.Timeout.start_new(seconds)

    def handle_one_request(self) -> Any:
        done = super().handle_one_request()
        if not isinstance(done, tuple):
            return done
        status = int(done[0])
        headers, body = _error(status, self.requestline)
        lines = [f"HTTP/1.1 {STATUS[status]}", *(f"{name}: {value}" for name, value in headers)]
        return done[0], "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def read_requestline(self) -> Any:
        for _ in range(EMPTY_LINES):
            line = super().read_requestline()
            if line not in ("\r\n", "\n"):
                break
        return line

    def read_request(self, raw_requestline: str) -> Any:
        good = super().read_request(raw_requestline)
        self.close_connection = True
        self.path = _origin_form(self.path)
        return good

    def get_environ(self) -> Any:
        environ = super().get_environ()
        environ["exoflow.more_time"] = self._more_time
        told = self.wsgi_input.content_length
        if (
            environ["REQUEST_METHOD"] not in ("POST", "PUT")
            or self.wsgi_input.chunked_input
            or told is None
            or told > BODY_BYTES
        ):
            # a body that nothing here takes is not read
            self.wsgi_input.content_length = 0
            self.wsgi_input.chunked_input = False
        return environ

    def handle_error(self, kind: Any, error: Any, trace: Any) -> None:
        if error is not self._limit:
            super().handle_error(kind, error, trace)
            return
        log.info("request from %s: not done in time", self.client_address)
        self.close_connection = True
        self._send_error_response_if_possible(503)

    def _send_error_response_if_possible(self, status: int) -> None:
        if self.response_length:
            self.close_connection = True
            return
        headers, body = _error(status, self.requestline)
        with suppress(OSError):
            self.start_response(STATUS[status], headers)
            self.write(body)

    def _handle_client_error(self, ex: Exception) -> tuple[str, bytes]:
        log.info("bad request from %s: %s", self.client_address, type(ex).__name__)
        return "400", b""


def _origin_form(target: str) -> str:
    """Path and query of a request target, which may name a host before them."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


def _error(status: int, requestline: str) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of an error: for addresses of the API in the form that they ask for, else without a body."""
    words = requestline.split()
    path = _origin_form(words[1]).partition("?")[0] if len(words) > 1 else ""
    if not is_api(path):
        return [*COMMON, ("Content-Length", "0")], b""
    form = form_of(path)
    body = b"" if words[0] == "HEAD" else encoded(Refusal(status, WHY[status]).data(), form)
    return [("Content-Type", KINDS[form]), ("Content-Length", str(len(body))), *COMMON], body


class WebServer:
    """Serves an application from `start()` to `stop()`. A port that is taken is tried again: calls do not wait for pages."""

    def __init__(self, address: tuple[str, int], application: Application) -> None:
        self._address, self._application = address, application
        self._server: WSGIServer | None = None
        self._starting: gevent.Greenlet | None = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens; None as long as it does not."""
        return None if self._server is None else (self._server.server_host, self._server.server_port)

    def start(self) -> None:
        if not self._listening():
            self._starting = gevent.spawn(self._listen_later)

    def stop(self) -> None:
        if self._starting is not None:
            self._starting.kill()
        if self._server is not None:
            self._server.stop(timeout=0)

    def _listening(self) -> bool:
        server = WSGIServer(
            self._address,
            self._application,
            spawn=Pool(CONNECTIONS),
            log=None,
            error_log=log,
            handler_class=_Handler,
            environ={"SERVER_NAME": self._address[0]},  # else gevent asks DNS for it
        )
        try:
            server.start()
        except OSError as error:
            with suppress(OSError):
                server.stop(timeout=0)
            if self._starting is None:
                log.error("web.listen: %s:%d: %s; trying on", *self._address, error.strerror or error)
            return False
        self._server = server
        return True

    def _listen_later(self) -> None:
        while True:
            gevent.sleep(LISTEN_AGAIN_SECONDS)
            if self._listening():
                log.warning("web.listen: %s:%d: listening now", *self._address)
                return
