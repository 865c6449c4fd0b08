"""Ring 2: scenarios on a real FreeSWITCH, with a second one as the public network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gevent
from ring2 import agents as phones
from ring2.agents import Attempt, Behaviour
from ring2.box import Box
from ring2.network import Exchange, ExchangeCall
from support.esl import EventSocket, Headers

from scenarios.caller import EVENTS
from scenarios.script import Scenario
from scenarios.stage import TRUNK, Cast, Stage


class OnFreeSwitch(Stage):
    ring = "FreeSWITCH"
    at_once = 16  # of the 24 that the dialplan lets in

    def __init__(self, folder: Path, scenarios: Iterable[Scenario], box: Box, exchange: Exchange) -> None:
        super().__init__(folder, scenarios)
        self.box, self.exchange = box, exchange
        self._by_sip: dict[str, Cast] = {}
        self._events: EventSocket | None = None

    def start_switch(self) -> dict[str, Any]:
        self._events = self.box.connect(*EVENTS)
        self._events.listeners.append(self._event)
        address = self.box.event_socket
        return {
            "switch": {
                "listen": str(self.box.exoflow_hosts),
                "event_socket": {"host": address.host, "port": address.port, "password": self.box.password},
                "recordings": str(self.folder / "recordings"),
            },
            "trunks": {TRUNK: {"gateway": TRUNK, "std_code": "80", "outbound": {"cli": "8030752400"}}},
        }

    def stop_switch(self) -> None:
        self.exchange.reset()
        if self._events is not None:
            self._events.close()

    def connect(self) -> None:
        """The dialplan knows where."""

    def people(self, cast: Cast) -> None:
        for name, behaviour in cast.scenario.agents.items():
            several = behaviour if isinstance(behaviour, list) else [behaviour]
            self.exchange.agent(cast.number(name)).behave(*(agent(one) for one in several))

    def dial(self, cast: Cast) -> _Line:
        scenario = cast.scenario
        call = self.exchange.call(
            scenario.dial or cast.did, cast.phone, withheld=scenario.withheld, diverted_from=scenario.diverted_from or None
        )
        self._by_sip[call.uuid] = cast
        return _Line(self, cast, call)

    def _event(self, event: Headers) -> None:
        cast = self._by_sip.get(event.get("variable_sip_call_id", ""))
        if cast is not None and not cast.channel:
            self.listen(cast, event["Unique-ID"])
        self.heard(event["Event-Name"], event.get("Unique-ID"), event.get)


def agent(behaviour: Any) -> Behaviour:
    """A telephone as it is written in a scenario."""
    kind, value = next(iter(behaviour.items())) if isinstance(behaviour, dict) else (behaviour, None)
    if kind == "answers":
        value = {"alerts": 0.2, "after": 1.0, "presses": "", "listens": 1.0, "talks": None} | (value or {})
        return phones.answers(
            alerts_after=value["alerts"],
            after=value["after"],
            presses=value["presses"],
            listens=value["listens"],
            talk=value["talks"],
        )
    if kind == "rejects":
        return _rings_then(value or 1.0, "CALL_REJECTED")
    if kind == "announcement":
        return phones.announcement()
    if kind == "released":
        return phones.rejects(value)
    return {"busy": phones.busy, "silent": phones.silent, "unreachable": phones.unreachable}[kind]()


def _rings_then(seconds: float, cause: str) -> Behaviour:
    def play(attempt: Attempt) -> None:
        attempt.pause(0.2)
        attempt.ring()
        attempt.pause(seconds)
        attempt.hangup(cause)

    return play


class _Line:
    def __init__(self, stage: OnFreeSwitch, cast: Cast, call: ExchangeCall) -> None:
        self._stage, self._cast, self._call = stage, cast, call

    def press(self, keys: str) -> None:
        self._call.press(keys)

    def hang_up(self) -> None:
        self._call.hangup()

    def lose_socket(self) -> None:
        self._stage.lose_socket(self._cast)

    def free(self, name: str) -> None:
        self._stage.free(self._cast, name)

    def speak(self, seconds: float) -> None:
        # silence behind the words is sound, too: a PRI always brings frames, a parked SIP channel sends none
        tone = f"tone_stream://%({round(seconds * 1000)},60000,440)" if seconds else "silence_stream://60000"
        self._call._api(f"uuid_broadcast {self._call.uuid} playback::{tone} aleg")

    def pause(self, seconds: float) -> None:
        gevent.sleep(seconds)
