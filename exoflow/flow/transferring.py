"""An agent's SIP phone has transferred the caller (REFER): FreeSWITCH brought the call back, and it goes on here.

The dialplan counts transfers and keeps the digits that were asked for (dialplan/from-pri.xml). They pass the same door as a
CRM's numbers. What may not be rung is refused: the agent who transferred the caller is rung again.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from exoflow.agents.groups import Candidate, of_numbers
from exoflow.agents.staff import Picked, Seeker
from exoflow.errors import UnsafeText
from exoflow.flow.attempt import talk_of, under_way
from exoflow.flow.here import Here
from exoflow.flow.legends import who
from exoflow.flow.plan import Plan
from exoflow.telephony.numbers import agent_number

MAX_TRANSFERS = 5  # of one call: a phone that transfers by itself must not keep a caller ringing for ever


def begin(here: Here) -> None:
    """A step begins to ring agents, or the call comes back in it: perhaps out of the attempt that is under way."""
    if (count := _count(here)) > here.at.transfers:
        here.at.transfers = count
        here.keep(transferred=[leg.uuid for leg in under_way(here)] or None)


def next_plan(here: Here, plan: Plan) -> tuple[Plan, Sequence[Picked]] | None:
    """Whom to ring after a talk that ended by a transfer, and who of them is claimed already; None: it ended otherwise."""
    count, talk = here.at.transfers, talk_of(under_way(here))
    if talk is None or talk.uuid not in here.data.get("transferred", ()):
        return None
    asked, agent = here.session.channel.variable("exo_transfer_to"), Candidate(talk.number, talk.agent)
    problem = "" if count <= MAX_TRANSFERS else f"a call is transferred {MAX_TRANSFERS} times at most"
    candidates: list[Candidate] = []
    if not problem:
        try:
            candidates = of_numbers(here.account, [agent_number(asked)])
        except UnsafeText as error:
            problem = str(error)
    first: list[Picked] = []
    if problem:
        text = f"{who(talk)}'s phone asked to transfer the caller, which is refused, and is rung again: {problem}"
        here.note("H", "connect.transfer_refused", text, leg=talk.uuid)
        if count > MAX_TRANSFERS:
            return None
        first = _claimed(here, agent)
    else:
        text = f"{who(talk)}'s phone transferred the caller to {candidates[0].number}, which is rung over our own trunks"
        here.note("H", "connect.transferred", text, leg=talk.uuid, number=candidates[0].number)
    candidates += [agent] if agent not in candidates else []
    plan = replace(plan, candidates=candidates, team=None, again=False, how=replace(plan.how, at_once=1))
    here.keep(**{**dict.fromkeys(here.data), "plan": plan.written()})
    return plan, first


def _claimed(here: Here, agent: Candidate) -> list[Picked]:
    """The agent who has just talked, before the time after a talk (`wrap_up`) counts; nobody if another call has the agent."""
    seeker = Seeker(here.account_id, here.account, here.flow_name, here.call.id, None, channel=here.session.uuid)
    leg = str(uuid.uuid4())
    return [Picked(agent, leg)] if here.parts.staff.claim(seeker, agent.number, leg) else []


def _count(here: Here) -> int:
    text = here.session.channel.variable("exo_transfers")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
