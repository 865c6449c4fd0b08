"""Channels in use, counted from what the switch tells: from events, from its list, and again after the connection was lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import gevent
import pytest
from eslpeer import event_frame
from hall import ASHA, BYE, WAIT, Hall, eventually, say

from exoflow.config.model import EventSocket, Trunk
from exoflow.esl.codec import Event, FrameReader
from exoflow.lines import lines as lines_module
from exoflow.lines.legs import moment
from exoflow.lines.lines import Lines
from exoflow.lines.occupancy import Occupancy
from exoflow.sim import AgentScript, EmbeddedSwitch

Start = Callable[..., Hall]
TRUNKS = {"PRI1": Trunk(span="wp1", channels=2), "SIP": Trunk(gateway="carrier", channels=1)}
OURS, CALLER = "+918030752400", "+919811100001"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def occupancy(clock: Clock) -> Occupancy:
    return Occupancy(lambda: TRUNKS, clock)


def event(name: str, uuid: str, channel: str = "", **variables: str) -> Event:
    headers = {"Unique-ID": uuid, "Channel-Name": channel} | {f"variable_{key}": value for key, value in variables.items()}
    (frame,) = FrameReader().feed(event_frame(name, headers))
    return Event.from_plain(frame.body)


def incoming(uuid: str, slot: int) -> Event:
    return event("CHANNEL_CREATE", uuid, f"FreeTDM/3:{slot}/8030", freetdm_span_name="wp1", freetdm_span_number="3")


def gone(uuid: str) -> Event:
    return event("CHANNEL_HANGUP_COMPLETE", uuid)


# --- events -----------------------------------------------------------------------------------------


def test_calls_and_agents_legs_take_channels(occupancy: Occupancy, clock: Clock) -> None:
    occupancy.hear(incoming("a", 1))
    assert (occupancy.in_use("PRI1"), occupancy.all_busy_seconds) == (1, {})
    clock.now += 10
    occupancy.hear(event("CHANNEL_CREATE", "b", "FreeTDM/3:31/09876543210"))  # an agent's leg names its span by number only
    assert occupancy.in_use("PRI1") == 2
    clock.now += 5
    assert occupancy.all_busy_seconds == {"PRI1": 5.0}, "up to now"
    clock.now += 5
    occupancy.hear(gone("b"))
    occupancy.hear(gone("b"))
    clock.now += 100
    assert (occupancy.in_use("PRI1"), occupancy.all_busy_seconds) == (1, {"PRI1": 10.0})
    occupancy.hear(event("CHANNEL_CREATE", "c", "FreeTDM/3:31/09876543210"))
    clock.now += 1
    occupancy.hear(gone("a"))
    occupancy.hear(gone("c"))
    assert (occupancy.in_use("PRI1"), occupancy.all_busy_seconds) == (0, {"PRI1": 11.0})


def test_a_leg_on_a_span_whose_name_is_told_later(occupancy: Occupancy) -> None:
    occupancy.hear(event("CHANNEL_CREATE", "b", "FreeTDM/3:31/09876543210"))
    assert occupancy.in_use("PRI1") == 0
    occupancy.hear(incoming("a", 1))
    assert occupancy.in_use("PRI1") == 2
    occupancy.hear(gone("a"))
    occupancy.hear(gone("b"))
    assert occupancy.in_use("PRI1") == 0


@pytest.mark.parametrize(
    ("channel", "variables"),
    [
        ("sofia/carrier/09876543210", {}),
        ("sofia/external/09876543210", {"sip_gateway_name": "carrier"}),
        ("sofia/external/8030@192.0.2.1", {"exo_trunk": "carrier"}),
        ("sofia/external/8030@192.0.2.1", {"sip_gateway": "carrier"}),
    ],
)
def test_a_sip_trunk(occupancy: Occupancy, channel: str, variables: dict[str, str]) -> None:
    occupancy.hear(event("CHANNEL_CREATE", "a", channel, **variables))
    assert occupancy.in_use("SIP") == 1


def test_a_trunk_that_only_a_later_event_names(occupancy: Occupancy) -> None:
    occupancy.hear(event("CHANNEL_CREATE", "a", "sofia/external/8030@192.0.2.1"))
    assert occupancy.in_use("SIP") == 0
    for _ in range(2):
        occupancy.hear(event("CHANNEL_ANSWER", "a", "sofia/external/8030@192.0.2.1", exo_trunk="carrier"))
    assert occupancy.in_use("SIP") == 1


@pytest.mark.parametrize("channel", ["", "loopback/8030-a", "sofia/${x}/1", "FreeTDM/99999:1/2", "FreeTDM/x:1/2"])
def test_what_is_on_no_trunk_of_ours(occupancy: Occupancy, channel: str) -> None:
    occupancy.hear(event("CHANNEL_CREATE", "a", channel, exo_trunk="other"))
    occupancy.hear(gone("never seen"))
    assert [occupancy.in_use(name) for name in TRUNKS] == [0, 0]


# --- the switch's list ---------------------------------------------------------------------------------


class Link:
    """A connection whose replies are given; `meanwhile` comes before the list."""

    def __init__(self, text: str, variables: dict[str, str], meanwhile: Callable[[], None] = lambda: None) -> None:
        self._text, self._variables, self._meanwhile = text, variables, meanwhile

    def api(self, command: str, *, deadline: float) -> str:
        assert command == "show channels as json"
        self._meanwhile()
        return self._text

    def commands(self, *texts: str, deadline: float) -> list[object]:
        class Told:
            refused = False

            def __init__(self, data: str) -> None:
                self.data = data

        return [Told(self._variables.get(text.removeprefix("api uuid_getvar "), "_undef_")) for text in texts]


def listed(*rows: tuple[str, str]) -> str:
    return json.dumps({"row_count": len(rows), "rows": [{"uuid": uuid, "name": name} for uuid, name in rows]})


A, B, C = "aaaaaaaa-1", "bbbbbbbb-2", "cccccccc-3"


def test_the_list_at_connection(occupancy: Occupancy, clock: Clock) -> None:
    text = listed((A, "FreeTDM/3:1/8030"), (B, "FreeTDM/3:31/09876543210"), (C, "sofia/carrier/1"), ("hostile\nuuid", "x"))
    told = {f"{A} freetdm_span_name": "wp1", f"{A} freetdm_span_number": "3"}
    occupancy.synchronize(Link(text, told))  # type: ignore[arg-type]
    assert [occupancy.in_use(name) for name in TRUNKS] == [2, 1]
    occupancy.hear(event("CHANNEL_CREATE", B, "FreeTDM/3:31/09876543210"))  # made before the list, and told behind it
    assert occupancy.in_use("PRI1") == 2
    clock.now += 3
    occupancy.forget()  # the connection is lost: what nobody sees is not counted
    clock.now += 50
    assert occupancy.all_busy_seconds == {"PRI1": 3.0, "SIP": 3.0}
    assert [occupancy.in_use(name) for name in TRUNKS] == [0, 0]


def test_what_changes_while_the_list_is_made(occupancy: Occupancy) -> None:
    def meanwhile() -> None:
        occupancy.hear(gone(A))
        occupancy.hear(incoming(B, 1))

    told = {f"{A} exo_trunk": "wp1", f"{B} exo_trunk": "wp1"}
    text = listed((A, "FreeTDM/3:1/8030"), (B, "FreeTDM/3:1/8030"))
    occupancy.synchronize(Link(text, told, meanwhile))  # type: ignore[arg-type]
    assert occupancy.in_use("PRI1") == 1


def test_a_channel_that_the_list_does_not_have_yet(occupancy: Occupancy) -> None:
    """Its CHANNEL_CREATE came before we were there, and the switch's list lags."""
    occupancy.synchronize(Link(listed(), {}))  # type: ignore[arg-type]
    occupancy.hear(event("CHANNEL_ANSWER", A, "sofia/carrier/1"))
    assert occupancy.in_use("SIP") == 1
    text = listed((A, "sofia/carrier/1"), (B, "FreeTDM/3:1/8030"))
    for _ in range(2):  # asked again
        occupancy.synchronize(Link(text, {f"{B} exo_trunk": "wp1"}))  # type: ignore[arg-type]
        assert [occupancy.in_use(name) for name in TRUNKS] == [1, 1]


