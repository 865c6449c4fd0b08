"""CDR files of FreeSWITCH's mod_json_cdr: what a leg of a call was at its end, also when nobody was there to hear it.

One file a leg, `UUID.cdr.json` (freeswitch-conf/autoload_configs/json_cdr.conf.xml: both legs, values as they are), written in
place and at once: whole only when it parses. Callers have a hand in what stands in them (numbers, SIP headers), so only
what is read here leaves this module, each thing with a form and a length of its own.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exoflow.errors import CdrError
from exoflow.telephony.causes import MAX_Q850, by_name, of_leg

SUFFIX = ".cdr.json"
PLACED = "exo_placed"  # on the first leg of a call that we placed (dialplan/from-pri/10-trunk.xml)
CONTEXT = "from-pri"  # dialplan/from-pri.xml
MAX_BYTES = 1 << 20  # real ones have 5 to 20 kB; a caller's SIP headers can make them longer, each 4 kB at most
MAX_TEXT = 64  # characters of what the exchange sent as a number
MAX_LEGS = 200  # of one call that are looked at
LATEST = 1 << 52  # microseconds, in the year 2112; what is later is no time

_UUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_CALL = re.compile(r"[0-9a-f]{32}")
_DONE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){1,9}")
_CODE = re.compile(r"[a-z][a-z_]{0,31}")
_TRUNK = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# the dialplan's word, and where it has that from: a call that it refused at the door has no exo_trunk
_TRUNKS = ("exo_trunk", "freetdm_span_name", "sip_gateway", "sofia_profile_name")
_CAUSE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
# who let a SIP channel go (mod_sofia): everything it received came from the caller, everything it sent from us
_FROM_CALLER = "recv_"
_GAVE_UP = "ORIGINATOR_CANCEL"  # the only cause of FreeSWITCH's own that means the caller


@dataclass(frozen=True, slots=True)
class LegEnd:
    """An agent's leg, whose channel is gone. Times are aware UTC; None: it did not come to that."""

    uuid: str
    setup_at: datetime | None
    alerting_at: datetime | None
    early_media_at: datetime | None
    answered_at: datetime | None  # the talk began
    released_at: datetime | None
    cause: str  # FreeSWITCH's name
    q850: int | None
    caller: str = ""  # channel of the call it was dialled for
    number: str = ""  # digits as they were dialled
    fallback: bool = False  # dialled by the dialplan's fallback, not by an app
    trunk: str = ""  # exo_fallback_trunk: the trunk's name
    picked_up: bool = False  # by an agent who was then asked whether he takes the call (telephony/dialstring.Ask)


@dataclass(frozen=True, slots=True)
class CallEnd:
    """A caller's leg, whose channel is gone. Times are aware UTC."""

    channel: str
    created_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime | None
    cause: str  # FreeSWITCH's name
    q850: int | None
    caller_left: bool  # the caller hung up; else it was exoflow, the dialplan or the switch
    trunk: str  # exo_trunk: span or gateway, as the dialplan found it
    did: str  # digits as the exchange sent them
    caller_raw: str
    withheld: bool
    diverted_raw: str  # exo_diverted_from
    refused: str = ""  # exo_refused
    fallback: str = ""  # exo_fallback
    call_id: str = ""  # exo_call
    done: str = ""  # exo_done
    variables: dict[str, str] = field(default_factory=dict)
    ring_at: datetime | None = None
    routed_at: datetime | None = None  # when its last way through the dialplan began, e.g. the fallback

    context: str = ""  # of the dialplan, that it arrived in

    @property
    def ours(self) -> bool:
        """Did it come through our dialplan? A FreeSWITCH may have other uses."""
        return self.context == CONTEXT or any(name.startswith("exo_") for name in self.variables)

    @property
    def placed(self) -> bool:
        """Was it placed by us (flow/placing.py)? Its record then was on disk before anybody was rung."""
        return self.variables.get(PLACED) == "true"

    @property
    def originated(self) -> list[str]:
        """The legs that were dialled for this call, by whomever, in their order."""
        text = self.variables.get("originated_legs", "").removeprefix("ARRAY::")
        uuids = (one.partition(";")[0] for one in text.split("|:")[:MAX_LEGS])
        return list(dict.fromkeys(uuid for uuid in uuids if _UUID.fullmatch(uuid)))


