"""Answers of the Calls API in the form that was asked for: JSON, or XML as Exotel gives it without an ending.

Source: exotel-dialect.md, section 5, and the vendor's "Call Details" page: `TwilioResponse` is the root of the XML. Addresses
of later versions (`/v2_beta/…`) know JSON only. Ours: the body of an error is `RestException` with `Status` and `Message` in
both forms.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal
from xml.etree.ElementTree import Element, SubElement, tostring
from zoneinfo import ZoneInfo

from exoflow.errors import ExoflowError

log = logging.getLogger("exoflow.web")

Form = Literal["json", "xml"]

KINDS: dict[Form, str] = {"json": "application/json", "xml": "application/xml; charset=utf-8"}
STATUS = {
    200: "200 OK",
    206: "206 Partial Content",
    400: "400 Bad Request",
    401: "401 Unauthorized",
    403: "403 Forbidden",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
    410: "410 Gone",
    411: "411 Length Required",
    413: "413 Content Too Large",
    414: "414 URI Too Long",
    416: "416 Range Not Satisfiable",
    429: "429 Too Many Requests",
    500: "500 Internal Server Error",
    503: "503 Service Unavailable",
}
# in XML each of a list needs a name; `Legs` bring theirs
ITEMS = {
    "Calls": "Call",
    "Agents": "Agent",
    "Groups": "Group",
    "PausedBy": "Group",
    "IncomingPhoneNumbers": "IncomingPhoneNumber",
}
COMMON = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("Connection", "close")]
RETRY = [("Retry-After", "5")]  # seconds, until which a store that ails may be well again

_API = re.compile(r"/v[0-9][^/]*(?:/|\Z)")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def is_api(path: str) -> bool:
    """Is it an address of the API, of whatever version? Errors there have a body in the form that was asked for."""
    return _API.match(path) is not None


def form_of(path: str) -> Form:
    """The form that an address of the API asks for."""
    if path.endswith(".json"):
        return "json"
    return "xml" if path.endswith(".xml") or path.startswith("/v1/") else "json"


class Refusal(ExoflowError):
    """Answered instead of data. The message is for the CRM's programmer, and shows nothing of what was asked."""

    def __init__(self, status: int, message: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status, self.headers = status, list(headers)

    def data(self) -> dict[str, Any]:
        return {"RestException": {"Status": self.status, "Message": str(self)}}


def answered(
    environ: dict[str, Any], start_response: Callable[..., Any], answer: Callable[[str, str], dict[str, Any]]
) -> list[bytes]:
    """A WSGI application's whole work: what `answer` gives for path and method, or the Refusal that it raises."""
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    form = form_of(path)
    headers = [*COMMON]
    try:
        status, data = 200, answer(path, method)
    except Refusal as refusal:
        status, data = refusal.status, refusal.data()
        headers += refusal.headers
    except Exception:
        log.exception("a request of the API failed")
        status, data = 500, Refusal(500, "this request failed; exoflow's log has why").data()
    body = encoded(data, form)
    start_response(STATUS[status], [("Content-Type", KINDS[form]), ("Content-Length", str(len(body))), *headers])
    return [b"" if method == "HEAD" else body]


def local_time(at: datetime, zone: ZoneInfo) -> str:
    """As the dialect has it: the account's time, without a zone."""
    return at.astimezone(UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def encoded(data: dict[str, Any], form: Form) -> bytes:
    """`data` as the answer's bytes."""
    if form == "json":
        return json.dumps(data, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    root = Element("TwilioResponse")
    _into(root, data)
    text = tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _into(parent: Element, data: dict[str, Any]) -> None:
    for name, value in data.items():
        element = SubElement(parent, name)
        if isinstance(value, dict):
            _into(element, value)
        elif isinstance(value, list):
            for item in value:
                _into(element, {ITEMS[name]: item} if name in ITEMS else item)
        elif value is not None:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            element.text = _NOT_XML.sub("", text)
