"""A dial string has the legs that are ours, to numbers that were checked, on configured trunks, and nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exoflow.errors import UnsafeText
from exoflow.telephony.dialstring import MAX_AT_ONCE, Ask, Endpoint, Phone, dial_string, leg_string

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


# --- several phones, what agents are asked, and what else a leg may have -----------------------------

OTHER = "1b1f6d5e-3c9a-4b7e-8f21-5d0c7a9e4b12"
BOTH = [Phone(SPAN, "+919876543210", UUID), Phone(SPAN, "+919876543211", OTHER)]
HOW = {"cli": "8030752400", "ring_seconds": 30, "talk_seconds": 3600}
SOUND = "/var/lib/exoflow/prompts/0a1b.wav"


def test_several_phones_each_have_a_uuid_of_their_own():
    assert dial_string(BOTH, **HOW) == (
        "{ignore_early_media=true,originate_timeout=30,leg_timeout=30,"
        "origination_caller_id_number=8030752400,execute_on_answer='sched_hangup +3600 ALLOTTED_TIMEOUT'}"
        f"[origination_uuid={UUID}]freetdm/PRI1/A/09876543210,[origination_uuid={OTHER}]freetdm/PRI1/A/09876543211"
    )


@pytest.mark.parametrize("count", [0, MAX_AT_ONCE + 1])
def test_so_many_ring_at_once(count):
    with pytest.raises(UnsafeText):
        dial_string([Phone(SPAN, f"+91987654321{n}", f"{n}{UUID[1:]}") for n in range(count)], **HOW)


def test_an_agent_who_is_asked_has_time_of_his_own_and_the_talk_its_whole_limit():
    text = dial_string(BOTH[:1], **HOW, ask=Ask(SOUND, 15, "1"))
    assert "originate_timeout=47,leg_timeout=29," in text
    assert f"group_confirm_key=1,group_confirm_file='{SOUND}',group_confirm_timeout=15," in text
    assert "execute_on_pre_bridge='sched_hangup +3600 ALLOTTED_TIMEOUT'" in text
    assert "execute_on_answer" not in text


def test_a_whisper_is_an_application_that_ends():
    text = dial_string(BOTH[:1], **HOW, ask=Ask(f"file_string://{SOUND}!{SOUND}", 5))
    assert f"group_confirm_key=exec,group_confirm_file='playback file_string://{SOUND}!{SOUND}'," in text


def test_an_opening_headers_and_the_networks_tone():
    text = dial_string(BOTH[:1], **HOW, opening=SOUND, headers={"X-a": "1"}, network_tone=True)
    assert f"execute_on_pre_bridge_opening='playback {SOUND}'" in text
    assert "sip_h_X-a=1" in text
    assert "ignore_early_media=false" in text
    assert "bridge_early_media=true" in text
    assert "ignore_early_media=true" not in text


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize(
    "place",
    [
        lambda t: {"ask": Ask(t, 5)},
        lambda t: {"ask": Ask(f"file_string://{SOUND}!{t}", 5)},
        lambda t: {"ask": Ask(SOUND, 5, t)},
        lambda t: {"opening": t},
        lambda t: {"headers": {t: "1"}},
        lambda t: {"headers": {f"X-{t}": "1"}},
        lambda t: {"headers": {"X-a": t}},
    ],
)
def test_nothing_evil_is_heard_or_sent(evil, place):
    for phones in (BOTH[:1], BOTH):
        with pytest.raises(UnsafeText):
            dial_string(phones, **HOW, **place(evil))


@pytest.mark.parametrize(
    "sound",
    [
        "",
        "x.wav",
        "../x",
        "/x/${y}",
        "/x 'y",
        "/a!/b",
        "file_string:///a!b",
        "http://x/",
        "shout://x",
        f"{SOUND}'",
        f"{SOUND}}}",
    ],
)
def test_a_sound_is_an_absolute_path_or_a_tone(sound):
    for more in ({"ask": Ask(sound, 5)}, {"ask": Ask(SOUND, 5), "opening": sound or " "}):
        with pytest.raises(UnsafeText):
            dial_string(BOTH, **HOW, **more)


@pytest.mark.parametrize("seconds", [0, 121, 2.5, True])
def test_the_time_to_be_asked_is_bounded(seconds):
    with pytest.raises(UnsafeText):
        dial_string(BOTH, **HOW, ask=Ask(SOUND, seconds, "1"))


OWN = r"\[origination_uuid=[0-9a-f-]{36}\]freetdm/PRI1/A/[0-9]{10,17}"
LEGS = re.compile(rf"\{{[a-zA-Z_0-9-]+=[^{{}}\[\]<>|$\\\n]*\}}{OWN},{OWN}", re.ASCII)
TEXT = st.text(max_size=20)


@given(TEXT, st.text(max_size=3), TEXT, TEXT, TEXT)
def test_whatever_is_given_ends_in_those_legs_or_a_refusal(sound, key, opening, header, value):
    asked, opened, headed = {"ask": Ask(f"/{sound}", 5, key)}, {"opening": f"/{opening}"}, {"headers": {f"X-{header}": value}}
    for more in (asked, opened, headed, asked | opened | headed):
        try:
            text = dial_string(BOTH, **HOW, **more)
        except UnsafeText:
            continue
        assert LEGS.fullmatch(text)
        assert text.count("'") % 2 == 0
