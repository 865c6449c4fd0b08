"""Holds what callers, agents and the CRM saw of calls against exoflow's records: violations in words, and figures.

A violation is whatever a caller, an agent or a business would notice; what may be done twice after a kill is named here.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from support.audio import Sound, read_wav

from exoflow.calls.model import CallState
from faults.callers import FIRST_KEYS, Told
from faults.killed import FALLBACK_TALK, TONES, Killed
from faults.ledger import Books, check, received

BLOCK = 0.02
ONCE = ("call.arrived", "call.answered", "greeting.played", "gather.digits", "menu.key", "passthru.branch", "leg.dialled")
ONCE += ("leg.talked", "crm.agents", "recording.good", "hangup.done", "hangup.after")
LONG_SECONDS = 1.8  # of silence
STEPS_SECONDS = 5.0  # for the steps that need no caller
DEAD_SECONDS = 0.8  # behind a kill at least
DEATHS = 3  # within 10 s: the fallback (dialplan/from-pri/40-died.xml)
LOUD = -25.0  # dB; the tones are at -6
TONE_SECONDS = 0.25  # by which a tone may be heard shorter or longer: two switches on a busy machine lose frames
HOLE_SECONDS = 0.3  # in an agent's voice
TALK_SECONDS = 1.0  # of error in the record's talk, as promised
RECORDING_SECONDS = 0.6  # of difference between talk and recording
END_SECONDS = 0.5  # between the caller's end and the record's
FALLBACK_LEG = ("net1", "answered")  # killed.py's first phone of the fallback
BEFORE_SECONDS, UNKNOWN_SECONDS = 0.1, 0.15  # around a CRM's answer: a kill in it leaves open whether it was got


@dataclass
class Findings:
    """Of many calls."""

    served: bool = False  # had the fallback to take the calls?
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)  # of kills, each call it met counts
    silences: list[float] = field(default_factory=list)  # seconds between two prompts, with a kill since the first began
    usual: list[float] = field(default_factory=list)  # and without
    long: list[str] = field(default_factory=list)  # the longest of them, to be looked into

    def say(self, told: Told, what: str) -> None:
        self.violations.append(f"{told.plan.kind} {told.channel} ({told.visit.caller}): {what}")


def judge(site: Killed, calls: list[Told]) -> Findings:
    """All calls that there were, after they have ended and been delivered."""
    found = judge_each(site, calls)
    judge_all(site, calls, found)
    return found


def judge_each(site: Killed, calls: list[Told], *, served: bool = False) -> Findings:
    """Call by call. `served`: the fallback had to take them."""
    found = Findings(served=served)
    for told in calls:
        _judge_call(site, told, found)
    return found


def _judge_call(site: Killed, told: Told, found: Findings) -> None:
    state = site.stored(told.channel)
    kills = kills_of(site, told)
    found.counts["calls"] += 1
    found.counts["calls that met a kill"] += bool(kills)
    found.phases.update(phase(told, at) for at in kills)
    if state is None or state.outcome is None:
        found.say(told, "no closed record")
        return
    if told.plan.kind == "prompts":
        _judge_silence(told, kills, found)
    if fell_back(state) or found.served:
        _judge_fallback(told, state, kills, found)
        return
    if told.trouble:
        found.say(told, told.trouble)
    _judge_end(told, state, found)
    _judge_journey(told, state, site.kills, found)
    if told.plan.kind == "prompts":
        _judge_tones(told, found)
    elif told.plan.kind == "keys":
        _judge_keys(told, kills, found)
    else:
        _judge_agents(told, state, kills, found)
    for path in ("/idle", "/order", "/rating", "/lookup", "/agents", "/after"):
        _judge_asked(told, path, site.kills, found)


def kills_of(site: Killed, told: Told) -> list[float]:
    """Those between the call's answer and its end."""
    start, end = told.phone.answered_at, told.phone.ended_at
    return [at for at in site.kills if start is not None and end is not None and start < at < end]


def phase(told: Told, at: float) -> str:
    """What the call was at in this moment, as the outside saw it."""
    for one in told.attempts:
        if one.at <= at <= (one.answered_at or one.ended_at or at):
            return "an agent rings"
        if one.answered_at is not None and one.answered_at <= at <= (one.ended_at or at):
            return "talk"
    if told.plan.kind == "prompts":
        return "prompts"
    return "question" if told.plan.kind == "keys" or not told.visit.requests("/lookup") else "CRM and behind"


# --- each call --------------------------------------------------------------------------------------


