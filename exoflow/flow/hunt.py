"""The agents of a plan, rung one after another."""

from __future__ import annotations

from exoflow.errors import CallEnded
from exoflow.flow.attempt import attempt, under_way
from exoflow.flow.here import Here
from exoflow.flow.plan import Plan
from exoflow.lines import trunks


def ring_all(here: Here, plan: Plan) -> None:
    """One after another, until a talk or the list's end."""
    lines = trunks.outbound_order(here.parts.config.trunks, here.call.state.facts.trunk)
    at, line = here.data.get("at", 0), here.data.get("line", 0)
    while at < len(plan.candidates):
        name = lines[line]
        try:
            leg = attempt(here, plan.candidates[at], name, here.parts.config.trunks[name], plan.limits)
        except CallEnded:
            tried = under_way(here)
            here.at.talked = tried is not None and tried.outcome == "answered"
            raise
        if leg.outcome == "answered":
            here.at.talked = True
            return
        # another line helps only if ours was the trouble; else the agent cannot be reached now
        at, line = (at, line + 1) if leg.outcome == "trunk" and line + 1 < len(lines) else (at + 1, 0)
        here.keep(at=at, line=line, leg=None)
