"""An account's numbers over HTTP, as the dialect's clients ask for them before they place a call.

Source: the vendor's "ExoPhones" pages (`/v2_beta/…/IncomingPhoneNumbers`, JSON with its pages counted from 0). What this module
decides itself: the addresses under `/v1/` give the same, in XML as `IncomingPhoneNumber`. A number's `sid` is what calls have
as `PhoneNumberSid`; so is `friendly_name`, by which connectors know a number. Without a value is what we do not have.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

import phonenumbers
from phonenumbers import PhoneNumberType

from exoflow.config.model import Number
from exoflow.telephony.numbers import national, to_e164
from exoflow.web.answers import Refusal, answered, form_of
from exoflow.web.gate import Gate

PAGE_SIZE, MAX_PAGE_SIZE = 50, 100
MAX_PARAMETERS = 50

_PATH = re.compile(
    r"/(?P<version>v[0-9][a-z_]*)/Accounts/(?P<account>[A-Za-z0-9][A-Za-z0-9_-]{0,63})/IncomingPhoneNumbers"
    r"(?:/(?P<sid>[^/]{1,40}?))?(?:\.(?:json|xml))?"
)
_TYPES = {PhoneNumberType.MOBILE: "Mobile", PhoneNumberType.TOLL_FREE: "TollFree"}
_OTHER_TYPE = "Landline"
_WORDS = {"sms": "Sms", "url": "Url", "uri": "Uri", "sid": "Sid"}


def is_numbers(path: str) -> bool:
    """Is this address about an account's numbers?"""
    return _PATH.fullmatch(path) is not None


class NumberPages:
    """A WSGI application; asks the configuration as it is now."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        return answered(environ, start_response, lambda path, method: self._answer(path, method, environ))

    def _answer(self, path: str, method: str, environ: dict[str, Any]) -> dict[str, Any]:
        asked = _PATH.fullmatch(path)
        assert asked is not None, "routes.routed asks is_numbers"
        account_id, base = asked["account"], f"/{asked['version']}/Accounts/{asked['account']}/IncomingPhoneNumbers"
        account = self._gate.enter(account_id, environ.get("HTTP_AUTHORIZATION", ""))
        if method not in ("GET", "HEAD"):
            problem = "GET or HEAD; numbers are added and led to flows in the account's file"
            raise Refusal(405, problem, [("Allow", "GET, HEAD")])
        numbers = list({one.number: one for one in account.numbers}.values())
        if asked["sid"] is not None:
            data = _sheet(_one(numbers, asked["sid"]), account_id, base)
            return data if form_of(path) == "json" else {"IncomingPhoneNumber": _in_xml(data)}
        data = _page(numbers, environ.get("QUERY_STRING", ""), account_id, path, base)
        return data if form_of(path) == "json" else _in_xml(data)


def _one(numbers: list[Number], sid: str) -> Number:
    e164 = to_e164(sid)
    found = next((one for one in numbers if one.number == e164), None)
    if found is None:
        raise Refusal(404, "the account has no such number; the list has their sids")
    return found


def _page(numbers: list[Number], query: str, account_id: str, path: str, base: str) -> dict[str, Any]:
    given = _parameters(query)
    at, size = _integer("Page", given, 0, 0, 9999), _integer("PageSize", given, PAGE_SIZE, 1, MAX_PAGE_SIZE)
    for name in ("PhoneNumber", "FriendlyName"):
        if name in given:
            e164 = to_e164(given[name])
            numbers = [one for one in numbers if one.number == e164]
    last = max(0, (len(numbers) - 1) // size)

    def uri(page: int) -> str | None:
        return f"{path}?{urlencode({**given, 'Page': page, 'PageSize': size})}" if 0 <= page <= last else None

    return {
        "page": at,
        "page_size": size,
        "total": len(numbers),
        "uri": f"{path}?{urlencode({**given, 'Page': at, 'PageSize': size})}",
        "first_page_uri": uri(0),
        "previous_page_uri": uri(at - 1),
        "next_page_uri": uri(at + 1),
        "incoming_phone_numbers": [_sheet(one, account_id, base) for one in numbers[at * size : (at + 1) * size]],
    }


def _sheet(number: Number, account_id: str, base: str) -> dict[str, Any]:
    parsed, sid = phonenumbers.parse(number.number, None), national(number.number)
    return {
        "sid": sid,
        "account_sid": account_id,
        "phone_number": number.number,
        "friendly_name": sid,
        "capabilities": {"voice": True, "sms": False},
        "country": phonenumbers.region_code_for_number(parsed),
        "region": None,
        "number_type": _TYPES.get(phonenumbers.number_type(parsed), _OTHER_TYPE),
        "voice_url": None,
        "sms_url": None,
        "date_created": None,
        "date_updated": None,
        "uri": f"{base}/{sid}",
    }


def _in_xml(data: dict[str, Any]) -> dict[str, Any]:
    """The same with names as the dialect's XML has them: `PhoneNumber` for `phone_number`."""

    def value(told: Any) -> Any:
        if isinstance(told, list):
            return [_in_xml(one) for one in told]
        return _in_xml(told) if isinstance(told, dict) else told

    return {
        "".join(_WORDS.get(word, word.capitalize()) for word in name.split("_")): value(told) for name, told in data.items()
    }


def _parameters(query: str) -> dict[str, str]:
    """The known ones that have a value. Raises Refusal (400)."""
    try:
        pairs = parse_qsl(query, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError:
        raise Refusal(400, f"the query cannot be read: UTF-8, at most {MAX_PARAMETERS} parameters") from None
    known = ("Page", "PageSize", "PhoneNumber", "FriendlyName")
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in known and given.setdefault(name, value) != value:
            raise Refusal(400, f"{name}: is given twice")
    return given


def _integer(name: str, given: dict[str, str], default: int, least: int, most: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 4) or not least <= int(text) <= most:
        raise Refusal(400, f"{name}: {least} to {most}")
    return int(text)
