"""B legs: a dial string taken apart, an agent's telephone rung on a channel of a trunk, and what becomes of it.

Follows switch_ivr_originate.c as far as one `bridge` of one call needs it, and mod_freetdm.c for the dial string of a span.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from exoflow.sim.agents import RELEASE_SECONDS, AgentScript, Handset
from exoflow.sim.arguments import split_outside, variables_of
from exoflow.sim.asking import Asking
from exoflow.sim.causes import cause_name
from exoflow.sim.channel import TON_UNDEF, Channel
from exoflow.sim.frames import is_true
from exoflow.sim.sounds import sounds_of
from exoflow.telephony.dialstring import MAX_AT_ONCE
from exoflow.telephony.numbers import NumberType

if TYPE_CHECKING:
    from exoflow.sim.session import Session
    from exoflow.sim.switch import EmbeddedSwitch
    from exoflow.sim.trunk import Trunk

DEFAULT_TIMEOUT = 60.0  # seconds, of call_timeout
_DIGITS = re.compile(r"[0-9*#]{1,32}\Z")
SCHED_HANGUP = re.compile(r"sched_hangup[ :]+\+?(\d+)(?: +(\w+))?")


@dataclass
class Attempt:
    """One number rung, for tests and demos."""

    number: str
    trunk: str
    uuid: str
    at: float  # switch seconds since its start
    variables: dict[str, str]
    cause: str = ""
    answered: bool = False
    had_leg: bool = True
    heard: list[str] = field(default_factory=list)  # by an agent who was asked before the call was his


@dataclass
class DialledLeg:
    """One leg of a dial string, before anything is rung."""

    endpoint: str
    variables: dict[str, str] = field(default_factory=dict)


def legs_of(session: Session, dial_string: str) -> list[list[DialledLeg]]:
    """Groups that are tried one after the other, each of legs that ring at once. All of it is dialled, as FreeSWITCH would."""
    common, rest = variables_of(dial_string.strip())
    groups = []
    for enterprise in rest.split(":_:"):
        more, enterprise = variables_of(enterprise.strip())
        for sequential in split_outside(enterprise, "|"):
            legs = []
            for text in split_outside(sequential, ","):
                own, endpoint = variables_of(text.strip())
                legs.append(DialledLeg(endpoint.strip(), common | more | own))
            groups.append(legs)
    uuids = {leg.variables.get("origination_uuid", "") for leg in groups[0]}
    together = len(groups[0])
    # several at once are ours only if each was given a name of its own
    if len(groups) > 1 or together > MAX_AT_ONCE or (together > 1 and ("" in uuids or len(uuids) < together)):
        count = sum(len(group) for group in groups)
        session.switch.complain("second_leg", f"{count} legs in one dial string {dial_string[:160]!r}", session)
    return groups


class BLeg:
    """One agent's telephone being rung: a channel with a life of its own in a greenlet."""

    def __init__(self, session: Session, leg: DialledLeg) -> None:
        self.session, self.leg, self.switch = session, leg, session.switch
        self.script = AgentScript()
        self.channel: Channel | None = None
        self.cause = ""  # why it ended, also without a channel
        self.changed = Event()
        self.asking: Asking | None = None
        self._accepted = False
        self._life: gevent.Greenlet | None = None
        self.attempt: Attempt | None = None

    @property
    def variables(self) -> dict[str, str]:
        return self.leg.variables

    def start(self) -> None:
        """Takes a B-channel and sends SETUP; without a channel `cause` is set at once and there are no events."""
        found = endpoint_of(self.switch, self.leg.endpoint, self.session)
        if isinstance(found, str):
            self.cause = found
            return
        trunk, hunt, digits, shape = found
        if not _DIGITS.match(digits):
            self.switch.complain("dialled_text", f"{digits[:80]!r} was dialled, which is not a number", self.session)
        self.script = self.switch.agents.script(digits)
        uuid = self.variables.get("origination_uuid", "")
        slot = None if self.script.no_channel else trunk.take(hunt)
        self.attempt = Attempt(digits, trunk.name, uuid, self.switch.clock.elapsed(), dict(self.variables))
        self.switch.attempts.append(self.attempt)
        self.session.phone.agent("dialled", self.script.name or digits)
        if slot is None:
            self.cause = self.attempt.cause = "NORMAL_CIRCUIT_CONGESTION"
            self.attempt.had_leg = False
            return
        self.channel = self._channel(trunk, slot, digits, shape, uuid)
        self.attempt.uuid = self.channel.uuid
        self._life = self.switch.spawn(self._live, self.channel)
        limit = self.variables.get("leg_timeout", "")
        # else the whole attempt ends first, with a cause of its own
        if limit.isdigit() and 0 < int(limit) < int(self.variables.get("originate_timeout", "0")):
            self.switch.clock.later(int(limit) + 1, self._rang_too_long, self.channel)

    def _channel(self, trunk: Trunk, slot: int, digits: str, shape: Callable[[int], str], uuid: str) -> Channel:
        if uuid and uuid in self.switch.channels:
            self.switch.complain("uuid_twice", f"origination_uuid {uuid} is in use", self.session)
            uuid = ""
        caller = self.variables.get("origination_caller_id_number") or self.session.channel.caller
        types = self.session.channel.types  # the whole profile is the caller's (switch_ivr_originate.c:2156)
        if any(types.get(name, 0) not in (NumberType.UNKNOWN, TON_UNDEF) for name in ("caller_ton", "destination_number_ton")):
            text = f"the leg's numbers are sent with the types of the caller's: {types}"
            self.switch.complain("number_type", text, self.session)
        channel = Channel(
            self.switch,
            "outbound",
            shape(slot),
            destination=digits,
            caller=caller,
            uuid=uuid or None,
            types=types,
            trunk=trunk,
            timeslot=slot,
        )
        channel.call_uuid = self.session.channel.uuid
        channel.other, channel.other_type = self.session.channel, "originator"
        kind = self.leg.endpoint.partition("/")[0].lower()
        given = {
            "is_outbound": "true",
            "max_forwards": "70",
            "originator": self.session.channel.uuid,
            "originator_codec": "PCMA@8000h@20i",
            "signal_bond": self.session.channel.uuid,
            **self.variables,
            "originate_early_media": "true" if self.session.channel.media and not is_true(self._ignoring()) else "false",
            "originating_leg_uuid": self.session.channel.uuid,
            "originate_endpoint": kind,
        }
        for name, value in given.items():
            channel.set(name, value)
        self.switch.register(channel)
        return channel

    def _live(self, channel: Channel) -> None:
        """The telephone's script, ended early by a hangup from either side."""
        script = self.script
        self.switch.bus.fire("CHANNEL_CREATE", channel)
        self.switch.bus.fire("CHANNEL_OUTGOING", channel)
        channel.state = "CS_CONSUME_MEDIA"
        self._tell()
        for after, act in self._steps(script):
            if not self._pause(channel, after):
                break
            act(channel)
            self._tell()
        else:
            self._in_hand(channel)
        while not channel.hung_up:
            channel.wake.wait()
            channel.wake.clear()
        self._finish(channel)

    def _in_hand(self, channel: Channel) -> None:
        """Follows the hand's wishes until the leg is hung up; returns at once for a script without a hand."""
        if self.script.hand is None:
            return
        handset = Handset(self.script.name or channel.destination, self.session.phone, channel.wake)
        self.script.hand(handset)
        while not channel.hung_up:
            if handset.cause:
                channel.hangup(handset.cause)
            elif handset.lifted and not channel.answered:
                self._answer(channel)
                self._tell()
            else:
                channel.wake.wait()
                channel.wake.clear()
        handset.over = True
        handset.told(channel.cause)

    def _steps(self, script: AgentScript) -> list[tuple[float, Callable[[Channel], None]]]:
        """What happens, each so many seconds after the one before."""
        steps: list[tuple[float, Callable[[Channel], None]]] = []
        if script.announcement_after is not None:
            steps.append((script.announcement_after, Channel.early_media))
        if script.alert_after is not None:
            steps.append((script.alert_after, self._alert))
        if script.redirects:
            steps.append((RELEASE_SECONDS, self._redirect))
        elif script.cause:
            after = script.answer_after if script.answer_after is not None else RELEASE_SECONDS
            steps.append((after, lambda channel: channel.hangup(cause_name(script.cause))))
        elif script.answer_after is not None:
            steps.append((script.answer_after, self._answer))
            steps += [(script.press_after, partial(self._press, key)) for key in script.presses]
            if script.transfers:
                steps.append((script.talk_seconds or 0.0, self._refer))
            elif script.talk_seconds is not None:
                steps.append((script.talk_seconds, lambda channel: channel.hangup("NORMAL_CLEARING")))
        return steps

    def _alert(self, channel: Channel) -> None:
        channel.ring()
        self.session.phone.agent("rings", self.script.name or channel.destination)

    def _redirect(self, channel: Channel) -> None:
        """302 to an address of this switch (sofia.c:6817-6990)."""
        if is_true(self.variables.get("outbound_redirect_fatal")):
            channel.set("sip_redirected_to", f"<sip:{self.script.redirects}@127.0.0.1>")
            for one, name in ((channel, ""), (self.session.channel, "last_bridge_")):
                one.set(f"{name}proto_specific_hangup_cause", "sip:302")
            channel.hangup("REQUESTED_CHAN_UNAVAIL")
            return
        self._send_caller(self.script.redirects)
        channel.hangup("REDIRECTION_TO_NEW_DESTINATION")

    def _refer(self, channel: Channel) -> None:
        """REFER, unless the profile refuses it (sofia.c:8957); then the agent goes on talking."""
        if self.switch.transfers_disabled:
            return
        if "Replaces=" in self.script.transfers:
            self._dial_by_transfer(channel)
            return
        self._send_caller(self.script.transfers)
        channel.hangup("BLIND_TRANSFER")

    def _dial_by_transfer(self, channel: Channel) -> None:
        """REFER with Replaces of a call that the switch does not know: it dials the address (sofia.c:9420)."""
        number = self.script.transfers.partition("?")[0]
        foreign = Channel(self.switch, "outbound", f"sofia/exoflow/{number}", destination=number, caller=channel.destination)
        foreign.set("sip_h_X-FS-Refer-From", channel.uuid)
        self.switch.register(foreign)
        self.switch.bus.fire("CHANNEL_CREATE", foreign)
        if self._pause(foreign, RELEASE_SECONDS):
            self.switch.complain("foreign_leg", f"{number!r} was dialled, for a phone's transfer named it", self.session)
            foreign.hangup("NORMAL_CLEARING")
        foreign.report()

    def _send_caller(self, to: str) -> None:
        """switch_ivr_session_transfer without a context (switch_ivr.c:2214)."""
        self.session.transfer(to, self.session.channel.variables.get("force_transfer_context", ""))

    def _answer(self, channel: Channel) -> None:
        channel.answer()
        assert self.attempt is not None
        self.attempt.answered = True
        self._limit("execute_on_answer", channel)
        if Asking.wanted(self.variables):
            self.asking = Asking(self.session, channel, self.variables, self._take)
            self.asking.begin()
            self.attempt.heard = self.asking.heard
            self.session.phone.agent("is asked", self.script.name or channel.destination)

    def _rang_too_long(self, channel: Channel) -> None:
        """check_per_channel_timeouts (switch_ivr_originate.c:360)."""
        if not channel.answered:
            channel.hangup("ALLOTTED_TIMEOUT")

    def _press(self, key: str, channel: Channel) -> None:
        if self.asking is not None and not self._accepted:
            self.asking.pressed(key)

    def _take(self) -> None:
        self._accepted = True
        self._tell()

    def begins_to_talk(self, channel: Channel) -> None:
        """What is run on its leg when the bridge begins (switch_ivr_bridge.c:645)."""
        self._limit("execute_on_pre_bridge", channel)
        assert self.attempt is not None
        for name, said in self.variables.items():
            if name.startswith("execute_on_pre_bridge_") and said.startswith("playback "):
                self.attempt.heard += [sound.text for sound in sounds_of(said.partition(" ")[2])]

    def _limit(self, variable: str, channel: Channel) -> None:
        if found := SCHED_HANGUP.match(self.variables.get(variable, "")):
            self.switch.clock.later(float(found[1]), channel.hangup, cause_name(found[2] or "ALLOTTED_TIMEOUT"))

    def _pause(self, channel: Channel, seconds: float) -> bool:
        """True when the time passed, False when the leg was hung up before."""
        clock = self.switch.clock
        until = clock.elapsed() + seconds
        while not channel.hung_up and clock.elapsed() < until:
            clock.wait(channel.wake, until)
            channel.wake.clear()
        return not channel.hung_up

    def _finish(self, channel: Channel) -> None:
        self.cause = channel.cause
        assert self.attempt is not None
        self.attempt.cause = channel.cause
        channel.report()
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.session.channel.wake.set()

    def end(self, cause: str) -> None:
        """Hangs it up and waits until it has reported its end."""
        if self.channel is None:
            return
        self.channel.hangup(cause)
        if self._life is not None:
            self._life.join()

    # --- what originate looks at ---

    @property
    def over(self) -> bool:
        return bool(self.cause)

    def won(self) -> bool:
        """Answered, or audio of the network when it is not ignored."""
        if self.channel is None or self.channel.hung_up:
            return False
        if self.asking is not None:
            return self._accepted
        early = self.channel.media and not is_true(self._ignoring())
        return self.channel.answered or early

    def _ignoring(self) -> str:
        if is_true(self.variables.get("bridge_early_media")):
            return "true"  # it is heard, and is no answer
        own = self.variables.get("ignore_early_media")
        text = own if own is not None else self.session.channel.variables.get("ignore_early_media", "")
        return "true" if text in ("ring_ready", "consume") else text

    def alerting(self) -> bool:
        return self.channel is not None and (self.channel.ringing or self.channel.media)


