"""An SMTP server for tests, on loopback: takes mails, or misbehaves as told."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from gevent import socket, ssl
from gevent.server import StreamServer

CLOSE = b"close"


class MailBox:
    """`answers` replaces the reply to a command, e.g. {"RCPT": b"550 no such user"}; an empty one is silence, CLOSE the end of
    the connection.

    `tls`: a server's context; from the first byte, or by STARTTLS. `commands` has those after STARTTLS with `tls:` before them.
    """

    def __init__(
        self,
        answers: dict[str, bytes] | None = None,
        *,
        greeting: bytes = b"220 test ESMTP",
        tls: ssl.SSLContext | None = None,
        starttls: bool = False,
    ) -> None:
        self._answers = {"EHLO": b"250 test", "HELO": b"250 test", "DATA": b"354 go on", "QUIT": b"221 bye"} | (answers or {})
        self._greeting = greeting
        self.mails: list[EmailMessage] = []
        self.commands: list[str] = []
        self._later = tls if starttls else None
        self._server = StreamServer(("127.0.0.1", 0), self._serve, **({"ssl_context": tls} if tls and not starttls else {}))

    def __enter__(self) -> MailBox:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(timeout=0)

    def to(self, call: str) -> list[EmailMessage]:
        """A call's mails."""
        return [mail for mail in self.mails if mail["X-Exoflow-Call"] == call]

    def _serve(self, sock: Any, peer: Any) -> None:
        if self._greeting:
            sock.sendall(self._greeting + b"\r\n")
        self._talk(sock, "")

    def _talk(self, sock: Any, mark: str) -> None:
        lines = sock.makefile("rb")
        for line in lines:
            word, _, rest = line.decode().strip().partition(" ")
            word = word.upper()
            self.commands.append(mark + f"{word} {rest}".strip())
            answer = self._answers.get(word, b"250 ok")
            if answer == CLOSE:
                sock.shutdown(socket.SHUT_RDWR)
                return
            if not answer:
                continue
            if word == "EHLO" and self._later is not None and not mark:
                answer = answer.replace(b"250 ", b"250-") + b"\r\n250 STARTTLS"
            if word == "STARTTLS" and self._later is not None:
                sock.sendall(b"220 go on\r\n")
                self._talk(self._later.wrap_socket(sock, server_side=True), "tls:")
                return
            sock.sendall(answer + b"\r\n")
            if word == "DATA" and answer.startswith(b"354"):
                whole = b"".join(iter(lines.readline, b".\r\n"))
                whole = re.sub(rb"(?m)^\.\.", b".", whole)  # RFC 5321 section 4.5.2
                self.mails.append(message_from_bytes(whole, policy=default))
                taken = self._answers.get("TAKEN", b"250 taken")
                if taken == CLOSE:
                    sock.shutdown(socket.SHUT_RDWR)
                    return
                sock.sendall(taken + b"\r\n")
            if word == "QUIT":
                return
