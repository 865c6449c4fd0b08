"""What is asked of the list of calls: filters, order, page (exotel-dialect.md, section 5, "List").

Times are as the dialect writes them, without a zone, in the account's. Ours: an unknown parameter and an empty value count as
not given, as CRMs send more than they need; a known one twice, or one that cannot be read, is refused rather than left out,
as the list would then hold what was not asked for.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from urllib.parse import parse_qsl

from exoflow.telephony.numbers import parted, to_e164
from exoflow.web.answers import Refusal

MAX_SIDS = 100
MAX_NUMBERS = 5
PAGE_SIZE, MAX_PAGE_SIZE = 50, 100
SPAN = timedelta(days=31)  # "1 month a query", and what is taken where no time is given
OLDEST = timedelta(days=184)  # "6 months back"
VALIDITY = range(5, 61)  # minutes that a link to a recording may live
MAX_PARAMETERS = 50
STATUSES = ("queued", "ringing", "in-progress", "completed", "busy", "failed", "no-answer", "canceled")
DIRECTIONS = ("inbound", "outbound-dial", "outbound-api")
_ORDERS = ("DateCreated:asc", "DateCreated:desc")
_SELECTING = ("Sid", "DateCreated", "To", "From", "Status", "Duration", "Price", "Direction", "PhoneNumber")
KNOWN = frozenset((*_SELECTING, "PageSize", "SortBy", "Before", "After", "details", "RecordingUrlValidity"))

_SID = re.compile(r"[0-9a-fA-F]{32}")
_RAW_NUMBER = re.compile(r"[0-9]{2,17}")  # what an exchange sent and nobody can read as a number
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_SECONDS = re.compile(r"([0-9]{1,6})s?")
_PRICE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


@dataclass(frozen=True)
class Cursor:
    """A call's place in the order."""

    at: datetime
    sid: str

    def __str__(self) -> str:
        text = f"{self.at.astimezone(UTC).isoformat(timespec='microseconds')}|{self.sid}"
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")


@dataclass(frozen=True)
class Query:
    """`since` and `until` (itself not in it) are aware; numbers are E.164, or digits that are no number; durations seconds."""

    since: datetime
    until: datetime
    sids: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    called: tuple[str, ...] = ()  # numbers that were called, or rung second
    ours: tuple[str, ...] = ()  # our numbers
    placed: bool | None = None  # by the account itself
    statuses: tuple[str, ...] = ()
    shortest: int | None = None
    longest: int | None = None
    none: bool = False  # asks for what no call has: a price, a direction of legs
    size: int = PAGE_SIZE
    ascending: bool = False
    after: Cursor | None = None
    before: Cursor | None = None
    details: bool = False
    given: dict[str, str] = field(default_factory=dict)  # what of it has to stand in another page's address