def test_a_channel_whose_last_event_was_overtaken(occupancy: Occupancy) -> None:
    """The switch delivers by several threads when it is busy."""
    occupancy.hear(incoming(A, 1))
    occupancy.hear(gone(A))
    occupancy.hear(event("CHANNEL_ANSWER", A, "FreeTDM/3:1/8030", exo_trunk="wp1"))
    for left in (1, 0):  # two lists, for one that was made right before the channel does not have it either
        occupancy.synchronize(Link(listed(), {}))  # type: ignore[arg-type]
        assert occupancy.in_use("PRI1") == left


@pytest.mark.parametrize("text", ["", "-USAGE", "[]", '{"row_count":0}', '{"rows":[1,{"uuid":"x"},{"name":"y"}]}'])
def test_a_list_that_is_none(occupancy: Occupancy, text: str) -> None:
    occupancy.synchronize(Link(text, {}))  # type: ignore[arg-type]
    assert occupancy.in_use("PRI1") == 0


# --- with a switch ---------------------------------------------------------------------------------------


@pytest.fixture
def switch() -> Iterator[EmbeddedSwitch]:
    with EmbeddedSwitch(("127.0.0.1", 1), trunk="wp1", channels=2) as switch:
        yield switch


def test_lines_count_through_a_lost_connection(switch: EmbeddedSwitch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "RETRY_SECONDS", (0.01,))
    host, port = switch.event_socket_address
    lines = Lines(EventSocket(host=host, port=port, password=switch.password), lambda: TRUNKS)
    switch.call(OURS, CALLER)  # nobody takes it: it stays for 2 s, and then in the fallback
    lines.start()
    try:
        eventually(lambda: lines.busy("PRI1") == 1)
        switch.call(OURS, CALLER)
        eventually(lambda: lines.busy("PRI1") == 2)
        eventually(lambda: lines.all_busy_seconds.get("PRI1", 0.0) > 0.05)
        for listener in list(switch.bus.listeners):
            listener.close()
        eventually(lambda: not lines.up)
        assert lines.busy("PRI1") == 0
        eventually(lambda: lines.busy("PRI1") == 2)
        for channel in list(switch.channels.values()):
            channel.hangup("NORMAL_CLEARING")
        eventually(lambda: lines.busy("PRI1") == 0)
        before = lines.all_busy_seconds["PRI1"]
        gevent.sleep(0.05)
        assert lines.all_busy_seconds["PRI1"] == before
    finally:
        lines.stop()


