"""Where FreeSWITCH's `socket` application connects to: accepts, bounds, and never lets a call fall."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer

from exoflow.errors import Disconnected, ExoflowError
from exoflow.esl.session import CallSession

log = logging.getLogger("exoflow.esl")

# calls above the limit are told so, in their own greenlets; above this too they wait for the dialplan's guard
REFUSAL_ROOM = 200
BACKLOG = 1024  # connections the kernel keeps while the loop is busy: a full backlog means SYN retries, 1-7 s of silence
REFUSED_CAUSE = "NORMAL_CIRCUIT_CONGESTION"  # 34: the exchange may try another line; never 96 (facts, pri section 1)


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
        self.max_calls = max_calls
        self.active = 0
        self.refused = 0
        backlog = BACKLOG if isinstance(address, tuple) else None  # who made the socket has chosen its backlog
        self._server = StreamServer(address, self._accepted, backlog=backlog, spawn=Pool(max_calls + REFUSAL_ROOM))

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; known after `start`."""
        return (self._server.server_host, self._server.server_port)

    def start(self) -> None:
        """Raises OSError if the address is taken."""
        self._server.start()

    def stop_accepting(self) -> None:
        self._server.close()

    def stop(self, seconds: float) -> None:
        """Stops accepting, waits for the calls, then cuts their sockets: FreeSWITCH goes on with them by its dialplan."""
        self._server.stop(timeout=seconds)

    def _accepted(self, sock: Any, client: Any) -> None:
        # counted before the first wait, or a burst passes the limit; a call that is being refused takes no other's place
        if self.active >= self.max_calls:
            self.refused += 1
            self._handle(sock, client, self._refuse)
            return
        self.active += 1
        try:
            self._handle(sock, client, self._take)
        finally:
            self.active -= 1

    def _handle(self, sock: Any, client: Any, work: Callable[[CallSession], None]) -> None:
        session: CallSession | None = None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = CallSession(client, sock)
            work(session)
        except ExoflowError as error:
            log.warning("call on %s: %s", session.uuid if session else client, error)
        except gevent.GreenletExit:
            log.info("call on %s given back to the dialplan", session.uuid if session else client)
        except Exception:
            # the socket closes and the dialplan gives the call to us again, or after three times to the fallback
            log.exception("call on %s failed", session.uuid if session else client)
        finally:
            if session is not None:
                session.stop()
            sock.close()

    def _take(self, session: CallSession) -> None:
        try:
            session.begin()
        except Disconnected:
            if not session.uuid:
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