def _judge_end(told: Told, state: CallState, found: Findings) -> None:
    ended = told.phone.ended_at
    if state.ended_at is None or ended is None or abs(state.ended_at.timestamp() - ended) > END_SECONDS:
        found.say(told, f"ended at {ended}, in the record at {state.ended_at}")
    if left(told) and state.ended_by != "caller":
        found.say(told, f"its caller left, the record says {state.ended_by!r}")
    if not left(told) and state.ended_by != "exoflow":
        found.say(told, f"exoflow ended it, the record says {state.ended_by!r} ({state.cause})")
    codes = Counter(line.code for line in state.journey)
    if codes["caller.left"] + codes["switch.ended"] > 1:
        found.say(told, f"ends more than once: {codes}")
    if (wanted := _outcome(told)) and state.outcome != wanted:
        found.say(told, f"outcome {state.outcome} ({state.reason}), {wanted} would be right")
    for leg in state.legs:
        if leg.outcome == "ringing":
            found.say(told, f"attempt {leg.seq} still rings in the record")


def fell_back(state: CallState) -> bool:
    """Did the dialplan's own fallback take the call?"""
    return any(line.code == "door.fallback" for line in state.journey)


def _judge_fallback(told: Told, state: CallState, kills: list[float], found: Findings) -> None:
    """Right for whoever met three deaths or an app that stays frozen, and for nobody else."""
    found.counts["calls that the fallback took"] += 1
    if not found.served and len(kills) < DEATHS:
        found.counts["calls that the fallback took although exoflow lived"] += 1
        found.say(told, f"the fallback took it ({state.reason}), kills {[f'{kill:.2f}' for kill in kills]}")
    elif not found.served:
        return
    legs = [(leg.agent, leg.outcome) for leg in state.legs]
    if not fell_back(state) or legs[-1:] != [FALLBACK_LEG] or state.outcome != "answered":
        found.say(told, f"the fallback was to serve it: {state.outcome} ({state.reason}), legs {legs}")
    talks = [one for one in state.recordings if one.state == "good" and "fallback-" in one.path]
    if [round(read_wav(Path(one.path)).seconds - FALLBACK_TALK) for one in talks] != [0]:
        found.say(told, f"the fallback's recording: {state.recordings}")
    if told.talk is not None:
        _judge_talk(told, state, kills, found)


def left(told: Told) -> bool:
    return told.left_at is not None and told.phone.ended_at is not None and told.phone.ended_at - told.left_at < 0.5


def _outcome(told: Told) -> str:
    if told.plan.kind != "whole":
        return "" if left(told) else "served"
    if told.talk is not None:
        return "answered"
    return "missed" if told.attempts else ""


def _judge_journey(told: Told, state: CallState, all_kills: list[float], found: Findings) -> None:
    """What was done once is told once."""
    lines = Counter((line.code, line.step, line.evidence.get("leg")) for line in state.journey if line.code in ONCE)
    if twice := [f"{code} at {step}" for (code, step, _), count in lines.items() if count > 1]:
        found.say(told, f"told twice: {', '.join(twice)}")
    codes = Counter(line.code for line in state.journey)
    until = (told.phone.ended_at or 0) + STEPS_SECONDS
    if codes["call.resumed"] > (most := sum(told.begun < kill < until for kill in all_kills)):
        found.say(told, f"came back {codes['call.resumed']} times after {most} kills")
    wanted = {"prompts": ("greeting.played", len(TONES)), "keys": ("gather.digits", 2)}.get(told.plan.kind)
    if wanted is not None and not left(told) and codes[wanted[0]] != wanted[1]:
        found.say(told, f"{codes[wanted[0]]} times {wanted[0]} in the journey, not {wanted[1]}")


def _judge_asked(told: Told, path: str, kills: list[float], found: Findings) -> None:
    """An answered CRM is asked once; one that was being asked when a kill came may be asked again."""
    asked = told.visit.requests(path)
    found.counts["requests of the CRM"] += len(asked)
    for one, again in pairwise(asked):
        until = one.at + 0.2 + UNKNOWN_SECONDS
        if any(one.at - BEFORE_SECONDS < kill < until for kill in kills):
            found.counts["requests again, the answer was open"] += 1
        else:
            found.say(told, f"{path} asked again {again.at - one.at:.2f} s after it was answered, kills {kills}")
    if path == "/after" and told.attempts and not asked:
        found.say(told, "the step behind the talk was not done")


