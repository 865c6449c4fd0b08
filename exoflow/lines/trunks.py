"""Which trunk a call came in on, and which ones an agent is dialled over."""

from __future__ import annotations

from collections.abc import Mapping

from exoflow.config.model import Trunk
from exoflow.telephony.dialstring import Endpoint


def named(trunks: Mapping[str, Trunk], exo_trunk: str) -> str | None:
    """The trunk that the dialplan calls by its span's or gateway's name (dialplan/from-pri/10-trunk.xml)."""
    for name, trunk in trunks.items():
        if exo_trunk in (trunk.span, trunk.gateway):
            return name
    return exo_trunk if exo_trunk in trunks else None


def outbound_order(trunks: Mapping[str, Trunk], first: str) -> list[str]:
    """The caller's own trunk, then the others: a line fault is no reason not to reach an agent."""
    return [*(name for name in trunks if name == first), *(name for name in trunks if name != first)]


def endpoint(trunk: Trunk) -> Endpoint:
    prefix = trunk.outbound.dial_prefix
    if trunk.span is not None:
        return Endpoint("span", trunk.span, trunk.outbound.hunt, prefix)
    assert trunk.gateway is not None  # the model has one of the two
    return Endpoint("gateway", trunk.gateway, trunk.outbound.hunt, prefix)


def cli(e164: str) -> str:
    """One of our numbers as the exchange wants it for caller id: the national number, without a prefix (Outbound.cli)."""
    return e164.removeprefix("+91") if e164.startswith("+91") else e164.removeprefix("+")
