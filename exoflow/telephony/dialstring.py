"""The only place where a dial string is made: from a re-formatted number and a configured trunk, nothing else.

In a dial string `, | { } [ ] < > :_: ' \\` split, group or quote (facts, freeswitch-socket.md section 9: `1000,null/evil`
dialled both legs), and `$` expands. So every value is held against a pattern of what it may be, never escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from exoflow.errors import UnsafeText
from exoflow.telephony.numbers import dial_digits

_TRUNK = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HUNT = re.compile(r"[aArR]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLI = re.compile(r"[0-9]{3,15}")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_VALUE = re.compile(r"[A-Za-z0-9_./-]{0,128}")

_HEADER = re.compile(r"X-[A-Za-z0-9-]{1,40}")
_HEADER_VALUE = re.compile(r"[A-Za-z0-9_.@/+-]{0,200}")
_KEY = re.compile(r"[0-9*#]?")
# of esl/safety's paths and tones, one or several: within quotes no character of theirs splits or groups
_ONE_SOUND = r"(?:/[A-Za-z0-9_./@+=,-]{1,500}|tone_stream://[A-Za-z0-9_%(),.;=/-]{1,200})"
_SOUND = re.compile(rf"{_ONE_SOUND}|file_string://{_ONE_SOUND}(?:!{_ONE_SOUND}){{1,63}}")

MAX_RING_SECONDS = 120  # above any exchange's own patience (Q.931 T310/T301 end a call after 3 minutes at most)
MAX_TALK_SECONDS = 86_400  # a day: a channel that is longer in use is a fault
MAX_ASK_SECONDS = 120  # as long as a caller may be rung for
MAX_AT_ONCE = 5  # phones that ring at once for one caller, as in the dialect: each takes a channel of the trunk
# between the limit of the last leg that is being asked and that of the whole attempt: both are counted in whole seconds
ASK_MARGIN = 2
# variables of this beginning are run on a channel when its talk begins (switch_ivr_bridge.c:645), each in the leg's own
# thread: a broadcast to both would wait in the caller's queue, which an app's `bridge` has locked, for the talk's end
ON_BRIDGE = "execute_on_pre_bridge_opening"
# A SIP phone may not send the call elsewhere. Its redirect (302) ends the leg: else FreeSWITCH calls whom it names, or sends
# the caller there (sofia.c:6820). A transfer of either leg goes to a context that brings the call back (switch_ivr.c:2214,
# dialplan/from-pri.xml), and one with Replaces is refused (sofia.c:9083).
TRANSFERRED_CONTEXT = "exoflow-transferred"
_STAYS = {
    "outbound_redirect_fatal": "true",
    "deny_refer_requests": "true",
    "force_transfer_dialplan": "XML",
    "force_transfer_context": TRANSFERRED_CONTEXT,
}
ASK_PAUSE_MS = 3000  # of silence for the key, before an agent who is asked hears it once more


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A trunk as a dial string names it: a FreeTDM span with its order of hunting, or a SIP gateway."""

    kind: Literal["span", "gateway"]
    name: str
    hunt: str = "A"
    dial_prefix: str = "0"


def _checked(pattern: re.Pattern[str], what: str, text: str) -> str:
    if pattern.fullmatch(text) is None:
        raise UnsafeText(what, "not of the form that may stand in a dial string", text)
    return text


def _seconds(what: str, seconds: int, most: int) -> int:
    if type(seconds) is not int or not 0 < seconds <= most:
        raise UnsafeText(what, f"must be 1 to {most} whole seconds", repr(seconds))
    return seconds


@dataclass(frozen=True, slots=True)
class Ask:
    """What an agent hears when he answers, alone; the caller hears ringing on. The call is his when it has been played, or
    when he has pressed `key`, for which he has `seconds` from his answer."""

    sound: str  # a path or a tone, or up to 64 of them as `file_string://a!b`
    seconds: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class Phone:
    """One to be rung. `uuid` is ours and becomes the leg's; None, for a text that serves many calls, the switch chooses."""

    endpoint: Endpoint
    e164: str
    uuid: str | None = None


def leg_string(
    *,
    endpoint: Endpoint,
    e164: str,
    leg_uuid: str | None,
    cli: str | None,
    ring_seconds: int,
    talk_seconds: int,
    extra: Mapping[str, str] = {},
) -> str:
    """As `dial_string`, of one phone."""
    phone = Phone(endpoint, e164, leg_uuid)
    return dial_string([phone], cli=cli, ring_seconds=ring_seconds, talk_seconds=talk_seconds, extra=extra)


