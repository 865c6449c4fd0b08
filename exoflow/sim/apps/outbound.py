"""The `socket` application: connects to the app, and hands the call to it (mod_event_socket.c:415-563)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent import socket

from exoflow.sim.apps import application
from exoflow.sim.listener import Listener

if TYPE_CHECKING:
    from exoflow.sim.session import Session

DEFAULT_PORT = 8084
MAX_HOSTS = 50


@application("socket")
def socket_(session: Session, argument: str) -> None:
    """`host:port|host:port async full`. The first host that accepts gets the call; a refused one is passed over."""
    words = argument.split()
    if not words:
        return
    with session.switch.clock.held():
        sock = _connect(session, words[0].split("|")[:MAX_HOSTS])
    session.served = False
    if sock is None:
        session.switch.log("Socket Error!")
        return
    listener = Listener(session.switch, sock, session, full="full" in words[1:], asynchronous="async" in words[1:])
    session.listeners.append(listener)
    session.mind_clock()
    session.switch.bus.listeners.append(listener)
    session.switch.spawn(listener.run)
    # commands do not run before the listener is connected, and nobody looks at them
    session.wait(None, lambda: listener.connected_at is not None or listener.finished.is_set(), inside=False)
    session.park()
    session.run_queued()
    if session.reset and not session.channel.hung_up:
        session.reset = False  # CS_RESET back to CS_EXECUTE (mod_event_socket.c:546-550)


def _connect(session: Session, hosts: list[str]) -> socket.socket | None:
    port = DEFAULT_PORT
    for text in hosts:
        host, colon, number = text.rpartition(":")
        if colon:
            port = int(number)  # and it carries over to a later host without one
        else:
            host = text
        session.channel.set("socket_host", host)
        try:
            sock = socket.create_connection((host, port))
        except OSError as e:
            session.switch.log(f"Socket Error: {host}:{port}: {e}")
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    return None