def parameters(query_string: str) -> dict[str, str]:
    """The known parameters that have a value. Raises Refusal (400)."""
    try:
        pairs = parse_qsl(query_string, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError:
        raise Refusal(400, f"the query cannot be read: UTF-8, at most {MAX_PARAMETERS} parameters") from None
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in KNOWN and value:
            if name in given:
                raise Refusal(400, f"{name}: is given twice")
            given[name] = value
    return given


def wants_details(given: dict[str, str]) -> bool:
    """`details=true`, with a RecordingUrlValidity that may be. Raises Refusal (400)."""
    validity = given.get("RecordingUrlValidity")
    if validity is not None and _integer("RecordingUrlValidity", validity) not in VALIDITY:
        raise Refusal(400, f"RecordingUrlValidity: {VALIDITY[0]} to {VALIDITY[-1]} minutes")
    return _one_of("details", given.get("details", "false").lower(), ("true", "false")) == "true"


def query(given: dict[str, str], *, zone: tzinfo, now: datetime) -> Query:
    """What the parameters ask for. Raises Refusal (400), whose message names the parameter."""
    since, until = _span(given.get("DateCreated"), zone, now)
    shortest, longest = _duration(given.get("Duration"))
    if "Price" in given:
        _bounds("Price", given["Price"], _PRICE, "gte:0.10;lte:1.0")
    direction = _one_of("Direction", given["Direction"], DIRECTIONS) if "Direction" in given else None
    size = _integer("PageSize", given.get("PageSize", str(PAGE_SIZE)))
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise Refusal(400, f"PageSize: 1 to {MAX_PAGE_SIZE}")
    if "Before" in given and "After" in given:
        raise Refusal(400, "Before, After: one of them")
    return Query(
        since,
        until,
        sids=_sids(given["Sid"]) if "Sid" in given else (),
        callers=_numbers("From", given["From"]) if "From" in given else (),
        called=_numbers("To", given["To"]) if "To" in given else (),
        ours=_numbers("PhoneNumber", given["PhoneNumber"]) if "PhoneNumber" in given else (),
        placed=None if direction is None else direction == "outbound-api",
        statuses=tuple(_one_of("Status", one, STATUSES) for one in _words(given.get("Status", ""))),
        shortest=shortest,
        longest=longest,
        none="Price" in given or direction == "outbound-dial",
        size=size,
        ascending=_one_of("SortBy", given.get("SortBy", "DateCreated:desc"), _ORDERS) == _ORDERS[0],
        after=_cursor("After", given["After"]) if "After" in given else None,
        before=_cursor("Before", given["Before"]) if "Before" in given else None,
        details=wants_details(given),
        given={name: value for name, value in given.items() if name not in ("Before", "After")},
    )


def _span(text: str | None, zone: tzinfo, now: datetime) -> tuple[datetime, datetime]:
    bounds = {} if text is None else _bounds("DateCreated", text, _TIME, "gte:2026-01-05 00:00:00;lte:2026-01-05 23:59:59")
    second = timedelta(seconds=1)  # a call at 23:59:59.4 shows as 23:59:59, and so is within
    try:
        times = {name: datetime.fromisoformat(value).replace(tzinfo=zone).astimezone(UTC) for name, value in bounds.items()}
        until = times["lte"] + second if "lte" in times else now + second
        since = times.get("gte", until - second - SPAN)
    except (ValueError, OverflowError):
        raise Refusal(400, "DateCreated: there is no such time") from None
    if since >= until:
        raise Refusal(400, "DateCreated: begins behind its end")
    if until - since > SPAN + second:
        raise Refusal(400, f"DateCreated: at most {SPAN.days} days; give both gte and lte")
    if since < now - OLDEST:
        raise Refusal(400, "DateCreated: at most 6 months back; a single call is found by its Sid at any age")
    return since, until


def _duration(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    bounds = _bounds("Duration", text, _SECONDS, "gte:10s;lte:45s, or eq:30s", also="eq")
    seconds = {name: int(value.rstrip("s")) for name, value in bounds.items()}
    equal = seconds.get("eq")
    return seconds.get("gte", equal), seconds.get("lte", equal)


def _bounds(name: str, text: str, form: re.Pattern[str], example: str, *, also: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        operator, _, value = part.partition(":")
        if operator not in ("gte", "lte", also) or not operator or operator in found or form.fullmatch(value) is None:
            raise Refusal(400, f"{name}: is written {example}")
        found[operator] = value
    if "eq" in found and len(found) > 1:
        raise Refusal(400, f"{name}: is written {example}")
    return found


def _words(text: str) -> list[str]:
    """Words with commas between; empty ones count as not given."""
    return [word for part in text.split(",") if (word := part.strip())]


def _sids(text: str) -> tuple[str, ...]:
    sids = _words(text)
    if len(sids) > MAX_SIDS:
        raise Refusal(400, f"Sid: at most {MAX_SIDS}")
    if not all(_SID.fullmatch(sid) for sid in sids):
        raise Refusal(400, "Sid: each has 32 hexadecimal digits, with commas between")
    return tuple(sid.lower() for sid in sids)


def _numbers(name: str, text: str) -> tuple[str, ...]:
    """A `+` that was not escaped came as a space."""
    numbers = parted(text)
    if len(numbers) > MAX_NUMBERS:
        raise Refusal(400, f"{name}: at most {MAX_NUMBERS}")
    return tuple(_number(name, number) for number in numbers)


def _number(name: str, text: str) -> str:
    number = f"+{text[1:]}" if text.startswith(" ") else text
    e164 = to_e164(number)
    if e164 is not None:
        return e164
    if _RAW_NUMBER.fullmatch(number) is None:
        raise Refusal(400, f"{name}: telephone numbers, as +91 and ten digits, with commas between")
    return number


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise Refusal(400, f"{name}: one of {', '.join(known)}")
    return value


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise Refusal(400, f"{name}: a whole number")
    return int(text)


def _cursor(name: str, text: str) -> Cursor:
    try:
        at, _, sid = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition("|")
        cursor = Cursor(datetime.fromisoformat(at).astimezone(UTC), sid)
        if _SID.fullmatch(sid) and str(cursor) == text.rstrip("="):
            return cursor
    except (binascii.Error, ValueError, OverflowError):
        pass
    raise Refusal(400, f"{name}: is no cursor of ours; take NextPageUri and PrevPageUri as they are")
