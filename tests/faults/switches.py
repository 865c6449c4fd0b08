"""A FreeSWITCH as ring 2 has it and the public network beside it, for an experiment."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
from ring2.box import Box
from ring2.freeswitch import find_freeswitch
from ring2.network import Exchange


@contextmanager
def switches() -> Iterator[tuple[Box, Exchange] | None]:
    """Both running, in a folder of their own; None where there is no FreeSWITCH."""
    binary = find_freeswitch()
    if binary is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    exchange = Exchange(binary, folder / "exchange")
    box = Box(binary, folder / "box", exchange_sip_port=exchange.sip_port)
    try:
        exchange.start()
        box.start()
        exchange.wait_ready()
        box.wait_ready()
        box.listen()
        exchange.listen(box.sip_port)
        yield box, exchange
    finally:
        gevent.joinall([gevent.spawn(box.stop), gevent.spawn(exchange.stop)])
