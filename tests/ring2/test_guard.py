"""No dead air, whatever an app does with a call outside a bridge: each of its deaths ends within a bound that is measured.

The bounds are those of docs/freeswitch-conf.md; FreeSWITCH's scheduler counts whole seconds and looks once a second.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import gevent
import pytest
from gevent import socket
from support.esl import AppCall, AppServer, Gone, HungUp

from exoflow.esl.lease import FIRST_SECONDS
from ring2.box import Box
from ring2.network import Exchange, ExchangeCall
from ring2.test_dialplan import DID, app, assert_fallback, nth_call, talk

GUARD = (3.9, 6.5)
"""seconds; exoflow_guard_seconds is 5"""
AT_ONCE = 0.3
NOT_THERE = 0.7
"""an app that had the call for less than 0.1 s counts as not there: it is looked for again after 0.25 s"""
LEASE = 3
"""seconds; exoflow's own is 20, of which a test would only have the waiting"""
CALL_ID = "0123456789abcdef0123456789abcdef"


def lease_bounds(seconds: float) -> tuple[float, float]:
    return seconds - 1.1, seconds + 1.5


def take(call: AppCall, lease: int = LEASE) -> None:
    """As exoflow does: the guard is taken away and the lease armed by one packet behind `connect`."""
    call.connect()
    call.start("sched_cancel")
    call.execute("sched_transfer", f"+{lease} exoflow_lease XML from-pri")
    call.taken.set()


@contextlib.contextmanager
def frozen(port: int) -> Iterator[None]:
    """A process that stands still: its kernel accepts, nobody reads."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(64)
        yield


def given_at(call: AppCall) -> float:
    """When the dialplan gave the call to this app (epoch seconds)."""
    return int(call.var("exo_socket_at") or 0) / 1e6


def answered_after(fs: Box, call: ExchangeCall) -> float:
    """Seconds from the call's beginning until the fallback answered it."""
    cdr = fs.cdr(fs.uuid_of(call.uuid))["variables"]
    return (int(cdr["answer_uepoch"]) - int(cdr["start_uepoch"])) / 1e6


# --- frozen before `connect` --------------------------------------------------------------------


def test_a_process_frozen_before_connect(fs: Box, exchange: Exchange) -> None:
    """Its kernel accepts: the guard gives the call to the other host, and where that one is frozen, too, to the fallback."""
    with frozen(fs.exoflow_hosts.port), AppServer(talk, port=fs.other_hosts.port) as other:
        call = exchange.call(DID).wait_ended()
        assert (call.cause, len(other.calls)) == ("NORMAL_CLEARING", 1)
        created = int(other.calls[0].data["Caller-Channel-Created-Time"]) / 1e6
        assert GUARD[0] < given_at(other.calls[0]) - created < GUARD[1]
        assert other.calls[0].var("exo_end") == "mute"
    with frozen(fs.exoflow_hosts.port), frozen(fs.other_hosts.port):
        call = exchange.call(DID)
        assert_fallback(fs, call, "guard")
        assert 2 * GUARD[0] < answered_after(fs, call) < 2 * GUARD[1]


def test_one_host_is_asked_once_more(fs: Box, exchange: Exchange) -> None:
    """As vars.xml has it for a single box: what closed the call in its first moments has been replaced when the guard fires."""
    fs.api(f"global_setvar exoflow_other_hosts={fs.exoflow_hosts}")
    doings = [AppCall.close, talk]
    try:
        with app(fs, lambda call: doings.pop(0)(call)) as server:
            call = exchange.call(DID).wait_ended()
            assert (call.cause, len(server.calls)) == ("NORMAL_CLEARING", 2)
    finally:
        fs.api(f"global_setvar exoflow_other_hosts={fs.other_hosts}")
    again = server.calls[1]
    assert (again.var("exo_entry"), again.var("exo_end")) == ("2", "mute")
    assert GUARD[0] < given_at(again) - int(again.data["Caller-Channel-Created-Time"]) / 1e6 < GUARD[1]


