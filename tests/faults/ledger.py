"""The switch's CDRs against what the CRM received: exoflow writes neither, and its tables are not looked at.

Nothing of exoflow is imported: a misreading there must not be made here again. `faults.planted` spoils good books in known
ways; a checker that overlooks one of them has shown nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import gevent

ENDS = ("call.ended", "call.missed")  # exactly one of these a call
END_SECONDS = 1.0  # between the channel's end and the record's
TALK_SECONDS = 1.0  # of error in a talk's length, as promised
EARLY_SECONDS = 0.2  # the switch's clock and the CRM's are read by different threads
LOOK_SECONDS = 0.05
DIGITS = 10  # of a number, from its end: trunk and country prefixes are the exchange's affair


@dataclass(frozen=True)
class Received:
    """One POST as the CRM got it. `at` in epoch seconds; `signed`: its signature is right."""

    at: float
    id: str
    body: bytes
    signed: bool

    @property
    def event(self) -> dict[str, Any]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Books:
    """What both sides wrote."""

    cdrs: tuple[dict[str, Any], ...]
    received: tuple[Received, ...]


@dataclass(frozen=True)
class Violation:
    """`channel`: the caller's, or what names the call else."""

    code: str
    channel: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.channel}: {self.text}"


class _Channel:
    """A leg by its CDR. Times are epoch seconds, 0: it did not come to that."""

    def __init__(self, cdr: dict[str, Any]) -> None:
        said = cdr["variables"]
        self.uuid = str(said["uuid"])
        self.incoming = cdr["channel_data"]["direction"] == "inbound"
        profile = cdr["callflow"][-1]["caller_profile"]  # the oldest: what the exchange had sent
        self.caller = _end_of(profile["caller_id_number"])
        self.dialled = _end_of(profile["destination_number"])
        self.call = said.get("exo_call", "")
        self.refused = said.get("exo_refused", "")
        self.of = said.get("originating_leg_uuid") or said.get("originator", "")
        self.started, self.answered, self.bridged, self.ended = (
            int(said[f"{what}_uepoch"]) / 1e6 for what in ("start", "answer", "bridge", "end")
        )

    @property
    def talk(self) -> float:
        return self.ended - self.answered if self.answered and self.bridged else 0.0


def check(books: Books) -> list[Violation]:
    """All that is wrong. A call is found by the id that its channel bears; without one by its caller and its end."""
    channels = [_Channel(cdr) for cdr in books.cdrs]
    calls = [one for one in channels if one.incoming]
    legs: defaultdict[str, list[_Channel]] = defaultdict(list)
    for one in channels:
        if not one.incoming:
            legs[one.of].append(one)
    found = [*_repeats(books.received)]
    ends = _ends(books.received)
    of_call = _given(calls, ends)
    for call in calls:
        told = of_call.get(call.uuid, [])
        if not told:
            found.append(Violation("lost", call.uuid, "the CRM was never told of its end"))
        if len({one.id for one in told}) > 1:
            found.append(Violation("twice", call.uuid, f"its end was told under {len({one.id for one in told})} ids"))
        for end in told[:1]:
            found += _compared(call, sorted(legs[call.uuid], key=lambda leg: leg.started), end)
    known = {one.id for told in of_call.values() for one in told}
    for end in ends:
        if end.id not in known:
            found.append(Violation("ghost_call", end.event["data"]["call"], "no channel of the switch was this call"))
    return found


# --- deliveries ------------------------------------------------------------------------------------


def _repeats(received: Sequence[Received]) -> Iterator[Violation]:
    """A delivery may come again, under its id and with its bytes."""
    bodies: defaultdict[str, set[bytes]] = defaultdict(set)
    for one in received:
        bodies[one.id].add(one.body)
        if not one.signed:
            yield Violation("unsigned", one.id, "its signature is not ours")
    for identity, different in bodies.items():
        if len(different) > 1:
            yield Violation("altered", identity, f"came with {len(different)} bodies")


def _ends(received: Sequence[Received]) -> list[Received]:
    """Each delivery of a call's end once, as it came first."""
    first: dict[str, Received] = {}
    for one in sorted(received, key=lambda one: one.at):
        if one.event["type"] in ENDS:
            first.setdefault(one.id, one)
    return list(first.values())


def _given(calls: Sequence[_Channel], ends: Sequence[Received]) -> dict[str, list[Received]]:
    """The deliveries by the channel whose call they tell of."""
    of_id = {call.call: call for call in calls if call.call}
    nameless: defaultdict[str, list[_Channel]] = defaultdict(list)
    for call in calls:
        if not call.call:
            nameless[call.caller].append(call)
    found: defaultdict[str, list[Received]] = defaultdict(list)
    for one in ends:
        data = one.event["data"]
        call = of_id.get(data["call"])
        if call is None:
            at = _epoch(data["ended_at"])
            near = [other for other in nameless[_end_of(data["caller"])] if abs(other.ended - at) < END_SECONDS]
            call = min(near, key=lambda other: abs(other.ended - at), default=None)
        if call is not None:
            found[call.uuid].append(one)
    return found


