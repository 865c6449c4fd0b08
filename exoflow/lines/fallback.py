"""What FreeSWITCH does by itself with a number's callers while no exoflow can take them, written from the accounts.

One file in `dialplan/fallback/` (`switch.fallback`), which `dialplan/from-pri/50-fallback.xml` includes: for each number an
extension on its trunk and its digits, with the account's own announcement and its own agents one after another: those who
are switched on, each within the agent's hours and while the number's flow leads to agents (lines/openings). It is
read by FreeSWITCH alone, while nobody of ours looks: so every value passes its door here, a number whose values do not is
left out and told, and the file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from gevent.lock import BoundedSemaphore

from exoflow.config.actions import ConsentStep
from exoflow.config.model import Account, Config, Number
from exoflow.config.people import Agent
from exoflow.config.promptpath import prompt_path
from exoflow.errors import DeadlineExceeded, Disconnected, ExoflowError, UnsafeText
from exoflow.esl import safety
from exoflow.lines import openings, trunks
from exoflow.lines.lines import Lines
from exoflow.lines.openings import ALWAYS, Opening, Spans
from exoflow.telephony.causes import CAUSES, read_leg
from exoflow.telephony.dialstring import leg_string
from exoflow.threads import in_thread

log = logging.getLogger("exoflow.lines")

FILE = "exoflow.xml"
MODE = 0o644  # FreeSWITCH runs as another user
MAX_AGENTS = 10  # of a number at any time: whoever has been rung for 5 minutes has long gone
RINGBACK = "%(400,200,400,450);%(400,2000,400,450)"  # India's (facts, pri-and-freetdm.md section 8)
TAIL_DIGITS = range(2, 11)  # what exchanges send of a number (telephony/numbers)

# dispositions after which another trunk may reach the same agent: the line's or the network's trouble, not the phone's; 27 is
# also FreeTDM's word for a span that it has not (telephony/causes)
TRUNK_TROUBLE = tuple(
    cause.name
    for cause in CAUSES
    if cause.name == "DESTINATION_OUT_OF_ORDER"
    or read_leg(q850=cause.q850, name=cause.name, answered=False, alerting=False, early_media=False, had_leg=True)[0] == "trunk"
)


_publishing = BoundedSemaphore()  # a slow disk must not have an older configuration written over a newer one
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")


Available = Callable[[str, str], bool]  # is the agent of this account, by these names, switched on?


def everybody(account: str, agent: str) -> bool:
    """All are on: as long as no agent was ever switched."""
    return True


class FallbackError(ExoflowError):
    """The fallback cannot be written; the message names the place and the cure."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a write did. `path` is None when the configuration names no folder."""

    path: Path | None = None
    changed: bool = False
    numbers: int = 0
    left_out: tuple[str, ...] = ()


@dataclass
class _Plan:
    """The file while it is made. `again`: what tries the same agent over another trunk, by its extension's name."""

    config: Config
    digits: Digits
    available: Available
    now: datetime
    numbers: int = 0
    calendars: dict[str, ET.Element] = field(default_factory=dict)  # of holidays, by the variable that each sets
    extensions: list[ET.Element] = field(default_factory=list)
    again: dict[str, ET.Element] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def publish(config: Config, lines: Lines, available: Available = everybody, *, reload: bool = True) -> bool:
    """Writes the fallback and has FreeSWITCH read it, without `reload` only if it has changed.

    What goes wrong is told in the log, and nothing else follows from it. False: it was not written.
    """
    try:
        with _publishing:
            _publish(config, lines, available, reload)
    except FallbackError as error:
        log.error("fallback: %s", error)
        return False
    except (Disconnected, DeadlineExceeded) as error:
        log.warning("fallback: FreeSWITCH reads it as soon as its event socket answers: %s", error)
    except ExoflowError as error:
        log.error("fallback: %s", error)
    except Exception:
        log.exception("fallback: not written, by a fault of exoflow")
    return True


def _publish(config: Config, lines: Lines, available: Available, reload: bool) -> None:
    result: Result = in_thread(write, config, available)
    if result.changed or reload:
        for told in result.left_out:
            log.error("fallback: %s", told)
    if result.path is None:
        return
    if result.changed:
        log.info("fallback of %d numbers written to %s", result.numbers, result.path)
    if result.changed or reload:  # also unchanged: FreeSWITCH may not have read it
        lines.reload_dialplan()


def write(config: Config, available: Available = everybody) -> Result:
    """Writes the file if it would change; in a thread, for disks may be slow. Raises FallbackError."""
    folder = config.switch.fallback
    if folder is None:
        return Result()
    text, count, left_out = content(config, available)
    path = folder / FILE
    try:
        if path.is_file() and path.read_bytes() == text:
            return Result(path, changed=False, numbers=count, left_out=left_out)
        _replace(path, text)
    except OSError as error:
        raise FallbackError(
            f"{path} cannot be written: {error.strerror}; make the folder, and let exoflow's user write into it"
        ) from error
    return Result(path, changed=True, numbers=count, left_out=left_out)


