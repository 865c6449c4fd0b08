"""Ports that the operating system says are free."""

from __future__ import annotations

import socket


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port on 127.0.0.1 that was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_sip_port() -> int:
    """A port that is free for UDP and TCP alike; SIP binds both."""
    while True:
        port = free_port(socket.SOCK_DGRAM)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def free_udp_block(size: int, start: int, end: int) -> int:
    """The first of `size` neighbouring UDP ports between `start` and `end`, all free a moment ago; for RTP."""
    for base in range(start, end - size, size):
        if all(_udp_is_free(port) for port in range(base, base + size)):
            return base
    raise OSError(f"no {size} neighbouring free UDP ports between {start} and {end}")


def _udp_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
