"""A server of raw bytes for tests: it answers what a script sends, keeps every request, and counts connections."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent import socket, ssl
from gevent.server import StreamServer

# takes the connection's socket and the request's bytes; sends what it likes; false ends the connection
Script = Callable[[socket.socket, bytes], bool]


def answer(body: bytes, *, status: str = "200 OK", content_type: str = "text/plain", more: bytes = b"") -> bytes:
    """A whole HTTP answer with its length."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + more + b"\r\n" + body


class RawServer:
    """On a loopback port of the system's choice; use as a context manager."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self.connections = 0
        self.requests: list[bytes] = []
        tls_arguments: dict[str, Any] = {"ssl_context": tls} if tls else {}
        self._server = StreamServer(("127.0.0.1", 0), self._serve, **tls_arguments)

    def __enter__(self) -> RawServer:
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(timeout=0)

    @property
    def port(self) -> int:
        port: int = self._server.address[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/crm"

    def _serve(self, sock: socket.socket, address: object) -> None:
        self.connections += 1
        with suppress(OSError), sock:
            while (request := _request(sock)) and self._answer(sock, request):
                pass

    def _answer(self, sock: socket.socket, request: bytes) -> bool:
        self.requests.append(request)
        return self._script(sock, request)


def sends(data: bytes, *, keep: bool = True) -> Script:
    """A script that answers every request with these bytes."""

    def script(sock: socket.socket, request: bytes) -> bool:
        sock.sendall(data)
        return keep

    return script


def _request(sock: socket.socket) -> bytes:
    """One request with its body; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body