# --- one call --------------------------------------------------------------------------------------


def _compared(call: _Channel, legs: list[_Channel], told: Received) -> Iterator[Violation]:
    data, kind = told.event["data"], told.event["type"]

    def wrong(code: str, text: str) -> Violation:
        return Violation(code, call.uuid, text)

    if told.at < call.ended - EARLY_SECONDS:
        yield wrong("early", f"told {call.ended - told.at:.1f} s before its end")
    if abs(_epoch(data["ended_at"]) - call.ended) > END_SECONDS:
        yield wrong("end", f"ended at {call.ended:.2f}, told is {_epoch(data['ended_at']):.2f}")
    if _end_of(data["caller"]) != call.caller:
        yield wrong("caller", f"{call.caller} called, told is {data['caller']}")
    if bool(call.refused) != (data["outcome"] == "refused"):
        yield wrong("outcome", f"refused at the door: {call.refused or 'no'}; told is {data['outcome']}")
    talked = [leg for leg in legs if leg.talk]
    if bool(talked) != (data["outcome"] == "answered"):
        yield wrong("outcome", f"{len(talked)} talks, told is {data['outcome']}")
    if talked and kind != "call.ended":
        yield wrong("outcome", f"a talk told as {kind}")
    if abs((length := sum(leg.talk for leg in talked)) - data["talk_seconds"]) > TALK_SECONDS * max(1, len(talked)):
        yield wrong("talk", f"talked {length:.1f} s, told are {data['talk_seconds']}")
    yield from _legs(legs, data["legs"], wrong)


def _legs(legs: list[_Channel], told: list[dict[str, Any]], wrong: Any) -> Iterator[Violation]:
    """Each phone that was rung is told of, and no other."""
    dialled = {leg.uuid: leg for leg in legs}
    for one in told:
        leg = dialled.pop(one["leg"], None)
        if leg is None:
            # it was decided on and not dialled: a line without a channel, or a death in between
            if one["setup_at"] or one["answered_at"] or one["talk_seconds"]:
                yield wrong("ghost_leg", f"{one['number']} was never rung, told is {one['outcome']}")
            continue
        if _end_of(one["number"]) != leg.dialled:
            yield wrong("number", f"{leg.dialled} was rung, told is {one['number']}")
        if bool(leg.talk) != (one["talk_seconds"] > 0) or abs(leg.talk - one["talk_seconds"]) > TALK_SECONDS:
            yield wrong("talk", f"{leg.dialled} talked {leg.talk:.1f} s, told are {one['talk_seconds']}")
    for leg in dialled.values():
        yield wrong("hidden_leg", f"{leg.dialled} was rung and is not told of")


def _end_of(number: str | None) -> str:
    """Without what precedes a subscriber's number, and without a terminator."""
    return "".join(char for char in number or "" if char.isdigit())[-DIGITS:]


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# --- the books are kept ----------------------------------------------------------------------------


class Tee:
    """Keeps each CDR that the switch writes, and then lets exoflow have it: exoflow removes what it has read.

    The switch writes into `written`, exoflow reads in `given`; those in `kept`, beside it, stay. A file is passed on when it
    parses. All three are on one file system.
    """

    def __init__(self, written: Path, given: Path) -> None:
        self.written, self.given, self.kept = written, given, given.with_name(f"{given.name}-kept")
        for folder in (self.written, self.given, self.kept):
            folder.mkdir(parents=True, exist_ok=True)
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill()
        self.pass_on()

    def _run(self) -> None:
        while True:
            self.pass_on()
            gevent.sleep(LOOK_SECONDS)

    def pass_on(self) -> None:
        for file in list(self.written.glob("*.json")):
            try:
                json.loads(file.read_text(errors="replace"))
            except ValueError:
                continue  # it is being written
            (self.given / file.name).hardlink_to(file)
            file.rename(self.kept / file.name)

    def cdrs(self) -> tuple[dict[str, Any], ...]:
        return tuple(json.loads(file.read_text(errors="replace")) for file in sorted(self.kept.glob("*.json")))


def received(requests: Iterable[Any]) -> tuple[Received, ...]:
    """What a DemoCrm with a secret took."""
    return tuple(Received(one.at, one.headers["webhook-id"], one.body, one.signed) for one in requests)
