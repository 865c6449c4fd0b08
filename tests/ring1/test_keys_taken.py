"""A call comes back with keys waiting in its channel: the switch may take the first before the call's own socket hears."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
from eslpeer import Peer, channel_data, tcp_pair, within
from hall import BYE, WAIT, Hall, eventually, menu, say

from exoflow.config.steps import Prompt
from exoflow.esl.session import CallSession
from exoflow.flow.here import Here
from exoflow.lines.lines import Lines

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


@pytest.mark.parametrize(
    ("typed", "digits", "next_key"),
    [("711", "4711", ""), ("7112", "4711", "2"), ("71#", "471", "")],
    ids=["he stops there", "and goes on", "with an end key"],
)
def test_a_key_that_the_switch_takes_between_the_gap_and_the_question_counts(
    hall: Start, monkeypatch: pytest.MonkeyPatch, typed: str, digits: str, next_key: str
) -> None:
    """The parked switch eats it when the gap's last look is over and the question has not come yet."""
    asked = {"gather": {"say": "Your number?", "min_digits": 1, "max_digits": 4, "timeout": 3}, "next": "again"}
    h = hall(
        {
            "ask": asked,
            "again": menu({"2": "bye"}, otherwise="bye"),
            "bye": BYE,
        }
    )
    sounds = Here.sounds
    acts = ["lose", "press"]

    def about_to_ask(here: Here, prompts: list[Prompt]) -> str:
        act = acts.pop(0) if acts else ""
        if act == "lose":
            h.lose_socket(phone)
        elif act == "press":
            phone.press("4")
            eventually(lambda: bool(here.session._keys))
        return sounds(here, prompts)

    monkeypatch.setattr(Here, "sounds", about_to_ask)
    phone = h.call(keys=[typed])
    state = h.ended(phone)
    assert [one.evidence["digits"] for one in state.journey if one.code == "gather.digits"] == [digits]
    assert [one.evidence["key"] for one in state.journey if one.code == "menu.key"] == list(next_key)
