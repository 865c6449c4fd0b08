"""What the tests of the HTTP client share: a client, and questions asked of servers on loopback."""

from __future__ import annotations

import pytest
from gevent import socket
from support.http_server import RawServer

from exoflow.crm.http import Answer, CrmClient, CrmFailure
from exoflow.crm.resolver import Resolver

LOOPBACK = ("127.0.0.0/8", "::1/128")
EARLY, LATE = 0.05, 1.0  # seconds around a deadline; late by what a busy machine may stand still


def here(*names: str) -> Resolver:
    """Knows these names, at 127.0.0.1."""
    known = {name: [(socket.AF_INET, "127.0.0.1")] for name in names}
    return Resolver(lambda host, port: [(family, (ip, port)) for family, ip in known[host]])


def cut_at(took: float, deadline: float) -> bool:
    """Did it end by its deadline, and not by anything else that ends it?"""
    return deadline - EARLY < took < deadline + LATE


def failure(client: CrmClient, url: str, *, deadline: float = 2.0, allow: tuple[str, ...] = LOOPBACK, **more) -> CrmFailure:
    with pytest.raises(CrmFailure) as caught:
        client.get(url, deadline=deadline, allow_private=allow, **more)
    return caught.value


def asked(client: CrmClient, server: RawServer, **more) -> Answer:
    return client.get(server.url, deadline=2.0, allow_private=LOOPBACK, **more)
