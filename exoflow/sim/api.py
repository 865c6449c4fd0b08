"""The API commands a client may ask for (mod_commands.c), as far as exoflow and its tests use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exoflow.sim.apps.basic import schedule_transfer
from exoflow.sim.causes import cause_name
from exoflow.sim.dialplan import DialplanError
from exoflow.sim.placed import originate

if TYPE_CHECKING:
    from exoflow.sim.channel import Channel
    from exoflow.sim.switch import EmbeddedSwitch

NO_CHANNEL = "-ERR No such channel!\n"
VERSION = "1.10.12-release  64bit"


def run_api(switch: EmbeddedSwitch, name: str, arguments: str) -> str:
    """The answer's text, as FreeSWITCH frames it in api/response."""
    switch.api_calls.append((name, arguments))
    command = _COMMANDS.get(name)
    return f"-ERR {name} Command not found!\n" if command is None else command(switch, arguments)


def _uuid_break(switch: EmbeddedSwitch, arguments: str) -> str:
    uuid, _, scope = arguments.partition(" ")
    channel = switch.channels.get(uuid)
    if channel is None or channel.hung_up:
        return NO_CHANNEL
    if channel.session is not None:
        channel.session.break_application(drop_queue=scope == "all")
    return "+OK\n"


def _uuid_kill(switch: EmbeddedSwitch, arguments: str) -> str:
    uuid, _, cause = arguments.partition(" ")
    channel = switch.channels.get(uuid)
    if channel is None or channel.hung_up:
        return NO_CHANNEL
    channel.hangup(cause_name(cause) if cause else "NORMAL_CLEARING")
    return "+OK\n"


def _hupall(switch: EmbeddedSwitch, arguments: str) -> str:
    for channel in list(switch.channels.values()):
        channel.hangup(cause_name(arguments) if arguments else "MANAGER_REQUEST")
    return "+OK hangup all channels with cause MANAGER_REQUEST\n"


def _uuid_exists(switch: EmbeddedSwitch, arguments: str) -> str:
    channel = switch.channels.get(arguments.strip())
    return "true" if channel is not None and not channel.hung_up else "false"


def _uuid_getvar(switch: EmbeddedSwitch, arguments: str) -> str:
    uuid, _, name = arguments.partition(" ")
    channel = switch.channels.get(uuid)
    return NO_CHANNEL if channel is None else channel.variables.get(name.strip(), "_undef_")


def _uuid_setvar(switch: EmbeddedSwitch, arguments: str) -> str:
    words = arguments.split(" ", 2)
    channel = switch.channels.get(words[0])
    if channel is None:
        return NO_CHANNEL
    if len(words) < 2:
        return "-USAGE: <uuid> <var> [value]\n"
    value = words[2] if len(words) > 2 else None
    if value and "${" in value:
        switch.complain("expansion", f"uuid_setvar stores {value[:80]!r}, which expands when it is used", channel.session)
    channel.set(words[1], value)
    return "+OK\n"


def _uuid_transfer(switch: EmbeddedSwitch, arguments: str) -> str:
    words = arguments.split(" ")
    channel = switch.channels.get(words[0])
    if channel is None or channel.session is None:
        return NO_CHANNEL
    if len(words) < 2:
        return "-USAGE: <uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]\n"
    channel.session.transfer(words[1], words[3] if len(words) > 3 else "")
    return "+OK\n"


def _sched_transfer(switch: EmbeddedSwitch, arguments: str) -> str:
    time, *words = arguments.split(" ")
    if not words or len(words) > 4:
        return "-USAGE: [+]<time> <uuid> <extension> [<dialplan>] [<context>]\n"
    channel = switch.channels.get(words[0])
    if channel is None or channel.hung_up:
        return NO_CHANNEL
    if channel.session is not None and len(words) > 1:
        schedule_transfer(channel.session, [time, *words[1:]])
    return "+OK\n"


def _sched_del(switch: EmbeddedSwitch, arguments: str) -> str:
    channel = switch.channels.get(arguments.strip())
    deleted = channel.session.cancel_scheduled() if channel is not None and channel.session is not None else 0
    return f"+OK Deleted: {deleted}\n"


