"""The agents of a plan, rung until one of them talks."""

from __future__ import annotations

from exoflow.errors import CallEnded
from exoflow.flow.attempt import attempt, talk_of, under_way
from exoflow.flow.here import Here
from exoflow.flow.plan import Plan
from exoflow.lines import trunks


def ring_all(here: Here, plan: Plan) -> None:
    """One after another, or as many at once as the plan says, until a talk or the list's end."""
    lines = trunks.outbound_order(here.parts.config.trunks, here.call.state.facts.trunk)
    at, line = here.data.get("at", 0), here.data.get("line", 0)
    again: list[int] = here.data.get("again", [])  # of those at once, whom another line may reach
    while at < len(plan.candidates):
        batch = again or list(range(at, min(at + plan.how.at_once, len(plan.candidates))))
        name = lines[line]
        try:
            legs = attempt(here, [plan.candidates[one] for one in batch], name, here.parts.config.trunks[name], plan.how)
        except CallEnded:
            here.at.talked = talk_of(under_way(here)) is not None
            raise
        if talk_of(legs) is not None:
            here.at.talked = True
            return
        # another line helps only if ours was the trouble; else the agent cannot be reached now
        again = [one for one, leg in zip(batch, legs, strict=True) if leg.outcome == "trunk"] if line + 1 < len(lines) else []
        at, line = (at, line + 1) if again else (at + plan.how.at_once, 0)
        here.keep(at=at, line=line, again=again or None, legs=None)
