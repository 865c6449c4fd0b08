"""One line in the log for each call that arrives and for each that ends (`exoflow serve -v`).

Texts from the exchange are shown as Python literals: no number can forge a line.
"""

from __future__ import annotations

import logging

from exoflow.calls.model import CallFacts, CallState

log = logging.getLogger("exoflow.calls")

SHORT_ID = 8  # digits; `exoflow calls` takes them


def arrived(facts: CallFacts) -> None:
    """A call's record was opened."""
    if not log.isEnabledFor(logging.INFO):
        return
    caller = "withheld" if facts.caller_withheld else facts.caller or repr(facts.caller_raw)
    dialled = facts.dialled or repr(facts.dialled_raw)
    whose = f"{facts.account}, flow {facts.flow}" if facts.account else "in no account"
    log.info("call %s from %s to %s on %r: %s", facts.id[:SHORT_ID], caller, dialled, facts.trunk, whose)


def ended(state: CallState) -> None:
    """A call's record was closed. Seconds are those of the whole call and of the talk."""
    if not log.isEnabledFor(logging.INFO):
        return
    facts = state.facts
    lasted = (state.ended_at - facts.created_at).total_seconds() if state.ended_at else None
    seconds = "at an unknown time" if lasted is None else f"after {max(0.0, lasted):.1f} s"
    talk = sum(leg.talk_seconds for leg in state.legs)
    talked = f", {talk:.1f} s of talk" if talk else ""
    outcome = f"{state.outcome} ({state.reason})" if state.reason else state.outcome
    log.info("call %s ended %s%s: %s", facts.id[:SHORT_ID], seconds, talked, outcome)
