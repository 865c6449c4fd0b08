"""A real FreeSWITCH with the project's own configuration and dialplan; callers come over loopback channels, without SIP."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent

# the harness of ring 2: it knows how to start a switch from freeswitch-conf/ and dialplan/
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from ring2.box import TRUNK, Box
from ring2.freeswitch import find_freeswitch
from support.ports import free_sip_port

__all__ = ["DID", "Callers", "find_freeswitch", "freeswitch"]

DID = "8030752400"
STUCK_SHARE = 0.1  # of the calls, at most, that never came to the app (mod_loopback: some 2 % right after a start)
CALL_SECONDS = 20.0  # a plain call takes half a second; more means that its app has lost it


class Callers:
    """Makes calls to the box and knows when they have ended."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._link = box.connect("CHANNEL_EXECUTE CHANNEL_HANGUP_COMPLETE")
        self._link.listeners.append(self._on_event)
        self.ended = 0
        self._given: set[str] = set()  # channels that the dialplan gave to the app, and that have not ended

    def run(self, count: int, rate: float) -> int:
        """So many calls at a steady rate (calls a second), to the end of the last; how many ended. Raises TimeoutError.

        A loopback channel now and then stays in CS_INIT and never comes in: such a call is left out. Each that was given to
        the app must end.
        """
        self.ended = 0
        self._given.clear()
        for _ in range(count):
            self._call()
            gevent.sleep(1 / rate)
        until = time.monotonic() + CALL_SECONDS
        while self.ended < count:
            if time.monotonic() > until and not self._given and self.ended >= count * (1 - STUCK_SHARE):
                break
            if time.monotonic() > until:
                raise TimeoutError(f"{count - self.ended} of {count} calls did not end within {CALL_SECONDS:g} s")
            gevent.sleep(0.02)
        return self.ended

    def close(self) -> None:
        self._link.close()

    def _call(self) -> None:
        # the loopback's far end is what comes in at from-pri, with the variables of a PRI's channel
        options = f"freetdm_span_name={TRUNK},origination_caller_id_number=9812345678,origination_caller_id_name=9812345678"
        self._link.send(f"bgapi originate {{{options}}}loopback/{DID}/from-pri &park()")

    def _on_event(self, event: dict[str, str]) -> None:
        # each call has two channels here; the one that came to the app is counted
        if event["Event-Name"] == "CHANNEL_EXECUTE":
            if event.get("Application") == "socket":
                self._given.add(event["Unique-ID"])
            return
        self._given.discard(event["Unique-ID"])
        if event["Event-Name"] == "CHANNEL_HANGUP_COMPLETE" and event.get("variable_exo_did") == DID:
            self.ended += 1


@contextmanager
def freeswitch(folder: Path, *, most_calls: int = 200) -> Iterator[Box]:
    """The switch, ready. The app has to listen at its `exoflow_hosts`."""
    binary = find_freeswitch()
    if binary is None:
        raise FileNotFoundError("no FreeSWITCH on this machine")
    box = Box(binary, folder, exchange_sip_port=free_sip_port())
    try:
        box.start()
        box.wait_ready()
        box.listen()
        box.api("load mod_loopback")
        box.api(f"global_setvar exoflow_max_in_{TRUNK}={most_calls}")
        box.api("fsctl sps 10000")
        yield box
    finally:
        box.stop()
