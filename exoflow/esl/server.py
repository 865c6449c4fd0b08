"""Where FreeSWITCH's `socket` application connects to: accepts, bounds, and never lets a call fall."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer

from exoflow.errors import DeadlineExceeded, Disconnected, ExoflowError
from exoflow.esl.heart import Heart
from exoflow.esl.session import CallSession

log = logging.getLogger("exoflow.esl")

# connections beside the calls that are taken: those that have not said yet what they are, and calls that are being refused;
# above this too they wait in the backlog for the dialplan's guard
GREETING_ROOM = 1000
BACKLOG = 1024  # connections the kernel keeps while the loop is busy: a full backlog means SYN retries, 1-7 s of silence
# 17: the callers of a full process hear what they would hear of a full line. 34 would have the exchange look for other
# circuits of the same business, which lead to the same process; never 96 (facts, pri section 1)
REFUSED_CAUSE, REFUSED_Q850 = "USER_BUSY", 17
PAUSE_SECONDS = 0.1  # in accepting, when there are no descriptors: calls end all the time, and the guard waits 5 s
LEAVE_SECONDS = 0.2  # for whoever has lost a call at the end of the process; then he is killed
COMPLAIN_SECONDS = 1.0  # the log gets one line in so long about it
# too many descriptors in the process or in the system, or no memory for one: passes
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class _Door(StreamServer):
    """Accepts on when there is no descriptor left: gevent's server prints a traceback each time, and waits up to 1 s."""

    no_room = 0
    _complained_at = 0.0

    def do_read(self) -> Any:
        try:
            return super().do_read()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._pause(error)
            return None

    def _pause(self, error: OSError) -> None:
        self.no_room += 1
        if time.monotonic() - self._complained_at > COMPLAIN_SECONDS:
            self._complained_at = time.monotonic()
            log.error("no call can be accepted: %s; raise LimitNOFILE of the service (seen %d times)", error, self.no_room)
        self.stop_accepting()
        self._timer = self.loop.timer(PAUSE_SECONDS)
        self._timer.start(self._start_accepting_if_started)


class CallServer:
    """One greenlet a call: `answer` gets the session after `connect`, and the socket is closed when it returns."""

    def __init__(
        self,
        address: Any,
        answer: Callable[[CallSession], None],
        *,
        max_calls: int,
        on_refused: Callable[[CallSession], None] = lambda session: None,
    ) -> None:
        """`address` is host and port, or a socket that listens already. `on_refused` is told of each call above `max_calls`,
        once it has been hung up."""
        self._answer = answer
        self._on_refused = on_refused
        self.heart = Heart()
        self._stopping = False
        self.max_calls = max_calls
        self.active = 0
        self.refused = 0  # calls above max_calls
        self.silent = 0  # connections that said nothing for CONNECT_SECONDS
        backlog = BACKLOG if isinstance(address, tuple) else None  # who made the socket has chosen its backlog
        self._server = _Door(address, self._accepted, backlog=backlog, spawn=Pool(max_calls + GREETING_ROOM))

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; known after `start`."""
        return (self._server.server_host, self._server.server_port)

    @property
    def counters(self) -> dict[str, int]:
        """What went wrong since the start: calls refused, silent peers, times without a descriptor, stops of the process."""
        return {
            "refused": self.refused,
            "silent": self.silent,
            "emfile": self._server.no_room,
            "stood_still": self.heart.stops,
            "leases_refused": self.heart.leases.refused,
        }

    def start(self) -> None:
        """Raises OSError if the address is taken."""
        self._server.start()
        self.heart.start()

    def stop_accepting(self) -> None:
        self._server.close()

    def stop(self, seconds: float) -> None:
        """Stops accepting, waits for the calls, then cuts their sockets: FreeSWITCH goes on with them by its dialplan.

        First the sockets, then whoever still uses them: what a killed greenlet does on its way out reaches no call any more.
        """
        self._server.close()
        self._server.pool.join(timeout=seconds)
        self.heart.stop()
        self._stopping = True
        for session in list(self.heart.held):
            session.release()
        self._server.stop(timeout=LEAVE_SECONDS)

    def _accepted(self, sock: Any, client: Any) -> None:
        session: CallSession | None = None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = CallSession(client, sock, self.heart)
            session.connect()
            self._admit(session)
        except ExoflowError as error:
            if isinstance(error, DeadlineExceeded) and session is not None and not session.uuid:
                self.silent += 1
            level = logging.INFO if self._stopping else logging.WARNING
            log.log(level, "call on %s: %s", session.uuid or client if session else client, error)
        except gevent.GreenletExit:
            log.info("call on %s given back to the dialplan", session.uuid if session else client)
        except Exception:
            # the socket closes and the dialplan gives the call to us again, or after three times to the fallback
            log.exception("call on %s failed", session.uuid if session else client)
        finally:
            if session is not None:
                session.stop()
            sock.close()

    def _admit(self, session: CallSession) -> None:
        # counted when the peer has shown that it has a call, before the next wait: a silent one takes nobody's place, a burst
        # does not pass the limit, and a call that is being refused takes no other's place
        if self.active >= self.max_calls:
            self.refused += 1
            self._refuse(session)
            return
        self.active += 1
        try:
            self._take(session)
        finally:
            self.active -= 1

    def _take(self, session: CallSession) -> None:
        try:
            session.begin()
        except Disconnected:
            if session.ceded:
                raise
            # whose call it was is known: it gets its record, and is looked for on the switch
        self._answer(session)

    def _refuse(self, session: CallSession) -> None:
        session.begin()
        log.warning("call %s refused: %d calls are the limit (switch.max_calls)", session.uuid, self.max_calls)
        try:
            session.execute("set", "exo_refused=app", deadline=2)
            session.hang_up(REFUSED_CAUSE)
        finally:
            self._on_refused(session)
