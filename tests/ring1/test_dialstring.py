"""A dial string has one leg: ours, to the number that was checked, on the trunk that was configured."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exoflow.errors import UnsafeText
from exoflow.telephony.dialstring import Endpoint, leg_string

UUID = "0b1f6d5e-3c9a-4b7e-8f21-5d0c7a9e4b12"
SPAN = Endpoint("span", "PRI1")

GOOD = {
    "endpoint": SPAN,
    "e164": "+919876543210",
    "leg_uuid": UUID,
    "cli": "8030752400",
    "ring_seconds": 30,
    "talk_seconds": 3600,
}


def test_span():
    assert leg_string(**GOOD) == (
        f"{{origination_uuid={UUID},ignore_early_media=true,originate_timeout=30,leg_timeout=30,"
        "origination_caller_id_number=8030752400,execute_on_answer='sched_hangup +3600 ALLOTTED_TIMEOUT'}"
        "freetdm/PRI1/A/09876543210"
    )


def test_gateway_and_prefix():
    text = leg_string(**GOOD | {"endpoint": Endpoint("gateway", "pri.in-1", dial_prefix="")})
    assert text.endswith("}sofia/gateway/pri.in-1/9876543210")


def test_no_caller_id():
    assert "caller_id" not in leg_string(**GOOD | {"cli": None})


def test_a_leg_that_freeswitch_names():
    assert leg_string(**GOOD | {"leg_uuid": None}) == leg_string(**GOOD).replace(f"origination_uuid={UUID},", "")


def test_further_variables():
    assert "',exo_call=ab12,x=}" in leg_string(**GOOD, extra={"exo_call": "ab12", "x": ""})


EVIL = [
    "x,null/evil",
    "x|null/evil",
    "x:_:null/evil",
    "x}null/evil",
    "x]y",
    "x>y",
    "x'y",
    "x\\y",
    "x y",
    "x\ny",
    "x\ry",
    "x\0y",
    "${system(id)}",
    "$${x}",
    "x^^y",
    "९८७६",
    "é",
]


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize(
    "place",
    [
        lambda t: {"e164": t},
        lambda t: {"e164": f"+919876543210{t}"},
        lambda t: {"leg_uuid": t},
        lambda t: {"leg_uuid": f"{UUID}{t}"},
        lambda t: {"cli": t},
        lambda t: {"endpoint": Endpoint("span", t)},
        lambda t: {"endpoint": Endpoint("gateway", t)},
        lambda t: {"endpoint": Endpoint("span", "PRI1", hunt=t)},
        lambda t: {"endpoint": Endpoint("span", "PRI1", dial_prefix=t)},
        lambda t: {"ring_seconds": t},
        lambda t: {"talk_seconds": t},
        lambda t: {"extra": {"name": t}},
        lambda t: {"extra": {t: "value"}},
    ],
)
def test_nothing_becomes_a_second_leg_or_a_variable(evil, place):
    with pytest.raises(UnsafeText):
        leg_string(**GOOD | place(evil))


@pytest.mark.parametrize("seconds", [0, -1, 10**9, 2.5, True, None])
def test_times_are_whole_seconds(seconds):
    for key in ("ring_seconds", "talk_seconds"):
        with pytest.raises(UnsafeText):
            leg_string(**GOOD | {key: seconds})


def test_our_own_rules_cannot_be_overridden():
    for name in ("ignore_early_media", "origination_uuid", "execute_on_answer", "originate_timeout"):
        with pytest.raises(UnsafeText):
            leg_string(**GOOD, extra={name: "false"})


@pytest.mark.parametrize("e164", ["9876543210", "09876543210", "+14155552671", "+91", "", "+91987654321"])
def test_only_indian_e164_is_dialled(e164):
    with pytest.raises(UnsafeText):
        leg_string(**GOOD | {"e164": e164})


ONE_LEG = re.compile(r"\{[a-z_0-9]+=[^{}\[\]<>|$\\\n]*\}(freetdm/[\w.-]+/[aArR]|sofia/gateway/[\w.-]+)/[0-9]{10,17}", re.ASCII)


@given(st.dictionaries(st.sampled_from(["e164", "leg_uuid", "cli", "name", "hunt", "prefix", "value"]), st.text(max_size=20)))
def test_whatever_is_given_ends_in_one_leg_or_a_refusal(given_texts):
    t = {"name": "PRI1", "hunt": "A", "prefix": "0", "value": ""} | given_texts
    arguments = GOOD | {k: v for k, v in t.items() if k in GOOD}
    arguments["endpoint"] = Endpoint("span", t["name"], t["hunt"], t["prefix"])
    try:
        text = leg_string(**arguments, extra={"x": t["value"]})
    except UnsafeText:
        return
    assert ONE_LEG.fullmatch(text)