def _judge_keys(told: Told, kills: list[float], found: Findings) -> None:
    pressed = "".join(key for _, key in told.pressed)
    got = "".join(
        (sent.get("digits") or "").strip('"') for path in ("/order", "/rating") for sent in told.visit.asked(path)[-1:]
    )
    near = sum(any(abs(at - kill) <= 3 for kill in kills) for at, _ in told.pressed)
    found.counts["keys"] += len(pressed)
    found.counts["keys within 3 s of a kill"] += near
    dead = [any(0 < at - kill < DEAD_SECONDS for kill in kills) for at, _ in told.pressed]
    found.counts["keys typed while exoflow was dead"] += sum(dead)
    found.counts["keys typed while it was dead and nothing asked"] += sum(dead[FIRST_KEYS:])
    found.counts["calls with keys within 3 s of a kill"] += bool(near)
    if got != pressed and not left(told):  # who leaves in the middle of a question has not answered it
        found.counts["keys lost"] += 1
        found.counts["keys lost while nothing asked"] += got[:FIRST_KEYS] == pressed[:FIRST_KEYS] and any(dead[FIRST_KEYS:])
        at = [f"{key}@{when:.2f}" for when, key in told.pressed]
        found.say(told, f"pressed {pressed}, the CRM got {got}: {' '.join(at)}; kills {[f'{kill:.2f}' for kill in kills]}")


def _judge_tones(told: Told, found: Findings) -> None:
    """Each prompt is heard once, and whole."""
    if left(told):
        return
    heard = told.visit.heard()
    for name, (hz, seconds) in TONES.items():
        span = _span(heard, hz)
        if span is None:
            found.say(told, f"prompt {name} was not heard")
        elif abs(span[1] - span[0] - seconds) > TONE_SECONDS:
            found.say(told, f"prompt {name} of {seconds} s was heard for {span[1] - span[0]:.2f} s")


def _judge_silence(told: Told, kills: list[float], found: Findings) -> None:
    """From the answer, and from the end of each prompt, until anything is heard."""
    heard, since = told.visit.heard(), told.phone.heard_since
    assert since is not None
    starts = [start for start, _ in heard.sounds(gap=2 * BLOCK)]
    spans = [(0.0, 0.0), *filter(None, (_span(heard, hz) for hz, _ in TONES.values()))]
    for began, ended in spans:
        then = next((start for start in starts if start > ended - BLOCK / 2), None)
        if then is None:
            continue  # he left, or it was the last one
        met = any(since + began <= kill <= since + then for kill in kills)
        (found.silences if met else found.usual).append(max(0.0, then - ended))
        if met and then - ended > LONG_SECONDS:
            at = ", ".join(f"{kill - since - ended:+.2f}" for kill in kills)
            found.long.append(f"{then - ended:.2f} s in {told.channel} from {since + ended:.2f}; kills at {at} s of it")


def _span(sound: Sound, hz: int) -> tuple[float, float] | None:
    """From when to when a tone was heard, in seconds."""
    loud = [at for at, level in enumerate(sound.tone_blocks(hz, BLOCK)) if level > LOUD]
    return (loud[0] * BLOCK, (loud[-1] + 1) * BLOCK) if loud else None


def _judge_agents(told: Told, state: CallState, kills: list[float], found: Findings) -> None:
    attempts = told.attempts
    found.counts["attempts"] += len(attempts)
    for agent in told.agents:
        if len(agent.attempts) > 1:
            found.say(told, f"{agent.number} was rung {len(agent.attempts)} times")
    if told.talk is not None and told.talk is not attempts[-1]:
        found.say(told, "somebody was rung behind the talk")
    if left(told) and told.left_at is not None and any(one.at > told.left_at + 0.5 for one in attempts):
        found.say(told, "somebody was rung for a caller who had left")
    if not left(told) and told.talk is None and told.visit.requests("/agents") and len(attempts) != len(told.agents):
        found.say(told, f"{len(attempts)} of {len(told.agents)} agents were rung")
    if [leg.number[-10:] for leg in state.legs] != [one.number for one in attempts]:
        found.say(told, f"legs {[leg.number for leg in state.legs]}, rung were {[one.number for one in attempts]}")
        return
    for leg, one in zip(state.legs, attempts, strict=True):
        if (leg.outcome == "answered") != (one.answered_at is not None):
            found.say(told, f"attempt {leg.seq} is {leg.outcome}, the agent saw {one.cause}, answer at {one.answered_at}")
    if told.talk is not None:
        _judge_talk(told, state, kills, found)