def content(
    config: Config, available: Available = everybody, now: datetime | None = None
) -> tuple[bytes, int, tuple[str, ...]]:
    """The file's bytes, how many numbers it serves, and what was left out of it, and why."""
    plan = _Plan(config, Digits(config), available, now or datetime.now(UTC))
    for account_id, account in config.accounts.items():
        opened: dict[str, Opening] = {}  # of the flows
        for number in account.numbers:
            if number.entry not in opened:
                opened[number.entry] = openings.of_flow(account, number.entry)
            try:
                _add(plan, account_id, account, number, opened[number.entry])
            except ExoflowError as error:
                plan.left_out.append(f"{account_id}: {number.number} has no fallback of its own: {error}")
    root = ET.Element("include")
    root.append(
        ET.Comment(
            " Written by exoflow from its accounts, at each of its good loads and when an agent is switched on or off: what is "
            "changed here is lost. Times are in UTC. "
        )
    )
    root.extend([*plan.calendars.values(), *plan.extensions, *plan.again.values()])
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8") + b"\n", plan.numbers, tuple(plan.left_out)


class Digits:
    """All digits by which the exchange can mean a number and no other, as Config.route takes them from exo_did.

    It is asked beside those numbers only that could be meant instead: beside all of them a thousand numbers take 10 s.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._rivals: dict[tuple[str, str], list[tuple[str, Number]]] = {}  # by trunk and two last digits, or dnis
        for account_id, account in config.accounts.items():
            for number in account.numbers:
                for key in {number.number[-2:], number.dnis or ""}:
                    self._rivals.setdefault((number.trunk, key), []).append((account_id, number))

    def of(self, number: Number) -> list[str]:
        trunk, digits = number.trunk, number.number.removeprefix("+")
        national = digits.removeprefix("91")
        std_code = self._config.trunks[trunk].std_code or ""
        written = [
            number.dnis or "",
            f"00{digits}",
            f"0{digits}",
            digits,
            f"0{national}",
            national,
            national.removeprefix(std_code),
        ]
        written += [digits[-count:] for count in TAIL_DIGITS]
        possible = [form for form in dict.fromkeys(written) if 2 <= len(form) <= 15]
        small = self._beside(trunk, {digits[-2:], *possible})
        found = []
        for form in possible:
            route = small.route(form, trunk)
            if route is not None and route.number is number:
                found.append(form)
        return found

    def _beside(self, trunk: str, keys: Iterable[str]) -> Config:
        """The configuration with those numbers of a trunk alone."""
        numbers: dict[str, dict[int, Number]] = {}
        for key in keys:
            for account_id, number in self._rivals.get((trunk, key), ()):
                numbers.setdefault(account_id, {})[id(number)] = number
        accounts = {
            account_id: self._config.accounts[account_id].model_copy(update={"numbers": list(some.values())})
            for account_id, some in numbers.items()
        }
        return replace(self._config, accounts=accounts)


# --- the file -----------------------------------------------------------------------------------


def _replace(path: Path, text: bytes) -> None:
    """The old file or the new one, whenever FreeSWITCH or a lost power supply comes between. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=".exoflow-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), MODE)
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _add(plan: _Plan, account_id: str, account: Account, number: Number, opening: Opening) -> None:
    """The extensions of one number: one for all days, or one for working days and one for holidays. Raises UnsafeText."""
    digits = plan.digits.of(number)
    if not digits:
        plan.left_out.append(f"{account_id}: {number.number}: no digits mean this number alone")
        return
    agents = _agents(plan, account_id, account)
    days = [("", opening.ordinary)]
    calendar = ""
    if opening.holiday != opening.ordinary:
        calendar = _calendar(plan, account_id, account)
    if calendar:
        days.append(("true", opening.holiday))
    made = []
    for holiday, spans in days:
        extension = ET.Element("extension", {"name": f"{account_id} {number.number}", "continue": "true"})
        _condition(extension, "destination_number", "exoflow_fallback")
        _condition(extension, "${exo_trunk}", *_names(plan.config, number.trunk))
        last = _condition(extension, "${exo_did}", *digits)
        if calendar:
            last = ET.SubElement(extension, "condition", field=f"${{{calendar}}}", expression=f"^{holiday}$")
        _serve(plan, extension, last, account_id, account, number, _within(spans, agents))
        made.append(extension)
    plan.extensions += made
    plan.numbers += 1


