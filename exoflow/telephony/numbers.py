"""Telephone numbers: E.164 within exoflow, and the Indian forms in which exchanges, CRMs and trunks write them.

Rules of India (facts, pri-and-freetdm.md section 11): country code 91, trunk prefix 0, international prefix 00,
ten national digits (an STD code of 2 to 4 and 6 to 8 more, or a mobile), toll-free numbers of ten or eleven.

An ISDN exchange tells the type of number (TON) beside the digits: `6591234567` alone is an Indian
number, `6591234567` of the type international is one of Singapore.
"""

from __future__ import annotations

import re
from enum import IntEnum

import phonenumbers
from phonenumbers import PhoneNumberType

from exoflow.errors import UnsafeText

# the longest E.164 number has 15 digits, "00" before it makes 17; the shortest that anybody writes is a local one
_WRITTEN = re.compile(r"\+?[0-9]{6,17}")
_AGENT = re.compile(r"\+?[0-9]{8,17}")
_STD_CODE = re.compile(r"[0-9]{2,4}")
_PREFIX = re.compile(r"[0-9]{0,6}")
_URI = re.compile(r"(?:sips?:|tel:)?([^;@]*)", re.IGNORECASE)
_SEPARATED = re.compile(r"\+?[0-9().-]+")  # RFC 3966's visual separators
_CONTEXT = re.compile(r"[0-9]{1,7}")
_TAIL = re.compile(r"[0-9]{2,10}")  # what exchanges send as called number (facts, section 4)
_NATIONAL_DIGITS = 10
# what people and contact programs write between digits: blanks, also those that do not break, joiners and direction marks,
# dashes, dots, brackets. No line end, which ends a number
_BLANK = "[ \u00a0\u00ad\u2000-\u200f\u202a-\u202f\u205f-\u2064\u2066-\u2069\u3000\ufeff]"
_BETWEEN = re.compile(rf"{_BLANK}|[-.()\[\]\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_LIST_ENDS = re.compile(r"[,;\t\r\n\v\f\u0085\u2028\u2029]+")

_RINGABLE = frozenset(
    {
        PhoneNumberType.FIXED_LINE,
        PhoneNumberType.MOBILE,
        PhoneNumberType.FIXED_LINE_OR_MOBILE,
        PhoneNumberType.TOLL_FREE,
    }
)

# what switches and gateways write where a caller's number would stand
_NOT_TOLD = frozenset(
    {"", "anonymous", "unknown", "restricted", "private", "unavailable", "withheld", "blocked", "anonymous.invalid", "_undef_"}
)


def bare(text: str) -> str:
    """The number alone of what SIP tells as one: no scheme, separators, parameters or host (RFC 3966, RFC 4694), and a plus for
    `%2B`."""
    found = _URI.match(text.strip())
    number = re.sub("%2b", "+", found[1] if found else "", flags=re.IGNORECASE)
    return re.sub("[().-]", "", number) if _SEPARATED.fullmatch(number) else number


def in_context(digits: str, context: str) -> str:
    """A local number with its context's digits (RFC 3966, 5.1.5) as an international one. As it is if it has none, or if the
    context is India and the two make no number of ours: exchanges leave the area's code to the trunk."""
    if _CONTEXT.fullmatch(context) is None or digits.startswith("+"):
        return digits
    whole = f"+{context}{digits}"
    return digits if context.startswith("91") and to_e164(whole) is None else whole


class NumberType(IntEnum):
    """Type of number as ISDN has it (Q.931 section 4.5.10), and FreeSWITCH in `caller_ton`."""

    UNKNOWN = 0
    INTERNATIONAL = 1
    NATIONAL = 2
    NETWORK_SPECIFIC = 3
    SUBSCRIBER = 4
    ABBREVIATED = 6


_TYPES = {str(ton.value): ton for ton in NumberType}
_OWN_PLAN = (NumberType.NETWORK_SPECIFIC, NumberType.ABBREVIATED)  # no digits of a local exchange


def number_type(code: str) -> NumberType | None:
    """Of the code that a switch tells; None for no code (SIP has none) and for one that means nothing."""
    return _TYPES.get(code)


def to_e164(text: str, std_code: str | None = None, ton: NumberType | None = None) -> str | None:
    """The number in E.164 (`+918030752400`), or None if the text is no telephone number.

    Strict: ASCII digits, one `+` in front; blanks, dashes, dots and brackets between; no letters, extensions, line ends or
    other scripts' digits.
    Taken: `+91…`, `0091…`, `091…` (13 digits), `91…` (12 digits), `0` and 10 digits, 10 digits, 1800 and
    1860 numbers, `+` or `00` and any country, and with the line's `std_code` also 6 to 8 digits of its
    own exchange.

    `ton` is what the exchange tells of the digits. International digits begin with their country code,
    whatever else they look like; those of an operator's own plan are never completed by `std_code`.
    All other types leave the reading to the digits, for exchanges tell national ones wrongly.
    """
    written = _BETWEEN.sub("", text)
    if _WRITTEN.fullmatch(written) is None:
        return None
    return _possible(_international(written, None if ton in _OWN_PLAN else std_code, ton))


def parted(text: str) -> list[str]:
    """The parts of a list with commas, semicolons, tabs or line ends between. Empty ones are left out."""
    return [part for part in _LIST_ENDS.split(text) if _BETWEEN.sub("", part)]


def listed(text: str) -> list[str]:
    """The numbers of a list, each as it is written. Blanks divide a part that is no number into words that are all numbers."""
    return [number for part in parted(text) for number in _apart(part.strip())]


def _apart(part: str) -> list[str]:
    if to_e164(part) is None:
        for end in (rf"{_BLANK}+(?=\+)", rf"{_BLANK}+"):
            words = [word for word in re.split(end, part) if word]
            if len(words) > 1 and all(to_e164(word) is not None for word in words):
                return words
    return [part]


def _international(written: str, std_code: str | None, ton: NumberType | None) -> str | None:
    """Adds what is missing in front; None if the digits have no reading."""
    if written.startswith("+") and not written.startswith("+0"):
        return written
    written = written.removeprefix("+")  # no country code begins with 0: the plus is a gateway's mistake
    if ton is NumberType.INTERNATIONAL:
        return f"+{written.lstrip('0')}"
    if written.startswith("00"):
        return f"+{written[2:]}"
    if written.startswith("091") and len(written) in (13, 14):  # 0 before a whole number, as some exchanges send
        return f"+{written[1:]}"
    if written.startswith("0"):
        return f"+91{written[1:]}"
    if len(written) == _NATIONAL_DIGITS or (len(written) == 11 and written.startswith("18")):
        return f"+91{written}"
    if len(written) in (12, 13) and written.startswith("91"):
        return f"+{written}"
    if len(written) <= 8 and std_code is not None and _STD_CODE.fullmatch(std_code):
        return f"+91{std_code}{written}"
    return None


def _possible(international: str | None) -> str | None:
    """Holds a number against its country's lengths, not its number plan: new series must not become nobody's."""
    if international is None:
        return None
    try:
        number = phonenumbers.parse(international, None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    national = _split(e164)[1]
    if e164.startswith("+91") and len(national) != _NATIONAL_DIGITS and not re.fullmatch(r"18[0-9]{9}", national):
        return None
    return e164


def _split(e164: str) -> tuple[str, str]:
    """Country code and national significant number of a number that `to_e164` made."""
    if e164.startswith("+91"):
        return "91", e164[3:]
    number = phonenumbers.parse(e164, None)
    return str(number.country_code), phonenumbers.national_significant_number(number)


def national(e164: str) -> str:
    """The form CRMs of the dialect know: `0XXXXXXXXXX`, for other countries `00`, country code and number."""
    country, digits = _split(e164)
    return f"0{digits}" if country == "91" else f"00{country}{digits}"


def agent_number(text: str) -> str:
    """E.164 of a number that may be rung, whoever gave it.

    Raises UnsafeText for anything but a valid Indian fixed, mobile or toll-free number: what a CRM answers must never
    become a second leg, a premium-rate call or a call abroad. Read as `to_e164` reads it.
    """
    if _AGENT.fullmatch(_BETWEEN.sub("", text)) is None:
        raise UnsafeText("agent's number", "only digits and a leading + can be dialled", text)
    e164 = to_e164(text)
    if e164 is None:
        raise UnsafeText("agent's number", "not a telephone number; write +91 and ten digits", text)
    number = phonenumbers.parse(e164, None)
    if phonenumbers.region_code_for_country_code(number.country_code or 0) != "IN":
        raise UnsafeText("agent's number", "only Indian numbers are rung", text)
    if not phonenumbers.is_valid_number(number):
        raise UnsafeText("agent's number", "India has no such number; count its digits", text)
    if phonenumbers.number_type(number) not in _RINGABLE:
        raise UnsafeText("agent's number", "neither a fixed, a mobile nor a toll-free number", text)
    return e164


def caller(raw: str, *, hidden: bool, std_code: str | None = None, ton: NumberType | None = None) -> tuple[str | None, bool]:
    """The caller's number in E.164, or None; and whether it was withheld.

    `hidden` is the presentation indicator (Caller-Privacy-Hide-Number): a restricted number goes to nobody, even where
    the network lets us see it. (None, False) means that something was told which is no number.
    """
    told = raw.strip().lower()
    if hidden or told in _NOT_TOLD or (told.isascii() and told.isdigit() and not told.strip("0")):
        return None, True
    return to_e164(raw, std_code, ton), False


def tail_matches(dialled: str, e164: str) -> bool:
    """Are the 2 to 10 digits that an exchange sent the end of this number?"""
    return _TAIL.fullmatch(dialled) is not None and _split(e164)[1].endswith(dialled)


def dial_digits(e164: str, prefix: str) -> str:
    """What is sent to the exchange for an Indian number: the trunk's prefix and the national number.

    Raises UnsafeText for a foreign number or a prefix that is not 0 to 6 digits.
    """
    if _PREFIX.fullmatch(prefix) is None:
        raise UnsafeText("dial prefix", "must be 0 to 6 digits", prefix)
    if re.fullmatch(r"\+91[0-9]{10,11}", e164) is None:
        raise UnsafeText("number to dial", "not an Indian number in E.164", e164)
    return prefix + e164[3:]
