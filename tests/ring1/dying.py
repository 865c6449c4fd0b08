"""exoflow dies at a chosen moment of a call: the call's socket breaks, or the whole process goes as by a SIGKILL and another
one is started at once."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Literal

import gevent
import pytest
from gevent.event import AsyncResult
from hall import Hall

from exoflow.errors import Disconnected
from exoflow.esl.codec import Event
from exoflow.esl.session import CallSession

How = Literal["nothing", "socket", "kill", "kill with a slow store"]
Moment = Literal["before", "in", "after"]


class Death:
    """Comes before the `number`-th application that takes time, in it, or when it has ended and nobody heard of it."""

    def __init__(
        self,
        hall: Hall,
        patch: pytest.MonkeyPatch,
        how: How,
        number: int,
        moment: Moment,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """`then` is done at the moment, behind the death."""
        self.hall, self.how, self.number, self.moment, self.then = hall, how, number, moment, then
        self.applications: list[str] = []  # those that take time, as the app sent them
        self.struck = False
        self._armed = False
        self._real = CallSession.execute
        patch.setattr(CallSession, "execute", lambda session, *args, **options: self._execute(session, *args, **options))
        hall.switch.bus.listeners.append(self)  # type: ignore[arg-type]

    # --- the moment ---

    def _execute(self, session: CallSession, application: str, argument: str = "", **options: Any) -> Event:
        chosen = options.get("then") is not None and not self.struck
        if chosen:
            self.applications.append(application)
            chosen = len(self.applications) == self.number
        if chosen and self.how == "kill":
            # a virtual clock runs away from the disk: what a real call has written long ago
            with self.hall.switch.clock.held():
                self.hall.service.store.write(lambda connection: None)
        if chosen and self.moment == "before":
            self._strike(session)
        self._armed = chosen and self.moment == "in"
        event = self._real(session, application, argument, **options)
        if chosen and self.moment == "after":
            self._strike(session)
        return event

    only = None

    def wants(self, name: str) -> bool:
        return name == "CHANNEL_EXECUTE" and self._armed

    def offer(self, event: Any) -> None:
        """The application runs."""
        self._armed = False
        self.struck = True
        self._die()
        self.then()

    def close(self) -> None:
        """The switch stops."""

    def _strike(self, session: CallSession) -> None:
        self.struck = True
        self._die()
        if self.how == "socket":
            raise Disconnected("a test")
        gevent.sleep(60)  # a killed process does nothing any more

    # --- the death ---

    def _die(self) -> None:
        if self.how == "nothing":
            return
        if self.how == "socket":
            for session in self.hall.service._held.values():
                session.sock.shutdown(socket.SHUT_RDWR)
        else:
            kill(self.hall)


def kill(hall: Hall, then: Callable[[], None] = lambda: None) -> None:
    """As SIGKILL: what is not on its way to the disk is lost. Another exoflow is there at once."""
    service, store = hall.service, hall.service.store
    store._waiting = type(store._waiting)()
    store._queue = lambda source: AsyncResult()  # type: ignore[method-assign]
    hall.switch.clock.hold(hall)

    def again() -> None:
        for session in service._held.values():
            session.sock.shutdown(socket.SHUT_RDWR)
        service.server._server.pool.kill()
        service.stop()
        then()
        hall.serve()
        hall.switch.clock.release(hall)

    gevent.spawn(again)
