"""Applications of call control, variables and schedules (mod_dptools.c)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from exoflow.sim.apps import application
from exoflow.sim.causes import cause_name
from exoflow.sim.channel import TYPE_FIELDS
from exoflow.sim.expand import expand

if TYPE_CHECKING:
    from exoflow.sim.channel import Channel
    from exoflow.sim.session import Session


@application("answer")
def answer(session: Session, argument: str) -> None:
    session.channel.answer()


@application("pre_answer")
def pre_answer(session: Session, argument: str) -> None:
    session.channel.early_media()


@application("ring_ready")
def ring_ready(session: Session, argument: str) -> None:
    session.channel.ring()
    session.phone.is_ringing()


@application("hangup")
def hangup(session: Session, argument: str) -> None:
    session.channel.hangup(cause_name(argument))


@application("sleep")
def sleep(session: Session, argument: str) -> None:
    """Milliseconds. With audio a key ends it, at once if one waits, and stays queued (seen on 1.10.12: 1.1 s of 3 s).

    The dialplan's own sleep judges the app: it waits for one to come back.
    """
    media = session.channel.media
    session.wait(_number(argument) / 1000, lambda: media and bool(session.digits), judges=not session.in_app)


@application("flush_dtmf")
def flush_dtmf(session: Session, argument: str) -> None:
    session.digits.clear()


@application("park")
def park(session: Session, argument: str) -> None:
    session.park()


@application("log")
def log(session: Session, argument: str) -> None:
    session.switch.log(argument)


@application("set")
def set_(session: Session, argument: str) -> None:
    """`name=value`. The value is expanded a second time here (mod_dptools.c:1668)."""
    _set(session, argument)


@application("export")
def export(session: Session, argument: str) -> None:
    _set(session, argument.removeprefix("nolocal:"))


@application("unset")
def unset(session: Session, argument: str) -> None:
    session.channel.set(argument.strip(), None)


@application("multiset")
def multiset(session: Session, argument: str) -> None:
    """`^^;a=1;b=two words`, or `a=1 b=2`."""
    pairs = argument[3:].split(argument[2]) if argument.startswith("^^") and len(argument) > 2 else argument.split(" ")
    for pair in pairs:
        _set(session, pair)


def _set(session: Session, pair: str) -> None:
    name, equals, value = pair.partition("=")
    if not name:
        return
    if name == "socket_resume" and value == "true":
        session.switch.complain("resume", "socket_resume drops a talking agent when the app ends", session)
    value = expand(session, value)
    session.channel.set(name, value if equals and value and value != "_undef_" else None)


@application("set_profile_var")
def set_profile_var(session: Session, argument: str) -> None:
    """Of the caller profile only the types of number (switch_channel.c:1191-1197)."""
    name, _, value = argument.partition("=")
    if name in TYPE_FIELDS:
        session.channel.types[name] = int(_number(value)) % 256


@application("sched_cancel")
def sched_cancel(session: Session, argument: str) -> None:
    """All scheduled tasks of this call: the guard, and a talk limit on this leg too."""
    session.cancel_scheduled()


@application("sched_transfer")
def sched_transfer(session: Session, argument: str) -> None:
    """`+N extension [dialplan [context]]`. Judges the app: at every speed of the switch the app has its N seconds."""
    words = argument.split()
    if len(words) >= 2:
        schedule_transfer(session, words)


def schedule_transfer(session: Session, words: Sequence[str]) -> None:
    seconds = max(0.0, _number(words[0]))
    session.schedule(seconds, lambda: session.transfer(words[1], words[3] if len(words) > 3 else ""), judges=True)


@application("sched_hangup")
def sched_hangup(session: Session, argument: str) -> None:
    """`+N cause`: limits a talk, so it runs in switch time."""
    words = argument.split()
    if words:
        cause = words[1] if len(words) > 1 else "ALLOTTED_TIMEOUT"
        session.schedule(_number(words[0]), lambda: session.channel.hangup(cause_name(cause)))


@application("transfer")
def transfer(session: Session, argument: str) -> None:
    """`extension [dialplan [context]]`."""
    words = argument.split()
    if words:
        session.transfer(words[0], words[2] if len(words) > 2 else "")


@application("execute_extension")
def execute_extension(session: Session, argument: str) -> None:
    """`extension [dialplan [context]]`, and back."""
    words = argument.split()
    if words:
        session.execute_extension(words[0], words[2] if len(words) > 2 else "")


@application("limit")
def limit(session: Session, argument: str) -> None:
    """`backend realm id max !CAUSE`: counts this call while it lives and refuses it above the maximum."""
    words = argument.split()
    key, most = f"{words[1]}_{words[2]}", int(_number(words[3])) if len(words) > 3 else -1
    counts, channel = session.switch.limits, session.channel
    if session.limited_by != key:  # a transfer keeps the count (limit_ignore_transfer)
        counts[key] = counts.get(key, 0) + 1
        session.limited_by = key
        channel.set("limit_backend", words[0])
        channel.before_report.append(lambda: _release(channel, counts, key))
    for name, value in (("limit_usage", counts[key]), ("limit_rate", 0)):
        channel.set(name, str(value))
        channel.set(f"{name}_{key}", str(value))
    if 0 <= most < counts[key]:
        channel.hangup(cause_name(words[4].lstrip("!") if len(words) > 4 else "USER_BUSY"))


def _release(channel: Channel, counts: dict[str, int], key: str) -> None:
    channel.set("limit_backend", None)
    counts[key] = max(0, counts.get(key, 0) - 1)


def _number(text: str) -> float:
    found = re.match(r"\s*\+?(-?\d+(\.\d+)?)", text)
    return float(found[1]) if found else 0.0
