"""Whose call it is and who calls: what the exchange sent, read by the configuration."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from exoflow.calls.call import Call
from exoflow.calls.model import CallFacts
from exoflow.config.model import Config, Route
from exoflow.lines import trunks
from exoflow.telephony.numbers import NumberType, bare, in_context, number_type, to_e164
from exoflow.telephony.numbers import caller as read_caller

MAX_DIGITS = 20  # of what the exchange sent; E.164 has 15


@dataclass(frozen=True, slots=True)
class Sent:
    """What came with a call, by the channel's data or by its CDR."""

    channel: str
    created_at: datetime  # when the SETUP came in, by the switch's clock
    trunk: str  # exo_trunk
    dialled: str
    caller: str
    hidden: bool  # presentation restricted
    diverted_from: str = ""
    caller_context: str = ""  # exo_caller_context
    # types of these numbers, as the exchange told them (exo_caller_ton and so on); None: it told none
    caller_ton: NumberType | None = None
    dialled_ton: NumberType | None = None
    diverted_ton: NumberType | None = None


def types(variable: Callable[[str], str]) -> dict[str, NumberType | None]:
    """The types of number of a `Sent`, of a channel's variables."""
    return {name: number_type(variable(f"exo_{name}")) for name in ("caller_ton", "dialled_ton", "diverted_ton")}


def read(config: Config, sent: Sent, call_id: str = "") -> tuple[CallFacts, list[Route]]:
    """The call's facts, and the numbers that its digits can mean: one, if it is somebody's. A new id unless one is given."""
    trunk = trunks.named(config.trunks, sent.trunk) or sent.trunk
    dialled, raw = bare(sent.dialled)[:MAX_DIGITS], bare(sent.caller)[:MAX_DIGITS]
    std_code = config.trunks[trunk].std_code if trunk in config.trunks else None
    written = in_context(raw, sent.caller_context)
    number, withheld = read_caller(written, hidden=sent.hidden, std_code=std_code, ton=sent.caller_ton)
    routes = config.candidates(dialled, trunk, sent.dialled_ton)
    route = routes[0] if len(routes) == 1 else None
    diverted = to_e164(sent.diverted_from, std_code, sent.diverted_ton)
    facts = CallFacts(
        id=call_id or uuid.uuid4().hex,
        channel=sent.channel,
        created_at=sent.created_at,
        trunk=trunk,
        dialled_raw=dialled,
        caller_raw="" if withheld else raw,
        dialled=route.number.number if route is not None else None,
        caller=number,
        caller_withheld=withheld,
        account=route.account_id if route is not None else None,
        flow=route.number.flow if route is not None else None,
        diverted_from=diverted or (route.number.diverted_from if route is not None else None),
    )
    return facts, routes


def note(call: Call, sent: Sent) -> None:
    """The journey's first lines. The caller's type of number is shown, for it decides how the digits are read."""
    facts = call.state.facts
    who = "a withheld number" if facts.caller_withheld else facts.caller or facts.caller_raw or "an unreadable number"
    shown = {} if sent.caller_ton is None else {"caller_ton": sent.caller_ton.name.lower()}
    text = f"Call from {who} on {facts.trunk or 'an unknown trunk'}, dialled {facts.dialled_raw or 'nothing'}"
    call.note("B", "call.arrived", text, at=facts.created_at, diverted_from=facts.diverted_from, **shown)
    if facts.caller_withheld:
        text = "The caller's number is withheld: the CRM gets an empty number"
        call.note("B", "caller.withheld", text, at=facts.created_at)
    elif facts.caller is None:
        text = f"{facts.caller_raw!r} is no number that could be called back; the CRM gets it raw"
        call.note("B", "caller.unreadable", text, at=facts.created_at)