# --- the lease ----------------------------------------------------------------------------------


def test_a_death_in_endless_music_is_found_by_the_lease(fs: Box, exchange: Exchange) -> None:
    """The call is another app's within the lease, with its variables, its keys and its place in the trunk."""
    armed: list[float] = []

    def dying(call: AppCall) -> None:
        take(call)
        if call.var("exo_entry") != "1":
            call.wait_hangup(30)
            return
        call.execute("answer")
        call.execute("multiset", f"^^;exo_call={CALL_ID};exo_typed=42#")
        armed.append(time.time())
        call.start("playback", "tone_stream://%(1000,0,600);loops=-1")
        gevent.sleep(0.3)
        call.close()

    fs.api(f"global_setvar exoflow_max_in_{fs.trunk}=1")
    try:
        with app(fs, dying) as server:
            call = exchange.call(DID, diverted_from="08040001234")
            back = nth_call(server, 2, seconds=LEASE + 3)
            assert exchange.call(DID).wait_ended().cause == "USER_BUSY", "the call that came back is counted, and once"
            call.hangup()
    finally:
        fs.api(f"global_setvar exoflow_max_in_{fs.trunk}=")
    low, high = lease_bounds(LEASE)
    assert low < given_at(back) - armed[0] < high
    assert (back.var("exo_end"), back.var("exo_lapses"), back.var("exo_entry")) == ("lease", "1", "2")
    assert (back.var("exo_call"), back.var("exo_typed")) == (CALL_ID, "42#")
    assert (back.var("exo_did"), back.var("exo_trunk"), back.var("exo_diverted_from")) == (DID, fs.trunk, "08040001234")
    assert (back.data["Caller-Destination-Number"], back.var("max_forwards")) == (DID, "70")
    assert "exo_fallback" not in fs.cdr(fs.uuid_of(call.uuid))["variables"]


@pytest.mark.parametrize("busy", [True, False], ids=["in a prompt", "idle"])
def test_a_process_frozen_with_the_call(fs: Box, exchange: Exchange, busy: bool) -> None:
    """Its sockets stay open and its kernel goes on accepting: lease, guard, and the other host has the call."""
    began: list[float] = []

    def freezing(call: AppCall) -> None:
        if began:  # frozen: nobody reads any more
            call.eof.wait(60)
            return
        take(call)
        call.execute("answer")
        began.append(time.time())
        if busy:
            call.start("playback", "tone_stream://%(60000,0,600)")
        call.eof.wait(60)

    with app(fs, freezing) as mute, AppServer(talk, port=fs.other_hosts.port) as other:
        call = exchange.call(DID).wait_ended()
        assert (call.cause, len(mute.calls), len(other.calls)) == ("NORMAL_CLEARING", 2, 1)
    brought = other.calls[0]
    low, high = lease_bounds(LEASE)
    assert low + GUARD[0] < given_at(brought) - began[0] < high + GUARD[1]
    assert (brought.var("exo_entry"), brought.var("exo_lapses"), brought.var("exo_end")) == ("3", "1", "mute")


def test_a_frozen_process_that_is_killed_later_takes_nobodys_call(fs: Box, exchange: Exchange) -> None:
    """Its old socket ends the park of whoever has the call now: the dialplan gives it to the same app once more, at once."""
    first: list[AppCall] = []

    def freezing(call: AppCall) -> None:
        take(call, lease=20 if first else 1)
        if first:
            call.wait_hangup(30)
            return
        first.append(call)
        call.execute("answer")
        call.eof.wait(60)

    with app(fs, freezing) as server:
        call = exchange.call(DID)
        second = nth_call(server, 2, seconds=4)
        # less would count as not having been there
        gevent.sleep(0.3)
        gone_at = time.time()
        first[0].close()
        third = nth_call(server, 3, seconds=2)
        assert given_at(third) - gone_at < AT_ONCE
        assert (second.var("exo_entry"), third.var("exo_entry"), third.var("exo_end")) == ("2", "3", "died")
        assert call.ended_at is None
        call.hangup()


