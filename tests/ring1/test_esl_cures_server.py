"""The defects of greenswitch 0.0.19's server, each beside its cure; as test_esl_cures.py, strictly expected of stock."""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from eslpeer import HANGS, WAIT, Late, Peer, channel_data, within
from eslsides import Ours, Stock, fails
from gevent import socket
from gevent.event import Event

from exoflow.esl import session


@pytest.fixture(
    params=[
        pytest.param(Ours(), id="exoflow"),
        pytest.param(Stock(HANGS), id="greenswitch", marks=pytest.mark.xfail(strict=True, raises=(AssertionError, Late))),
    ]
)
def side(request: pytest.FixtureRequest) -> Ours:
    return request.param


def callers(address: tuple[str, int], count: int) -> list[Peer]:
    return [Peer(socket.create_connection(address)) for _ in range(count)]


def test_28_a_call_is_taken_at_once(side: Ours) -> None:
    delays = []
    with side.server(lambda session: None) as address:
        for _ in range(5):
            began = time.perf_counter()
            (peer,) = callers(address, 1)
            peer.command()
            delays.append(time.perf_counter() - began)
            peer.close()
    assert statistics.median(delays) < 0.03


def test_29_no_free_descriptor_does_not_end_the_server(side: Ours) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with side.server(lambda session: None) as address, socket.socket() as caller:
        gevent.sleep(0)
        taken = [os.open(os.devnull, os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
        try:
            with contextlib.suppress(OSError):  # fills the gaps below, until there is none
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            caller.connect(address)
            gevent.sleep(0.15)  # the fault's own length: above greenswitch's interval of polling
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in taken:
                os.close(descriptor)
        assert Peer(caller).command(side.patience).line == "connect"


def test_30_a_burst_does_not_pass_the_limit(side: Ours) -> None:
    running, gate = [], Event()

    def run(session: Any) -> None:
        running.append(session)
        gate.wait(WAIT)

    with side.server(run, limit=2) as address:
        peers = callers(address, 6)
        assert [peer.command().line for peer in peers] == ["connect"] * 6
        served = []
        for peer in peers:
            peer.send(channel_data())
            served.append(gevent.spawn(peer.serve))
        refused = gevent.wait(served, timeout=side.patience, count=4)
        assert len(refused) >= 4, "too many calls run"
        assert len(running) == 2
        gate.set()


def test_31_silent_peers_do_not_stay(side: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CONNECT_SECONDS", 0.05)
    with side.server(lambda session: None, limit=1) as address:
        peers = callers(address, 20)
        assert all(peer.eof(side.patience) for peer in peers)


def test_32_a_call_above_the_limit_is_hung_up_with_a_cause(side: Ours) -> None:
    runs, gate = Event(), Event()

    def run(session: Any) -> None:
        runs.set()
        gate.wait(WAIT)

    with side.server(run, limit=1) as address:
        (first,) = callers(address, 1)
        gevent.spawn(first.serve)
        assert runs.wait(WAIT)
        (second,) = callers(address, 1)
        second.serve()
        gate.set()
    hangups = [command.argument for command in second.commands if command.application == "hangup"]
    assert hangups == ["USER_BUSY"]
    assert "exit" not in [command.line for command in second.commands]


def test_33_an_error_in_the_application_closes_the_socket(side: Ours) -> None:
    with side.server(fails) as address:
        (peer,) = callers(address, 1)
        with within(side.patience, "the end of the call's socket"):
            peer.serve()


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    try:
        yield
    except SystemExit as end:
        raise AssertionError(f"the process ends with status {end.code or 0}") from end


def test_34_a_taken_port_is_an_error(side: Ours) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with pytest.raises(OSError, match="in use"), no_exit(), side.server(lambda session: None, port=taken.getsockname()[1]):
            pass


def test_34_the_system_may_choose_the_port(side: Ours) -> None:
    with no_exit(), side.server(lambda session: None, port=0) as address:
        (peer,) = callers(address, 1)
        assert peer.command().line == "connect"
