"""What a played call's record, CRM and deliveries say, in a form that does not depend on ring, time and chance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from exoflow.calls.model import CallState
from exoflow.sim.crm import Request
from scenarios.script import Journey, Scenario, journey

# of the dialect's parameters: those that differ from call to call
BY_CHANCE = re.compile(
    r"CallSid|Created|StartTime|EndTime|CurrentTime|DialCallDuration|RecordingUrl|flow_id|tenant_id|timestamp"
    r"|CallFrom|CallTo|From|To|OutgoingPhoneNumber|DialWhomNumber|ForwardedFrom|Legs\[\d+\](\[Insights\])?\[(OnCallDuration|RingingDuration|Number|CallerId)\]"
)


@dataclass
class Told:
    """One call."""

    outcome: str = ""
    reason: str = ""
    ended_by: str = ""
    cause: str = ""
    digits: str = ""
    journey: Journey = field(default_factory=list)
    legs: list[str] = field(default_factory=list)
    """agent, outcome, cause"""
    recordings: list[str] = field(default_factory=list)
    """kind, channels, state"""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """the CRM's requests: path, and the parameters that are the same at each playing"""
    deliveries: list[str] = field(default_factory=list)
    """types, in the order of the store"""
    mails: list[str] = field(default_factory=list)
    """receivers and subject"""
    heard: list[str] = field(default_factory=list)
    """texts that the switch was told to play to the caller, whether he stayed for them or not; not compared between rings, for
    what is played beside a CRM's answer is chance"""
    problem: str = ""
    """why there is no record"""

    def lines(self) -> list[str]:
        """For people, and for comparing line by line."""
        if self.problem:
            return [f"problem: {self.problem}"]
        values = asdict(self)
        shown = [f"{name}: {values[name]}" for name in ("outcome", "reason", "ended_by", "cause", "digits")]
        shown += [f"journey: {step or '-'}: {code}" for step, code in self.journey]
        shown += [f"leg: {leg}" for leg in self.legs] + [f"recording: {one}" for one in self.recordings]
        shown += [f"asked: {path} {parameters}" for path, parameters in self.asked]
        return shown + [f"delivery: {kind}" for kind in self.deliveries] + [f"mail: {one}" for one in self.mails]


def tell(
    state: CallState,
    names: dict[str, str],
    asked: Iterable[Request],
    prefix: str,
    deliveries: Iterable[str],
    sounds: Iterable[str] = (),
) -> Told:
    """`names`: agents' names by their numbers. `prefix`: of this scenario's paths at the CRM."""
    return Told(
        outcome=state.outcome or "",
        reason=state.reason,
        ended_by=state.ended_by,
        cause=state.cause,
        digits=state.digits,
        journey=normal([(entry.step or "", entry.code) for entry in state.journey]),
        legs=[f"{names.get(leg.number, leg.number)} {leg.outcome} {leg.cause}" for leg in state.legs],
        recordings=[f"{one.kind} {one.channels} {one.state}" for one in state.recordings],
        asked=[(one.path.removeprefix(prefix), parameters(one)) for one in asked],
        deliveries=list(deliveries),
        heard=[text(Path(sound)) for sound in sounds],
    )


def text(sound: Path) -> str:
    """What a rendered prompt says; of another file its name."""
    said = sound.with_suffix(".txt")
    return said.read_text(encoding="utf-8") if said.exists() else sound.name


def normal(lines: Journey) -> Journey:
    """A recording is judged beside the call: where its line stands among the others is chance, so it goes to the end."""
    return sorted(lines, key=lambda line: line[1].startswith("recording."))


def parameters(request: Request) -> dict[str, str]:
    """Of the query, and the texts of a form or a JSON body."""
    sent = [*request.params, *_body(request)]
    return {name: value for name, value in sent if BY_CHANCE.fullmatch(name) is None}


def _body(request: Request) -> list[tuple[str, str]]:
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind == "application/x-www-form-urlencoded":
        return parse_qsl(request.body.decode(), strict_parsing=True)
    if kind != "application/json":
        return []
    return [(name, value) for name, value in json.loads(request.body).items() if isinstance(value, str)]


def written(lines: Journey) -> list[Any]:
    """As a scenario's `journey` is written."""
    found: list[Any] = []
    for step, group in groupby(lines, key=lambda line: line[0]):
        codes = " ".join(code for _, code in group)
        found += [{step: codes}] if step else codes.split()
    return found


def unexpected(scenario: Scenario, told: Told) -> list[str]:
    """Where the call was not as the scenario says."""
    if told.problem:
        return [told.problem]
    found = []
    for name, want in scenario.expect.items():
        if name == "journey":
            want, got = journey(want), told.journey
            if want != got:
                found += [f"journey: wanted {written(want)}", f"journey: came   {written(got)}"]
            continue
        if name == "asked":
            found += _unexpected_requests(want, told.asked)
            continue
        if name == "legs":
            got = [" ".join(leg.split()[: len(text.split())]) for leg, text in zip(told.legs, want, strict=False)]
            got += told.legs[len(want) :]
        elif name == "heard":
            want, got = want.split(), " ".join(told.heard).split()
        elif name == "delivery":
            want, got = [want] if want else [], told.deliveries
        else:
            got = getattr(told, name)
        if got != want:
            found.append(f"{name}: wanted {want}, came {got}")
    return found


def _unexpected_requests(want: list[Any], got: list[tuple[str, dict[str, str]]]) -> list[str]:
    pairs = [next(iter(one.items())) if isinstance(one, dict) else (one, {}) for one in want]
    if [path for path, _ in pairs] != [path for path, _ in got]:
        return [f"asked: wanted {[path for path, _ in pairs]}, came {[path for path, _ in got]}"]
    return [
        f"asked: {path}: {key} wanted {value!r}, came {sent.get(key)!r}"
        for (path, parameters), (_, sent) in zip(pairs, got, strict=True)
        for key, value in parameters.items()
        if sent.get(key) != str(value)
    ]


def differences(one: Told, other: Told) -> list[str]:
    """Lines that only one of the two has, as `embedded - …` and `FreeSWITCH - …` would be shown."""
    left, right = one.lines(), other.lines()
    if left == right:
        return []
    if sorted(left) == sorted(right):
        return [f"in another order: {written(one.journey)} / {written(other.journey)}"]
    return [f"embedded only:   {line}" for line in left if line not in right] + [
        f"FreeSWITCH only: {line}" for line in right if line not in left
    ]