def dial_string(
    phones: Sequence[Phone],
    *,
    cli: str | None,
    ring_seconds: int,
    talk_seconds: int,
    ask: Ask | None = None,
    opening: str = "",
    headers: Mapping[str, str] = {},
    network_tone: bool = False,
    extra: Mapping[str, str] = {},
) -> str:
    """The dial string of one attempt: of one phone, or of up to MAX_AT_ONCE that ring at once, the first to answer wins.

    `cli` is the number the agent sees, digits only; None leaves it to FreeSWITCH. `opening` is a sound that he hears when
    the talk begins (the caller does by his channel's own ON_BRIDGE), `headers` are of SIP and mean nothing to a span,
    `network_tone` lets the caller hear the agent's network, `extra` are further variables of each leg.

    The ring limit stands twice: `originate_timeout` bounds the whole attempt, `leg_timeout` the leg (read in
    switch_ivr_originate.c:2577 and 3167). With `ask` the attempt is bounded by both times; a leg that answers has the second
    one from there (check_channel_status, switch_ivr_originate.c:787-812). The talk limit is armed on the B leg when it answers,
    or with `ask` when the talk begins (switch_ivr_bridge.c:645), so that it also ends the talk of a call whose app has died.
    Raises UnsafeText for any value that is not strictly of its form.
    """
    if not 0 < len(phones) <= MAX_AT_ONCE:
        raise UnsafeText("phones", f"1 to {MAX_AT_ONCE} are rung at once", str(len(phones)))
    variables = _common(ring_seconds, talk_seconds, cli, ask)
    if any(phone.endpoint.kind == "gateway" for phone in phones):
        variables |= _STAYS
    for header, value in headers.items():
        name = f"sip_h_{_checked(_HEADER, 'name of a SIP header', header)}"
        variables[name] = _checked(_HEADER_VALUE, f"SIP header {header}", value)
    if network_tone:
        # what the network says is let through to the caller, and is no answer either (switch_ivr_originate.c:2508-2525)
        variables |= {"ignore_early_media": "false", "bridge_early_media": "true"}
    if opening:
        variables[ON_BRIDGE] = f"'playback {_checked(_SOUND, 'sound', opening)}'"
    own = [_own(phone) for phone in phones]
    if len(phones) == 1:
        variables = own[0] | variables
    for name, value in extra.items():
        if name in variables or name in own[0]:
            raise UnsafeText("variable's name", "is already set by the dial string's own rules", name)
        variables[_checked(_NAME, "variable's name", name)] = _checked(_VALUE, f"variable {name}", value)
    targets = [_target(phone.endpoint, dial_digits(phone.e164, phone.endpoint.dial_prefix)) for phone in phones]
    if len(phones) > 1:
        targets = [f"[{_joined(mine)}]{target}" for mine, target in zip(own, targets, strict=True)]
    return f"{{{_joined(variables)}}}{','.join(targets)}"


def _common(ring_seconds: int, talk_seconds: int, cli: str | None, ask: Ask | None) -> dict[str, str]:
    """What all legs of an attempt have."""
    ring = _seconds("ring time", ring_seconds, MAX_RING_SECONDS)
    talk = f"'sched_hangup +{_seconds('talk time', talk_seconds, MAX_TALK_SECONDS)} ALLOTTED_TIMEOUT'"
    # without the first an announcement counts as an answer (facts, pri-and-freetdm.md section 1, trap 5)
    found = {"ignore_early_media": "true", "originate_timeout": str(ring), "leg_timeout": str(ring)}
    if cli is not None:
        found["origination_caller_id_number"] = _checked(_CLI, "caller id", cli)
    if ask is None:
        return found | {"execute_on_answer": talk}
    asked = _seconds("time to be asked", ask.seconds, MAX_ASK_SECONDS)
    found["originate_timeout"] = str(ring + asked + ASK_MARGIN)
    found["leg_timeout"] = str(max(1, ring - 1))  # it is passed one second later than the other (`>` for `>=`)
    sound, key = _checked(_SOUND, "sound", ask.sound), _checked(_KEY, "key", ask.key)
    return found | {
        "group_confirm_key": key or "exec",
        "group_confirm_file": f"'{sound}'" if key else f"'playback {sound}'",
        "group_confirm_timeout": str(asked),
        "group_confirm_read_timeout": str(ASK_PAUSE_MS),
        "execute_on_pre_bridge": talk,
    }


def _own(phone: Phone) -> dict[str, str]:
    """What one leg has for itself."""
    return {} if phone.uuid is None else {"origination_uuid": _checked(_UUID, "leg's uuid", phone.uuid)}


def _joined(variables: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in variables.items())


def _target(endpoint: Endpoint, digits: str) -> str:
    name = _checked(_TRUNK, "trunk's name", endpoint.name)
    if endpoint.kind == "span":
        return f"freetdm/{name}/{_checked(_HUNT, 'order of hunting', endpoint.hunt)}/{digits}"
    return f"sofia/gateway/{name}/{digits}"
