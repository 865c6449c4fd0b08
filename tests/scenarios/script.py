"""A scenario as it is written in YAML, and the reading of the files.

    common: {...}          what all scenarios of the file have; each scenario is laid over it, mapping by mapping
    scenarios:
      - name: a key at the prompt
        does: {asked: press 1}
        expect: {outcome: served, journey: [call.arrived, ask: call.answered menu.key, bye: hangup]}
      - name: agent releases with <cause>
        each: [{cause: USER_BUSY, q850: 17}, …]      one scenario for each, <key> replaced

Keys of a scenario:
    steps      the flow, its first step is the start; `crm:/path` is the scenario's own CRM, `nobody:/path` a port where nobody
               listens, `@asha` an agent's number, `@caller` the caller's, `sound:hello` a file with a second of silence; a step
               set to null is taken away
    values     our number's, for the parameters of its flow, which is `main`
    flow       a flow of the scenario's own instead
    example    an account's file instead, from the folder of this one; its agents are asha, ravi, meena, and every address at
               a host that ends in .example is the scenario's own CRM
    account    more of the account's file
    dial       the digits the exchange sends, if not our number's ten
    withheld, diverted_from     the caller's number is hidden; who sent the call on
    agents     who answers how: asha, ravi, meena to a behaviour, or to a list of them, one for each attempt:
               {answers: {after: 1, talks: 2, alerts: 0.3}}, busy, {rejects: 1}, silent, announcement, unreachable,
               {released: CAUSE}; one who answers may press keys first:
               {answers: {listens: 1, presses: "1", talks: 2}}; a name left out is a number that does not exist
    engaged    agents who talk by another call of ours, until `free asha`
    waiting    callers who stand in the queue of `support` before this one, and are never served
    crm        what a path answers (200 unless told): a status, a text, {agents: […]}, {plain: […]},
               {status:, body:, delay:, type:}, {sound: seconds} of silence as audio (`crm:/path` in a text is the scenario's
               own CRM), or a list of these, one for each request
    mail       what the mail server does: taken (unless told), away, or its answers ({RCPT: 550 no such user})
    time       what time it is in the account's time zone, `2026-11-23 10:30`, for opening hours
    speaks     seconds for which the caller speaks when a message is recorded
    does       what the caller does, and what goes wrong, at a moment: `asked 2 + 0.5` is half a second into the second
               question. Moments: ringing, answered, asked, plays, records, rings, talks, with a count (1 unless told) and
               seconds (0.6 unless told). Deeds: press KEYS, hang up, lose socket, free NAME
    expect     outcome, reason, ended_by, cause, digits; journey (codes, under the step that wrote them; recordings' lines
               last); legs (`asha busy`); asked (paths in order, with parameters that must be among those sent), delivery
               (its type), recordings (`talk 2 good`), mails (`desk@acme.example: a subject`);
               heard (all texts that were played to the caller, as one)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from exoflow.config import yaml12

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
USUAL_SECONDS = 0.6  # between a moment and a deed: behind the prompt's first word, far from every limit
KEYS = {
    "file",
    "name",
    "each",
    "steps",
    "flow",
    "example",
    "account",
    "values",
    "dial",
    "withheld",
    "diverted_from",
    "agents",
    "engaged",
    "waiting",
    "crm",
    "mail",
    "speaks",
    "time",
    "does",
    "expect",
}
MOMENT = re.compile(r"(ringing|answered|asked|plays|records|rings|talks)(?: (\d+))?(?: \+ (\d+(?:\.\d+)?))?")
DEED = re.compile(r"press ([0-9*#A-D]+)|hang up|lose socket|free [a-z]+")

Journey = list[tuple[str, str]]


@dataclass(frozen=True)
class Deed:
    """What happens `after` seconds of the `count`-th `moment`."""

    moment: str
    count: int
    after: float
    what: str


@dataclass
class Scenario:
    name: str
    steps: dict[str, Any] = field(default_factory=dict)
    file: str = ""
    example: Path | None = None
    account: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    dial: str = ""
    withheld: bool = False
    diverted_from: str = ""
    agents: dict[str, Any] = field(default_factory=dict)
    engaged: list[str] = field(default_factory=list)
    waiting: int = 0
    crm: dict[str, Any] = field(default_factory=dict)
    mail: Any = "taken"
    speaks: float = 2.0
    time: str = ""
    deeds: list[Deed] = field(default_factory=list)
    expect: dict[str, Any] = field(default_factory=dict)
    written: dict[str, Any] = field(default_factory=dict)
    """as it stands in YAML, variations laid over"""

    @property
    def id(self) -> str:
        return f"{self.file}: {self.name}" if self.file else self.name

    def as_yaml(self) -> str:
        """To be kept as a fixture."""
        return yaml.safe_dump([self.written], sort_keys=False, allow_unicode=True, width=140)


def read_all() -> list[Scenario]:
    """Every scenario there is, the examples' last. Raises ValueError for one that is not understood."""
    files = [path for path in sorted(HERE.glob("*.yaml")) if path.name != "differences.yaml"]
    found = [scenario for path in files for scenario in read(path)] + examples()
    names = [scenario.id for scenario in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"twice: {', '.join(sorted(twice))}")
    return found


