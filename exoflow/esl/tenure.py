"""How long a call's socket is ours to use: the lease that is kept on the call, and the call that has become another's."""

from __future__ import annotations

import itertools
import os
import struct
import time
from typing import Any

from gevent import socket
from gevent.event import Event as Signal

from exoflow.errors import Disconnected, ExoflowError
from exoflow.esl import lease
from exoflow.esl.codec import Event, Headers, encode_execute
from exoflow.esl.heart import Heart
from exoflow.esl.wire import RECEIVE_BYTES, Reply, Wire

LEAVE_SECONDS = 1.0  # for whoever has lost a call to notice it; who waits for a CRM finds out later, and cannot write any more
AGE_MARGIN_SECONDS = 2.0  # rounds of the dialplan are a guard's 4 s apart; the two ages are measured within milliseconds
_OURS_NO_MORE = b"exoflow_"  # the dialplan's own extensions: guard, lease, fallback (dialplan/from-pri)
_DESTINATION, _ROUND, _CONTEXT = "Caller-Destination-Number", "variable_exo_entry", "Caller-Context"
_LINGERS = b"Content-Disposition: linger"
_LAST_RECEIVED = struct.Struct("I")  # tcpi_last_data_recv of TCP_INFO, milliseconds (linux/tcp.h)
_LAST_RECEIVED_AT = 52  # its place
# one random part a process and a counter: a token is unique, and cheaper than a uuid each
_TOKEN_ROOT = os.urandom(6).hex()
_tokens = itertools.count(1)


