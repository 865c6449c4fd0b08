"""The embedded switch: what exoflow sees of a FreeSWITCH with a PRI, without one. For trying flows and for tests.

It is a client of the app's socket as FreeSWITCH's `socket` application is, and serves an event socket. It carries no audio, and
it is never a reason to believe that a call works: the second ring of tests runs against a real FreeSWITCH.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Group
from gevent.server import StreamServer

from exoflow.sim.agents import AgentBook, AgentScript, Scripts
from exoflow.sim.apps import basic, bridge, media, outbound, recording  # noqa: F401  (they register their applications)
from exoflow.sim.apps.recording import cut_recordings
from exoflow.sim.bus import Bus
from exoflow.sim.channel import Channel
from exoflow.sim.clock import Clock, VirtualClock
from exoflow.sim.dialplan import CONTEXT, Dialplan, folder, read_globals
from exoflow.sim.listener import Listener
from exoflow.sim.phone import Notice, Phone
from exoflow.sim.session import Session
from exoflow.sim.trunk import Trunk
from exoflow.telephony.numbers import NumberType

if TYPE_CHECKING:
    from exoflow.sim.originate import Attempt

logger = logging.getLogger(__name__)

Address = tuple[str, int]
HEARTBEAT_SECONDS = 20.0  # wall seconds; event-heartbeat-interval's default


@dataclass
class Violation:
    """Something FreeSWITCH would have turned into harm. This switch did what FreeSWITCH does, and says so.

    Codes, the reasons in facts (freeswitch-socket.md, section): expansion, api_expansion, second_leg, endpoint, dialled_text,
    foreign_call, word_pair, getvar (9, 5); nested (6); no_connect, early_close, linger, resume, guard_in_bridge (1, 2, 7);
    old_socket (docs/freeswitch-quirks.md);
    early_media, uuid_twice, failure_transfer, missing_sound, invalid_application, events_lost (pri-and-freetdm.md 1, 8, 10);
    inline (mod_dialplan_xml.c 68); number_type (docs/freeswitch-quirks.md).
    """

    code: str
    text: str
    call: str = ""  # uuid of the caller's channel

    def __str__(self) -> str:
        return f"{self.code}: {self.text}" + (f" (call {self.call})" if self.call else "")


class EmbeddedSwitch:
    """`app` is one address or several, as the hosts of the `socket` application.

    `speed` runs people's time faster; None is the virtual clock, which jumps to what is due next (docs/embedded-switch.md).
    `cdr`: the folder for json_cdr files, none without.
    """

    def __init__(
        self,
        app: Address | Sequence[Address],
        *,
        other_apps: Sequence[Address] = (),
        event_socket: Address = ("127.0.0.1", 0),
        password: str = "exoflow",
        trunk: str | Mapping[str, int] = "PRI1",
        channels: int = 30,
        recordings: Path | None = None,
        cdr: Path | None = None,
        speed: float | None = 1.0,
        agents: Scripts | None = None,
        default_agent: AgentScript | None = None,
        most_calls: int | None = None,
        guard_seconds: float = 5.0,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.clock = VirtualClock() if speed is None else Clock(speed)
        self.bus = Bus(self.clock)
        self.password = password
        names = {trunk: channels} if isinstance(trunk, str) else trunk
        self.trunks = {name: Trunk(name, count, at + 1) for at, (name, count) in enumerate(names.items())}
        self.agents = AgentBook(agents or {}, default_agent or AgentScript())
        files = folder()
        self.dialplan = Dialplan(files / "dialplan" / f"{CONTEXT}.xml")
        self.globals = read_globals(files / "freeswitch-conf" / "vars.xml") | {
            "recordings_dir": str(recordings or ""),
            "hostname": "embedded",
            "core_uuid": self.bus.core_uuid,
            "exoflow_hosts": _hosts(app),
            "exoflow_other_hosts": _hosts(other_apps) if other_apps else "",
            "exoflow_guard_seconds": f"{guard_seconds:g}",
            "exoflow_try_later": "",
            "exoflow_cdr_dir": str(cdr or ""),
            **{f"exoflow_max_in_{name}": str(count if most_calls is None else most_calls) for name, count in names.items()},
        }
        self.cdr = cdr
        self.killed = False
        self.transfers_disabled = False  # `disable-transfer` of a SIP profile
        # a box whose CPU is full, in seconds of switch time: from a command's reply to its run, by application; and until
        # `show channels` lists a new channel
        self.late_commands: dict[str, float] = {}
        self.list_lag_seconds = 0.0
        self.channels: dict[str, Channel] = {}
        self.limits: dict[str, int] = {}
        self.violations: list[Violation] = []
        self.attempts: list[Attempt] = []
        self.api_calls: list[tuple[str, str]] = []
        self.phones: list[Phone] = []
        self.turned_away = 0  # calls the exchange could not give us: all channels taken
        self.sessions = self.tasks = self.peak = 0
        self.noticed = Event()  # pulsed at whatever any phone notices
        self._event_socket = event_socket
        self._heartbeat_seconds = heartbeat_seconds
        self._greenlets = Group()
        self._server: StreamServer | None = None

    # --- life ---

    def start(self) -> None:
        """Opens the event socket. Raises OSError when its port is taken."""
        self._server = StreamServer(self._event_socket, self._serve, backlog=256)
        self._server.start()
        self._beats = gevent.spawn(self._heartbeat)

    def stop(self) -> None:
        """Ends all calls and connections at once."""
        if self._server is not None:
            self._server.stop(timeout=0)
            self._beats.kill()
        for channel in list(self.channels.values()):
            channel.hangup("SYSTEM_SHUTDOWN")
        gevent.sleep(0)
        for listener in list(self.bus.listeners):
            listener.close()
        self._greenlets.join(timeout=0.5)
        self._greenlets.kill(timeout=1.0)
        self.clock.stop()

    def kill(self) -> None:
        """As `kill -9` does: sockets end without a notice, there is no event and no CDR, and recordings are cut short.

        The exchange clears the calls. Another EmbeddedSwitch can take this one's place, at its event socket's address too.
        """
        self.killed = True
        if self._server is not None:
            self._server.stop(timeout=0)
            self._beats.kill()
        self._greenlets.kill(timeout=1.0)
        self.clock.stop()
        self.bus.listeners.clear()
        for channel in self.channels.values():
            if channel.session is not None:
                cut_recordings(channel.session)
                channel.session.phone.cut_off("NETWORK_OUT_OF_ORDER")
        self.channels.clear()

    def __enter__(self) -> EmbeddedSwitch:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def event_socket_address(self) -> Address:
        assert self._server is not None, "not started"
        return str(self._server.server_host), int(self._server.server_port)

    def connect_to(self, app: Address | Sequence[Address]) -> None:
        """Another app takes the calls from now on."""
        self.globals["exoflow_hosts"] = _hosts(app)

    def set_agents(self, scripts: Scripts, default: AgentScript | None = None) -> None:
        """Other telephones for the attempts from now on."""
        self.agents = AgentBook(scripts, default or self.agents.default)

    def spawn(self, function: Callable[..., Any], *arguments: Any) -> gevent.Greenlet:
        return self._greenlets.spawn(function, *arguments)

    def _serve(self, sock: socket.socket, peer: Address) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener = Listener(self, sock)
        self.bus.listeners.append(listener)
        self._greenlets.add(gevent.getcurrent())
        listener.run()

    def _heartbeat(self) -> None:
        while True:
            gevent.sleep(self._heartbeat_seconds)
            up = int(self.clock.elapsed() * 1000)
            tail = [("Event-Info", "System Ready"), ("Uptime-msec", str(up)), ("Session-Count", str(len(self.channels)))]
            self.bus.fire("HEARTBEAT", tail=[*tail, ("Session-Since-Startup", str(self.sessions))])

    # --- calls ---

    def call(
        self,
        to: str,
        from_number: str,
        *,
        keys: str | Iterable[str] = "",
        withheld: bool = False,
        rdnis: str | None = None,
        caller_ton: int | None = None,
        destination_number_ton: int | None = None,
        rdnis_ton: int | None = None,
        trunk: str | None = None,
        speaks: float = 4.0,
        on_event: Notice | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Phone:
        """A caller dials `to`. An exchange in India sends `+91…` numbers as their ten digits, those of other
        countries without their plus, and says which of the two they are; anything else goes as it is.

        `caller_ton`, `destination_number_ton`, `rdnis_ton`: the type of number instead (NumberType), or 255 for none.
        `keys`: a text is used up question by question (`-` lets one pass); a list has one item a question, "" for silence.
        """
        span = self.trunks[trunk] if trunk else next(iter(self.trunks.values()))
        phone = Phone(self, span, keys=keys, speaks=speaks, on_event=on_event)
        self.phones.append(phone)
        slot = span.take("a")
        if slot is None:
            self.turned_away += 1
            phone.turned_away("NORMAL_CIRCUIT_CONGESTION")
            return phone
        digits, dialled_type = exchange_number(to)
        caller, caller_type = exchange_number(from_number)
        diverted_from, diverted_type = exchange_number(rdnis or "")
        channel = Channel(
            self,
            "inbound",
            f"FreeTDM/{span.span_id}:{slot}/{digits}",
            destination=digits,
            caller="" if withheld else caller,
            rdnis=diverted_from,
            withheld=withheld,
            types={
                "caller_ton": caller_type if caller_ton is None else caller_ton,
                "destination_number_ton": dialled_type if destination_number_ton is None else destination_number_ton,
                "rdnis_ton": diverted_type if rdnis_ton is None else rdnis_ton,
            },
            trunk=span,
            timeslot=slot,
        )
        for name, value in (self._line_variables(span, slot, withheld) | dict(variables or {})).items():
            channel.set(name, value)
        self.spawn(self.session_of(channel, phone).run)
        return phone

    def session_of(self, channel: Channel, phone: Phone) -> Session:
        """A call's, of whose first leg this is the telephone."""
        session = Session(channel, phone)
        phone.session, phone.uuid = session, channel.uuid
        if phone not in self.phones:
            self.phones.append(phone)
        self.register(channel)
        return session

    @staticmethod
    def _line_variables(span: Trunk, slot: int, withheld: bool) -> dict[str, str]:
        """What mod_freetdm sets on a call that comes in."""
        return {
            "freetdm_span_name": span.name,
            "freetdm_span_number": str(span.span_id),
            "freetdm_chan_number": str(slot),
            "freetdm_bearer_capability": "0",
            "freetdm_bearer_layer1": "3",
            "screening_ind": "network-provided",
            "presentation_ind": "presentation-restricted" if withheld else "presentation-allowed",
        }

    def register(self, channel: Channel) -> None:
        self.channels[channel.uuid] = channel
        self.peak = max(self.peak, len(self.channels))

    def trunk(self, name: str) -> Trunk | None:
        """By span name or number."""
        return self.trunks.get(name) or next((t for t in self.trunks.values() if str(t.span_id) == name), None)

    def next_session(self) -> int:
        self.sessions += 1
        return self.sessions

    def next_task(self) -> int:
        self.tasks += 1
        return self.tasks

    @property
    def rung(self) -> list[str]:
        """The digits dialled to agents, in their order."""
        return [attempt.number for attempt in self.attempts]

    # --- what went wrong ---

    def complain(self, code: str, text: str, session: Session | None = None) -> None:
        violation = Violation(code, text, session.channel.uuid if session else "")
        self.violations.append(violation)
        self.pulse()
        logger.error("[ERR] %s", violation)

    def pulse(self) -> None:
        """Wakes whoever waits for something to be noticed."""
        self.noticed.set()
        self.noticed.clear()

    def log(self, text: str) -> None:
        logger.info("%s", text)


def _hosts(app: Address | Sequence[Address]) -> str:
    """The argument of `socket`: `host:port`, several joined by `|`."""
    addresses = [app] if isinstance(app[0], str) else app
    return "|".join(f"{address[0]}:{address[1]}" for address in addresses)  # type: ignore[index]


def exchange_number(number: str) -> tuple[str, NumberType]:
    """The digits an Indian exchange sends for a number, and their type: the national ten without prefix, those of other
    countries without their plus."""
    if not number.startswith("+"):
        return number, NumberType.UNKNOWN
    if number.startswith("+91") and len(number) == 13:
        return number[3:], NumberType.NATIONAL
    return number[1:], NumberType.INTERNATIONAL
