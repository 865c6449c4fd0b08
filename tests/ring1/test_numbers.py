"""Numbers as exchanges, callers and CRMs write them, and what must never be taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exoflow.errors import UnsafeText
from exoflow.telephony.numbers import (
    NumberType,
    agent_number,
    bare,
    caller,
    dial_digits,
    in_context,
    listed,
    national,
    number_type,
    tail_matches,
    to_e164,
)


@pytest.mark.parametrize(
    ("text", "e164"),
    [
        ("+918030752400", "+918030752400"),
        ("918030752400", "+918030752400"),
        ("00918030752400", "+918030752400"),
        ("08030752400", "+918030752400"),
        ("8030752400", "+918030752400"),
        ("+91 80 3075-2400", "+918030752400"),
        (" 9876543210 ", "+919876543210"),
        ("18001234567", "+9118001234567"),
        ("1800123456", "+911800123456"),
        ("18602662345", "+9118602662345"),
        ("1401234567", "+911401234567"),  # telemarketers call, though nobody may ring them
        ("0919876543210", "+919876543210"),  # 0 before a whole number, as some exchanges send
        ("09118001234567", "+9118001234567"),
        ("09180307524", "+919180307524"),  # 0 before a national one that begins with 91
        ("+09876543210", "+919876543210"),  # a gateway's plus before the trunk prefix
        ("+00919876543210", "+919876543210"),
        ("+14155552671", "+14155552671"),
        ("0014155552671", "+14155552671"),
        ("+442079460000", "+442079460000"),
    ],
)
def test_usual_forms(text, e164):
    assert to_e164(text) == e164


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "0",
        "12345",
        "123456",  # local, and nobody told the STD code
        "98765432101",
        "987654321",
        "09876543210x",
        "9876543210,null/evil",
        "9876543210\n",
        "9876543210\t",
        "98765/43210",
        "98765\n43210",
        "9876543210 ext 5",
        "९८७६५४३२१०",
        "९876543210",
        "٩٨٧٦٥٤٣٢١٠",
        "\uff19\uff18\uff17\uff16\uff15\uff14\uff13\uff12\uff11\uff10",  # full width
        "1-800-FLOWERS",
        "tel:+919876543210",
        "+91+9876543210",
        "++919876543210",
        "${caller_id_number}",
        "+919876543210919876543210",
        "+9198765432101",
        "+999123456789",
        "000000000000",
    ],
)
def test_other_texts_are_no_numbers(text):
    assert to_e164(text) is None


@pytest.mark.parametrize(
    ("local", "std_code", "e164"),
    [
        ("30752400", "80", "+918030752400"),
        ("2345678", "484", "+914842345678"),
        ("234567", "1832", "+911832234567"),
        ("2345678", "80", None),  # a digit short
        ("30752400", "8x", None),
        ("8030752400", "22", "+918030752400"),  # whole already
    ],
)
def test_local_numbers_take_the_trunks_std_code(local, std_code, e164):
    assert to_e164(local, std_code) == e164


@pytest.mark.parametrize(
    ("digits", "ton", "e164"),
    [
        # of these each would be read as an Indian number, or as none, by its digits alone
        ("6591234567", NumberType.INTERNATIONAL, "+6591234567"),
        ("4791234567", NumberType.INTERNATIONAL, "+4791234567"),
        ("9607771234", NumberType.INTERNATIONAL, "+9607771234"),
        ("18085551234", NumberType.INTERNATIONAL, "+18085551234"),
        ("447911123456", NumberType.INTERNATIONAL, "+447911123456"),
        ("006591234567", NumberType.INTERNATIONAL, "+6591234567"),
        ("06591234567", NumberType.INTERNATIONAL, "+6591234567"),
        ("+6591234567", NumberType.INTERNATIONAL, "+6591234567"),
        ("919876543210", NumberType.INTERNATIONAL, "+919876543210"),
        ("0919876543210", NumberType.INTERNATIONAL, "+919876543210"),
        ("00919876543210", NumberType.INTERNATIONAL, "+919876543210"),
        # no country has this code: better no number than a stranger's
        ("8030752400", NumberType.INTERNATIONAL, None),
        ("30752400", NumberType.INTERNATIONAL, None),
        ("9876543210", NumberType.NATIONAL, "+919876543210"),
        ("09876543210", NumberType.NATIONAL, "+919876543210"),
        ("6591234567", NumberType.NATIONAL, "+916591234567"),
        ("919876543210", NumberType.NATIONAL, "+919876543210"),
        ("18001234567", NumberType.NATIONAL, "+9118001234567"),
        ("447911123456", NumberType.NATIONAL, None),
        # what the digits say of themselves counts
        ("+6591234567", NumberType.NATIONAL, "+6591234567"),
        ("006591234567", NumberType.NATIONAL, "+6591234567"),
        ("30752400", NumberType.SUBSCRIBER, "+918030752400"),
        ("8030752400", NumberType.SUBSCRIBER, "+918030752400"),
        ("30752400", NumberType.NETWORK_SPECIFIC, None),
        ("30752400", NumberType.ABBREVIATED, None),
        ("9876543210", NumberType.NETWORK_SPECIFIC, "+919876543210"),
        ("9876543210", NumberType.UNKNOWN, "+919876543210"),
        ("30752400", NumberType.UNKNOWN, "+918030752400"),
        ("6591234567", None, "+916591234567"),
    ],
)
def test_the_type_of_number_tells_whose_it_is(digits, ton, e164):
    assert to_e164(digits, "80", ton) == e164


@pytest.mark.parametrize("code", ["", "5", "7", "255", "-1", "1.0", "01", "١", "international", "9" * 5000])
def test_a_type_of_number_that_means_nothing_is_none(code):
    assert number_type(code) is None


def test_types_of_number():
    assert [number_type(str(code)) for code in (0, 1, 2, 3, 4, 6)] == list(NumberType)


def test_national_is_the_dialects_form():
    assert national("+918030752400") == "08030752400"
    assert national("+14155552671") == "0014155552671"


@pytest.mark.parametrize(
    "text",
    [
        "98765 43210",
        "+91 98765 43210",
        "098765-43210",
        "+91-9876543210",
        "09876543210\u00a0",
        "+91\u00a098765\u202f43210",
        "(098765) 43210",
        "[98765 43210]",
        "+91 (0) 98765 43210",
        "98765.43210",
        "98765\u201143210",  # a hyphen that does not break
        "98765\u201343210",
        "\u202a+91 98765 43210\u202c",  # as contact programs copy it
        "\ufeff9876543210",
        "9876543210 ",
    ],
)
def test_forms_that_people_write(text):
    """All who read numbers read the same: the configuration, answers of CRMs, the Calls API."""
    assert to_e164(text) == agent_number(text) == "+919876543210"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []),
        (" ,;\r\n\t\u00a0", []),
        ("9876543210", ["9876543210"]),
        ("a,b", ["a", "b"]),
        ("a;\r\nb\n\nc,", ["a", "b", "c"]),
        ("98765 43210, 98765-43211", ["98765 43210", "98765-43211"]),
        ("09876543210 09876543211\u00a009876543212", ["09876543210", "09876543211", "09876543212"]),
        ("+91 98765 43210 +91 98765 43211", ["+91 98765 43210", "+91 98765 43211"]),
        # either way of reading it would be a guess
        ("98765 43210 98765 43211", ["98765 43210 98765 43211"]),
        ("no agent free", ["no agent free"]),
    ],
)
def test_lists(text, numbers):
    assert listed(text) == numbers


@pytest.mark.parametrize("text", ["+919876543210", "919876543210", "09876543210", "9876543210", "00919876543210"])
def test_agents_numbers(text):
    assert agent_number(text) == "+919876543210"


def test_agents_may_have_fixed_and_toll_free_numbers():
    assert agent_number("08030752400") == "+918030752400"
    assert agent_number("18001234567") == "+9118001234567"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1000,null/evil", "only digits"),
        ("9876543210|9876543211", "only digits"),
        ("9876543210\n", "only digits"),
        ("98765 43210 98765 43211", "only digits"),
        ("9876543210 ext 5", "only digits"),
        ("${system(id)}", "only digits"),
        ("{x=y}9876543210", "only digits"),
        ("९८७६५४३२१०", "only digits"),
        ("100", "only digits"),
        ("5000000000", "no such number"),
        ("+14155552671", "only Indian"),
        ("0014155552671", "only Indian"),
        ("+911401234567", "neither a fixed"),
        ("+9118602662345", "neither a fixed"),  # shared cost
        ("98765432101", "not a telephone number"),
    ],
)
def test_what_is_never_rung(text, problem):
    with pytest.raises(UnsafeText, match=problem):
        agent_number(text)


@given(st.text(max_size=40) | st.from_regex(r"\+?[0-9]{1,20}", fullmatch=True))
def test_whatever_a_crm_answers_becomes_a_number_or_is_refused(text):
    try:
        e164 = agent_number(text)
    except UnsafeText:
        return
    assert e164.startswith("+91")
    assert e164[1:].isascii()
    assert e164[1:].isdigit()
    assert agent_number(e164) == e164
    assert to_e164(national(e164)) == e164 or e164.startswith("+9118")


@pytest.mark.parametrize("raw", ["", "anonymous", "Anonymous", "unknown", "Restricted", "private", "0000000000", "0", " "])
def test_withheld_callers(raw):
    assert caller(raw, hidden=False) == (None, True)


def test_a_restricted_number_goes_to_nobody_even_where_it_is_seen():
    assert caller("+919876543210", hidden=True) == (None, True)


def test_callers():
    assert caller("9876543210", hidden=False) == ("+919876543210", False)
    assert caller("30752400", hidden=False, std_code="80") == ("+918030752400", False)
    assert caller("+14155552671", hidden=False) == ("+14155552671", False)
    # told, but no number: not the same as withheld
    assert caller("sip:asha@example", hidden=False) == (None, False)
    assert caller("12345", hidden=False) == (None, False)


def test_tails():
    assert tail_matches("00", "+918030752400")
    assert tail_matches("8030752400", "+918030752400")
    assert not tail_matches("0", "+918030752400")
    assert not tail_matches("18030752400", "+918030752400")
    assert not tail_matches("२४००", "+918030752400")
    assert not tail_matches("", "+918030752400")


def test_dial_digits():
    assert dial_digits("+919876543210", "0") == "09876543210"
    assert dial_digits("+919876543210", "") == "9876543210"


@pytest.mark.parametrize(
    ("e164", "prefix"),
    [
        ("+14155552671", "0"),
        ("9876543210", "0"),
        ("+919876543210", "0,"),
        ("+919876543210", "०"),
        ("+91987654321०", "0"),
        ("", "0"),
    ],
)
def test_dial_digits_refuses_all_else(e164, prefix):
    with pytest.raises(UnsafeText):
        dial_digits(e164, prefix)


@pytest.mark.parametrize(
    ("told", "number"),
    [
        ("+918030752400", "+918030752400"),
        ("+918030752400;npdi", "+918030752400"),
        ("%2B918030752400;rn=%2B91803075;npdi", "+918030752400"),
        ("%2b918030752400", "+918030752400"),
        ("8030752400;phone-context=+91", "8030752400"),
        ("tel:+918030752400;phone-context=example.com", "+918030752400"),
        ("sip:+918030752400;npdi@10.0.0.1;user=phone", "+918030752400"),
        ("SIPS:8030752400@exchange.example", "8030752400"),
        ("anonymous@anonymous.invalid", "anonymous"),
        ("", ""),
        (";npdi", ""),
        ("+91-80-3075-2400", "+918030752400"),
        ("tel:(080)3075.2400;npdi", "08030752400"),
    ],
)
def test_what_sip_puts_around_a_number_is_no_part_of_it(told, number):
    assert bare(told) == number


@pytest.mark.parametrize(
    ("digits", "context", "whole"),
    [
        ("98123456", "65", "+6598123456"),
        ("9811100001", "91", "+919811100001"),
        ("30752400", "9180", "+918030752400"),
        ("30752400", "91", "30752400"),
        ("+919811100001", "65", "+919811100001"),
        ("9811100001", "", "9811100001"),
        ("9811100001", "${x}", "9811100001"),
    ],
)
def test_a_local_number_and_its_context(digits, context, whole):
    assert in_context(digits, context) == whole