class Tenure(Wire):
    """A call's wire, between the moment when the call comes to us and the one when it is another's."""

    channel: Headers  # what `connect` told of the channel
    ended: Signal  # the channel is down, or the socket is
    _uuid: str

    def __init__(self, client_address: Any, sock: Any, heart: Heart | None = None) -> None:
        """`heart`: of the process, which renews the call's lease; without it the lease is armed, and nobody renews it."""
        self.held_since = time.monotonic()
        self.ceded = False  # the call is another's; the socket stays open for its sake
        self.left = Signal()  # nobody does anything with this session any more
        self._leased = True
        self._heart = heart
        # destination, round and context by which it came to us
        self._mine: tuple[bytes | None, bytes | None, bytes | None] = (None, None, None)
        self._signs: list[bytes] = []  # lines that an event of a call that is ours has
        super().__init__(client_address, sock)  # type: ignore[call-arg]  # greenswitch's class, behind this one
        if heart is not None:
            heart.held.add(self)

    # --- the call comes -------------------------------------------------------------------------

    def _silent_seconds(self) -> float:
        """How long the connection has been there: nothing has come on it yet."""
        told = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
        return int(_LAST_RECEIVED.unpack_from(told, _LAST_RECEIVED_AT)[0]) / 1000

    def _stay_away(self, age: float) -> None:
        """Raises Disconnected if the call fell to others while this connection waited for us to take it."""
        channel = self.channel
        self._mine = channel.raw(_DESTINATION), channel.raw(_ROUND), channel.raw(_CONTEXT)
        named = zip((_DESTINATION, _ROUND, _CONTEXT), self._mine, strict=True)
        self._signs = [b"\n%b: %b\n" % (name.encode(), value) for name, value in named if value is not None]
        if self._mine[1] in (None, b"1") and not (self._mine[0] or b"").startswith(_OURS_NO_MORE):
            return  # it has been nobody's before
        now, round_at = channel.get("Event-Date-Timestamp"), channel.variable("exo_socket_at")
        late = now.isdigit() and round_at.isdigit() and age > (int(now) - int(round_at)) / 1e6 + AGE_MARGIN_SECONDS
        if channel.variable("exo_fallback") or late:
            self.cede("the dialplan gave it to others while its connection waited to be taken")
            raise Disconnected("the call", str(self.close_reason))

    # --- the lease ------------------------------------------------------------------------------

    def lease_off(self) -> None:
        """What is executed from now on runs without a lease, as a bridge always does: it must outlive us.

        The switch itself takes the lease off before each such application, and arms it again behind: whoever died or froze
        during a bridge loses the call LEASE_SECONDS after its end.
        """
        self._leased = False

    def lease_begins(self) -> None:
        """The first one has been armed."""
        if self._heart is not None and not self.ended.is_set():
            self._heart.leases.begin(self)

    def lease_on(self) -> None:
        """The lease is kept from now on. To be called behind what `lease_off` was called for, however that ended."""
        self._leased = True
        if self._heart is not None and not self.ended.is_set():
            self._heart.leases.keep(self)

    def _put_between(self, packets: list[bytes], answers: list[Any]) -> None:
        """Applications, not `api` commands: those would not keep to the order of what is queued."""
        if self._heart is not None:
            self._heart.leases.drop(self)
        packets.insert(0, encode_execute("sched_cancel", "", new_token()))
        packets.append(encode_execute("sched_transfer", lease.argument(), new_token()))
        answers.insert(0, unheard)
        answers.append(unheard)

    def renew_lease(self, answered: Any) -> bool:
        """False: the socket takes nothing now."""
        return self.write_at_once(lease.renewal(self._uuid), unheard, answered)

    # --- a call that is another's ---------------------------------------------------------------

    def cede(self, why: str) -> None:
        """The call is another's now. All waits end with Disconnected, nothing is written any more.

        The socket stays open until the channel's end: closing it ends the `socket` of whoever has the call
        (docs/freeswitch-quirks.md).
        """
        if not self.closed.is_set():
            self.ceded = True
            self._free_waits(Disconnected("the call", why))

    def supersede(self) -> None:
        """A newer socket has the call: this one cedes it, and returns when its user has left, LEAVE_SECONDS later at most."""
        self.cede("a newer socket has the call")
        self.left.wait(LEAVE_SECONDS)

    def stop(self) -> None:
        """Closes the connection, unless that would disturb another's call; never waits for the peer."""
        if not self.ceded:
            super().stop()

    def release(self) -> None:
        """Closes the connection in any case: the process ends."""
        self.ceded = False
        self._finish(Disconnected("anything", "closed by us"))

    def stood_still(self, seconds: float) -> None:
        """The process did. What came meanwhile is read; a call that nobody else has comes back by the dialplan."""
        try:
            while not self.closed.is_set():
                self._received(os.read(self.sock.fileno(), RECEIVE_BYTES))
        except OSError:
            self._finish(Disconnected("the call", f"exoflow stood still for {seconds:.1f} s, and others may have it by now"))

    def _before_write(self) -> None:
        if self._heart is not None:
            self._heart.check()

    def _is_away(self, event: Event) -> bool:
        """Did the guard, a lease or an agent's transfer take the call from us? Its destination tells, its context, or the
        dialplan's count of rounds."""
        if self._signs and all(map(event.has, self._signs)):
            return False  # nearly always: no header is looked for then
        destination, entry = event.raw(_DESTINATION), event.raw(_ROUND)
        moved = destination != self._mine[0] and destination is not None and destination.startswith(_OURS_NO_MORE)
        context = event.raw(_CONTEXT)
        moved = moved or (context is not None and self._mine[2] is not None and context != self._mine[2])
        if not moved and (entry is None or self._mine[1] is None or entry == self._mine[1]):
            return False
        return not self._from_before(event) and event.get("Unique-ID") == self._uuid

    def _from_before(self, event: Event) -> bool:
        """Was it made before our `connect`? When the switch is busy such ones come, too."""
        return 0 < event.sequence < self.channel.sequence

    def _drain(self, data: bytes) -> None:
        """What comes on a ceded call's socket: nothing is taken of it but the channel's end, and the connection's."""
        if not data or _LINGERS in data:
            self._shut()


def unheard(reply: Reply | ExoflowError) -> None:
    """The reply to what nobody waits for."""


def new_token() -> str:
    """What an application's CHANNEL_EXECUTE_COMPLETE is known by."""
    return f"{_TOKEN_ROOT}-{next(_tokens):x}"
