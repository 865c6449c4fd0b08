"""The demo's callers: what each does, how the agents' telephones behave for it, and how the call has to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exoflow.sim.agents import AgentScript
from exoflow.sim.crm import Reply

ASHA, RAVI = "9876543210", "9876543211"
NUMBER = "+918030752400"
ANSWERS = AgentScript.answers(2, 4)


@dataclass(frozen=True)
class Scenario:
    """`outcome` is what the call's record has to say at the end. `hangs_up_at`: the caller leaves when hearing this text."""

    title: str
    caller: str
    keys: str
    outcome: str
    asha: AgentScript = ANSWERS
    ravi: AgentScript = ANSWERS
    hangs_up_at: str = ""
    withheld: bool = False
    crm: Mapping[str, Reply] = field(default_factory=dict)

    @property
    def agents(self) -> dict[str, AgentScript]:
        return {ASHA: self.asha.called("Asha"), RAVI: self.ravi.called("Ravi")}


SCENARIOS = (
    Scenario("support; the CRM names the agents, the first one answers", "+919811100001", "1", "answered"),
    Scenario(
        "support; the first agent is busy, the second one answers", "+919811100002", "1", "answered", asha=AgentScript.busy()
    ),
    Scenario(
        "support; one agent is switched off, the other does not answer: a message is left",
        "+919811100003",
        "1",
        "voicemail",
        asha=AgentScript.announcement(),
        ravi=AgentScript.silent(),
    ),
    Scenario("a wrong key first, then sales", "+919811100004", "92", "answered"),
    Scenario("the caller hangs up in the menu", "+919811100005", "", "abandoned", hangs_up_at="Dial 1"),
    Scenario("a withheld number leaves a message", "+919811100006", "3", "voicemail", withheld=True),
    Scenario(
        "the CRM fails: the caller reaches sales all the same",
        "+919811100007",
        "1",
        "answered",
        crm={"/passthru": Reply(503, b"database is down")},
    ),
    Scenario(
        "nobody answers and the caller leaves during the message's prompt",
        "+919811100008",
        "2",
        "missed",
        asha=AgentScript.rejects(),
        ravi=AgentScript.unreachable(),
        hangs_up_at="Please leave",
    ),
)