def _serve(
    plan: _Plan,
    extension: ET.Element,
    condition: ET.Element,
    account_id: str,
    account: Account,
    number: Number,
    agents: list[tuple[Agent, Spans]],
) -> None:
    """What is done for a caller of the number who meets the condition, the extension's last so far. Raises UnsafeText."""
    actions = _Actions(condition)
    actions.add("sched_cancel")
    actions.add("stop_record_session", "all")  # one that an app had begun would go on
    actions.set("exo_fallback_account", safety.word("account's id", account_id))
    actions.set("exo_fallback_number", safety.word("number", number.number))
    actions.add("answer")
    actions.add("sleep", "300")
    first = account.fallback.spoken(account.language)
    if first is not None:
        actions.add("playback", safety.sound(str(prompt_path(plan.config.prompts, first).resolve())))
    some, beyond = _first_of(agents)
    if some:
        _ring(plan, extension, actions, account_id, account, number, some)
    if beyond:
        told = f"{account_id}: {number.number}: agents behind the {MAX_AGENTS}th are not rung by FreeSWITCH itself"
        plan.left_out += [] if told in plan.left_out else [told]


def _agents(plan: _Plan, account_id: str, account: Account) -> list[Agent]:
    """Whom to ring, in order, each number once; nobody without a group. Who is switched off is left out."""
    group = account.fallback.group or next(iter(account.groups), None)
    if group is None:
        return []
    names = [name for name in account.groups[group].agents if plan.available(account_id, name)]
    return list({account.agents[name].number: account.agents[name] for name in names}.values())


def _within(opening: Spans, agents: list[Agent]) -> list[tuple[Agent, Spans]]:
    """Each of the agents with the times at which this one is rung; who never is, is left out."""
    found = [(agent, openings.meet(opening, openings.of_agent(agent))) for agent in agents]
    return [(agent, spans) for agent, spans in found if spans]


def _first_of(agents: list[tuple[Agent, Spans]]) -> tuple[list[tuple[Agent, Spans]], bool]:
    """Those who are among the first MAX_AGENTS at some time, and whether somebody is not."""
    moments = dict.fromkeys((begins for _, spans in agents for begins, _ in spans), 0)
    found = []
    for agent, spans in agents:
        own = [at for at in moments if any(begins <= at < ends for begins, ends in spans)]
        if any(moments[at] < MAX_AGENTS for at in own):
            found.append((agent, spans))
            moments.update({at: moments[at] + 1 for at in own})
    return found, len(found) < len(agents)


def _calendar(plan: _Plan, account_id: str, account: Account) -> str:
    """The variable that is `true` on the account's holidays; empty if it has none ahead."""
    try:
        days = openings.holiday_conditions(account, plan.now)
    except (ImportError, NotImplementedError) as problem:
        plan.left_out.append(f"{account_id}: the library of holidays cannot tell ({problem}): all days are working days")
        return ""
    if not days:
        return ""
    name = "exo_holiday_" + hashlib.sha256(repr(days).encode()).hexdigest()[:12]
    if name not in plan.calendars:
        extension = plan.calendars[name] = ET.Element("extension", {"name": name, "continue": "true"})
        _utc(_condition(extension, "destination_number", "exoflow_fallback"))
        condition = _times(extension, days)
        ET.SubElement(condition, "action", {"application": "set", "inline": "true", "data": f"{name}=true"})
        _box_time(ET.SubElement(extension, "condition"))
    return name


def _ring(
    plan: _Plan,
    extension: ET.Element,
    actions: _Actions,
    account_id: str,
    account: Account,
    number: Number,
    agents: list[tuple[Agent, Spans]],
) -> None:
    own, config = account.fallback, plan.config
    for name, value in _BRIDGING.items():
        actions.set(name, value)
    if own.record != "none":
        actions.set("RECORD_STEREO", "true" if own.record == "dual" else "false")
        folder = safety.path(str((config.switch.recordings / account_id).absolute()))
        actions.set("exo_fallback_folder", folder)
        actions.set("exo_fallback_day", _day(account))
        # the channel's uuid: there may be no id of ours yet
        actions.set("exo_fallback_record", "${exo_fallback_folder}/${exo_fallback_day}/fallback-${uuid}.wav")
        if any(isinstance(step, ConsentStep) for flow in account.flows.values() for step in flow.steps.values()):
            actions.set("exo_fallback_consent", "needed")
        actions.add("execute_extension", "exoflow_record XML from-pri")
    timed = any(spans != ALWAYS for _, spans in agents)
    if timed:
        _utc(actions.condition)
    now_open: Spans = ALWAYS
    attempt = 0
    for agent, spans in agents:
        if spans != now_open:
            now_open = spans
            times = openings.time_conditions(spans, ZoneInfo(account.time_zone), plan.now)
            actions = _Actions(_times(extension, times))
        for order, name in enumerate(trunks.outbound_order(config.trunks, number.trunk)):
            attempt += 1
            trunk = config.trunks[name]
            dialled = leg_string(
                endpoint=trunks.endpoint(trunk),
                e164=agent.number,
                leg_uuid=None,
                cli=trunk.outbound.cli,
                ring_seconds=own.ring_seconds,
                talk_seconds=own.talk_seconds,
                extra={"exo_fallback_leg": str(attempt), "exo_fallback_trunk": name},
            )
            if order == 0:
                actions.dial(attempt, dialled)
            else:
                actions.add("execute_extension", f"{_again(plan, attempt, dialled)} XML from-pri")
    if timed:
        actions = _Actions(ET.SubElement(extension, "condition"))
        _box_time(actions.condition)
    actions.add("stop_record_session", "all")