def _judge_talk(told: Told, state: CallState, kills: list[float], found: Findings) -> None:
    talk = told.talk
    assert talk is not None
    assert talk.answered_at is not None
    if talk.ended_at is None:
        found.say(told, "the agent's phone was never hung up")
        return
    lasted = talk.ended_at - talk.answered_at
    found.counts["talks"] += 1
    found.counts["talks that met a kill"] += any(talk.answered_at < kill < talk.ended_at for kill in kills)
    found.counts["attempts that met a kill while it rang"] += any(talk.at < kill < talk.answered_at for kill in kills)
    planned = next(tel.talk for tel, agent in zip(told.plan.agents, told.agents, strict=True) if talk in agent.attempts)
    if not left(told) and abs(lasted - planned) > END_SECONDS:
        found.counts["bridges lost"] += 1
        found.say(told, f"the talk was to last {planned:.1f} s and lasted {lasted:.1f} s ({talk.cause})")
    elif (hole := _hole(told)) > HOLE_SECONDS:
        found.say(told, f"the agent was not heard for {hole:.2f} s of the talk")
    leg = next((leg for leg in state.legs if leg.number[-10:] == talk.number), None)
    if leg is None or abs(leg.talk_seconds - lasted) > TALK_SECONDS:
        found.say(told, f"talked {lasted:.1f} s, in the record {leg and leg.talk_seconds}")
    own = [one for one in state.recordings if "fallback-" not in one.path]
    if [(one.kind, one.state) for one in own] != [("talk", "good")]:
        found.say(told, f"recordings {own}")
    elif abs((there := read_wav(Path(own[0].path)).seconds) - lasted) > RECORDING_SECONDS:
        found.say(told, f"talked {lasted:.1f} s, recorded are {there:.1f} s")


def _hole(told: Told) -> float:
    """The longest time within the agent's voice that the caller did not hear it."""
    talk, since = told.talk, told.phone.heard_since
    assert talk is not None
    assert talk.answered_at is not None
    assert since is not None
    end = None if talk.ended_at is None else talk.ended_at - since
    levels = told.visit.heard().part(talk.answered_at - since, end).tone_blocks(880, 0.1)
    loud = [at for at, level in enumerate(levels) if level > LOUD]
    return max((later - at - 1 for at, later in pairwise(loud)), default=0) * 0.1


# --- all together -----------------------------------------------------------------------------------


def judge_all(site: Killed, calls: list[Told], found: Findings) -> None:
    """Each call has one record with one delivery, which says what the switch's CDRs say, and there is nothing else."""
    channels = {told.channel for told in calls}
    records = _rows(site, "SELECT channel, id, closed_at FROM calls")
    of_channel = Counter(channel for channel, _, _ in records)
    found.counts["records"] = sum(of_channel[channel] for channel in channels)
    for channel in channels:
        if of_channel[channel] != 1:
            found.violations.append(f"{channel}: {of_channel[channel]} records")
    for channel, _, closed in records:
        if channel not in channels:
            found.violations.append(f"{channel}: a record of no call")
        elif closed is None:
            found.violations.append(f"{channel}: its record is open")
    events: dict[str, set[str]] = {}
    for one in site.crm.deliveries:
        events.setdefault(json.loads(one.body)["data"]["call"], set()).add(one.headers["webhook-id"])
    got = {identity: len(events.get(identity, ())) for channel, identity, _ in records if channel in channels}
    found.counts["deliveries received, repeats not counted"] = sum(got.values())
    found.counts["deliveries lost"] = sum(count == 0 for count in got.values())
    found.violations += [f"call {identity}: {count} deliveries" for identity, count in got.items() if count != 1]
    found.violations += map(str, check(Books(site.tee.cdrs(), received(site.crm.deliveries))))
    if left_over := unsent(site):
        found.violations.append(f"{left_over} deliveries are not sent")


def unsent(site: Killed) -> int:
    """Deliveries that the CRM has not taken yet."""
    return int(_rows(site, "SELECT count(*) FROM deliveries WHERE state != 'delivered'")[0][0])


def _rows(site: Killed, query: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{site.database}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def rests(site: Killed) -> Iterator[str]:
    """What is left lying about when all is done."""
    if files := [*site.tee.written.glob("*.json"), *site.tee.given.glob("*.json")]:
        yield f"{len(files)} CDR files are left, {files[0].name} among them"


def percentile(values: list[float], share: float) -> float:
    """Of some values; the largest of few."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
