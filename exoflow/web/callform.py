"""What is asked for when a call is placed: the form of `Calls/connect` (exotel-dialect.md, section 5, "Start").

Ours: as in the list an unknown field and an empty value count as not given, and one that cannot be read is refused. A flow is
named by its name, or by the number that a passthru sends as `flow_id`, which stands for it at the end of `Url`. With `Url`
the flow takes the call, and `To` is not looked at: clients send our own number there. `CallType=promo` counts as `trans`.
Exotel's samples name no `CallerId`: then it is the number of ours that stands as `To` beside `Url`, or the account's only one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from exoflow.calls.model import Placed
from exoflow.config.model import Account, Number
from exoflow.crm.callback_body import CONTENT_TYPES
from exoflow.crm.dialect import flow_number
from exoflow.errors import UnsafeText
from exoflow.telephony.numbers import agent_number, to_e164
from exoflow.web.answers import Refusal
from exoflow.web.forms import Pairs

RING_SECONDS = 30  # unless TimeOut says
RING = range(5, 61)  # "maximum is 1 minute": longer is taken as that
TALK_SECONDS = 14_400  # TimeLimit's own maximum
MAX_CUSTOM = 1000  # characters; it is sent back in addresses
MAX_URL = 2000
KNOWN = frozenset(
    """From To Url CallerId CallType TimeLimit TimeOut Record RecordingChannels CustomField StatusCallback
    StatusCallbackContentType WaitUrl""".split()  # noqa: SIM905
)
CALL_TYPES = ("trans", "promo")
EVENTS = ("terminal", "answered", "ringing")
_EVENT = re.compile(r"StatusCallbackEvents(\[[0-9]{0,2}\])?", re.IGNORECASE)
_NUMBERS = ("From", "To", "CallerId")  # a blank before one is a plus that was not escaped
_NAMES = {name.lower(): name for name in KNOWN}
_FLOW_NUMBER = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True)
class Wanted:
    """A call to be placed. `first` is E.164; `flow` None: `placed.to` is rung."""

    number: Number
    first: str
    flow: str | None
    placed: Placed


def fields(pairs: Pairs) -> tuple[dict[str, str], tuple[str, ...]]:
    """The known fields that have a value, and the events that are asked for. Raises Refusal (400)."""
    given: dict[str, str] = {}
    events: list[str] = []
    for written, text in pairs:
        if _EVENT.fullmatch(written):
            events += [_one_of("StatusCallbackEvents", event, EVENTS) for event in _listed(text)]
        name = _NAMES.get(written.lower())
        if name is None:
            continue
        value = text.strip("\r\n\t") if name in _NUMBERS else text if name == "CustomField" else text.strip()
        if value:
            if name in given:
                raise Refusal(400, f"{name}: is given twice")
            given[name] = value
    return given, tuple(dict.fromkeys(events))


def _listed(text: str) -> list[str]:
    """Words with commas between, as some clients send events; empty ones count as not given."""
    return [word for part in text.split(",") if (word := part.strip().lower())]


def wanted(pairs: Pairs, account: Account, account_id: str) -> Wanted:
    """Raises Refusal: 400 for what cannot be read, 403 for what the account may not do."""
    given, events = fields(pairs)
    first = _to_be_rung("From", given)
    if "To" not in given and "Url" not in given:
        raise Refusal(400, "To, Url: one of them")
    number = _caller_id(given, account)
    _one_of("CallType", given.get("CallType", "trans").lower(), CALL_TYPES)
    placed = Placed(
        to=None if "Url" in given else _to_be_rung("To", given),
        ring=min(_seconds("TimeOut", given, RING_SECONDS, RING[0], 999), RING[-1]),
        limit=_seconds("TimeLimit", given, TALK_SECONDS, 1, TALK_SECONDS),
        record=_record(given),
        custom_field=_custom(given.get("CustomField", "")),
        wait_url=_address("WaitUrl", given),
        status_callback=_address("StatusCallback", given),
        events=events,
        content_type=_content_type(given.get("StatusCallbackContentType", "")),
    )
    return Wanted(number, first, _flow(given["Url"], account, account_id, number) if "Url" in given else None, placed)


def _to_be_rung(name: str, given: dict[str, str]) -> str:
    e164 = _read(given.get(name, ""))
    if e164 is None:
        raise Refusal(400, f"{name}: a telephone number, as +91 or 0 and ten digits")
    try:
        return agent_number(e164)
    except UnsafeText as unsafe:
        raise Refusal(403, f"{name}: {unsafe.problem}") from None


def _caller_id(given: dict[str, str], account: Account) -> Number:
    if "CallerId" in given:
        return _ours("CallerId", given["CallerId"], account)
    if "Url" in given and _one_of_ours(_read(given.get("To", "")), account) is not None:
        return _ours("To", given["To"], account)
    if len(account.numbers) == 1:
        return account.numbers[0]
    raise Refusal(400, "CallerId: one of the account's numbers")


def _ours(name: str, text: str, account: Account) -> Number:
    e164 = _read(text)
    if e164 is None:
        raise Refusal(400, f"{name}: one of the account's numbers")
    number = _one_of_ours(e164, account)
    if number is None:
        raise Refusal(403, f"{name}: is no number of this account")
    return number


def _one_of_ours(e164: str | None, account: Account) -> Number | None:
    return next((one for one in account.numbers if one.number == e164), None)


def _read(text: str) -> str | None:
    """E.164. A `+` that was not escaped came as a space."""
    return to_e164(f"+{text[1:]}" if text.startswith(" ") else text)


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


def _content_type(text: str) -> str:
    kind = text.partition(";")[0].strip().lower()
    return _one_of("StatusCallbackContentType", kind, CONTENT_TYPES) if kind else ""


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
    text = re.sub(r"\.0+\Z", "", given.get(name, str(default)))
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or not least <= int(text) <= most:
        raise Refusal(400, f"{name}: {least} to {most} seconds")
    return int(text)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise Refusal(400, f"{name}: one of {', '.join(known)}")
    return value
