"""The fields of a request: query, url-encoded form and multipart are one set; what has no safe meaning is refused."""

from __future__ import annotations

import itertools
import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from callsapi import KEY, TOKEN, Api, the_calls
from hypothesis import given, settings
from hypothesis import strategies as st

from exoflow.config.model import Account
from exoflow.web.answers import Refusal
from exoflow.web.callform import wanted
from exoflow.web.forms import MAX_FIELDS, fields_of

BASIC = b64encode(f"{KEY}:{TOKEN}".encode()).decode()
CALL = {"From": "09999999901", "To": "09999999903", "CallerId": "09999999902"}
QUERY = urlencode(CALL)
URLENCODED = "application/x-www-form-urlencoded"


def part(name: str, value: str, *more: str, disposition: str = "") -> str:
    named = f'form-data; name="{name}"'
    head = [f"Content-Disposition: {disposition or named}", *more]
    return "\r\n".join(head) + f"\r\n\r\n{value}\r\n"


def multipart(*parts: str, boundary: str = "B0und", end: str = "--\r\n") -> bytes:
    return ("".join(f"--{boundary}\r\n{one}" for one in parts) + f"--{boundary}{end}").encode()


def parts(**changed: str) -> list[str]:
    return [part(name, value) for name, value in {**CALL, **changed}.items()]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    hours = itertools.count(step=3600.0)  # so that no rate is in the way
    made = Api(tmp_path_factory.mktemp("forms"), the_calls(), lambda: next(hours))
    yield made
    made.stop()


def connected(api: Api, query: str = "", body: bytes | None = None, *headers: str) -> tuple[int, Any]:
    head = f"POST /v1/Accounts/acme/Calls/connect.json{query and '?' + query} HTTP/1.1\r\nHost: x\r\n"
    head += f"Authorization: Basic {BASIC}\r\n" + "".join(f"{one}\r\n" for one in headers)
    if body is not None:
        head += f"Content-Length: {len(body)}\r\n"
    status, _, answer = api.sent(f"{head}\r\n".encode() + (body or b""))
    return status, json.loads(answer)


def placed(answer: tuple[int, Any]) -> tuple[str, str]:
    """From and To of the call that was placed."""
    status, told = answer
    assert status == 200, told
    return told["Call"]["From"], told["Call"]["To"]


def refused(answer: tuple[int, Any]) -> str:
    status, told = answer
    assert status == 400, told
    message: str = told["RestException"]["Message"]
    return message


BOTH = ("09999999901", "09999999903")


@pytest.mark.parametrize(
    ("query", "body", "headers"),
    [
        (QUERY, None, ()),
        (QUERY, b"", ()),
        (QUERY, b"", (f"Content-Type: {URLENCODED}",)),
        (QUERY, b"", ("Content-Type: application/json",)),
        (QUERY, b"", ("Content-Type: multipart/form-data",)),
        ("From=09999999901&To=09999999903", b"CallerId=09999999902", (f"Content-Type: {URLENCODED}",)),
        ("From=09999999901&details=true", QUERY.encode(), (f"Content-Type: {URLENCODED}",)),
        ("", QUERY.encode(), ("Content-Type: Application/X-WWW-Form-URLEncoded; charset=UTF-8",)),
        ("", QUERY.encode(), ("content-type:application/x-www-form-urlencoded",)),
        ("", b"&" + QUERY.encode(), (f"Content-Type: {URLENCODED}",)),
        ("", QUERY.replace("CallerId", "CallerID").encode(), (f"Content-Type: {URLENCODED}",)),
        ("", b"From=+919999999901&To=09999999903&CallerId=+919999999902", (f"Content-Type: {URLENCODED}",)),
    ],
)
def test_query_and_form_are_one_set(api: Api, query: str, body: bytes | None, headers: tuple[str, ...]) -> None:
    assert placed(connected(api, query, body, *headers)) == BOTH