def _times(extension: ET.Element, times: list[dict[str, str]]) -> ET.Element:
    """A condition on the time, or none (`times` is empty). It has no field: one with both looks at the field alone
    (mod_dialplan_xml.c:409)."""
    if len(times) < 2:
        return ET.SubElement(extension, "condition", {**(times[0] if times else {}), "break": "never"})
    condition = ET.SubElement(extension, "condition", {"regex": "any", "break": "never"})
    for attributes in times:
        ET.SubElement(condition, "regex", attributes)
    return condition


def _utc(condition: ET.Element) -> None:
    """From here on the dialplan compares with the time of UTC."""
    ET.SubElement(condition, "action", {"application": "set", "inline": "true", "data": "tod_tz_offset=0"})


def _box_time(condition: ET.Element) -> None:
    ET.SubElement(condition, "action", {"application": "unset", "inline": "true", "data": "tod_tz_offset"})


def _day(account: Account) -> str:
    """What FreeSWITCH makes the account's day of: by itself it knows the box's time zone only (strftime_tz needs a
    timezones.conf), so the distance between the two is added, as it is at this load. strftime leaves out the bar and one
    character behind it (mod_dptools.c:2047)."""
    now = datetime.now(ZoneInfo(account.time_zone))
    ahead = (now.utcoffset() or timedelta()) - (now.astimezone().utcoffset() or timedelta())
    return f"${{strftime(${{expr(${{strepoch()}}+{ahead.total_seconds():.0f})}}| %Y/%m/%d)}}"


_BRIDGING = {
    "ringback": RINGBACK,
    "transfer_ringback": RINGBACK,
    "instant_ringback": "true",
    "ignore_early_media": "true",
    "continue_on_fail": "true",
    "hangup_after_bridge": "true",  # a talk is the end; behind it stands the next agent
    "RECORD_BRIDGE_REQ": "true",  # the talk only
    "RECORD_MIN_SEC": "0",
}


def _again(plan: _Plan, attempt: int, dialled: str) -> str:
    """The extension that dials only after trunk trouble; its name is its content's, so that a call in progress never finds
    another account's agent behind it after a reload."""
    name = "exoflow_again_" + hashlib.sha256(f"{attempt} {dialled}".encode()).hexdigest()[:24]
    if name not in plan.again:
        extension = ET.Element("extension", name=name)
        _condition(extension, "destination_number", name)
        trouble = _condition(extension, "${originate_disposition}", *TRUNK_TROUBLE)
        _Actions(trouble).dial(attempt, dialled)
        ET.SubElement(trouble, "anti-action", application="log", data="DEBUG exoflow: no other trunk is needed")
        plan.again[name] = extension
    return name


def _condition(extension: ET.Element, what: str, *values: str) -> ET.Element:
    """Met by each of these values. Raises UnsafeText for one that could mean more than itself in an expression."""
    for value in values:
        if _PLAIN.fullmatch(value) is None:
            raise UnsafeText("value of a condition", "only letters, digits, `_`, `-` and `.` may stand there", value)
    some = "|".join(value.replace(".", r"\.") for value in values)
    expression = f"^(?:{some})$" if len(values) > 1 else f"^{some}$"
    return ET.SubElement(extension, "condition", field=what, expression=expression)


def _names(config: Config, trunk: str) -> list[str]:
    """What the dialplan may call a trunk (exo_trunk): its span or gateway, and its own name if that is no other's."""
    line = config.trunks[trunk]
    told: Iterator[str | None] = iter((line.span, line.gateway, trunk))
    return [name for name in dict.fromkeys(told) if name is not None and trunks.named(config.trunks, name) == trunk]


class _Actions:
    """The actions of a condition, in their order."""

    def __init__(self, condition: ET.Element) -> None:
        self.condition = condition

    def add(self, application: str, data: str = "") -> None:
        ET.SubElement(self.condition, "action", {"application": application} | ({"data": data} if data else {}))

    def set(self, name: str, value: str) -> None:
        self.add("set", f"{name}={value}")

    def dial(self, attempt: int, dialled: str) -> None:
        self.set("exo_fallback_leg", str(attempt))
        self.add("bridge", dialled)
