"""A call comes back with keys waiting in its channel: the switch may take the first before the call's own socket hears."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
from eslpeer import Peer, channel_data, tcp_pair, within
from hall import BYE, WAIT, Hall, codes, eventually, menu, say

from exoflow.calls.model import CallState
from exoflow.config.steps import Prompt
from exoflow.errors import Disconnected
from exoflow.esl.session import CallSession
from exoflow.flow.here import Here
from exoflow.flow.latekeys import LateKeys
from exoflow.lines.lines import Lines
from exoflow.sim import Phone

Start = Callable[..., Hall]
SEQUENCE = 418  # of `connect`
ASK = {"gather": {"say": "Your number?", "digits": 4, "timeout": 3}, "next": "bye"}


def test_a_key_that_the_switch_took_before_connect_is_none_of_ours() -> None:
    """A busy switch delivers it all the same; the question before has it already."""
    ours, theirs = tcp_pair()
    session, peer = CallSession(("127.0.0.1", 0), ours), Peer(theirs)
    connecting = gevent.spawn(session.connect)
    peer.command()
    peer.send(channel_data().replace(b"variable_uuid", f"Event-Sequence: {SEQUENCE}\nvariable_uuid".encode()))
    connecting.get(timeout=WAIT)
    for key, sequence in (("4", SEQUENCE - 1), ("7", SEQUENCE + 1), ("1", SEQUENCE + 2)):
        peer.event("DTMF", {"DTMF-Digit": key, "Event-Sequence": str(sequence)})
    taken = ""
    with within():
        while not taken.endswith("1"):
            session.keyed.wait()
            taken += session.take_keys()
    assert taken == "71"
    session.stop()
    peer.close()


@pytest.mark.parametrize(
    ("own", "told"),
    [("4711", "4711"), ("711", "4711"), ("", "4711"), ("4711", ""), ("4711", "471")],
    ids=["both hear all", "own misses the first", "own misses all", "no event socket", "event socket is late"],
)
def test_keys_that_either_socket_hears_of_count_once(hall: Start, monkeypatch: pytest.MonkeyPatch, own: str, told: str) -> None:
    h = hall({"hello": say("Good morning.", "wait"), "wait": {"pause": {"seconds": 2}, "next": "ask"}, "ask": ASK, "bye": BYE})
    heard = [own]
    monkeypatch.setattr(CallSession, "take_keys", lambda session: heard.pop() if heard else "")
    monkeypatch.setattr(Lines, "keys", lambda lines, channel, since: told)
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    h.lose_socket(phone)
    state = h.ended(phone)
    assert [one.evidence["digits"] for one in state.journey if one.code == "gather.digits"] == ["4711"]


def test_the_event_socket_tells_of_a_channels_keys_behind_an_event(hall: Start) -> None:
    h = hall({"ask": menu({"1": "bye"}), "bye": BYE})
    phone = h.call(keys=["1"])
    h.ended(phone)
    assert phone.session is not None
    channel = phone.session.channel.uuid
    lines = h.service.lines
    eventually(lambda: lines.keys(channel, 0) == "1")
    ((_, sequence, _),) = lines._keys
    assert (lines.keys(channel, sequence - 1), lines.keys(channel, sequence), lines.keys("another", 0)) == ("1", "", "")


LATE = pytest.mark.parametrize(
    ("typed", "digits", "next_key"),
    [("711", "4711", ""), ("7112", "4711", "2"), ("71#", "471", "")],
    ids=["he stops there", "and goes on", "with an end key"],
)
NUMBER = {"gather": {"say": "Your number?", "min_digits": 1, "max_digits": 4, "timeout": 3}, "next": "again"}
TWO_QUESTIONS = {"ask": NUMBER, "again": menu({"2": "bye"}, otherwise="bye"), "bye": BYE}


def lost_then_pressed(
    h: Hall, monkeypatch: pytest.MonkeyPatch, then: Callable[[Here], None] = lambda here: None
) -> Callable[[Phone], None]:
    """The call loses its socket in its first question; when it is asked again a key comes between the gap's last look and the
    question. To be given the phone."""
    sounds, phones = Here.sounds, list[Phone]()
    acts = ["lose", "press"]

    def about_to_ask(here: Here, prompts: list[Prompt]) -> str:
        act = acts.pop(0) if acts else ""
        if act == "lose":
            h.lose_socket(phones[0])
        elif act == "press":
            phones[0].press("4")
            eventually(lambda: bool(here.session._keys))
            then(here)
        return sounds(here, prompts)

    monkeypatch.setattr(Here, "sounds", about_to_ask)
    return phones.append


def answers(state: CallState) -> tuple[list[str], list[str]]:
    """Digits of the first question, keys of the second."""
    digits = [one.evidence["digits"] for one in state.journey if one.code == "gather.digits"]
    return digits, [one.evidence["key"] for one in state.journey if one.code == "menu.key"]


@LATE
@pytest.mark.parametrize("heard", [True, False], ids=["told in time", "told behind what runs in front of the question"])
def test_a_key_that_the_switch_takes_between_the_gap_and_the_question_counts(
    hall: Start, monkeypatch: pytest.MonkeyPatch, typed: str, digits: str, next_key: str, heard: bool
) -> None:
    """The parked switch eats it when the gap's last look is over and the question has not come yet."""
    if not heard:  # then the question's end shows it
        monkeypatch.setattr(LateKeys, "_hear", lambda late, in_front: "")
    h = hall(TWO_QUESTIONS)
    is_of = lost_then_pressed(h, monkeypatch)
    phone = h.call(keys=[typed])
    is_of(phone)
    assert answers(h.ended(phone)) == ([digits], list(next_key))


@LATE
@pytest.mark.parametrize("again", ["in the question", "behind it", "when the next one has its keys"])
def test_and_counts_when_the_call_loses_its_socket_once_more(
    hall: Start, monkeypatch: pytest.MonkeyPatch, typed: str, digits: str, next_key: str, again: str
) -> None:
    """Who asked the question is not there any more to put the two together."""
    h = hall(TWO_QUESTIONS)
    clock, ahead = h.switch.clock, Here.typed_ahead
    phones = list[Phone]()

    def late_key_is_kept() -> bool:
        session = phones[0].session
        assert session is not None
        return any(name.startswith("exo_late_") for name in session.channel.variables)

    def lose_in_question() -> None:
        eventually(late_key_is_kept)
        h.lose_socket(phones[0])
        clock.release("the question")

    def then(here: Here) -> None:
        if again == "in the question":
            clock.hold("the question")
            gevent.spawn(lose_in_question)

    def typed_ahead(here: Here, keys: str, question: str) -> None:
        if again == "behind it":
            monkeypatch.setattr(Here, "typed_ahead", ahead)
            h.lose_socket(phones[0])
            raise Disconnected("a test")
        ahead(here, keys, question)
        if again == "when the next one has its keys":
            monkeypatch.setattr(Here, "typed_ahead", ahead)
            h.lose_socket(phones[0])
            raise Disconnected("a test")

    monkeypatch.setattr(Here, "typed_ahead", typed_ahead)
    is_of = lost_then_pressed(h, monkeypatch, then)
    phone = h.call(keys=[typed])
    phones.append(phone)
    is_of(phone)
    state = h.ended(phone)
    assert answers(state) == ([digits], list(next_key))
    assert codes(state).count("call.resumed") == (2 if again == "in the question" or next_key else 1)