@pytest.mark.parametrize(
    ("query", "body", "message"),
    [
        ("To=09999999904", QUERY.encode(), "To: is given twice, in the query and in the form"),
        ("To=09999999903&To=09999999903", QUERY.encode(), "To: is given twice"),
        ("From=%FF", QUERY.encode(), "the query cannot be read: url-encoded UTF-8, at most 50 fields"),
        (urlencode({f"x{n}": n for n in range(40)}), urlencode({f"y{n}": n for n in range(40)}).encode(), "the request has"),
    ],
)
def test_query_and_form_that_disagree_are_refused(api: Api, query: str, body: bytes, message: str) -> None:
    assert refused(connected(api, query, body, f"Content-Type: {URLENCODED}")).startswith(message)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (multipart(*parts()), "multipart/form-data; boundary=B0und"),
        (multipart(*parts()), 'Multipart/Form-Data; charset=utf-8; Boundary="B0und"'),
        (multipart(*parts(), boundary="a b:c/d=e"), 'multipart/form-data; boundary="a b:c/d=e"'),
        (multipart(*parts(), end="--"), "multipart/form-data; boundary=B0und"),
        (b"preamble\r\n" + multipart(*parts()), "multipart/form-data; boundary=B0und"),
        (
            multipart(*(part(name, value, "Content-Type: text/plain; charset=UTF-8") for name, value in CALL.items())),
            "multipart/form-data; boundary=B0und",
        ),
        (
            multipart(
                *(
                    part(
                        name,
                        value,
                        "Content-Type: text/plain; charset=ISO-8859-1",
                        "Content-Transfer-Encoding: 8bit",
                        "Content-Length: 11",
                    )
                    for name, value in CALL.items()
                )
            ),
            "multipart/form-data; boundary=B0und",
        ),
        (
            multipart(*(part("", value, disposition=f"form-data; name={name}") for name, value in CALL.items())),
            "multipart/form-data; boundary=B0und",
        ),
        (multipart(*parts(From=" 09999999901 ", To="\r\n9999999903"), part("Url", "")), "multipart/form-data; boundary=B0und"),
    ],
)
def test_multipart(api: Api, body: bytes, content_type: str) -> None:
    assert placed(connected(api, "", body, f"Content-Type: {content_type}")) == BOTH


def test_a_query_beside_multipart(api: Api) -> None:
    body = multipart(part("From", CALL["From"]), part("To", CALL["To"]))
    assert placed(connected(api, "CallerId=09999999902", body, "Content-Type: multipart/form-data; boundary=B0und")) == BOTH


def test_multipart_of_another_script_is_whole(api: Api) -> None:
    body = multipart(*parts(), part("CustomField", "मीना = 5 & more"))
    assert placed(connected(api, "", body, "Content-Type: multipart/form-data; boundary=B0und")) == BOTH


@pytest.mark.parametrize(
    ("body", "boundary", "message"),
    [
        (multipart(*parts(), end=""), "B0und", "the form cannot be read"),
        (multipart(*parts()), "other", "the form cannot be read"),
        (b"", "B0und", "the form cannot be read"),
        (multipart(*parts()), "", "multipart/form-data needs its boundary"),
        (multipart(*parts()), "x" * 71, "multipart/form-data needs its boundary"),
        (multipart(*parts(), part("", "x", disposition='form-data; name="To"; filename="a.txt"')), "B0und", "To: is a file"),
        (multipart(*parts(), part("", "x", disposition='form-data; name="f"; filename=""')), "B0und", "f: is a file"),
        (multipart(*parts(), part("", "x", disposition="form-data; name=f; filename*=UTF-8''a")), "B0und", "f: is a file"),
        (multipart(*parts(), part("", "x", disposition="form-data")), "B0und", "each part of a form"),
        (multipart(*parts(), part("", "x", disposition='attachment; name="x"')), "B0und", "each part of a form"),
        (multipart(*parts(), "no head\r\n"), "B0und", "the form cannot be read"),
        (multipart(*parts(), part("x", "eA==", "Content-Transfer-Encoding: base64")), "B0und", "x: is encoded"),
        (multipart(*parts(), part("x", "y", "Content-Type: text/plain; charset=utf-16")), "B0und", "x: is in no character set"),
        (multipart(*parts(), part("x", "y", f"X-Long: {'z' * 2000}")), "B0und", "the form cannot be read"),
        (multipart(*parts(), part("To", "09999999903")), "B0und", "To: is given twice"),
        (multipart(*(part(f"x{n}", "y") for n in range(MAX_FIELDS + 1))), "B0und", "the form cannot be read"),
    ],
)
def test_multipart_without_a_safe_meaning_is_refused(api: Api, body: bytes, boundary: str, message: str) -> None:
    content_type = f'Content-Type: multipart/form-data; boundary="{boundary}"'
    assert refused(connected(api, "", body, content_type)).startswith(message)


def test_bytes_that_are_no_text_are_refused(api: Api) -> None:
    body = multipart(*parts(), part("x", "y")).replace(b"y\r\n", b"\xff\r\n")
    assert refused(connected(api, "", body, "Content-Type: multipart/form-data; boundary=B0und")) == "x: is no utf-8 text"


