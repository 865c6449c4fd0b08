"""Frames and events of the event socket: bytes in, values out, no I/O.

A header is found when it is asked for, split off at the first `: ` and decoded once. Nothing is decoded before it is split
and nothing is split after it was decoded, so a caller's `%0A` stays a character of his name (facts/freeswitch-socket.md,
sections 8 and 10).
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from exoflow.errors import ProtocolError

# FreeSWITCH ends a header block at 10 MiB; ours carry one channel's variables (some 10 kB), so 1 MiB is already a fault
MAX_HEADER_BYTES = 1 << 20
# the largest honest body is `show channels` of a full box (some 2 MB)
MAX_BODY_BYTES = 8 << 20
MAX_LENGTH_DIGITS = 9  # a longer Content-Length is nonsense, and int() of a long one is slow


class Headers:
    """A block of `Name: value` lines. The first line of a name counts; repeats are ignored."""

    __slots__ = ("_block",)

    def __init__(self, block: bytes) -> None:
        self._block = block

    def raw(self, name: str) -> bytes | None:
        """The value as it came, or None."""
        return _value(self._block, name.encode() + b": ")

    def has(self, line: bytes) -> bool:
        """Is this one of its lines? As it came, with a newline on either side."""
        return line in self._block

    def get(self, name: str, default: str = "") -> str:
        """The value, decoded once; `default` if it is absent or `_undef_` (FreeSWITCH's word for empty)."""
        value = self.raw(name)
        return default if value is None or value == b"_undef_" else _decoded(value)

    @property
    def sequence(self) -> int:
        """The switch's number of the event, by the order of their making (switch_event.c:1980): its clock stands still for some
        ms, and steps back by some us, so that times do not tell. 0 if there is none."""
        text = self.get("Event-Sequence")
        return int(text) if text.isascii() and text.isdigit() else 0

    def variable(self, name: str, default: str = "") -> str:
        """A channel variable of the event."""
        return self.get("variable_" + name, default)

    def items(self) -> list[tuple[str, str]]:
        """All headers in order, repeats included, each decoded once. For people, tests and greenswitch's callers: slow."""
        parts = (line.partition(b": ") for line in self._block.split(b"\n"))
        return [
            (name.decode("utf-8", "replace"), "" if value == b"_undef_" else _decoded(value))
            for name, colon, value in parts
            if colon
        ]

    @property
    def headers(self) -> dict[str, str]:
        """As the events of greenswitch have it: all headers; the first of a name counts."""
        return dict(reversed(self.items()))


class Event(Headers):
    """An event: its headers and the body it may carry."""

    __slots__ = ("body", "name")

    def __init__(self, block: bytes, body: bytes = b"") -> None:
        super().__init__(block)
        self.body = body
        self.name = self.get("Event-Name")

    @classmethod
    def from_plain(cls, data: bytes) -> Event:
        """From the body of a `text/event-plain` frame. Raises ProtocolError."""
        # asked first, for a search for blank lines among a hundred short ones costs more than all the rest
        if _value(data, b"Content-Length: ") is None and data.endswith(b"\n\n"):
            return cls(data)
        end = data.find(b"\n\n") + 2
        event = cls(data[:end] if end > 1 else data)
        length = event.raw("Content-Length")
        event.body = data[end : end + _length(length)] if length is not None else b""
        return event

    @property
    def microseconds(self) -> int:
        """When FreeSWITCH made it, microseconds since the epoch; 0 if it does not say."""
        text = self.get("Event-Date-Timestamp")
        return int(text) if text.isascii() and text.isdigit() else 0


class Frame(NamedTuple):
    kind: str  # Content-Type
    headers: Headers
    body: bytes


# as FreeSWITCH heads nearly all frames that a call sees (mod_event_socket.c:send_event); others take the general way
_EVENT_HEAD = re.compile(rb"(Content-Length: ([0-9]{1,6})\nContent-Type: text/event-plain)\n\n")


class FrameReader:
    """Bytes to frames. Holds at most one unfinished frame, of bounded size."""

    __slots__ = ("_buffer", "_head", "_searched", "_wanted")

    def __init__(self) -> None:
        self._buffer = b""
        self._searched = 0  # how far the buffer is known to hold no blank line
        self._head: Headers | None = None  # of a frame whose body is still to come
        self._wanted = 0

    @property
    def unfinished(self) -> bool:
        """Would an end of the stream now cut a frame?"""
        return self._head is not None or bool(self._buffer.strip(b"\n"))

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with these bytes. Raises ProtocolError; the reader is of no use after it."""
        self._buffer = buffer = self._buffer + data if self._buffer else data
        at, frames = 0, []
        while True:
            if self._head is None:
                usual = _EVENT_HEAD.match(buffer, at)
                if usual and usual.end() + (wanted := int(usual[2])) <= len(buffer):
                    at = usual.end() + wanted
                    frames.append(Frame("text/event-plain", Headers(usual[1]), buffer[usual.end() : at]))
                    continue
                end = buffer.find(b"\n\n", max(at, self._searched - 1))
                if end < 0:
                    self._searched = len(buffer) - at
                    if self._searched > MAX_HEADER_BYTES:
                        raise ProtocolError(f"headers of more than {MAX_HEADER_BYTES} bytes", buffer[at:])
                    break
                if end - at > MAX_HEADER_BYTES:
                    raise ProtocolError(f"headers of more than {MAX_HEADER_BYTES} bytes", buffer[at:end])
                block, at = buffer[at:end].lstrip(b"\n"), end + 2
                self._searched = 0
                if not block:
                    continue
                self._head = Headers(block)
                length = _value(block, b"Content-Length: ")
                self._wanted = _length(length) if length is not None else 0
            if len(buffer) - at < self._wanted:
                break
            frames.append(_frame(self._head, buffer[at : at + self._wanted]))
            at += self._wanted
            self._head = None
        self._buffer = buffer[at:]
        return frames


def _frame(head: Headers, body: bytes) -> Frame:
    kind = _value(head._block, b"Content-Type: ")
    if kind is None:
        raise ProtocolError("a frame without Content-Type", b"".join(head._block.splitlines(True)[:3]))
    return Frame(kind.decode("ascii", "replace").strip(), head, body)


def _value(block: bytes, key: bytes) -> bytes | None:
    """What stands behind the first line that starts with `key` (`Name: `)."""
    if block.startswith(key):
        start = len(key)
    else:
        start = block.find(b"\n" + key)
        if start < 0:
            return None
        start += len(key) + 1
    end = block.find(b"\n", start)
    return block[start:] if end < 0 else block[start:end]


def _decoded(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    return unquote(text, errors="replace") if "%" in text else text


def _length(value: bytes) -> int:
    text = value.strip()
    if not text.isdigit() or len(text) > MAX_LENGTH_DIGITS or int(text) > MAX_BODY_BYTES:
        raise ProtocolError(f"Content-Length must be 0 to {MAX_BODY_BYTES}", value)
    return int(text)


def encode_execute(application: str, argument: str, token: str) -> bytes:
    """The command that runs an application on the session's own channel, one after the other (`event-lock`).

    The token returns as `Application-UUID` on its CHANNEL_EXECUTE_COMPLETE. All three have passed `safety`.
    """
    head = f"sendmsg\ncall-command: execute\nexecute-app-name: {application}\nevent-lock: true\nevent-uuid: {token}\n"
    if not argument:
        return head.encode() + b"\n"
    body = argument.encode()
    return b"%bcontent-type: text/plain\ncontent-length: %d\n\n%b" % (head.encode(), len(body), body)
