"""The only place where a dial string is made: from a re-formatted number and a configured trunk, nothing else.

In a dial string `, | { } [ ] < > :_: ' \\` split, group or quote (facts, freeswitch-socket.md section 9: `1000,null/evil`
dialled both legs), and `$` expands. So every value is held against a pattern of what it may be, never escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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

MAX_RING_SECONDS = 120  # above any exchange's own patience (Q.931 T310/T301 end a call after 3 minutes at most)
MAX_TALK_SECONDS = 86_400  # a day: a channel that is longer in use is a fault


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
    """The dial string of one attempt to reach one agent.

    `leg_uuid` is ours and becomes the B leg's uuid; None, for a text that serves many calls, leaves it to FreeSWITCH.
    `cli` is the number the agent sees, digits only; None leaves it to FreeSWITCH. The ring limit stands twice:
    `originate_timeout` bounds the whole attempt, `leg_timeout` the leg (read in switch_ivr_originate.c:2577 and 3167). The
    talk limit is armed on the B leg when it answers, so that it also ends the talk of a call whose app has died. `extra`
    are further variables of the leg.
    Raises UnsafeText for any value that is not strictly of its form.
    """
    ring = _seconds("ring time", ring_seconds, MAX_RING_SECONDS)
    talk = _seconds("talk time", talk_seconds, MAX_TALK_SECONDS)
    variables = {} if leg_uuid is None else {"origination_uuid": _checked(_UUID, "leg's uuid", leg_uuid)}
    variables |= {
        # without it an announcement counts as an answer (facts, pri-and-freetdm.md section 1, trap 5)
        "ignore_early_media": "true",
        "originate_timeout": str(ring),
        "leg_timeout": str(ring),
    }
    if cli is not None:
        variables["origination_caller_id_number"] = _checked(_CLI, "caller id", cli)
    variables["execute_on_answer"] = f"'sched_hangup +{talk} ALLOTTED_TIMEOUT'"
    for name, value in extra.items():
        if name in variables:
            raise UnsafeText("variable's name", "is already set by the dial string's own rules", name)
        variables[_checked(_NAME, "variable's name", name)] = _checked(_VALUE, f"variable {name}", value)
    settings = ",".join(f"{name}={value}" for name, value in variables.items())
    return f"{{{settings}}}{_target(endpoint, dial_digits(e164, endpoint.dial_prefix))}"


def _target(endpoint: Endpoint, digits: str) -> str:
    name = _checked(_TRUNK, "trunk's name", endpoint.name)
    if endpoint.kind == "span":
        return f"freetdm/{name}/{_checked(_HUNT, 'order of hunting', endpoint.hunt)}/{digits}"
    return f"sofia/gateway/{name}/{digits}"
