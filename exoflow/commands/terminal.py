"""The telephones of `exoflow call`: what each caller notices is shown line by line, and typed lines are what people do."""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import click
import gevent
from gevent import select

from exoflow.calls.model import CallState, Entry
from exoflow.calls.show import STAGES, WIDTH, clean
from exoflow.commands.calls import terminal_columns
from exoflow.sim.agents import Handset
from exoflow.sim.phone import Phone
from exoflow.sim.switch import EmbeddedSwitch

READ_BYTES = 4096  # of typed text at once
PHONE_INDENT = 7  # columns, behind `hears  `
UNSENT = ".unsent"  # ends the code of a message that is shown and not sent
_LINE = re.compile(r"(?:(\d+)\s*:)?\s*(.*)", re.DOTALL)
_AGENT = re.compile(r"([abre])\s*(\d+)")
_KEYS = re.compile(r"[0-9*#]+")
_STOPS = {
    "ORIGINATOR_CANCEL": "the caller has gone",
    "NO_ANSWER": "it has rung for long enough",
    "LOSE_RACE": "another answered",
}
_REFUSALS = {"b": "USER_BUSY", "r": "CALL_REJECTED"}


@dataclass
class Caller:
    """One call of the terminal; times in seconds of switch time."""

    prefix: str
    begun: float
    phone: Phone | None = None  # None until the exchange has taken the call
    talking_since: float | None = None
    talked: float = 0.0


