"""The agents of a plan, rung until one of them talks: each is claimed before he is rung, and nobody is rung twice."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from exoflow.agents.staff import PassedOver, Picked, Seeker
from exoflow.agents.standing import WORDS
from exoflow.calls.model import Leg
from exoflow.errors import CallEnded
from exoflow.flow.attempt import attempt, talk_of, under_way
from exoflow.flow.here import Here
from exoflow.flow.plan import Plan
from exoflow.lines import trunks


def ring_all(here: Here, plan: Plan, first: Sequence[Picked] = ()) -> None:
    """One after another, or as many at once as the plan says, until a talk or until nobody is left who could be rung.

    `first` are rung before all others: they are claimed for this call already.
    """
    lines = trunks.outbound_order(here.parts.config.trunks, plan.trunk or here.call.state.facts.trunk)
    staff = here.parts.staff
    hunt = _Hunt(here, plan, first)
    while picked := hunt.next():
        name = lines[hunt.line]
        try:
            with staff.claims.attempted([one.leg for one in picked], lambda: here.parts.lines.up):
                legs = attempt(here, picked, name, here.parts.config.trunks[name], plan.how)
        except CallEnded:
            here.at.talked = talk_of(under_way(here)) is not None
            staff.ended(under_way(here))
            raise
        staff.ended(legs)
        if talk_of(legs) is not None:
            here.at.talked = True
            return
        # another line helps only if ours was the trouble; else the agent cannot be reached now
        by_another_line = [leg for leg in legs if leg.outcome == "trunk"] if hunt.line + 1 < len(lines) else []
        hunt.go_on(by_another_line)
        if plan.again and not by_another_line:
            return  # the rest of the list would be rung without the CRM's word
    hunt.tell_why_nobody()


class _Hunt:
    """How far the round is; kept, so that a call that comes back goes on in it."""

    def __init__(self, here: Here, plan: Plan, first: Sequence[Picked]) -> None:
        self._here, self._plan, self._first = here, plan, list(first)
        self._staff = here.parts.staff
        self._seeker = self._made_seeker()
        self._tried: list[str] = list(here.data.get("tried", ()))
        self._now: list[str] = list(here.data.get("now", ()))  # numbers of the attempt that was begun, or is made once more
        self._told: set[PassedOver] = set()
        self._passed_over: Sequence[PassedOver] = ()
        self.line: int = here.data.get("line", 0)
        if not self._tried:
            self._note_second_call()

    def next(self) -> list[Picked]:
        """Who is rung now, claimed; nobody at the round's end."""
        if self._now and (picked := self._again()):
            return picked
        picked, self._first = self._first or self._chosen(), []
        self._now = [one.candidate.number for one in picked]
        self._tried += self._now
        if self._now:
            self._here.keep(tried=list(self._tried), now=list(self._now), line=None)
        return picked

    def _chosen(self) -> list[Picked]:
        choice = self._staff.choose(self._seeker, self._plan.candidates, self._tried, self._plan.how.at_once)
        self._tell(choice.passed_over)
        return choice.picked

    def go_on(self, by_another_line: Sequence[Leg]) -> None:
        """The attempt was in vain; for these the line was the trouble."""
        self._now = [leg.number for leg in by_another_line]
        self.line = self.line + 1 if self._now else 0
        self._here.keep(line=self.line or None, now=list(self._now) or None, legs=None)

    def _made_seeker(self) -> Seeker:
        """With the caller's own agent, looked for once in a visit."""
        here = self._here
        channel = here.session.uuid
        seeker = Seeker(here.account_id, here.account, here.flow_name, here.call.id, self._plan.team, channel=channel)
        first = here.data.get("own")
        if first is None and not here.data.get("tried"):
            first = self._staff.last_agent(seeker, self._plan.candidates, here.call.state.facts.caller)
            if first is not None:
                here.keep(own=first)
        return replace(seeker, first=first)

    def _again(self) -> list[Picked]:
        """The same ones once more: over another line, or in the attempt that was begun before the call came back."""
        here, legs = self._here, under_way(self._here)
        of = {one.number: one for one in self._plan.candidates}
        if legs:
            picked = [Picked(of[leg.number], leg.uuid) for leg in legs]
        else:
            picked = [Picked(of[number], str(uuid.uuid4())) for number in self._now]
        if here.has_ended or any(leg.outcome != "ringing" for leg in legs):
            return picked  # nothing is dialled any more
        claimed = [one for one in picked if self._staff.claim(self._seeker, one.candidate.number, one.leg)]
        if len(claimed) < len(picked):
            self._lose([one for one in picked if one not in claimed], legs)
        if not claimed:
            self.go_on([])
        return claimed

    def _lose(self, lost: Sequence[Picked], legs: Sequence[Leg]) -> None:
        """Somebody else has claimed these meanwhile: between two lives of this call, or between two lines."""
        gone = [one.leg for one in lost]
        for leg in legs:
            if leg.uuid in gone:
                leg.outcome, leg.meaning = "engaged", "He was rung for another call when this one came back; not dialled."
                self._here.call.update_leg(leg)
        if legs:
            self._here.keep(legs=[leg.uuid for leg in legs if leg.uuid not in gone] or None)
        self._tell([PassedOver(one.candidate.number, one.candidate.agent, "engaged") for one in lost])

    # --- the journey ------------------------------------------------------------------------------

    def _tell(self, passed_over: Sequence[PassedOver]) -> None:
        self._passed_over = passed_over
        new = [one for one in passed_over if one not in self._told]
        if new:
            self._told.update(new)
            self._here.note("G", "connect.passed_over", f"Not rung: {_listed(new)}", agents=_shown(new))

    def _note_second_call(self) -> None:
        """Each call of a caller is served for itself; the agents whom the others engage are passed over."""
        call = self._here.call
        calls = self._staff.claims.calls_of(call.state.facts.caller)
        live = [call.book.live[one] for one in calls if one != call.id and one in call.book.live]
        others = [one.id for one in live if one.state.facts.account == call.state.facts.account and one.state.wanted_agent]
        told = any(entry.code == "connect.second_call" for entry in call.state.journey)
        if others and not told:
            text = "The same number wants an agent by another call, too: each is served for itself"
            self._here.note("G", "connect.second_call", text, calls=others)

    def tell_why_nobody(self) -> None:
        """Of who was rung the attempts have told already."""
        if self._tried or not self._passed_over:
            return
        whom = _listed(self._passed_over)
        if any(one.why == "engaged" for one in self._passed_over):
            self._here.failed("G", "connect.engaged", f"Nobody was rung, for calls of ours engage those who could be: {whom}")
        else:
            self._here.failed("G", "connect.away", f"Nobody was rung, for nobody is to be rung now: {whom}")


def _listed(people: Sequence[PassedOver]) -> str:
    return ", ".join(f"{one.agent or one.number} ({WORDS[one.why]})" for one in people)


def _shown(people: Sequence[PassedOver]) -> list[dict[str, Any]]:
    return [{"number": one.number, "agent": one.agent, "why": one.why} for one in people]