def parse(text: str | bytes) -> CallEnd | LegEnd:
    """Reads one file's content. Raises CdrError if it is not (or not yet) a whole CDR."""
    if len(text) > MAX_BYTES:
        raise CdrError(f"it has more than {MAX_BYTES >> 20} MiB")
    try:
        cdr = json.loads(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:
        raise CdrError(f"it is not whole JSON ({error})") from None
    variables = {name: value for name, value in _part(cdr, "variables").items() if isinstance(value, str)}
    uuid = variables.get("uuid", "")
    if _UUID.fullmatch(uuid) is None:
        raise CdrError("it tells no channel's uuid")
    flow = [entry for entry in _listed(cdr, "callflow") if isinstance(entry, dict)]
    if not flow:
        raise CdrError("it has no callflow")
    match _part(cdr, "channel_data").get("direction"):
        case "inbound":
            return _call(uuid, variables, flow)
        case "outbound" if variables.get(PLACED) == "true":
            return _call(uuid, variables, flow)
        case "outbound":
            return _leg(uuid, variables, flow)
    raise CdrError("it is neither of an incoming nor of an outgoing leg")


def read_file(path: Path | str) -> bytes:
    """A file's content, in no time whatever lies there. Raises FileNotFoundError, OSError, CdrError."""
    # neither a link to elsewhere nor a pipe that never ends
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CdrError("it is no plain file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def read_leg(folder: Path, uuid: str) -> LegEnd | None:
    """The end of a leg of ours, if its file is there and whole. It reads a disk: call it in a thread."""
    if _UUID.fullmatch(uuid) is None:
        return None
    try:
        end = parse(read_file(path_of(folder, uuid)))
    except (OSError, CdrError):
        return None
    return end if isinstance(end, LegEnd) and end.uuid == uuid else None


def path_of(folder: Path, uuid: str) -> str:
    """Where a channel's file is.

    Not a `Path`, which interns its names: for names that die at once the interpreter's one table of them takes 2 MiB more.
    """
    return os.path.join(folder, uuid + SUFFIX)


def uuid_of(name: str) -> str:
    """The channel whose file bears this name; empty if it is no CDR file's."""
    uuid = name.removesuffix(SUFFIX)
    return uuid if uuid != name and _UUID.fullmatch(uuid) else ""


# --- the two kinds ------------------------------------------------------------------------------


def _call(uuid: str, variables: dict[str, str], flow: list[dict[str, Any]]) -> CallEnd:
    # each transfer puts a profile in front: the newest has all times, the oldest what the exchange had sent
    times, profile = _part(flow[0], "times"), _part(flow[-1], "caller_profile")
    refused = _formed(_CODE, variables.get("exo_refused"))
    cause, q850 = _cause(variables)
    return CallEnd(
        channel=uuid,
        created_at=_moment(times.get("created_time")),
        routed_at=_moment(times.get("profile_created_time")),
        ring_at=_moment(times.get("progress_time")),
        answered_at=_moment(times.get("answered_time")),
        ended_at=_moment(times.get("hangup_time")),
        cause=cause,
        q850=q850,
        caller_left=not refused and left_by_caller(variables),
        trunk=next((found for name in _TRUNKS if (found := _formed(_TRUNK, variables.get(name)))), ""),
        did=_plain(variables.get("exo_did") or profile.get("destination_number")),
        caller_raw=_plain(profile.get("caller_id_number")),
        withheld=variables.get("exo_withheld") == "true",
        diverted_raw=_plain(variables.get("exo_diverted_from")),
        refused=refused,
        fallback=_formed(_CODE, variables.get("exo_fallback")),
        call_id=_formed(_CALL, variables.get("exo_call")),
        done=_formed(_DONE, variables.get("exo_done")),
        variables=variables,
        context=_plain(profile.get("context")),
    )


def _leg(uuid: str, variables: dict[str, str], flow: list[dict[str, Any]]) -> LegEnd:
    times, profile = _part(flow[0], "times"), _part(flow[-1], "caller_profile")
    # of a leg that is bridged FreeSWITCH takes the other marks of asking away; this one stays
    asked = "group_confirm_timeout" in variables
    answered_at = _moment(times.get("answered_time"))
    cause, q850 = _cause(variables)
    talked = not asked and variables.get("hangup_cause") != "LOSE_RACE"  # who answers a moment too late does not talk
    return LegEnd(
        uuid=uuid,
        setup_at=_moment(times.get("created_time")),
        alerting_at=_moment(times.get("progress_time")),
        early_media_at=_moment(times.get("progress_media_time")),
        answered_at=answered_at if talked else _moment(times.get("bridged_time")),
        released_at=_moment(times.get("hangup_time")),
        cause=cause,
        q850=q850,
        picked_up=asked and answered_at is not None,
        caller=_formed(_UUID, variables.get("originating_leg_uuid") or variables.get("originator")),
        number=_plain(profile.get("destination_number")),
        fallback="exo_fallback_leg" in variables,
        trunk=_formed(_TRUNK, variables.get("exo_fallback_trunk")),
    )


def _cause(variables: Mapping[str, str]) -> tuple[str, int | None]:
    protocol = variables.get("proto_specific_hangup_cause", "")
    return of_leg(_formed(_CAUSE, variables.get("hangup_cause")), _q850(variables), protocol)


def left_by_caller(variables: Mapping[str, str]) -> bool:
    """Did the caller end the call? By a channel's variables after its end.

    Of a channel of ISDN nothing tells who released it: not the caller if we had come to hang up, or if the cause is one
    that no exchange sends."""
    told = variables.get("sip_hangup_disposition", "")
    if told:
        return told.startswith(_FROM_CALLER)
    if variables.get("last_app", variables.get("current_application")) == "hangup":
        return False
    cause = by_name(variables.get("hangup_cause", ""))
    return cause is None or cause.q850 <= MAX_Q850 or cause.name == _GAVE_UP


# --- parts of any type --------------------------------------------------------------------------


def _part(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _listed(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _formed(form: re.Pattern[str], value: Any) -> str:
    return value if isinstance(value, str) and form.fullmatch(value) else ""


def _plain(value: Any) -> str:
    """A text for people and for reading a number in it; of bounded length and without control characters."""
    text = value[:MAX_TEXT] if isinstance(value, str) else ""
    return "".join(char if char.isprintable() else "?" for char in text)


def _q850(variables: Mapping[str, str]) -> int | None:
    text = variables.get("hangup_cause_q850", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else None


def _moment(value: Any) -> datetime | None:
    """Microseconds since 1970 as FreeSWITCH writes them, in a text; 0 means that it did not come to that."""
    if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 17):
        return None
    micros = int(value)
    return datetime.fromtimestamp(micros / 1e6, UTC) if 0 < micros < LATEST else None