def test_a_body_of_no_known_type_is_refused_also_beside_a_query(api: Api) -> None:
    told = refused(connected(api, QUERY, b'{"From": "09999999904"}', "Content-Type: application/json"))
    assert told == "a form is needed: application/x-www-form-urlencoded or multipart/form-data"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=40), st.text(alphabet="abcFrom=&%20\xff", max_size=40))
def test_any_bytes_are_fields_or_refused(body: bytes, boundary: str, query: str) -> None:
    class Input:
        def read(self) -> bytes:
            return body

    environ = {
        "QUERY_STRING": query,
        "CONTENT_TYPE": f"multipart/form-data; boundary={boundary}",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": Input(),
    }
    with suppress(Refusal):
        assert all(isinstance(name, str) and value for name, value in fields_of(environ))


# --- which number calls ---------------------------------------------------------------------------


def account(*numbers: str) -> Account:
    flow = {"start": "bye", "steps": {"bye": {"hangup": {}}}}
    ours = [{"number": number, "trunk": "PRI1", "flow": "main"} for number in numbers]
    return Account.model_validate({"name": "Acme", "numbers": ours, "flows": {"main": flow}})


FIRST, SECOND = "+919999999902", "+918030752400"


@pytest.mark.parametrize(
    ("numbers", "fields", "number", "flow"),
    [
        ((FIRST, SECOND), {"To": "08030752400", "Url": "http://my.exotel.in/exoml/start/main"}, SECOND, "main"),
        ((FIRST, SECOND), {"To": "nonsense", "CallerId": FIRST, "Url": "main"}, FIRST, "main"),
        ((FIRST, SECOND), {"To": "+442071838750", "CallerId": SECOND, "Url": "main"}, SECOND, "main"),
        ((FIRST,), {"To": "08030752400"}, FIRST, None),
        ((FIRST,), {"Url": "main"}, FIRST, "main"),
        ((FIRST,), {"Url": "main", "To": "08030752400", "CallType": "promo"}, FIRST, "main"),
    ],
)
def test_who_calls_where_clients_leave_it_out(
    numbers: tuple[str, ...], fields: dict[str, str], number: str, flow: str | None
) -> None:
    asked = wanted([("From", "09999999901"), *fields.items()], account(*numbers), "acme")
    assert (asked.number.number, asked.flow) == (number, flow)
    assert (asked.placed.to is None) == (flow is not None)


@pytest.mark.parametrize("fields", [{"To": "09999999903"}, {"Url": "main"}, {"Url": "main", "To": "09999999903"}])
def test_of_several_numbers_one_must_be_named(fields: dict[str, str]) -> None:
    with pytest.raises(Refusal, match="CallerId: one of"):
        wanted([("From", "09999999901"), *fields.items()], account(FIRST, SECOND), "acme")


@pytest.mark.parametrize(
    ("pairs", "events"),
    [
        ([("StatusCallbackEvents", "terminal,answered")], ("terminal", "answered")),
        ([("StatusCallbackEvents[]", "answered"), ("StatusCallbackEvents[]", "terminal")], ("answered", "terminal")),
        ([("StatusCallbackEvents[0]", " Terminal ,, "), ("statuscallbackevents[1]", "terminal")], ("terminal",)),
        ([("StatusCallbackEvents", "")], ()),
    ],
)
def test_events_in_all_their_forms(pairs: list[tuple[str, str]], events: tuple[str, ...]) -> None:
    asked = wanted([("From", "09999999901"), ("To", "09999999903"), *pairs], account(FIRST), "acme")
    assert asked.placed.events == events


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ("application/json", "application/json"),
        (" Multipart/Form-Data; charset=utf-8", "multipart/form-data"),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
        ("", ""),
    ],
)
def test_callbacks_in_all_their_forms(asked: str, kind: str) -> None:
    pairs = [("From", "09999999901"), ("To", "09999999903"), ("StatusCallbackContentType", asked)]
    assert wanted(pairs, account(FIRST), "acme").placed.content_type == kind


def test_a_callback_in_another_form_is_refused() -> None:
    pairs = [("From", "09999999901"), ("To", "09999999903"), ("StatusCallbackContentType", "text/xml")]
    with pytest.raises(Refusal, match="StatusCallbackContentType: one of"):
        wanted(pairs, account(FIRST), "acme")


def test_seconds_may_have_a_point() -> None:
    pairs = [("From", "09999999901"), ("To", "09999999903"), ("TimeOut", "20.0"), ("TimeLimit", " 600 ")]
    placed = wanted(pairs, account(FIRST), "acme").placed
    assert (placed.ring, placed.limit) == (20, 600)
