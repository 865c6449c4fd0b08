"""The embedded switch's bytes: encoding as FreeSWITCH's, reading with FreeSWITCH's habits."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from exoflow.sim.arguments import separate, split_outside, variables_of
from exoflow.sim.frames import CommandReader, plain_frame, reply_frame, serialize, url_encode

RECORDED = sorted((Path(__file__).parents[1] / "wire" / "recorded").glob("*.esl"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
def test_values_are_encoded_as_freeswitch_encoded_them(path: Path) -> None:
    for line in path.read_text().split("\n"):
        name, colon, value = line.partition(": ")
        # the command's reply text is the one value that is sent as it is
        if colon and name not in ("Content-Type", "Reply-Text", "Content-Length") and not line.startswith("{"):
            assert url_encode(unquote(value)) == value, line


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("100%", "100%25"),
        ("%0A", "%0A"),  # the trap: a literal %0A is left alone and decodes to a newline
        ("%0a", "%250a"),
        ("%4", "%254"),
        ("a\nb", "a%0Ab"),
        ("é", "%C3%A9"),
        ("\u2028", "%E2%80%A8"),
        ("(400,2000)", "(400,2000)"),
    ],
)
def test_encoder_corners(text: str, encoded: str) -> None:
    assert url_encode(text) == encoded


def test_an_empty_value_is_undef_and_the_frame_is_length_framed() -> None:
    frame = plain_frame([("Event-Name", "X"), ("variable_a", "")])
    assert frame == b"Content-Length: 35\nContent-Type: text/event-plain\n\nEvent-Name: X\nvariable_a: _undef_\n\n"
    assert serialize([("A", "b")], b"body") == b"A: b\nContent-Length: 4\n\nbody"


def test_a_reply_is_cut_at_511_bytes_and_not_encoded() -> None:
    assert len(reply_frame("x" * 2000)) == len(b"Content-Type: command/reply\nReply-Text: \n\n") + 511
    assert b"\n\nforged: 1" in reply_frame("a\n\nforged: 1")


def test_commands_come_in_any_pieces() -> None:
    packet = b"linger 5\n\nsendmsg\nevent-lock: true\ncontent-type: text/plain\ncontent-length: 6\n\nab\n\ncdapi status\r\n\r\n"
    reader = CommandReader()
    commands = [command for i in range(len(packet)) for command in reader.feed(packet[i : i + 1])]
    assert [c.line for c in commands] == ["linger 5", "sendmsg", "api status"]
    assert commands[1].body == "ab\n\ncd"
    assert commands[1].flag("Event-Lock")


def test_the_first_of_two_headers_counts() -> None:
    (command,) = CommandReader().feed(b"sendmsg\nexecute-app-name: one\nexecute-app-name: two\n\n")
    assert command.get("Execute-App-Name") == "one"


def test_a_carriage_return_loses_the_headers_before_it() -> None:
    (command,) = CommandReader().feed(b"sendmsg\ncall-command: execute\nexecute-app-arg: a\rcall-command: hangup\n\n")
    assert command.get("call-command") == "hangup"


def test_a_nul_drops_what_follows() -> None:
    (command,) = CommandReader().feed(b"sendmsg\nexecute-app-arg: a\0b\nevent-uuid: t\n\n")
    assert command.get("execute-app-arg") == "a"
    assert command.get("event-uuid") is None


def test_arguments_are_taken_apart_as_freeswitch_does() -> None:
    assert separate(r"1 1 '' 5000 none a\sb.wav x\d+ 'two words'") == [
        "1",
        "1",
        "",
        "5000",
        "none",
        "a b.wav",
        r"x\d+",
        "two words",
    ]
    assert separate("^^:a b:c") == ["a b", "c"]
    assert variables_of("{a=1,b='x,y',c=p\\,q}freetdm/PRI1/A/1") == ({"a": "1", "b": "x,y", "c": "p,q"}, "freetdm/PRI1/A/1")
    assert split_outside("a,'b,c',{d,e}f", ",") == ["a", "'b,c'", "{d,e}f"]
