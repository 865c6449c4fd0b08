"""Bytes of the event socket, both ways, without I/O: what FreeSWITCH 1.10.12 writes and how it reads.

Sources: mod_event_socket.c read_packet (1208-1390), switch_utils.c switch_url_encode_opt (3465), switch_event_serialize.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache

# SWITCH_URL_UNSAFE, switch_utils.h:47
_UNSAFE = set(b'\r\n #%&+:;<=>?@[\\]^`{|}"')
_HEX = set(b"0123456789ABCDEF")
_PLAIN = re.compile(r"[!$'()*,\-./0-9A-Z_a-z~]*\Z")
_HEAD_END = re.compile(rb"\n\r*\n")

MAX_HEAD = 10 * 1024 * 1024  # read_packet's max_len: the block is force-ended there
REPLY_SIZE = 512  # listener_run's reply buffer: longer replies are cut (mod_event_socket.c:2633)

Headers = Iterable[tuple[str, str]]


@lru_cache(maxsize=8192)  # most values of a call's events are those of its last event
def url_encode(text: str) -> str:
    """As switch_url_encode: a `%` before two uppercase hex digits is left alone, so `%0A` decodes to a newline."""
    if _PLAIN.match(text):
        return text
    data = text.encode("utf-8", "surrogateescape")
    out = bytearray()
    for i, byte in enumerate(data):
        escaped = byte == 0x25 and i + 2 < len(data) and data[i + 1] in _HEX and data[i + 2] in _HEX
        if not escaped and (byte < 0x20 or byte > 0x7E or byte in _UNSAFE):
            out += b"%%%02X" % byte
        else:
            out.append(byte)
    return out.decode("ascii")


def serialize(headers: Headers, body: bytes = b"") -> bytes:
    """An event as text: one line a header, an empty value as `_undef_`, an empty line at the end."""
    lines = [f"{name}: {url_encode(value) if value else '_undef_'}\n" for name, value in headers]
    if body:
        lines.append(f"Content-Length: {len(body)}\n")
    return "".join(lines).encode("ascii", "replace") + b"\n" + body


def plain_frame(headers: Headers, body: bytes = b"") -> bytes:
    text = serialize(headers, body)
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n" % len(text) + text


def json_frame(headers: Headers, body: bytes = b"") -> bytes:
    event: dict[str, str] = {}
    for name, value in headers:
        event.setdefault(name, value)
    if body:
        event["Content-Length"], event["_body"] = str(len(body)), body.decode("utf-8", "replace")
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return b"Content-Length: %d\nContent-Type: text/event-json\n\n" % len(text) + text


def reply_frame(reply: str) -> bytes:
    """A command/reply; text beyond the buffer is cut and nothing is encoded, so a newline in it forges headers."""
    text = reply[: REPLY_SIZE - 1]
    return f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode("utf-8", "surrogateescape")


def api_frame(answer: str) -> bytes:
    body = answer.encode("utf-8", "surrogateescape")
    return b"Content-Type: api/response\nContent-Length: %d\n\n" % len(body) + body


class Command:
    """One packet of a client: the command's line, the headers behind it, and a body."""

    def __init__(self, text: str, headers: list[tuple[str, str]], body: str = "") -> None:
        self.text = text  # the whole packet head: FreeSWITCH looks for its word pairs in all of it
        self.line = re.split("[\r\n]", text, maxsplit=1)[0]
        self.headers = headers
        self.body = body

    def get(self, name: str) -> str | None:
        """The first header of that name, in any case; the first wins as in switch_event_get_header."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    def flag(self, name: str) -> bool:
        return is_true(self.get(name))


def is_true(value: str | None) -> bool:
    """switch_true()."""
    if not value:
        return False
    return value.lower() in ("yes", "on", "true", "t", "enabled", "active", "allow") or (value.isdigit() and int(value) != 0)


class CommandReader:
    """Takes bytes, gives commands; with read_packet's habits: a NUL or CR in a header loses what stands around it."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Command]:
        self._buffer += data
        commands = []
        while (command := self._next()) is not None:
            commands.append(command)
        return commands

    def _next(self) -> Command | None:
        buffer = self._buffer.lstrip(b"\r\n")
        end = _HEAD_END.search(buffer)
        if end is None and len(buffer) < MAX_HEAD:
            self._buffer = buffer
            return None
        stop = end.end() if end else MAX_HEAD
        rest = buffer[stop:]
        head = buffer[:stop].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
        headers: list[tuple[str, str]] = []
        body = ""
        for line in _lines(head)[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                continue
            value = value.lstrip(" ")
            headers.append((name, value))
            if name.lower() == "content-length" and (length := _atoi(value)) > 0:
                if len(rest) < length:
                    self._buffer = buffer
                    return None
                body = rest[:length].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
                rest = rest[length:]
        self._buffer = rest
        return Command(head, headers, body)


def _lines(head: str) -> list[str]:
    """How read_packet walks the lines: if a CR stands anywhere in the rest it jumps there, over all headers between."""
    lines, at = [], 0
    while at < len(head):
        lines.append(re.split("[\r\n]", head[at:], maxsplit=1)[0])
        after = head.find("\r", at)
        if after < 0:
            after = head.find("\n", at)
        if after < 0:
            break
        while after < len(head) and head[after] in "\r\n":
            after += 1
        at = after
    return lines


def _atoi(text: str) -> int:
    found = re.match(r"\s*([+-]?\d+)", text)
    return int(found[1]) if found else 0
