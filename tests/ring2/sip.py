"""A caller who writes its own SIP: what stands in the INVITE is nobody's idea of a number."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import gevent
from gevent import socket

ANSWER_SECONDS = 15.0


@dataclass(frozen=True)
class Outcome:
    call_id: str
    status: int
    answer: str
    """the final answer, whole"""


def invite(
    port: int, to: str, *, user: str = "09812345678", name: str = "", headers: Mapping[str, str] | None = None
) -> Outcome:
    """Calls `to` and waits for the final answer. `user` and `name` stand in From as they are given."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        here = f"127.0.0.1:{sock.getsockname()[1]}"
        call_id = secrets.token_hex(8)
        sdp = (
            f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {sock.getsockname()[1] + 2}"
            " RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        )
        lines = [
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{call_id};rport",
            "Max-Forwards: 70",
            f'From: "{name}" <sip:{user}@127.0.0.1>;tag={call_id}',
            f"Call-ID: {call_id}",
        ]
        more = [f"{key}: {value}" for key, value in (headers or {}).items()]
        contact = [f"Contact: <sip:probe@{here}>", "Content-Type: application/sdp", f"Content-Length: {len(sdp)}"]
        head = [
            f"INVITE sip:{to}@127.0.0.1:{port} SIP/2.0",
            *lines,
            f"To: <sip:{to}@127.0.0.1>",
            "CSeq: 1 INVITE",
            *more,
            *contact,
        ]
        sock.send(("\r\n".join(head) + "\r\n\r\n" + sdp).encode("utf-8", "surrogateescape"))
        with gevent.Timeout(ANSWER_SECONDS, TimeoutError(f"no final answer within {ANSWER_SECONDS:g} s")):
            while True:
                answer = sock.recv(65536).decode("utf-8", "replace")
                status = int(answer.split(" ", 2)[1]) if answer.startswith("SIP/2.0 ") else 0
                if status >= 200:
                    break
        answered_to = next(line for line in answer.split("\r\n") if line.lower().startswith("to:"))
        ack = [f"ACK sip:{to}@127.0.0.1:{port} SIP/2.0", *lines, answered_to, "CSeq: 1 ACK", "Content-Length: 0"]
        sock.send(("\r\n".join(ack) + "\r\n\r\n").encode("utf-8", "surrogateescape"))
        return Outcome(call_id, status, answer)