class Terminal:
    """The callers, numbered from 1, and the agents' phones that wait for a hand, numbered from 1 across all calls."""

    def __init__(self, *, several: bool, hand: bool = False) -> None:
        """`hand`: the agents' phones wait for typed lines."""
        self.callers: list[Caller] = []
        self.handsets: list[Handset] = []
        self.left = False  # who types has gone: nobody calls any more
        self._several, self._hand = several, hand
        self._switch: EmbeddedSwitch | None = None
        self._columns = terminal_columns() or WIDTH

    def begin(self, *, reading: bool, real: bool) -> None:
        """The first lines: how to type keys and hang up, and what leaves this machine."""
        which = "2:1 are those of call 2, 2:h hangs it up, h all" if self._several else "h and Enter hangs up"
        typing = f"Type keys, then Enter; {which}; so does Ctrl-C." if reading else "Ctrl-C hangs up."
        agents = " a1: phone 1 answers, b1: it is busy, e1: it hangs up." if self._hand else ""
        self._tell(typing + agents)
        if real:
            self._tell("SMS, mails, pages and deliveries are really sent (--real).")
        else:
            self._tell("SMS, mails, pages and deliveries are shown and not sent; CRMs are asked what the flow has to know.")

    def noted(self, state: CallState, entry: Entry) -> None:
        """A line of the journey, as it is made; without its evidence, but for what is not sent."""
        caller = next((one for one in self.callers if one.phone and one.phone.uuid == state.facts.channel), None)
        caller = caller or next(iter(self.callers), None)
        if caller is None or self._switch is None:
            return
        lead = f"{caller.prefix}  {self._switch.clock.elapsed() - caller.begun:6.1f} s  "
        where = f"[{clean(entry.step)}] " if entry.step else ""
        stage = f"{entry.stage} {STAGES[entry.stage]:<8}"
        self._tell(f"{lead}{stage}{where}{clean(entry.text)} ({clean(entry.code)})", len(lead) + len(stage))
        if entry.code.endswith(UNSENT):
            for line in evidence_lines(entry):
                self._tell(" " * len(lead) + f"  {line}", len(lead) + 4)

    def dial(self, switch: EmbeddedSwitch, to: str, from_number: str, **options: Any) -> Phone:
        """Another caller; `options` are those of `EmbeddedSwitch.call`."""
        self._switch = switch
        caller = Caller(f"{len(self.callers) + 1}: " if self._several else "", switch.clock.elapsed())
        self.callers.append(caller)
        self._tell(f"{caller.prefix}{from_number} calls {to}")

        def show(kind: str, text: str) -> None:
            now = switch.clock.elapsed()
            _count_talk(caller, kind, text, now)
            if line := told(kind, text):
                lead = f"{caller.prefix}  {now - caller.begun:6.1f} s  "
                self._tell(lead + line, len(lead) + PHONE_INDENT)

        caller.phone = switch.call(to, from_number, on_event=show, **options)
        return caller.phone

    def _tell(self, line: str, indent: int = 0, *, err: bool = False) -> None:
        """One line; what is too long for the terminal goes on beneath, indented."""
        folded = textwrap.wrap(
            line,
            self._columns,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
            drop_whitespace=True,
        )
        try:
            click.echo("\n".join(folded), err=err)
        except BrokenPipeError:  # who reads has gone, as `head` does; the switch must not stumble over it
            if not self.left:
                self.left = True
                gevent.spawn(self.hangup)

    def rings(self, handset: Handset) -> None:
        """An agent's phone rings and waits for a hand."""
        self.handsets.append(handset)
        number = len(self.handsets)
        prefix = next((caller.prefix for caller in self.callers if caller.phone is handset.caller), "")
        self._tell(f"{prefix}            phone {number} ({handset.who}): a{number} answers, b{number} busy, r{number} rejects")

        def over(cause: str) -> None:
            if not handset.lifted and not handset.cause:
                self._tell(f"{prefix}            phone {number} ({handset.who}) stops ringing: {_STOPS.get(cause, cause)}")

        handset.told = over

    def hangup(self) -> None:
        """All callers hang up, and no more of them call."""
        self.left = True
        for caller in self.callers:
            if caller.phone is not None:
                caller.phone.hangup()

    def typed(self, line: str) -> None:
        """Does what a typed line says; what cannot be done is told."""
        found = _LINE.fullmatch(line.strip().lower())
        assert found is not None
        number, text = found[1], found[2]
        if not text:
            return
        if agent := _AGENT.fullmatch(text):
            complaint = self._agent(agent[1], int(agent[2]))
        elif text in ("h", "hangup") and number is None:
            self.hangup()
            return
        else:
            complaint = self._caller(int(number or 0), text)
        if complaint:
            self._tell(f"  {complaint}", err=True)

    def _caller(self, number: int, text: str) -> str:
        """Keys or `h` for one call, 0 for the only one. What is wrong with that, or nothing."""
        keys = text.replace(" ", "")
        if not _KEYS.fullmatch(keys) and text not in ("h", "hangup"):
            return f"{text!r} is not understood; exoflow call --help tells what can be typed"
        if number == 0 and self._several:
            return f"which call? Write e.g. 2:{keys}"
        callers = self.callers[max(number, 1) - 1 :]
        phone = callers[0].phone if callers else None
        if phone is None or phone.ended_at is not None:
            return f"there is no call {number} now" if number else "the call has ended"
        if keys.startswith("h"):
            phone.hangup()
        else:
            phone.press(keys)
        return ""

    def _agent(self, what: str, number: int) -> str:
        """A hand at an agent's phone. What is wrong with that, or nothing."""
        handset = self.handsets[number - 1] if 0 < number <= len(self.handsets) else None
        if handset is None or handset.over:
            return f"phone {number} does not ring"
        if what == "e":
            if not handset.lifted:
                return f"phone {number} has not been answered; b{number} or r{number} refuses the call"
            handset.release("NORMAL_CLEARING")
        elif handset.lifted:
            return f"phone {number} is answered; e{number} hangs up"
        elif what == "a":
            handset.answer()
        else:
            handset.release(_REFUSALS[what])
        return ""

    def read(self) -> None:
        """Typed lines until there are no more: the callers hang up then."""
        descriptor, rest = sys.stdin.fileno(), b""
        while True:
            select.select([descriptor], [], [])
            more = os.read(descriptor, READ_BYTES)
            *lines, rest = (rest + (more or b"\n")).split(b"\n")
            for line in lines:
                self.typed(line.decode("utf-8", "replace"))
            if not more:
                self.hangup()
                return

    @contextmanager
    def attended(self, *, reading: bool) -> Iterator[None]:
        """Takes typed lines, and Ctrl-C as the callers' hanging up; a second Ctrl-C ends the command."""

        def interrupted(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            gevent.spawn(self.hangup)  # not here: this may run in the middle of anything

        before: Callable[[int, FrameType | None], Any] | int | None = signal.signal(signal.SIGINT, interrupted)
        reader = gevent.spawn(self.read) if reading else None
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            if reader is not None:
                reader.kill()


def times_of(caller: Caller) -> str:
    """Ring, answer, talk and total, each in seconds since the call's start or of its length."""
    phone = caller.phone
    assert phone is not None

    def after(at: float | None) -> str:
        return "never" if at is None else f"after {at - phone.called_at:.1f} s"

    total = (phone.ended_at if phone.ended_at is not None else phone.switch.clock.elapsed()) - phone.called_at
    ring, answer = after(phone.ringing_at), after(phone.answered_at)
    return f"{caller.prefix}ring {ring}, answer {answer}, talk {caller.talked:.1f} s, total {total:.1f} s"


def told(kind: str, text: str) -> str:
    """What the phone's owner notices, as a line; empty for what is not shown."""
    if kind == "hears":
        return "hears  " + (f'"{text}"' if not text.startswith(("tone", "silence", "ringback", "hold music")) else f"[{text}]")
    if kind == "asked":
        return "is asked for a key" if text == "1" else f"is asked for up to {text} keys"
    return {"ringing": "rings", "answered": "is answered", "key": f"presses {text}", "agent": text, "ended": f"ends: {text}"}[
        kind
    ]


def evidence_lines(entry: Entry) -> Iterator[str]:
    """What a message says, `name: value` line by line."""
    for name, value in entry.evidence.items():
        pairs = value.items() if isinstance(value, dict) else [(name, value)]
        for key, text in pairs:
            if text not in (None, [], ""):
                said = ", ".join(map(str, text)) if isinstance(text, list) else str(text)
                yield from (f"{clean(key)}: {clean(line)}" for line in said.splitlines())


def _count_talk(caller: Caller, kind: str, text: str, now: float) -> None:
    """Adds up the seconds with agents; a talk ends with the agent's leaving or with the call."""
    if kind == "agent" and text.endswith(" talks"):
        caller.talking_since = now
    elif caller.talking_since is not None and (kind == "ended" or (kind == "agent" and text.endswith(" gone"))):
        caller.talked += now - caller.talking_since
        caller.talking_since = None
