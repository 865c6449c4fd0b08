"""A channel: identity, caller profile, variables, times and state of one leg, and what its events say of it."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from gevent.event import Event

from exoflow.sim.causes import q850
from exoflow.sim.cdr import write_cdr
from exoflow.sim.clock import stamp

if TYPE_CHECKING:
    from exoflow.sim.session import Session
    from exoflow.sim.switch import EmbeddedSwitch
    from exoflow.sim.trunk import Trunk

Direction = Literal["inbound", "outbound"]
State = Literal["CS_INIT", "CS_ROUTING", "CS_EXECUTE", "CS_CONSUME_MEDIA", "CS_EXCHANGE_MEDIA", "CS_HANGUP", "CS_REPORTING"]
_STATE_NUMBERS = {
    "CS_INIT": 1 + 1, "CS_ROUTING": 3, "CS_EXECUTE": 4, "CS_EXCHANGE_MEDIA": 5, "CS_CONSUME_MEDIA": 7, "CS_HANGUP": 10,
    "CS_REPORTING": 11,
}  # fmt: skip

# names of a caller profile's times in events, in their order; microseconds, 0 = has not happened
_TIMES = ("Answered", "Progress", "Progress-Media", "Hangup", "Transfer", "Resurrect", "Bridged", "Last-Hold", "Hold-Accum")


# fields of the dialplan alone: no event has them (switch_caller.c:255-274)
TYPE_FIELDS = ("caller_ton", "destination_number_ton", "rdnis_ton")
TON_UNDEF = 255  # SWITCH_TON_UNDEF

_DURATIONS = {"sec": "duration", "msec": "mduration", "usec": "uduration"}


class Channel:
    """One leg. `wake` is set at each change, for whoever waits on this channel."""

    def __init__(
        self,
        switch: EmbeddedSwitch,
        direction: Direction,
        name: str,
        *,
        destination: str,
        caller: str,
        uuid: str | None = None,
        context: str = "from-pri",
        rdnis: str = "",
        withheld: bool = False,
        types: Mapping[str, int] | None = None,
        trunk: Trunk | None = None,
        timeslot: int = 0,
    ) -> None:
        self.switch, self.direction, self.name = switch, direction, name
        self.uuid = uuid or str(uuids.uuid4())
        self.destination, self.caller, self.context, self.rdnis, self.withheld = destination, caller, context, rdnis, withheld
        self.types = dict(types or {})  # of its numbers: caller_ton, destination_number_ton, rdnis_ton
        self.trunk, self.timeslot = trunk, timeslot
        self.session: Session | None = None
        self.call_uuid = self.uuid
        self.state: State = "CS_INIT"
        self.hit_dialplan = direction == "inbound"
        self.created = switch.clock.micros()
        self.times = dict.fromkeys(_TIMES, 0)
        self.ringing = self.media = self.answered = self.hung_up = self.reported = False
        self.cause, self.wake = "", Event()
        self.bridged_to: Channel | None = None  # while they talk
        self.other: Channel | None = None  # last partner, as `Other-Leg-*` in events
        self.other_type: Literal["originator", "originatee"] = "originatee"
        self.before_report: list[Callable[[], None]] = []  # what must be in order before HANGUP_COMPLETE tells of the end
        self.variables: dict[str, str] = {
            "direction": direction,
            "uuid": self.uuid,
            "session_id": str(switch.next_session()),
            # a variable with an expansion in it is not set (docs/freeswitch-quirks.md)
            "channel_name": "" if "${" in name else name,
            "read_codec": "PCMA",
            "read_rate": "8000",
            "write_codec": "PCMA",
            "write_rate": "8000",
        }

    # --- variables ---

    def set(self, name: str, value: str | None) -> None:
        """switch_channel_set_variable: an empty or missing value removes the variable."""
        if value:
            self.variables.pop(name, None)
            self.variables[name] = value
        else:
            self.variables.pop(name, None)

    def add(self, name: str, value: str) -> None:
        """Collects values in FreeSWITCH's array form `ARRAY::a|:b` (originate_causes)."""
        old = self.variables.get(name)
        if old is None:
            self.variables[name] = value
        else:
            self.variables[name] = (old if old.startswith("ARRAY::") else f"ARRAY::{old}") + f"|:{value}"

    FIELDS = frozenset(
        """dialplan username caller_id_name caller_id_number ani network_addr rdnis destination_number uuid source context
        chan_name""".split()  # noqa: SIM905
    )

    def field(self, name: str) -> str:
        """A field of the caller profile by the name that the dialplan has for it; empty when there is none."""
        if name in TYPE_FIELDS:
            return str(self.types.get(name, TON_UNDEF))
        number = "" if self.withheld else self.caller
        return {
            "dialplan": "XML", "username": number, "caller_id_name": number, "caller_id_number": number, "ani": number,
            "rdnis": self.rdnis, "destination_number": self.destination, "uuid": self.uuid, "source": "mod_freetdm",
            "context": self.context, "chan_name": self.name, "privacy_hide_number": "true" if self.withheld else "false",
        }.get(name, "")  # fmt: skip

    # --- life ---

    def ring(self) -> None:
        """ALERTING."""
        if self.ringing or self.answered or self.hung_up:
            return
        self.ringing = True
        self._mark("Progress")
        self.switch.bus.fire("CHANNEL_PROGRESS", self)
        self.wake.set()

    def early_media(self) -> None:
        """PROGRESS with audio: pre_answer, or the network speaking."""
        if self.media or self.answered or self.hung_up:
            return
        self.media = True
        self._mark("Progress-Media")
        self.set("endpoint_disposition", "EARLY MEDIA")
        self.switch.bus.fire("CHANNEL_PROGRESS_MEDIA", self)
        self.wake.set()

    def answer(self) -> None:
        """CONNECT."""
        if self.answered or self.hung_up:
            return
        self.answered = self.media = True
        self._mark("Answered")
        self.set("endpoint_disposition", "ANSWER")
        self.switch.bus.fire("CHANNEL_ANSWER", self)
        if self.session is not None:
            self.session.phone.was_answered()
        self.wake.set()

    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        """Ends the leg at once; the first cause stays. CHANNEL_HANGUP_COMPLETE follows with `report`."""
        if self.hung_up:
            return
        self.hung_up, self.cause = True, cause
        self._mark("Hangup")
        self.switch.bus.fire("CHANNEL_HANGUP", self)
        self.state = "CS_HANGUP"
        if self.session is not None:
            self.session.hung_up()
        self.wake.set()

    def report(self) -> None:
        """Last act of a leg: frees its B-channel and tells of its end with cause and times."""
        if self.reported:
            return
        self.reported = True
        if self.trunk is not None:
            self.trunk.release(self.timeslot)
        for task in self.before_report:
            task()
        self.state = "CS_REPORTING"
        self.variables.update(self._closing_variables())
        if self.switch.cdr is not None:
            write_cdr(self.switch.cdr, self)
        self.switch.channels.pop(self.uuid, None)
        self.switch.bus.fire("CHANNEL_HANGUP_COMPLETE", self, head=[("Hangup-Cause", self.cause)])
        self.wake.set()

    def _mark(self, what: str) -> None:
        self.times[what] = self.switch.clock.micros()

    def mark_bridged(self, other: Channel) -> None:
        self.bridged_to, self.other = other, other
        self._mark("Bridged")
        self.wake.set()

    def transferred(self, destination: str, context: str) -> None:
        """On its way to another extension: the destination before it stands in RDNIS from now on."""
        self.rdnis = self.destination
        self.destination, self.context = destination, context
        self._mark("Transfer")
        self.times["Bridged"] = 0  # facts: it reads 0 after a transfer

    # --- what events say ---

    @property
    def callstate(self) -> str:
        if self.hung_up:
            return "ACTIVE" if self.state != "CS_REPORTING" and self.answered else "HANGUP"
        if self.answered:
            return "ACTIVE"
        if self.media:
            return "EARLY"
        return "RINGING" if self.ringing or self.direction == "inbound" else "DOWN"

    @property
    def answer_state(self) -> str:
        if self.hung_up:
            return "hangup"
        if self.answered:
            return "answered"
        return "early" if self.media else "ringing"

    def headers(self) -> Iterator[tuple[str, str]]:
        """The channel's part of an event, in FreeSWITCH's order (switch_channel_event_set_data)."""
        yield "Channel-State", "CS_EXECUTE" if self.state == "CS_HANGUP" else self.state
        yield "Channel-Call-State", self.callstate
        yield "Channel-State-Number", str(10 if self.hung_up and self.state != "CS_REPORTING" else _STATE_NUMBERS[self.state])
        yield "Channel-Name", self.name
        yield "Unique-ID", self.uuid
        yield "Call-Direction", self.direction
        yield "Presence-Call-Direction", self.direction
        yield "Channel-HIT-Dialplan", "true" if self.hit_dialplan else "false"
        yield "Channel-Call-UUID", self.call_uuid
        yield "Answer-State", self.answer_state
        if self.hung_up:
            yield "Hangup-Cause", self.cause
        for side in ("Read", "Write"):
            yield f"Channel-{side}-Codec-Name", "PCMA"
            yield f"Channel-{side}-Codec-Rate", "8000"
            yield f"Channel-{side}-Codec-Bit-Rate", "64000"
        yield from self.profile("Caller")
        if self.other is not None:
            yield "Other-Type", self.other_type
            yield from self.other.profile("Other-Leg")
        for name, value in self.variables.items():
            yield f"variable_{name}", value

    def profile(self, prefix: str) -> Iterator[tuple[str, str]]:
        """The caller profile (switch_caller_profile_event_set_data); missing numbers have no header."""
        yield f"{prefix}-Direction", self.direction
        yield f"{prefix}-Logical-Direction", self.direction
        yield f"{prefix}-Dialplan", "XML"
        if self.caller:
            yield f"{prefix}-Caller-ID-Name", self.caller
            yield f"{prefix}-Caller-ID-Number", self.caller
            yield f"{prefix}-Orig-Caller-ID-Name", self.caller
            yield f"{prefix}-Orig-Caller-ID-Number", self.caller
        if self.direction == "outbound":
            yield f"{prefix}-Callee-ID-Name", "Outbound Call"
            yield f"{prefix}-Callee-ID-Number", self.destination
        if self.caller:
            yield f"{prefix}-ANI", self.caller
        yield f"{prefix}-Destination-Number", self.destination
        yield f"{prefix}-Unique-ID", self.uuid
        yield f"{prefix}-Source", "mod_freetdm"
        yield f"{prefix}-Context", self.context
        if self.rdnis:
            yield f"{prefix}-RDNIS", self.rdnis
        yield f"{prefix}-Channel-Name", self.name
        if prefix != "Other-Leg":
            yield f"{prefix}-Profile-Index", "1"
        yield f"{prefix}-Profile-Created-Time", str(self.created)
        yield f"{prefix}-Channel-Created-Time", str(self.created)
        for what, value in self.times.items():
            yield (
                f"{prefix}-Channel-{what}-Time" if what not in ("Last-Hold", "Hold-Accum") else f"{prefix}-Channel-{what}",
                str(value),
            )
        yield f"{prefix}-Screen-Bit", "true"
        hidden = "true" if self.withheld else "false"
        yield f"{prefix}-Privacy-Hide-Name", hidden
        yield f"{prefix}-Privacy-Hide-Number", hidden

    def _closing_variables(self) -> dict[str, str]:
        """What switch_channel_set_timestamps leaves on a channel that ended."""
        t = self.times
        answered, ended, bridged = t["Answered"], t["Hangup"], t["Bridged"]
        marks = {
            "start": self.created,
            "profile_start": self.created,
            "answer": answered,
            "bridge": bridged,
            "progress": t["Progress"],
            "progress_media": t["Progress-Media"],
            "end": ended,
        }
        closing = {"hangup_cause": self.cause, "hangup_cause_q850": str(q850(self.cause))}
        closing["digits_dialed"] = (self.session.typed if self.session is not None else "") or "none"
        closing |= {f"{name}_stamp": stamp(at) for name, at in marks.items() if at}
        for name, at in (marks | {"last_hold": 0, "resurrect": 0}).items():
            closing |= {f"{name}_epoch": str(at // 1_000_000), f"{name}_uepoch": str(at)}
        closing |= {"hold_accum_seconds": "0", "hold_accum_usec": "0", "hold_accum_ms": "0"}
        if self.session is not None and self.session.ran:
            application, argument, _ = self.session.ran[-1]
            closing |= {"last_app": application} | ({"last_arg": argument} if argument else {})
        closing["caller_id"] = f'"{self.caller}" <{self.caller}>'
        spans = {
            "": (self.created, ended),
            "bill": (answered, ended),
            "progress": (self.created, t["Progress"]),
            "answer": (self.created, answered),
            "wait": (self.created, bridged),
            "progress_media": (self.created, t["Progress-Media"]),
            "flow_bill": (self.created, ended),
        }
        for name, (start, stop) in spans.items():
            for unit, divisor in (("sec", 1_000_000), ("msec", 1000), ("usec", 1)):
                whole = stop // divisor - start // divisor if start and stop else 0
                closing[f"{name}{unit}" if name else _DURATIONS[unit]] = str(whole)
        return closing
