"""The head of an HTTP answer: interim answers are passed over, header lines are read as browsers do.

http.client takes any status but 100 for the final one, hands the header lines to a parser of mails, which
ends at the first line without a colon, and so loses the length of the body: the reader then waits for more
bytes until its deadline.
"""

from __future__ import annotations

import http.client
import io
import re

from exoflow.crm.failures import Refusal

MAX_INTERIM = 20  # 1xx answers before the final one; a server that sends more is out of its mind
MAX_HEADERS = 1000  # lines; a CMS with many cookies sends some 100
MAX_LINE_BYTES = 64 * 1024  # of one header line, as http.client has it
SHOWN_CHARS = 60  # of a line that is at fault

_STATUS = re.compile(rb"HTTP/(1\.[0-9]) +([0-9]{3})(?:[ \t]+([^\r\n]*))?\r?\n?\Z")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_LENGTH = re.compile(r"[0-9]{1,18}\Z")


def read_status(fp: io.BufferedIOBase) -> tuple[int, int, str]:
    """Version (10 or 11), status and reason of the final answer, interim ones skipped with their headers.

    Raises ConnectionResetError (closed without an answer), Refusal.
    """
    for _ in range(MAX_INTERIM + 1):
        line = _line(fp)
        if not line:
            raise http.client.RemoteDisconnected("closed without an answer")
        found = _STATUS.match(line)
        if found is None:
            if not line.endswith(b"\n"):  # cut short
                raise http.client.IncompleteRead(line)
            raise Refusal("body", f"what came back is not HTTP: it begins with {_shown(line)}")
        status = int(found[2])
        if status == 101:
            raise Refusal("body", "the server switched protocols (101), which was not asked for")
        if status < 100:
            raise Refusal("body", f"the status {status} is none of HTTP")
        if status >= 200:
            return (10 if found[1] == b"1.0" else 11), status, (found[3] or b"").decode("iso-8859-1")
        read_headers(fp)
    raise Refusal("body", f"more than {MAX_INTERIM} interim answers (1xx) came, and no final one")


def read_headers(fp: io.BufferedIOBase) -> http.client.HTTPMessage:
    """The header lines up to the empty one. A line without a colon is passed over; a blank before the colon
    and folded lines (RFC 9112, 5.2) are taken.

    Raises Refusal, http.client.IncompleteRead (closed within them).
    """
    pairs: list[tuple[str, str]] = []
    for _ in range(MAX_HEADERS + 1):
        raw = _line(fp)
        if not raw.endswith(b"\n"):
            raise http.client.IncompleteRead(raw)
        line = raw.decode("iso-8859-1").rstrip("\r\n").replace("\0", " ").replace("\r", " ")
        if not line:
            break
        if line[0] in " \t":
            if pairs:
                name, value = pairs[-1]
                pairs[-1] = (name, f"{value} {line.strip()}".strip())
            continue
        name, colon, value = line.partition(":")
        if colon and _NAME.match(name := name.rstrip(" \t")):
            pairs.append((name, value.strip(" \t")))
    else:
        raise Refusal("body", f"the answer has more than {MAX_HEADERS} header lines")
    message = http.client.HTTPMessage()
    for name, value in pairs:
        message[name] = value
    return message


def body_length(headers: http.client.HTTPMessage) -> int | None:
    """The body's bytes by Content-Length; equal values that a proxy put in one list count once (RFC 9110,
    8.6). None if there is none. Raises Refusal for values that differ, or are no numbers.
    """
    values = [part.strip() for value in headers.get_all("content-length", []) for part in value.split(",")]
    if not values:
        return None
    if any(_LENGTH.match(value) is None for value in values) or len({int(value) for value in values}) > 1:
        raise Refusal("body", f"the header Content-Length is {_shown(', '.join(values).encode())}, not one number")
    return int(values[0])


def is_chunked(headers: http.client.HTTPMessage) -> bool:
    """Does the body come in chunks? Raises Refusal for another transfer encoding, whose end cannot be found."""
    codings = [part.strip().lower() for value in headers.get_all("transfer-encoding", []) for part in value.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return False
    if codings != ["chunked"]:
        raise Refusal("body", f"the header Transfer-Encoding is {_shown(', '.join(codings).encode())}, not chunked")
    return True


def _line(fp: io.BufferedIOBase) -> bytes:
    line = fp.readline(MAX_LINE_BYTES + 1)
    if len(line) > MAX_LINE_BYTES:
        raise Refusal("body", f"the header line {_shown(line)} has more than {MAX_LINE_BYTES // 1024} KiB")
    return line


def _shown(line: bytes) -> str:
    text = line.rstrip(b"\r\n").decode("utf-8", "replace")[:SHOWN_CHARS]
    return repr(text)
