"""consent: who is asked, what counts as a yes, and that a no is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hall import BYE, Hall, codes, entry, visited

Start = Callable[..., Hall]

ASK = {"consent": {"say": "May we record?", "timeout": 2}, "agreed": "talk", "refused": "talk"}
TALK = {"connect": {"group": "support", "record": "dual"}, "answered": "bye", "unanswered": "bye"}


@pytest.mark.parametrize(
    ("keys", "agreed", "unclear"),
    [
        ("1", True, 0),
        ("2", False, 0),
        (["7", "1"], True, 1),
        (["", "1"], True, 1),
        (["", ""], False, 2),
        (["9", "9"], False, 2),
    ],
)
def test_a_talk_is_recorded_only_with_consent(hall: Start, keys: Sequence[str], agreed: bool, unclear: int) -> None:
    h = hall({"ask": ASK, "talk": TALK, "bye": BYE})
    _, state = h.run(keys=keys)
    assert state.outcome == "answered"
    assert codes(state).count("consent.unclear") == unclear
    assert [recording.state for recording in state.recordings] == (["good"] if agreed else [])
    assert len(h.executed("record_session")) == agreed
    assert ("recording.declined" in codes(state)) is not agreed
    assert entry(state, "consent.agreed" if agreed else "consent.refused").step == "ask"
    assert f"exo_consent={'agreed' if agreed else 'refused'}" in h.executed("set"), "for the dialplan's fallback"


def test_keys_and_branches_as_configured(hall: Start) -> None:
    consent = {"say": "Star to agree.", "agree": "*", "refuse": "0", "attempts": 1}
    steps = {
        "ask": {"consent": consent, "agreed": "bye", "refused": "busy"},
        "busy": {"hangup": {"cause": "USER_BUSY"}},
        "bye": BYE,
    }
    h = hall(steps)
    yes, no = h.call(keys="*"), h.call(keys="0")
    assert visited(h.ended(yes)) == ["ask", "bye"]
    assert visited(h.ended(no)) == ["ask", "busy"]


def test_a_refusal_is_remembered_and_nobody_is_asked_twice(hall: Start) -> None:
    message = {"voicemail": {"say": "Leave a message."}, "next": "bye"}
    h = hall(
        {"ask": ASK | {"refused": "again"}, "again": ASK | {"refused": "message"}, "talk": TALK, "message": message, "bye": BYE}
    )
    phone, state = h.run(keys="2")
    assert phone.texts == ["May we record?"]
    assert visited(state) == ["ask", "again", "message", "bye"]
    assert entry(state, "recording.declined").step == "message"
    assert state.recordings == []
    assert h.executed("record") == []


def test_a_message_is_taken_after_consent(hall: Start) -> None:
    message = {"voicemail": {"say": "Leave a message.", "max_seconds": 5}, "next": "bye"}
    h = hall({"ask": ASK | {"agreed": "message"}, "message": message, "talk": TALK, "bye": BYE})
    _, state = h.run(keys="1")
    assert state.outcome == "voicemail"


def test_who_leaves_has_not_agreed(hall: Start) -> None:
    steps: dict[str, Any] = {"ask": ASK | {"refused": "line"}, "talk": TALK, "bye": BYE}
    h = hall(steps | {"line": {"note": {"text": "no consent"}, "next": "bye"}})
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), 5)
    phone.hangup()
    state = h.ended(phone)
    assert visited(state) == ["ask", "line", "bye"]
    assert not {"consent.agreed", "consent.refused"} & set(codes(state))
