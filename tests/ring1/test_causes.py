"""What a leg's end means: the same cause says different things by what was seen before it."""

from typing import get_args

import pytest

from exoflow.calls.model import LegOutcome as RecordedOutcome
from exoflow.telephony import causes
from exoflow.telephony.causes import LegOutcome, by_name, by_number, read_leg


def _read(q850=None, name="", *, answered=False, alerting=False, early_media=False, had_leg=True):
    return read_leg(q850=q850, name=name, answered=answered, alerting=alerting, early_media=early_media, had_leg=had_leg)


def test_record_and_telephony_name_the_same_outcomes():
    assert get_args(RecordedOutcome) == get_args(LegOutcome)


def test_names_and_numbers():
    assert by_number(17).name == "USER_BUSY"
    assert by_name("USER_BUSY").q850 == 17
    assert by_number(47).name == "UNKNOWN"
    assert "resources" in by_number(47).text
    assert by_number(5).name == "UNKNOWN"
    assert by_name("UNKNOWN") is None
    assert by_name("user_busy") is None
    assert by_name("") is None
    assert len({c.q850 for c in causes.CAUSES}) == len(causes.CAUSES)
    assert all(c.text.endswith(".") for c in causes.CAUSES)


@pytest.mark.parametrize(
    ("outcome", "numbers"),
    [
        ("busy", [17]),
        ("rejected", [21]),
        ("no_answer", [18, 19, 102]),
        ("unreachable", [16, 20, 22, 27, 31]),
        ("bad_number", [1, 2, 3, 28]),
        ("trunk", [34, 38, 41, 42, 44, 47, 58, 63]),
        ("protocol", [57, 65, 69, 79, 88, 95, 96, 97, 98, 99, 100, 101, 111]),
        ("caller_gone", [487]),
    ],
)
def test_classes(outcome, numbers):
    """The table of the facts, pri-and-freetdm.md section 8."""
    for q850 in numbers:
        assert _read(q850)[0] == outcome, q850


def test_no_free_channel_is_ours_without_a_leg_and_the_networks_with_one():
    ours, network = _read(34, had_leg=False), _read(34)
    assert ours[0] == network[0] == "trunk"
    assert "No free channel on our own trunk" in ours[1]
    assert "network" in network[1]
    assert "own trunk" not in network[1]


def test_out_of_order_is_a_wrong_span_without_a_leg():
    assert _read(27, had_leg=False)[0] == "trunk"
    assert "ftdm list" in _read(27, had_leg=False)[1]
    assert _read(27)[0] == "unreachable"


def test_a_phone_that_rang_and_one_that_never_did():
    rang = _read(19, "NO_ANSWER", alerting=True)
    announcement = _read(19, "NO_ANSWER", early_media=True)
    silent = _read(807, "PROGRESS_TIMEOUT")
    assert rang[0] == "no_answer"
    assert "rang" in rang[1]
    assert announcement[0] == "unreachable"
    assert "switched off" in announcement[1]
    assert silent[0] == "no_answer"
    assert "never said that the phone rings" in silent[1]
    # ringing that was followed by an announcement did ring
    assert _read(19, alerting=True, early_media=True)[0] == "no_answer"


def test_answered_goes_before_everything():
    for cause in causes.CAUSES:
        assert _read(cause.q850, cause.name, answered=True)[0] == "answered"


def test_the_name_serves_where_no_number_was_told():
    assert _read(None, "USER_BUSY")[0] == "busy"
    assert _read(0, "SUBSCRIBER_ABSENT")[0] == "unreachable"
    assert _read(None, "GATEWAY_DOWN", had_leg=False)[0] == "trunk"
    # the number is what the exchange said
    assert _read(47, "UNKNOWN")[0] == "trunk"


def test_unknown_causes_still_have_a_meaning():
    for had_leg, outcome in ((True, "unreachable"), (False, "trunk")):
        for q850, name in ((None, ""), (0, "NONE"), (77, "UNKNOWN"), (None, "NEVER_HEARD_OF")):
            found, text = _read(q850, name, had_leg=had_leg)
            assert found == outcome
            assert text


def test_every_cause_has_an_outcome_and_a_sentence_with_the_cause():
    for cause in causes.CAUSES:
        for had_leg in (True, False):
            outcome, text = _read(cause.q850, cause.name, had_leg=had_leg)
            assert outcome in get_args(LegOutcome)
            assert outcome not in ("ringing", "answered")
            assert cause.name in text
            assert text[0].isupper()


@pytest.mark.parametrize(
    ("name", "answered", "outcome", "part"),
    [
        ("ALLOTTED_TIMEOUT", True, "answered", "802 ALLOTTED_TIMEOUT: The time allowed"),
        ("PROGRESS_TIMEOUT", False, "no_answer", "807 PROGRESS_TIMEOUT"),
        ("GATEWAY_DOWN", False, "trunk", "809 GATEWAY_DOWN"),
    ],
)
def test_freeswitchs_own_causes_come_with_the_number_16(name: str, answered: bool, outcome: str, part: str) -> None:
    """Its events' hangup_cause_q850 is 16 for every cause above 127 (switch_channel.c:405-411): the name tells more."""
    found, text = _read(16, name, answered=answered)
    assert found == outcome
    assert part in text
    # a network's own 16 stays what it is
    assert "16 NORMAL_CLEARING" in _read(16, "NORMAL_CLEARING", answered=True)[1]