def test_an_app_that_lets_every_lease_run_out_has_three_of_them(fs: Box, exchange: Exchange) -> None:
    def lazy(call: AppCall) -> None:
        take(call, lease=1)
        call.eof.wait(60)

    with app(fs, lazy) as server:
        call = exchange.call(DID)
        assert_fallback(fs, call, "deaths")
        variables = fs.cdr(fs.uuid_of(call.uuid))["variables"]
        assert (len(server.calls), variables["exo_lapses"]) == (3, "3")
        assert answered_after(fs, call) < 3 * lease_bounds(1)[1]


def test_a_lease_that_is_renewed_lets_the_app_go_on(fs: Box, exchange: Exchange) -> None:
    """`sched_del` and `sched_transfer` as API, beside a running prompt."""

    def renewing(call: AppCall) -> None:
        take(call, lease=2)
        call.execute("answer")
        playing = call.start("playback", "tone_stream://%(4000,0,600)")
        for _ in range(4):
            gevent.sleep(0.9)
            assert call.command(f"api sched_del {call.uuid}").text.startswith("+OK")
            assert call.command(f"api sched_transfer +2 {call.uuid} exoflow_lease XML from-pri").text.startswith("+OK")
        playing.get(timeout=3)
        call.start("hangup", "NORMAL_CLEARING")

    with app(fs, renewing) as server:
        call = exchange.call(DID).wait_ended()
        assert len(server.calls) == 1
    assert "exo_lapses" not in call.headers
    assert max(call.heard().tone_blocks(600)) > -20


# --- killed -------------------------------------------------------------------------------------


def test_an_idle_process_is_killed(fs: Box, exchange: Exchange) -> None:
    killed: list[float] = []

    def dying(call: AppCall) -> None:
        take(call, lease=20)
        if call.var("exo_entry") != "1":
            call.start("hangup", "NORMAL_CLEARING")
            return
        call.execute("answer")
        gevent.sleep(0.3)
        killed.append(time.time())
        call.close()

    with app(fs, dying) as server:
        exchange.call(DID).wait_ended()
        assert len(server.calls) == 2
        assert given_at(server.calls[1]) - killed[0] < AT_ONCE


# --- admission ----------------------------------------------------------------------------------


def test_a_call_is_admitted_once(fs: Box, exchange: Exchange) -> None:
    with app(fs, talk):
        call = exchange.call(DID).wait_ended()
    log = fs.cdr(fs.uuid_of(call.uuid))["app_log"]["applications"]
    assert Counter(one["app_name"] for one in log)["limit"] == 1


def test_a_call_without_a_number_still_tells_its_trunk(fs: Box, exchange: Exchange) -> None:
    call = exchange.call("7").wait_ended()
    variables = fs.cdr(fs.uuid_of(call.uuid))["variables"]
    assert (variables["exo_refused"], variables["exo_trunk"]) == ("number", fs.trunk)


# --- the socket that is closed early --------------------------------------------------------------

CALLS = 200
BATCH = 50
PAUSE = 0.03
"""seconds between two calls of a batch; the box takes 60 a second"""
BLIND = "before, or with connect"


@dataclass
class Fate:
    """What became of one call."""

    kind: str
    closed_at: float
    next_at: float = 0.0
    served: bool = False


