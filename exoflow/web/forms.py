"""The fields of a request: its query and its form are one set.

Clients of the dialect send them in the query of a POST, url-encoded, or as `multipart/form-data` (RFC 7578). A field that
the query and the form both give with one value counts once. A part that is a file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

from exoflow.web.answers import Refusal
from exoflow.web.server import BODY_BYTES

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
MAX_FIELDS = 50
MAX_PART_HEAD = 1000  # bytes of one part's headers; three short lines are usual

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")  # RFC 2046, section 5.1.1
_CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "latin-1"}
_AS_IT_IS = ("", "7bit", "8bit", "binary")  # Content-Transfer-Encodings that change no byte

Pairs = list[tuple[str, str]]


def fields_of(environ: Mapping[str, Any]) -> Pairs:
    """Names and values of query and form. Raises Refusal: 400, 411, 413."""
    query = _urlencoded(environ.get("QUERY_STRING", "").encode("latin-1"), "query")
    form = _form(environ, bare=not query)
    told = {name: [value for other, value in query if other == name] for name, _ in query}
    for name, value in form:
        if name in told and value not in told[name]:
            raise Refusal(400, f"{_shown(name)}: is given twice, in the query and in the form")
    pairs = query + [(name, value) for name, value in form if name not in told]
    if len(pairs) > MAX_FIELDS:
        raise Refusal(400, f"the request has more than {MAX_FIELDS} fields")
    return pairs


def pairs_of(body: bytes) -> Pairs:
    """The fields of a url-encoded form that have a value. Raises Refusal (400)."""
    return _urlencoded(body, "form")


def _form(environ: Mapping[str, Any], *, bare: bool) -> Pairs:
    """The body's fields. `bare`: there are no others, so that a request without a body is a mistake."""
    length = environ.get("CONTENT_LENGTH") or ""
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise Refusal(411, "Content-Length is needed")
    if not length:
        if bare:
            raise Refusal(411, "Content-Length is needed")
        return []
    if not (length.isascii() and length.isdigit()):
        raise Refusal(411, "Content-Length is needed")
    if len(length) > len(str(BODY_BYTES)) + 10 or int(length) > BODY_BYTES:
        raise Refusal(413, f"the form has more than {BODY_BYTES} bytes")
    if int(length) == 0 and not bare:
        return []  # whatever its type: there is nothing to be read
    return _reader(environ.get("CONTENT_TYPE", ""))(_body(environ))


def _body(environ: Mapping[str, Any]) -> bytes:
    try:
        body: bytes = environ["wsgi.input"].read()
    except OSError:  # less came than was told
        raise Refusal(400, "the form is not whole") from None
    return body


def _reader(content_type: str) -> Callable[[bytes], Pairs]:
    """What reads a body of this type. Raises Refusal (400)."""
    told = Message()
    told["Content-Type"] = content_type
    kind = content_type.partition(";")[0].strip().lower()
    if kind == URLENCODED:
        return pairs_of
    if kind == MULTIPART:
        boundary = _parameter(told, "boundary", "Content-Type").strip()
        if _BOUNDARY.fullmatch(boundary) is None:
            raise Refusal(400, f"{MULTIPART} needs its boundary")
        return lambda body: list(_parts(body, boundary.encode("ascii")))
    raise Refusal(400, f"a form is needed: {URLENCODED} or {MULTIPART}")


def _urlencoded(text: bytes, where: str) -> Pairs:
    try:
        return parse_qsl(text.decode("ascii"), max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        problem = f"the {where} cannot be read: url-encoded UTF-8, at most {MAX_FIELDS} fields"
        raise Refusal(400, problem) from None


# --- multipart ----------------------------------------------------------------------------------


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[str, str]]:
    """The fields that have a value. Blanks around one are left out: a space there is no plus."""
    delimiter = b"\r\n--" + boundary
    _, *parts = (b"\r\n" + body).split(delimiter)
    if not parts or parts[-1].rstrip() != b"--" or len(parts) > MAX_FIELDS + 1:
        raise Refusal(400, f"the form cannot be read: {MULTIPART}, whole, at most {MAX_FIELDS} parts")
    for part in parts[:-1]:
        padding, line_end, rest = part.partition(b"\r\n")
        head, blank, content = (b"\r\n" + rest).partition(b"\r\n\r\n")
        if padding.strip(b" \t") or not line_end or not blank or len(head) > MAX_PART_HEAD:
            raise Refusal(400, f"the form cannot be read: a part of {MULTIPART} has no head of its own")
        name, charset = _part_head(head)
        try:
            value = content.decode(charset).strip()
        except ValueError:
            raise Refusal(400, f"{_shown(name)}: is no {charset} text") from None
        if value:
            yield name, value


def _part_head(head: bytes) -> tuple[str, str]:
    """Name and character set of a part. Raises Refusal (400)."""
    told = Message()
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon and name.strip().lower() not in told:
            told[name.strip()] = value.strip()
    disposition = told.get("Content-Disposition", "")
    name = _parameter(told, "name", "Content-Disposition")
    if disposition.partition(";")[0].strip().lower() != "form-data" or not name:
        raise Refusal(400, "each part of a form is `form-data` and has a name")
    if _parameter(told, "filename", "Content-Disposition") or "filename" in disposition.lower():
        raise Refusal(400, f"{_shown(name)}: is a file; a field is needed")
    if told.get("Content-Transfer-Encoding", "").lower() not in _AS_IT_IS:
        raise Refusal(400, f"{_shown(name)}: is encoded; a part goes as it is")
    charset = _CHARSETS.get(_parameter(told, "charset", "Content-Type").lower() or "utf-8")
    if charset is None:
        raise Refusal(400, f"{_shown(name)}: is in no character set of {', '.join(_CHARSETS)}")
    return name, charset


def _parameter(told: Message, name: str, header: str) -> str:
    """A header's parameter, with or without quotation marks; empty if there is none."""
    try:
        found = told.get_param(name, "", header)
    except (ValueError, LookupError):
        return ""
    return found if isinstance(found, str) else found[2] or ""  # RFC 2231 gives three


def _shown(name: str) -> str:
    """A field's name for a message, unless it may be anything."""
    return name if re.fullmatch(r"[A-Za-z0-9_\[\]]{1,40}", name) else "a field"
