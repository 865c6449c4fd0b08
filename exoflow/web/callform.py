"""What is asked for when a call is placed: the form of `Calls/connect` (exotel-dialect.md, section 5, "Start").

Ours: as in the list an unknown field and an empty value count as not given, and one that cannot be read is refused. A flow is
named by its name, or by the number that a passthru sends as `flow_id`, which stands for it at the end of `Url`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from exoflow.calls.model import Placed
from exoflow.config.model import Account, Number
from exoflow.crm.dialect import flow_number
from exoflow.errors import UnsafeText
from exoflow.telephony.numbers import agent_number, to_e164
from exoflow.web.answers import Refusal
from exoflow.web.server import BODY_BYTES

FORM = "application/x-www-form-urlencoded"
MAX_BODY = BODY_BYTES
MAX_FIELDS = 50
RING_SECONDS = 30  # unless TimeOut says
RING = range(5, 61)  # "maximum is 1 minute": longer is taken as that
TALK_SECONDS = 14_400  # TimeLimit's own maximum
MAX_CUSTOM = 1000  # characters; it is sent back in addresses
MAX_URL = 2000
KNOWN = frozenset(
    """From To Url CallerId CallType TimeLimit TimeOut Record RecordingChannels CustomField StatusCallback WaitUrl""".split()  # noqa: SIM905
)
EVENTS = ("terminal", "answered")
_EVENT = re.compile(r"StatusCallbackEvents(\[[0-9]{0,2}\])?")
_FLOW_NUMBER = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True)
class Wanted:
    """A call to be placed. `first` is E.164; `flow` None: `placed.to` is rung."""

    number: Number
    first: str
    flow: str | None
    placed: Placed


def form_of(environ: Mapping[str, Any]) -> bytes:
    """The request's body. Raises Refusal: 400, 411, 413."""
    length = environ.get("CONTENT_LENGTH") or ""
    if not length.isdigit():
        raise Refusal(411, "Content-Length is needed")
    if int(length) > MAX_BODY:
        raise Refusal(413, f"the form has more than {MAX_BODY} bytes")
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != FORM:
        raise Refusal(400, f"a form is needed: {FORM}")
    try:
        body: bytes = environ["wsgi.input"].read()
    except OSError:  # less came than was told
        raise Refusal(400, "the form is not whole") from None
    return body


def pairs_of(body: bytes) -> list[tuple[str, str]]:
    """The fields that have a value, as they come. Raises Refusal (400)."""
    try:
        pairs = parse_qsl(body.decode("ascii"), max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise Refusal(400, f"the form cannot be read: url-encoded UTF-8, at most {MAX_FIELDS} fields") from None
    return pairs


def fields(body: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """The known fields that have a value, and the events that are asked for. Raises Refusal (400)."""
    given: dict[str, str] = {}
    events: list[str] = []
    for name, value in pairs_of(body):
        if _EVENT.fullmatch(name):
            events.append(_one_of("StatusCallbackEvents", value, EVENTS))
        elif name in KNOWN:
            if name in given:
                raise Refusal(400, f"{name}: is given twice")
            given[name] = value
    return given, tuple(dict.fromkeys(events))


def wanted(body: bytes, account: Account, account_id: str) -> Wanted:
    """Raises Refusal: 400 for what cannot be read, 403 for what the account may not do."""
    given, events = fields(body)
    first = _to_be_rung("From", given)
    if ("To" in given) == ("Url" in given):
        raise Refusal(400, "To, Url: one of them")
    number = _ours(given.get("CallerId", ""), account)
    _one_of("CallType", given.get("CallType", "trans"), ("trans",))
    placed = Placed(
        to=_to_be_rung("To", given) if "To" in given else None,
        ring=min(_seconds("TimeOut", given, RING_SECONDS, RING[0], 999), RING[-1]),
        limit=_seconds("TimeLimit", given, TALK_SECONDS, 1, TALK_SECONDS),
        record=_record(given),
        custom_field=_custom(given.get("CustomField", "")),
        wait_url=_address("WaitUrl", given),
        status_callback=_address("StatusCallback", given),
        events=events,
    )
    return Wanted(number, first, _flow(given["Url"], account, account_id, number) if "Url" in given else None, placed)


def _to_be_rung(name: str, given: dict[str, str]) -> str:
    """A `+` that was not escaped came as a space."""
    text = given.get(name, "")
    e164 = to_e164(f"+{text[1:]}" if text.startswith(" ") else text)
    if e164 is None:
        raise Refusal(400, f"{name}: a telephone number, as +91 or 0 and ten digits")
    try:
        return agent_number(e164)
    except UnsafeText as unsafe:
        raise Refusal(403, f"{name}: {unsafe.problem}") from None


def _ours(text: str, account: Account) -> Number:
    e164 = to_e164(f"+{text[1:]}" if text.startswith(" ") else text)
    if e164 is None:
        raise Refusal(400, "CallerId: one of the account's numbers")
    number = next((one for one in account.numbers if one.number == e164), None)
    if number is None:
        raise Refusal(403, "CallerId: is no number of this account")
    return number


def _flow(url: str, account: Account, account_id: str, number: Number) -> str:
    """The flow that an address like `http://my.exotel.com/<sid>/exoml/start_voice/<flow>` ends with."""
    try:
        name = unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2], errors="strict")
    except ValueError:
        name = ""
    names = [*account.flows, *(one.flow for one in account.numbers if one.number == number.number)]
    if _FLOW_NUMBER.fullmatch(name):
        name = next((one for one in names if flow_number(account_id, one) == name), name)
    if name not in names:
        raise Refusal(400, "Url: ends with the name of a flow of this account, which needs no values that CallerId has not")
    return name


def _record(given: dict[str, str]) -> Literal["none", "mono", "dual"]:
    channels = _one_of("RecordingChannels", given.get("RecordingChannels", "single").lower(), ("single", "dual"))
    if _one_of("Record", given.get("Record", "false").lower(), ("true", "false")) == "false":
        return "none"
    return "dual" if channels == "dual" else "mono"


def _custom(text: str) -> str:
    if len(text) > MAX_CUSTOM:
        raise Refusal(400, f"CustomField: at most {MAX_CUSTOM} characters")
    if any(ord(char) < 32 and char not in "\t\r\n" for char in text):
        raise Refusal(400, "CustomField: has control characters")
    return text


def _address(name: str, given: dict[str, str]) -> str:
    url = given.get(name, "")
    try:
        parts = urlsplit(url)
        good = not url or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        good = False
    if not good or len(url) > MAX_URL or not all(33 <= ord(char) < 127 for char in url):
        raise Refusal(400, f"{name}: an http or https address")
    return url


def _seconds(name: str, given: dict[str, str], default: int, least: int, most: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or not least <= int(text) <= most:
        raise Refusal(400, f"{name}: {least} to {most} seconds")
    return int(text)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise Refusal(400, f"{name}: one of {', '.join(known)}")
    return value
