"""An SMTP server for tests, on loopback: takes mails, or misbehaves as told."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message
from email.policy import default
from typing import Any

from gevent.server import StreamServer


class MailBox:
    """`answers` replaces the reply to a command, e.g. {"RCPT": b"550 no such user"}; an empty one is silence."""

    def __init__(self, answers: dict[str, bytes] | None = None, *, greeting: bytes = b"220 test ESMTP") -> None:
        self._answers = {"EHLO": b"250 test", "HELO": b"250 test", "DATA": b"354 go on", "QUIT": b"221 bye"} | (answers or {})
        self._greeting = greeting
        self.mails: list[Message[str, str]] = []
        self.commands: list[str] = []
        self._server = StreamServer(("127.0.0.1", 0), self._serve)

    def __enter__(self) -> MailBox:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(timeout=0)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def _serve(self, sock: Any, peer: Any) -> None:
        if self._greeting:
            sock.sendall(self._greeting + b"\r\n")
        lines = sock.makefile("rb")
        for line in lines:
            word, _, rest = line.decode().strip().partition(" ")
            word = word.upper()
            self.commands.append(f"{word} {rest}".strip())
            answer = self._answers.get(word, b"250 ok")
            if not answer:
                continue
            sock.sendall(answer + b"\r\n")
            if word == "DATA" and answer.startswith(b"354"):
                whole = b"".join(iter(lines.readline, b".\r\n"))
                self.mails.append(message_from_bytes(whole, policy=default))
                sock.sendall(self._answers.get("TAKEN", b"250 taken") + b"\r\n")
            if word == "QUIT":
                return
