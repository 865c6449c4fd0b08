"""json_cdr files: one for each leg, as mod_json_cdr writes them with `log-b-leg` (switch_ivr.c:3335).

A file is there before the leg's CHANNEL_HANGUP_COMPLETE. What only audio has (callStats) is empty.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exoflow.sim.channel import Channel, Direction
    from exoflow.sim.dialplan import Route
    from exoflow.sim.session import Session

Json = dict[str, Any]

# of channels that FreeSWITCH 1.10.12 wrote (tests/wire/recorded/cdr), by (direction, answered): numbers of its inner flags
_FLAGS: dict[tuple[Direction, bool], str] = {
    ("inbound", True): "0=1;1=1;22=1;39=1;40=1;42=1;45=1;50=1;55=1;113=1;114=1;123=1;160=1;165=1;166=1",
    ("inbound", False): "0=1;1=1;40=1;42=1;113=1;114=1",
    ("outbound", True): "0=1;1=1;2=1;22=1;39=1;40=1;42=1;45=1;50=1;55=1;107=1;113=1;114=1;123=1;160=1;165=1;166=1",
    ("outbound", False): "0=1;2=1;30=1;40=1;42=1;113=1;114=1",
}
_CAPS = "1=1;2=1;3=1;4=1;5=1;6=1;8=1;9=1;10=1"
_TIMES = {
    "progress_time": "Progress", "progress_media_time": "Progress-Media", "answered_time": "Answered",
    "bridged_time": "Bridged", "last_hold_time": "Last-Hold", "hold_accum_time": "Hold-Accum", "hangup_time": "Hangup",
    "resurrect_time": "Resurrect", "transfer_time": "Transfer",
}  # fmt: skip


def write_cdr(folder: Path, channel: Channel) -> None:
    """`UUID.cdr.json` in a folder, which is made. A disk that refuses is told to nobody, as there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(cdr_of(channel), ensure_ascii=False, separators=(",", ":"))
        (folder / f"{channel.uuid}.cdr.json").write_text(text, encoding="utf-8", errors="replace")
    except OSError as e:
        channel.switch.log(f"Error writing the CDR of {channel.uuid}: {e.strerror}")


def cdr_of(channel: Channel) -> Json:
    session = channel.session
    cdr: Json = {
        "core-uuid": channel.switch.bus.core_uuid,
        "switchname": channel.switch.globals["hostname"],
        "channel_data": {
            "state": "CS_REPORTING",
            "direction": channel.direction,
            "state_number": "11",
            "flags": _FLAGS[channel.direction, channel.answered],
            "caps": _CAPS,
        },
        "callStats": {},
        "variables": dict(channel.variables),
    }
    if session is not None and session.ran:
        cdr["app_log"] = {"applications": [_ran(*one) for one in session.ran]}
    cdr["callflow"] = _callflow(channel, session)
    return cdr


def _ran(application: str, argument: str | None, micros: int) -> Json:
    data = {} if argument is None else {"app_data": argument}
    return {"app_name": application} | data | {"app_stamp": str(micros)}


def _callflow(channel: Channel, session: Session | None) -> list[Json]:
    """One entry for each extension the call was routed to, the last one first."""
    route = None if session is None else session.route
    older = list(reversed(session.past)) if session is not None else []
    # a profile begins when the one before it is left
    begun = [*(past.times["Transfer"] for past in older), channel.created]
    flow = [_entry(channel, channel.destination, channel.rdnis, channel.times, route, begun[0])]
    for past, at in zip(older, begun[1:], strict=True):
        flow.append(_entry(channel, past.destination, past.rdnis, past.times, past.route, at))
    return flow


def _entry(channel: Channel, destination: str, rdnis: str, times: dict[str, int], route: Route | None, begun: int) -> Json:
    entry: Json = {"dialplan": "XML", "profile_index": "1"}
    if route is not None:
        entry["extension"] = _extension(route)
    profile = _profile(channel, destination, rdnis)
    if channel.other is not None:
        # an agent's leg was dialled by the extension that ran then, which is what its caller's profile says
        at = channel.other.destination
        if channel.other.session is not None and channel.other.session.route is not None:
            children = channel.other.session.route.children
            at = children[-1].number if children else at
        partner = _profile(channel.other, at, channel.other.rdnis)
        profile[channel.other_type] = {f"{channel.other_type}_caller_profiles": [partner]}
    entry["caller_profile"] = profile
    entry["times"] = {"created_time": str(channel.created), "profile_created_time": str(begun)}
    entry["times"] |= {name: str(times[what]) for name, what in _TIMES.items()}
    return entry


def _extension(route: Route, *, inner: bool = False) -> Json:
    extension: Json = {"name": route.name, "number": route.number}
    current = route.actions[route.at] if 0 <= route.at < len(route.actions) else None
    applications = [
        ({"last_executed": "true"} if action is current else {}) | {"app_name": action.application, "app_data": action.data}
        for action in route.actions
    ]
    running = {} if current is None else {"current_app": current.application}
    if inner:
        return extension | {"dialplan": "XML"} | running | {"applications": applications}
    extension |= {"applications": applications} | running
    if route.children:
        extension["sub_extensions"] = [_extension(child, inner=True) for child in route.children]
    return extension


def _profile(channel: Channel, destination: str, rdnis: str) -> Json:
    return {
        "username": channel.caller,
        "dialplan": "XML",
        "caller_id_name": channel.caller,
        "ani": channel.caller,
        "aniii": "",
        "caller_id_number": channel.caller,
        "network_addr": "",
        "rdnis": rdnis,
        "destination_number": destination,
        "uuid": channel.uuid,
        "source": "mod_freetdm",
        "context": channel.context,
        "chan_name": channel.name,
    }
