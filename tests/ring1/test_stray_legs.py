"""Legs that a SIP phone's transfer has FreeSWITCH dial are ended, counted and told."""

from __future__ import annotations

import gevent
import pytest

from exoflow.errors import CommandRefused
from exoflow.esl.codec import Event
from exoflow.lines.stray import LATELY_SECONDS, StrayLegs

UUID = "beeca9a2-2595-4126-b17b-04f4752bfd9e"


class FakeSwitch:
    def __init__(self, *, refuses: bool = False) -> None:
        self.killed: list[tuple[str, str]] = []
        self.refuses = refuses

    def kill(self, channel: str, cause: str) -> None:
        self.killed.append((channel, cause))
        if self.refuses:
            raise CommandRefused("uuid_kill", "-ERR No such channel!")


def created(name: str = "CHANNEL_CREATE", **variables: str) -> Event:
    told = "".join(f"variable_{name}: {value}\n" for name, value in variables.items())
    text = f"Event-Name: {name}\nUnique-ID: {UUID}\nCaller-Destination-Number: 0088299123456\n{told}"
    return Event(text.encode())


STRAY = {"sip_h_X-FS-Refer-From": "e234dcce-cb29-4421-a6b0-0b2fd9543735"}


@pytest.mark.parametrize("refuses", [False, True])
def test_such_a_leg_is_ended_and_told_for_a_while(refuses: bool) -> None:
    switch, now = FakeSwitch(refuses=refuses), [100.0]
    stray = StrayLegs(switch, lambda: now[0])
    assert stray.problem() == ""
    stray.hear(created(**STRAY))
    gevent.sleep(0)
    assert (switch.killed, stray.ended) == ([(UUID, "CALL_REJECTED")], 1)
    assert "disable-transfer" in stray.problem()
    now[0] += LATELY_SECONDS + 1
    assert stray.problem() == ""


@pytest.mark.parametrize("event", [created(), created("CHANNEL_ANSWER", **STRAY), created(sip_h_Diversion="x")])
def test_other_legs_are_left_alone(event: Event) -> None:
    switch = FakeSwitch()
    stray = StrayLegs(switch)
    stray.hear(event)
    gevent.sleep(0)
    assert (switch.killed, stray.ended, stray.problem()) == ([], 0, "")
