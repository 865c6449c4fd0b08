"""The embedded switch, its callers and agents, and a demo CRM: for trying flows and for tests, without FreeSWITCH."""

from exoflow.sim.agents import AgentScript
from exoflow.sim.phone import Phone
from exoflow.sim.switch import EmbeddedSwitch, Violation

__all__ = ["AgentScript", "EmbeddedSwitch", "Phone", "Violation"]
