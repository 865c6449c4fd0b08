"""Ring 1: scenarios on the embedded switch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from exoflow.sim import AgentScript, EmbeddedSwitch, Phone
from scenarios.caller import EVENTS
from scenarios.stage import TRUNK, Cast, Stage

CHANNELS = 480
KEY_SECONDS = 0.1  # between two keys: a tone and the gap behind it; nobody types faster


class Embedded(Stage):
    ring = "embedded"
    at_once = 24
    switch: EmbeddedSwitch

    def start_switch(self) -> dict[str, Any]:
        self.switch = EmbeddedSwitch(
            ("127.0.0.1", 1),
            trunk={TRUNK: CHANNELS},
            recordings=self.folder / "recordings",
            speed=None,  # a busy machine's milliseconds are then nobody's seconds
            agents={},
            default_agent=AgentScript.released("UNALLOCATED_NUMBER"),
            most_calls=CHANNELS,
        )
        self.switch.start()
        self.switch.bus.listeners.append(_Tap(self))  # type: ignore[arg-type]
        host, port = self.switch.event_socket_address
        return {
            "switch": {
                "listen": "127.0.0.1:0",
                "event_socket": {"host": host, "port": port, "password": self.switch.password},
                "recordings": str(self.folder / "recordings"),
            },
            "trunks": {TRUNK: {"span": TRUNK, "std_code": "80", "outbound": {"cli": "8030752400"}}},
        }

    def stop_switch(self) -> None:
        if hasattr(self, "switch"):
            self.switch.stop()

    def connect(self) -> None:
        self.switch.clock.watch(lambda: self.service.in_flight)
        self.service.staff.clock = lambda: datetime.fromtimestamp(self.switch.clock.micros() / 1e6, UTC)
        self.switch.connect_to(self.service.address)

    def people(self, cast: Cast) -> None:
        for name, behaviour in cast.scenario.agents.items():
            several = behaviour if isinstance(behaviour, list) else [behaviour]
            self.switch.agents.scripts[cast.number(name)] = [agent(one) for one in several]

    def dial(self, cast: Cast) -> _Line:
        scenario = cast.scenario
        phone = self.switch.call(
            scenario.dial or cast.did,
            cast.phone,
            withheld=scenario.withheld,
            rdnis=scenario.diverted_from or None,
            speaks=scenario.speaks,
        )
        self.listen(cast, phone.uuid)
        return _Line(self, cast, phone)


def agent(behaviour: Any) -> AgentScript:
    """A telephone as it is written in a scenario."""
    kind, value = next(iter(behaviour.items())) if isinstance(behaviour, dict) else (behaviour, None)
    if kind == "answers":
        value = {"alerts": 0.2, "after": 1.0, "presses": "", "listens": 1.0, "talks": None} | (value or {})
        return AgentScript(
            alert_after=value["alerts"],
            answer_after=value["after"],
            presses=value["presses"],
            press_after=value["listens"],
            talk_seconds=value["talks"],
        )
    if kind == "rejects":
        return AgentScript(alert_after=0.2, answer_after=value or 1.0, cause="CALL_REJECTED")
    if kind == "announcement":
        return AgentScript(alert_after=None, announcement_after=0.2, answer_after=None)
    if kind == "released":
        return AgentScript.released(value)
    return {"busy": AgentScript.busy, "silent": AgentScript.silent, "unreachable": AgentScript.unreachable}[kind]()


class _Line:
    def __init__(self, stage: Embedded, cast: Cast, phone: Phone) -> None:
        self._stage, self._cast, self._phone = stage, cast, phone

    def press(self, keys: str) -> None:
        for at, key in enumerate(keys):
            if at:
                self.pause(KEY_SECONDS)
            self._phone.press(key)

    def hang_up(self) -> None:
        self._phone.hangup()

    def lose_socket(self) -> None:
        self._stage.lose_socket(self._cast)

    def free(self, name: str) -> None:
        self._stage.free(self._cast, name)

    def speak(self, seconds: float) -> None:
        """The switch knows already."""

    def pause(self, seconds: float) -> None:
        self._stage.switch.clock.sleep(seconds)


class _Tap:
    """Listens to the whole switch."""

    only = None

    def __init__(self, stage: Embedded) -> None:
        self._stage = stage

    def wants(self, name: str) -> bool:
        return name in EVENTS

    def offer(self, event: Any) -> None:
        self._stage.heard(event.name, event.get("Unique-ID"), event.get)

    def close(self) -> None:
        """The switch stops."""