def _reloadxml(switch: EmbeddedSwitch, arguments: str) -> str:
    """Files that cannot be read leave what there is (switch_xml.c)."""
    try:
        switch.dialplan = switch.dialplan.read_again()
    except DialplanError as error:
        return f"-ERR [{error}]\n"
    return "+OK [Success]\n"


def _limit_usage(switch: EmbeddedSwitch, arguments: str) -> str:
    words = arguments.split()
    if len(words) < 3:
        return "-USAGE: <backend> <realm> <id> [rates]\n"
    return str(switch.limits.get(f"{words[1]}_{words[2]}", 0))


def _global_getvar(switch: EmbeddedSwitch, arguments: str) -> str:
    return switch.globals.get(arguments.strip(), "")


def _global_setvar(switch: EmbeddedSwitch, arguments: str) -> str:
    name, _, value = arguments.partition("=")
    switch.globals[name.strip()] = value.strip()
    return "+OK\n"


def _status(switch: EmbeddedSwitch, arguments: str) -> str:
    seconds = int(switch.clock.elapsed())
    return (
        f"UP 0 years, {seconds // 86400} days, {seconds // 3600 % 24} hours, {seconds // 60 % 60} minutes, "
        f"{seconds % 60} seconds, 0 milliseconds, 0 microseconds\n"
        f"FreeSWITCH (Version {VERSION}) is ready\n"
        f"{switch.sessions} session(s) since startup\n"
        f"{len(switch.channels)} session(s) - peak {switch.peak}, last 5min {switch.peak} \n"
        "0 session(s) per Sec out of max 1000, peak 0, last 5min 0 \n"
        "10000 session(s) max\nmin idle cpu 0.00/99.00\nCurrent Stack Size/Max 240K/8192K\n"
    )


def _show(switch: EmbeddedSwitch, arguments: str) -> str:
    if not arguments.startswith("channels"):
        return "-USAGE: show channels [as json]\n"
    newest = switch.clock.micros() - int(switch.list_lag_seconds * 1e6)
    rows = [_row(channel) for channel in switch.channels.values() if channel.created <= newest]
    if "as json" in arguments:
        # an empty table has no `rows` at all
        table: dict[str, object] = {"row_count": len(rows), "rows": rows} if rows else {"row_count": 0}
        return json.dumps(table, separators=(",", ":")) + "\n"
    return f"\n{len(rows)} total.\n"


def _row(channel: Channel) -> dict[str, str]:
    created = datetime.fromtimestamp(channel.created / 1e6, UTC)
    return {
        "uuid": channel.uuid,
        "direction": channel.direction,
        "created": f"{created:%Y-%m-%d %H:%M:%S}",
        "created_epoch": str(channel.created // 1_000_000),
        "name": channel.name,
        "state": channel.state,
        "cid_name": channel.caller,
        "cid_num": channel.caller,
        "ip_addr": "",
        "dest": channel.destination,
        "application": channel.variables.get("current_application", ""),
        "application_data": channel.variables.get("current_application_data", ""),
        "dialplan": "XML",
        "context": channel.context,
        "callstate": channel.callstate,
        "call_uuid": channel.call_uuid if channel.call_uuid != channel.uuid else "",
        "initial_dest": channel.destination,
        "initial_context": channel.context,
    }


_COMMANDS: dict[str, Callable[[EmbeddedSwitch, str], str]] = {
    "uuid_break": _uuid_break,
    "uuid_kill": _uuid_kill,
    "hupall": _hupall,
    "uuid_exists": _uuid_exists,
    "uuid_getvar": _uuid_getvar,
    "uuid_setvar": _uuid_setvar,
    "uuid_transfer": _uuid_transfer,
    "sched_del": _sched_del,
    "sched_transfer": _sched_transfer,
    "originate": originate,
    "reloadxml": _reloadxml,
    "limit_usage": _limit_usage,
    "global_getvar": _global_getvar,
    "global_setvar": _global_setvar,
    "status": _status,
    "show": _show,
    "version": lambda switch, _: f"FreeSWITCH Version {VERSION}\n",
}
