"""Random flows and callers (hypothesis), and what must be true of each call whatever happens in it.

Only what both rings can tell apart by a good margin is drawn: no deed stands near a limit, no two things happen at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scenarios.script import Scenario, scenario
from scenarios.told import Told

LONGEST = 8  # steps before the last
SAID = ("Welcome to Acme.", "We are glad to help.", "Please wait a moment.")  # a second and more
SILENCE = "-"
KEYS = "111222333*9#--"
LEAVES = {
    "menu": ("asked",),
    "gather": ("asked",),
    "pause": ("plays",),
    "greeting": ("plays",),
    "voicemail": ("plays", "records"),
    "connect": ("rings", "talks"),
}
CAUSES = ("NORMAL_CLEARING", "USER_BUSY", "CALL_REJECTED")
AT_ONCE = ("busy", "unreachable", {"released": "CALL_REJECTED"}, {"released": "UNALLOCATED_NUMBER"})
IN_TIME = ({"answers": {"talks": 1.5}}, {"rejects": 1.5}, "silent")  # ring for more than a second
ENDS = {"hangup", "hangup.after", "caller.left"}
CRM_TIMEOUT = 0.5


def calls(count: int, *, good: Callable[[Scenario], bool] = lambda _: True) -> list[Scenario]:
    """The first `count` of an endless row that is always the same."""
    found: list[Scenario] = []

    @settings(
        max_examples=count * 2,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(written())
    def collect(one: dict[str, Any]) -> None:
        if len(found) < count:
            made = scenario({**one, "name": f"random {len(found) + 1}"})
            if good(made):
                found.append(made)

    collect()
    assert len(found) == count, f"only {len(found)} of {count}"
    return found


@st.composite
def written(draw: st.DrawFn) -> dict[str, Any]:
    """A scenario without expectations."""
    names = [f"s{at}" for at in range(draw(st.sampled_from(range(2, LONGEST + 1))))] + ["bye"]
    steps: dict[str, Any] = {}
    crm: dict[str, Any] = {}
    slow = False
    for at, name in enumerate(names[:-1]):
        steps[name] = draw(_step(name, names[at + 1 :], [one for one in names[:at] if "menu" in steps[one]]))
        if "passthru" in steps[name]:
            crm[f"/{name}"] = answer = draw(st.sampled_from((200, 200, 302, 404, 500, {"delay": 1.2})))
            slow = slow or isinstance(answer, dict)
    steps["bye"] = {"hangup": {"cause": draw(st.sampled_from(CAUSES))}}
    keys = draw(st.tuples(*[st.sampled_from(KEYS)] * 5))
    does = {f"asked {n}": f"press {key}" for n, key in enumerate(keys, 1) if key != SILENCE}
    kinds = {next(iter(step)) for step in steps.values()}
    leaves = draw(st.sampled_from(sorted({moment for kind in kinds for moment in LEAVES.get(kind, ())} | {""})))
    behaviours = IN_TIME if leaves == "rings" else IN_TIME + AT_ONCE
    if leaves and not (leaves == "plays" and slow):  # hold audio's length is the CRM's, not the switch's
        count = draw(st.sampled_from((1, 1, 2)))
        does.pop(f"{leaves} {count}", None)
        does[f"{leaves} {count} + {0.3 if leaves == 'plays' else 0.6}"] = "hang up"
    agents = {name: draw(st.sampled_from(behaviours)) for name in ("asha", "ravi", "meena")}
    return {"steps": steps, "crm": crm, "does": does, "agents": agents, "speaks": draw(st.sampled_from((0, 1, 2)))}


@st.composite
def _step(draw: st.DrawFn, name: str, later: list[str], menus: list[str]) -> dict[str, Any]:
    """One step that leads on to later ones, a menu now and then back to an earlier menu."""
    on = st.sampled_from(later)
    kinds = ("greeting", "menu", "menu", "gather", "switch", "passthru", "pause", "connect", "voicemail", "hangup")
    kind = draw(st.sampled_from(kinds))
    if kind == "gather":
        asked = {"say": "Dial your number.", "max_digits": draw(st.integers(1, 2)), "timeout": 2, "digit_timeout": 2}
        return {"gather": {**asked, "attempts": draw(st.integers(1, 2))}, "next": draw(on), "otherwise": draw(on)}
    if kind == "switch":
        return {"switch": {"on": "digits"}, "cases": {"1*": draw(on), "2": draw(on)}, "otherwise": draw(on)}
    if kind == "pause":
        return {"pause": {"seconds": 1.2}, "next": draw(on)}
    if kind == "greeting":
        return {"greeting": {"say": draw(st.sampled_from(SAID))}, "next": draw(on)}
    if kind == "menu":
        keys = draw(st.sampled_from(("1", "12", "123", "123*")))
        to = st.sampled_from(later + menus[-1:])
        attempts = draw(st.integers(1, 2))
        return {
            "menu": {"say": "Dial a key please.", "attempts": attempts, "timeout": 2},
            "keys": {key: draw(to) for key in keys},
            "otherwise": draw(on),
        }
    if kind == "passthru":
        branches = {"ok": draw(on), "redirect": draw(on)} | ({"failed": draw(on)} if draw(st.booleans()) else {})
        return {"passthru": {"url": f"crm:/{name}", "timeout": CRM_TIMEOUT}, **branches}
    if kind == "connect":
        whom = draw(st.sampled_from(({"group": "support"}, {"numbers": ["@meena"]}, {"group": "backup"})))
        record = draw(st.sampled_from(("none", "none", "dual")))
        return {"connect": {**whom, "ring_seconds": 5, "record": record}, "answered": draw(on), "unanswered": draw(on)}
    if kind == "voicemail":
        return {"voicemail": {"say": "Speak after the tone.", "max_seconds": 6, "silence_seconds": 2}, "next": draw(on)}
    return {"hangup": {"cause": draw(st.sampled_from(CAUSES))}}


# --- what is always true ----------------------------------------------------------------------


def wrong(scenario: Scenario, told: Told) -> list[str]:
    """What is not as it must be of any call."""
    if told.problem:
        return [told.problem]
    return [*_record(told), *_journey(scenario, told), *_legs(told), *_requests(scenario, told)]


def _record(told: Told) -> list[str]:
    """One end, and a delivery of the type that fits."""
    codes = [code for _, code in told.journey]
    wanted_agent = any(code.startswith(("leg.", "connect.")) for code in codes) or "leg.dialled" in codes
    missed = told.outcome in ("missed", "refused") or (told.outcome == "abandoned" and wanted_agent)
    found = []
    if told.outcome not in ("answered", "missed", "abandoned", "served", "voicemail"):
        found.append(f"outcome {told.outcome!r}")
    if told.deliveries != ["call.missed" if missed else "call.ended"]:
        found.append(f"deliveries {told.deliveries} of a call that was {told.outcome}")
    if (told.outcome == "answered") != ("leg.talked" in codes):
        found.append(f"{told.outcome}, and leg.talked {codes.count('leg.talked')} times")
    if (told.reason == "") != (told.outcome in ("answered", "served", "voicemail")):
        found.append(f"reason {told.reason!r} of a call that was {told.outcome}")
    if (told.ended_by == "caller") != (codes.count("caller.left") == 1):
        found.append(f"ended by {told.ended_by!r}, caller.left {codes.count('caller.left')} times")
    return found


def _reached(scenario: Scenario, step: str, silent: set[str]) -> set[str]:
    """The steps to which a step's branches lead, also through steps of which no other line tells."""
    found: set[str] = set()
    ahead = [step]
    while ahead:
        for other in set(_next(scenario.steps[ahead.pop()])) - found:
            found.add(other)
            if other in silent:
                ahead.append(other)
    return found