def examples() -> list[Scenario]:
    """The scenarios of all that is in examples/."""
    return [scenario for path in sorted(EXAMPLES.glob("*/scenarios.yaml")) for scenario in read(path)]


def read(path: Path) -> Iterator[Scenario]:
    name = path.stem if path.parent == HERE else path.parent.name
    document = yaml12.read(path)  # as configurations are read: `on` and `yes` are texts
    if document.findings:
        raise ValueError("; ".join(str(finding) for finding in document.findings))
    whole = document.value
    for one in whole["scenarios"]:
        laid = overlay(whole.get("common", {}), one)
        for values in laid.pop("each", [{}]):
            text = json.dumps(laid)
            for key, value in values.items():
                # a value that is more than a text stands where the whole text is its key
                text = text.replace(f'"<{key}>"', json.dumps(value)).replace(f"<{key}>", str(value))
            try:
                yield scenario(json.loads(text), name, path.parent)
            except (KeyError, TypeError, ValueError) as problem:
                raise ValueError(f"{path}: {laid.get('name')}: {problem}") from problem


def scenario(written: Mapping[str, Any], file: str = "", folder: Path = HERE) -> Scenario:
    if unknown := set(written) - KEYS:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    values = {key: value for key, value in written.items() if key not in ("does", "each", "file", "flow")}
    if "example" in written:
        values["example"] = folder / written["example"]
    else:
        steps = written.get("flow") or written["steps"]
        values["steps"] = {name: step for name, step in steps.items() if step is not None}
    return Scenario(file=file, deeds=deeds(written.get("does") or {}), written=dict(written), **values)


def deeds(written: Mapping[str, Any]) -> list[Deed]:
    found = []
    for when, whats in written.items():
        match = MOMENT.fullmatch(when)
        if match is None:
            raise ValueError(f"no moment: {when}")
        moment, count, after = match.groups()
        for what in whats if isinstance(whats, list) else [whats]:
            if DEED.fullmatch(what) is None:
                raise ValueError(f"no deed: {what}")
            found.append(Deed(moment, int(count or 1), USUAL_SECONDS if after is None else float(after), what))
    return found


def overlay(under: Any, over: Any) -> Any:
    """`over` laid on `under`: mappings key by key, all else replaced. A step of another applet replaces the whole step."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    laid = dict(under)
    for key, value in over.items():
        laid[key] = overlay(under[key], value) if key in under and key != "does" else value
    return laid


def journey(written: list[Any]) -> Journey:
    """`[call.arrived, ask: call.answered menu.key]` as pairs of step and code; the step is empty where there is none."""
    found: Journey = []
    for part in written:
        for step, told in part.items() if isinstance(part, dict) else [("", part)]:
            found += [(step, code) for code in told.split()]
    return found
