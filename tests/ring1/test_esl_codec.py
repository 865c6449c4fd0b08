"""The codec without I/O: any split of the bytes gives the same frames, and any bytes at all give frames or a ProtocolError."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from eslpeer import Command
from hypothesis import given, settings
from hypothesis import strategies as st

from exoflow.errors import ProtocolError
from exoflow.esl import codec
from exoflow.esl.codec import Event, Frame, FrameReader, Headers, encode_execute

WIRE = Path(__file__).parents[1] / "wire"
FILES = sorted([*(WIRE / "recorded").glob("*.esl"), *(WIRE / "valid").glob("*.esl")])
DRAWN = settings(max_examples=150, deadline=None)


def plain(frames: list[Frame]) -> list[tuple[str, list[tuple[str, str]], bytes]]:
    return [(frame.kind, frame.headers.items(), frame.body) for frame in frames]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_split_of_a_frame_gives_the_same(path: Path) -> None:
    data = path.read_bytes()
    whole = plain(FrameReader().feed(data))
    assert whole
    for at in range(len(data) + 1):
        reader = FrameReader()
        first = reader.feed(data[:at])
        frames = first + reader.feed(data[at:])
        assert not reader.unfinished
        if len(first) not in (0, len(whole)) or at % 97 == 0 or at in (1, len(data)):  # comparing all is slow
            assert plain(frames) == whole
        else:
            assert [(frame.kind, frame.body) for frame in frames] == [(kind, body) for kind, _, body in whole]


def test_an_unfinished_frame_is_known_at_every_byte() -> None:
    data = (WIRE / "valid" / "event-body.esl").read_bytes()
    reader = FrameReader()
    for at in range(len(data) - 1):
        assert reader.feed(data[at : at + 1]) == []
        assert reader.unfinished
    assert len(reader.feed(data[-1:])) == 1
    assert not reader.unfinished


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1 << 22, 60_000])
@pytest.mark.parametrize("over", [0, 1])
def test_the_greatest_header_block(over: int, piece: int) -> None:
    head = b"Content-Type: log/data\nX: "
    data = head + b"x" * (codec.MAX_HEADER_BYTES - len(head) + over) + b"\n\n"
    frames, problem = read([data[at : at + piece] for at in range(0, len(data), piece)])
    assert len(frames) == 1 - over
    assert ("headers of more" in problem) == bool(over)


@pytest.mark.parametrize("over", [0, 1])
def test_the_greatest_body(over: int) -> None:
    reader = FrameReader()
    head = b"Content-Type: api/response\nContent-Length: %d\n\n" % (codec.MAX_BODY_BYTES + over)
    if over:
        with pytest.raises(ProtocolError, match="Content-Length"):
            reader.feed(head)
        return
    assert reader.feed(head) == []
    piece = b"x" * (1 << 20)
    frames = [frame for _ in range(codec.MAX_BODY_BYTES >> 20) for frame in reader.feed(piece)]
    assert [len(frame.body) for frame in frames] == [codec.MAX_BODY_BYTES]


def test_a_header_that_never_ends_is_cut_at_the_limit() -> None:
    pieces = [b"x" * 65536] * (codec.MAX_HEADER_BYTES // 65536 + 1)
    assert read(pieces[:-1]) == ([], "")
    assert "headers of more" in read(pieces)[1]


# --- anything ------------------------------------------------------------------------------------

_PARTS = st.sampled_from(
    b"\n|\n\n|: |Content-Type|Content-Length|text/event-plain|command/reply|api/response|%0A|-1|9|Event-Name: X|\r\n|\xff|\0|"
    b"Content-Type: text/event-plain\n|Content-Length: 5\n\n".split(b"|")
)
_BYTES = st.one_of(st.binary(max_size=300), st.lists(st.one_of(_PARTS, st.binary(max_size=5)), max_size=40).map(b"".join))


def read(pieces: list[bytes]) -> tuple[list[tuple[str, bytes]], str]:
    """Frames, and the problem that ended them."""
    reader, frames = FrameReader(), []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                if frame.kind == "text/event-plain":
                    event = Event.from_plain(frame.body)
                    assert event.microseconds >= 0
                    assert set(event.headers) == {name for name, _ in event.items()}
                frames.append((frame.kind, frame.body))
    except ProtocolError as error:
        return frames, error.problem
    return frames, ""


@DRAWN
@given(_BYTES)
def test_any_bytes_give_frames_or_a_protocol_error(data: bytes) -> None:
    by_bytes = read([data[at : at + 1] for at in range(len(data))])
    frames, problem = read([data])
    assert problem == by_bytes[1]
    assert problem or frames == by_bytes[0]  # of one piece, what came before an error is lost with it


@DRAWN
@given(st.lists(st.tuples(st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True), st.text(max_size=40)), max_size=12))
def test_what_is_encoded_is_read_again(pairs: list[tuple[str, str]]) -> None:
    """Whatever characters a value has, none becomes a header of its own."""
    pairs = [(f"v{at}-{name}", value) for at, (name, value) in enumerate(pairs)]
    text = "".join(f"{name}: {quote(value, errors='replace')}\n" for name, value in pairs).encode() + b"\n"
    frame = b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b" % (len(text), text)
    ((kind, _, body),) = FrameReader().feed(frame)
    assert kind == "text/event-plain"
    event = Event.from_plain(body)
    readable = [(name, value.encode("utf-8", "replace").decode()) for name, value in pairs]
    assert event.items() == readable
    assert [(name, event.get(name)) for name, _ in readable] == readable


@DRAWN
@given(st.text(max_size=200))  # hypothesis draws no surrogates here
def test_an_argument_stays_an_argument(argument: str) -> None:
    """Framed by its length: even a text that the safety door would refuse is no header and no command."""
    data = encode_execute("playback", argument, "t-1")
    head, _, rest = data.partition(b"\n\n")
    command = Command(head, rest)
    assert command.lines == [
        "sendmsg",
        "call-command: execute",
        "execute-app-name: playback",
        "event-lock: true",
        "event-uuid: t-1",
    ] + (["content-type: text/plain", f"content-length: {len(rest)}"] if argument else [])
    assert rest == argument.encode()


# --- values --------------------------------------------------------------------------------------

_VALUE = "a\nUnique-ID: evil\n\nb\r\u2028Unique-ID: evil\x85c\x0b%0Ad"


def test_values_are_never_split_again() -> None:
    event = Event.from_plain(f"Event-Name: X\nname: {quote(_VALUE)}\nUnique-ID: real\nother: 1\n\n".encode())
    assert event.get("Unique-ID") == "real"
    assert event.get("name") == _VALUE
    assert [name for name, _ in event.items()] == ["Event-Name", "name", "Unique-ID", "other"]
    assert event.headers == {"Event-Name": "X", "name": _VALUE, "Unique-ID": "real", "other": "1"}


def test_a_name_is_found_as_a_whole_line_only() -> None:
    headers = Headers(b"X-Unique-ID: 1\nvariable_uuid: Unique-ID: 2\nunique-id: 3\nUnique-ID:4\nUnique-ID: 5")
    assert headers.get("Unique-ID") == "5"
    assert headers.get("ID", "absent") == "absent"
    assert headers.variable("uuid") == "Unique-ID: 2"
    assert Headers(b"a: 1").raw("b") is None
    assert Headers(b"").items() == []


@pytest.mark.parametrize("text", ["", "x", "-5", "1.5", "५", "²", "_undef_", "9" * 5])
def test_times_that_are_no_numbers(text: str) -> None:
    event = Event.from_plain(f"Event-Name: X\nEvent-Date-Timestamp: {quote(text)}\n\n".encode())
    assert event.microseconds == (99999 if text == "99999" else 0)


def test_the_expectations_are_written_without_the_codec() -> None:
    """The values of tests/wire/valid are checked over the socket; here only that none of them is empty."""
    for path in (WIRE / "valid").glob("*.json"):
        assert json.loads(path.read_text())["why"]
