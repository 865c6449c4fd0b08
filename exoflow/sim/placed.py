"""`originate`: one telephone is rung, and the dialplan takes the call when it is answered (mod_commands.c originate_function,
switch_ivr_originate.c). As far as exoflow uses it: one leg, and `EXTENSION DIALPLAN CONTEXT` behind it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exoflow.sim.agents import RELEASE_SECONDS, AgentScript
from exoflow.sim.arguments import split_outside, variables_of
from exoflow.sim.causes import cause_name
from exoflow.sim.channel import Channel
from exoflow.sim.frames import is_true
from exoflow.sim.originate import DEFAULT_TIMEOUT, SCHED_HANGUP, Attempt, endpoint_of
from exoflow.sim.phone import Phone

if TYPE_CHECKING:
    from exoflow.sim.session import Session
    from exoflow.sim.switch import EmbeddedSwitch

USAGE = "-USAGE: <call url> <exten>|&<application_name>(<app_args>) [<dialplan>] [<context>]\n"


def originate(switch: EmbeddedSwitch, arguments: str) -> str:
    """What the API prints: `+OK UUID`, or `-ERR` and the cause. Waits until the telephone was answered or has ended."""
    # the quotes within the braces hold their spaces together, and go
    words = split_outside(arguments.strip(), " ")
    if len(words) < 2:
        return USAGE
    destination, context = words[1], words[3] if len(words) > 3 else "default"
    variables, endpoint = variables_of(words[0])
    if len(split_outside(endpoint, ",")) + len(split_outside(endpoint, "|")) > 2:
        switch.complain("second_leg", f"several legs in {words[0][:160]!r}")
    found = endpoint_of(switch, endpoint)
    if isinstance(found, str):
        return f"-ERR {found}\n"
    trunk, hunt, digits, shape = found
    script = switch.agents.script(digits)
    attempt = Attempt(digits, trunk.name, variables.get("origination_uuid", ""), switch.clock.elapsed(), variables)
    switch.attempts.append(attempt)
    slot = None if script.no_channel else trunk.take(hunt)
    if slot is None:
        attempt.had_leg, attempt.cause = False, "NORMAL_CIRCUIT_CONGESTION"
        return f"-ERR {attempt.cause}\n"
    channel = Channel(
        switch,
        "outbound",
        shape(slot),
        destination=digits,
        caller=variables.get("origination_caller_id_number", "0000000000"),
        uuid=variables.get("origination_uuid"),
        context=context,
        trunk=trunk,
        timeslot=slot,
    )
    for name, value in ({"is_outbound": "true"} | variables).items():
        channel.set(name, value)
    return _rung(switch.session_of(channel, Phone(switch, trunk)), script, attempt, destination, context)


def _rung(session: Session, script: AgentScript, attempt: Attempt, destination: str, context: str) -> str:
    channel, switch = session.channel, session.switch
    switch.bus.fire("CHANNEL_CREATE", channel)
    switch.bus.fire("CHANNEL_OUTGOING", channel)
    if not _answers(session, script):
        channel.report()
        attempt.cause = channel.cause
        session.phone.has_ended()
        return f"-ERR {channel.cause}\n"
    attempt.answered = True
    if found := SCHED_HANGUP.match(channel.variables.get("execute_on_answer", "")):
        session.schedule(float(found[1]), lambda: channel.hangup(cause_name(found[2] or "ALLOTTED_TIMEOUT")))
    if script.talk_seconds is not None:
        switch.clock.later(script.talk_seconds, channel.hangup, "NORMAL_CLEARING")
    switch.spawn(session.run_answered, destination, context)
    return f"+OK {channel.uuid}\n"


def _answers(session: Session, script: AgentScript) -> bool:
    """Rings as the script says, and no longer than the dial string says. False: it has ended."""
    channel, clock = session.channel, session.switch.clock
    until = clock.elapsed() + float(_whole(channel.variables.get("originate_timeout")) or DEFAULT_TIMEOUT)

    def passes(seconds: float | None) -> bool:
        """That time; False if the leg ended, or was given up, before."""
        end = until if seconds is None else min(clock.elapsed() + seconds, until)
        while not channel.hung_up and clock.elapsed() < end:
            clock.wait(channel.wake, end)
            channel.wake.clear()
        if not channel.hung_up and end >= until:
            channel.hangup("NO_ANSWER")
        return not channel.hung_up

    if script.announcement_after is not None:
        if not passes(script.announcement_after):
            return False
        channel.early_media()
    if script.alert_after is not None:
        if not passes(script.alert_after):
            return False
        channel.ring()
    if script.redirects:
        if passes(RELEASE_SECONDS):
            if not is_true(channel.variables.get("outbound_redirect_fatal")):
                session.switch.complain(
                    "redirected", f"a call is placed to {script.redirects!r}, as a phone's 302 says", session
                )
            channel.set("proto_specific_hangup_cause", "sip:302")
            channel.hangup("REQUESTED_CHAN_UNAVAIL")
        return False
    if script.cause:
        if passes(script.answer_after if script.answer_after is not None else RELEASE_SECONDS):
            channel.hangup(cause_name(script.cause))
        return False
    if not passes(script.answer_after):
        return False
    channel.answer()
    return True


def _whole(text: str | None) -> int:
    return int(text) if text and re.fullmatch(r"[0-9]{1,5}", text) else 0