def endpoint_of(
    switch: EmbeddedSwitch, text: str, session: Session | None = None
) -> tuple[Trunk, str, str, Callable[[int], str]] | str:
    """Trunk, hunting, digits and the channel's name by timeslot; or the cause by which it fails without a leg."""
    kind, _, rest = text.partition("/")
    if kind.lower() == "freetdm":
        span, _, rest = rest.partition("/")
        hunt, _, digits = rest.partition("/")
        trunk = switch.trunk(span)
        if trunk is None:
            return "DESTINATION_OUT_OF_ORDER"  # unknown span: 27 without a leg
        return trunk, hunt or "a", digits, lambda slot: f"FreeTDM/{trunk.span_id}:{slot}/{digits}"
    if kind.lower() == "sofia" and rest.startswith("gateway/"):
        _, gateway, digits = [*rest.split("/", 2), "", ""][:3]
        trunk = switch.trunk(gateway)
        if trunk is None:
            return "NETWORK_OUT_OF_ORDER"  # Invalid Gateway (mod_sofia.c)
        return trunk, "a", digits, lambda slot: f"sofia/exoflow/{digits}"
    switch.complain("endpoint", f"{text[:120]!r} is neither a span nor a gateway of ours, and was dialled", session)
    trunk = next(iter(switch.trunks.values()))
    return trunk, "a", text.rsplit("/", 1)[-1], lambda slot: text