@dataclass
class Race:
    """Apps that close their socket at every moment of the first 60 ms, and one that takes what comes back."""

    closed: dict[str, Fate] = field(default_factory=dict)
    blind: bool = True
    """before the channel is known; a call that comes back cannot be told from a new one then"""
    turn: int = 0

    def early(self, call: AppCall) -> None:
        self.turn += 1
        if self.blind:
            if self.turn % 2:
                call.send("connect")
            call.close()
            return
        try:
            self._after_connect(call, self.turn)
        except (Gone, HungUp):
            return

    def _after_connect(self, call: AppCall, turn: int) -> None:
        call.data = call.command("connect").headers
        if call.var("exo_entry") != "1":
            self.serve(call, connected=True)
            return
        name = ("connect", "1 to 60 ms", "1 to 60 ms", "subscribing", "sched_cancel sent", "sched_cancel done")[turn % 6]
        if name == "1 to 60 ms":
            gevent.sleep((1 + turn * 7 % 60) / 1000)
        elif name != "connect":
            call.command("linger 5")
            call.command("myevents")
        if name.startswith("sched_cancel"):
            call.start("sched_cancel")
            armed = call.start("sched_transfer", f"+{FIRST_SECONDS} exoflow_lease XML from-pri")
            if name == "sched_cancel done":
                armed.get(timeout=5)
        self.closed[call.uuid] = Fate(name, time.time())
        call.close()

    def serve(self, call: AppCall, *, connected: bool = False) -> None:
        """The next app."""
        try:
            if not connected:
                call.data = call.command("connect").headers
            fate = self.closed.setdefault(call.uuid, Fate(BLIND, self._created(call)))
            fate.next_at, fate.served = given_at(call), True
            call.command("myevents")
            call.execute("sched_cancel")
            call.start("hangup", "NORMAL_CLEARING")
        except (Gone, HungUp):
            return

    @staticmethod
    def _created(call: AppCall) -> float:
        return int(call.data["Caller-Channel-Created-Time"]) / 1e6


def test_200_sockets_closed_early_leave_nobody_in_dead_air(
    fs: Box, exchange: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each call reaches the next app, or the fallback, within the bound of the moment at which its socket was closed."""
    race = Race()
    calls: list[ExchangeCall] = []
    fs.api(f"global_setvar exoflow_max_in_{fs.trunk}={BATCH}")
    try:
        with app(fs, race.early), AppServer(race.serve, port=fs.other_hosts.port):
            for number in range(CALLS // BATCH):
                race.blind = number == 0
                batch = []
                for _ in range(BATCH):
                    batch.append(exchange.call(DID))
                    gevent.sleep(PAUSE)
                for call in batch:
                    call.wait_ended(40)
                calls += batch
    finally:
        fs.api(f"global_setvar exoflow_max_in_{fs.trunk}=")
    assert len(calls) == CALLS
    for call in calls:
        assert call.cause == "NORMAL_CLEARING"
        variables = fs.cdr(fs.uuid_of(call.uuid))["variables"]
        fate = race.closed.setdefault(variables["uuid"], Fate(BLIND, int(variables["start_uepoch"]) / 1e6))
        if not fate.served:
            assert variables["exo_fallback"] in ("guard", "deaths")
            fate.next_at = int(variables["answer_uepoch"]) / 1e6
    with capsys.disabled():
        print(f"\n{_table(race)}")
    assert len(race.closed) == CALLS
    for fate in race.closed.values():
        bound = {"sched_cancel sent": lease_bounds(FIRST_SECONDS)[1], "sched_cancel done": NOT_THERE}.get(fate.kind, GUARD[1])
        assert fate.next_at - fate.closed_at < bound, fate


def _table(race: Race) -> str:
    lines = [f"{'socket closed after':24}{'calls':>6}{'parked':>8}{'next app':>10}{'longest s':>11}"]
    kinds = sorted({fate.kind for fate in race.closed.values()})
    for kind in kinds:
        fates = [fate for fate in race.closed.values() if fate.kind == kind]
        waits = [fate.next_at - fate.closed_at for fate in fates]
        parked, served = sum(wait > 1 for wait in waits), sum(fate.served for fate in fates)
        lines.append(f"{kind:24}{len(fates):6}{parked:8}{served:10}{max(waits):11.2f}")
    return "\n".join(lines)
