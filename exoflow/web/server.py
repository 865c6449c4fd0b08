"""gevent's WSGI server with limits: for pages that anybody on the network may ask for, beside calls that must not notice.

One request a connection, REQUEST_SECONDS for all of it unless its application takes more, CONNECTIONS at once; the rest
waits in the kernel's backlog.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

log = logging.getLogger("exoflow.web")

CONNECTIONS = 50
REQUEST_SECONDS = 5.0  # from the connection to the answer's last byte; longer than any look takes
LISTEN_AGAIN_SECONDS = 1.0  # a port that an earlier process still holds is tried again
BODY_BYTES = 16_384  # of a POST or PUT that is read; above it the application sees none, and a Content-Length that is too large
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Handler(WSGIHandler):  # type: ignore[misc]
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

    def read_request(self, raw_requestline: str) -> Any:
        good = super().read_request(raw_requestline)
        self.close_connection = True
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

    def _handle_client_error(self, ex: Exception) -> tuple[str, bytes]:
        log.info("bad request from %s: %s", self.client_address, type(ex).__name__)
        return "400", BAD_REQUEST


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