def test_an_agents_leg_takes_a_channel(hall: Start) -> None:
    steps = {
        "hello": say("Hello.", then="agents"),
        "agents": {"connect": {"numbers": [ASHA]}, "answered": "bye", "unanswered": "bye"},
        "bye": BYE,
    }
    h = hall(steps, agents={ASHA: AgentScript.answers(1.0, 30.0)}, speed=50)
    phone = h.call()
    assert phone.wait_until(lambda p: p.talked_at is not None, WAIT)
    eventually(lambda: h.service.lines.busy("PRI1") == 2)
    h.ended(phone)
    eventually(lambda: h.service.lines.busy("PRI1") == 0)


# --- when things happened -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told", "at"),
    [
        ("CHANNEL_HANGUP_COMPLETE", "1795413862000000", 1795413862.0),  # a busy switch told of it 1.5 s later
        ("CHANNEL_HANGUP_COMPLETE", "0", 1795413863.5),
        ("CHANNEL_HANGUP_COMPLETE", "soon", 1795413863.5),
        ("CHANNEL_HANGUP", "0", 1795413863.5),
        ("CHANNEL_ANSWER", "1795413862000000", 1795413863.5),
    ],
)
def test_a_channels_end_is_when_it_ended(name: str, told: str, at: float) -> None:
    headers = {"Event-Date-Timestamp": "1795413863500000", "Caller-Channel-Hangup-Time": told}
    (frame,) = FrameReader().feed(event_frame(name, headers))
    assert moment(Event.from_plain(frame.body)).timestamp() == at