def _journey(scenario: Scenario, told: Told) -> list[str]:
    """From the arrival along the flow's branches to an end."""
    lines = [line for line in told.journey if not line[1].startswith("recording.")]
    found = []
    if lines[0] != ("", "call.arrived"):
        found.append(f"begins with {lines[0]}")
    if lines[-1][1] not in ENDS and lines[-1][1] != "passthru.branch":
        found.append(f"ends with {lines[-1]}")
    at = next((n for n, (_, code) in enumerate(lines) if code == "caller.left"), len(lines))
    steps = [step for step, _ in lines[:at] if step]
    # of a message in which nothing was said there is this line alone, and it comes when the file was looked at
    silent = {step for step, code in told.journey if code == "recording.nothing_said"}
    ways = [(one, other) for one, other in pairwise(steps) if one != other]
    for one, other in ways:
        if other not in _reached(scenario, one, silent):
            found.append(f"from {one} to {other}, where no branch leads")
    return found


def _next(step: dict[str, Any]) -> set[str]:
    return {value for value in step.values() if isinstance(value, str)} | set(
        (step.get("keys") or step.get("cases") or {}).values()
    )


def _legs(told: Told) -> list[str]:
    """Each attempt has its beginning and its end."""
    codes = Counter(code for _, code in told.journey)
    ends = sum(count for code, count in codes.items() if code.startswith("leg.") and code != "leg.dialled")
    found = []
    if not len(told.legs) == codes["leg.dialled"] == ends:
        found.append(f"{len(told.legs)} legs, dialled {codes['leg.dialled']} times, ended {ends} times")
    if any(leg.split()[1] == "ringing" for leg in told.legs):
        found.append(f"a leg without an end: {told.legs}")
    if any(one.endswith("pending") for one in told.recordings):
        found.append(f"a recording that nobody judged: {told.recordings}")
    return found


def _requests(scenario: Scenario, told: Told) -> list[str]:
    """The CRM is asked once a visit; so once behind a connect, whoever ended the talk."""
    visits = Counter(step for step, code in told.journey if code == "passthru.branch")
    asked = Counter(path.removeprefix("/") for path, _ in told.asked)
    return [] if visits == asked else [f"asked {dict(asked)}, visited {dict(visits)}"]
