"""Whatever a form says: it is refused in words, or what is dialled is of the form that may stand in a dial string."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from callsapi import NOW, account
from hypothesis import given, settings
from hypothesis import strategies as st

from exoflow.calls.model import CallFacts
from exoflow.config.model import Trunk
from exoflow.flow.placing import _dial_string
from exoflow.web.answers import Refusal
from exoflow.web.callform import KNOWN, Wanted, wanted
from exoflow.web.forms import pairs_of

ACME = account()
TRUNK = Trunk.model_validate({"span": "PRI1"})
GOOD = {"From": "09999999901", "To": "09999999903", "CallerId": "09999999902"}
DIALLED = re.compile(r"\{[A-Za-z0-9_=,.' +/-]*\}freetdm/PRI1/A/0[0-9]{10}")

# numbers with something in, before or behind them, as well as any text
NUMBERS = st.builds(
    lambda before, number, behind: before + number + behind,
    st.text(max_size=4),
    st.sampled_from(["09999999901", "+919999999903", "919999999902", "1800123456", "+442071838750", "+911900123456"]),
    st.text(alphabet=st.sampled_from("0123456789,|{}[]<>:_'\"\\$ \n\r\0;&^~"), max_size=6),
)
VALUES = st.one_of(NUMBERS, st.text(max_size=40), st.sampled_from(["", "true", "-1", "60", "99999999999999", "٣٠"]))


def read(body: bytes) -> Wanted | Refusal:
    try:
        return wanted(pairs_of(body), ACME, "acme")
    except Refusal as refusal:
        return refusal


@settings(max_examples=600, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(KNOWN)), VALUES, max_size=4))
def test_fields_of_any_text(changed: dict[str, str]) -> None:
    asked = read(urlencode({**GOOD, **changed}, errors="replace").encode())
    if isinstance(asked, Refusal):
        assert asked.status in (400, 403)
        assert all(value not in str(asked) for value in changed.values() if len(value) > 12)
        return
    facts = CallFacts(
        "1" * 32,
        "00000000-0000-4000-8000-000000000000",
        NOW,
        "PRI1",
        "9902",
        "",
        dialled=asked.number.number,
        caller=asked.first,
        placed=asked.placed,
    )
    assert DIALLED.fullmatch(_dial_string(facts, asked.placed, TRUNK))
    assert asked.placed.to is None or re.fullmatch(r"\+91[0-9]{10,11}", asked.placed.to)
    assert asked.flow is None or asked.flow in ACME.flows


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_of_any_kind(body: bytes) -> None:
    asked = read(body)
    assert asked.status in (400, 403) if isinstance(asked, Refusal) else asked.first.startswith("+91")
