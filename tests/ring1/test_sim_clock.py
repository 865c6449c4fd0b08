"""The virtual clock: switch time jumps when nobody has anything to do, and never over an app that has."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
import pytest
from gevent import socket
from hall import BYE, Hall, codes, menu, say
from simclient import WAIT, App, Wire, running

from exoflow.flow import hold
from exoflow.sim import AgentScript, EmbeddedSwitch
from exoflow.sim.clock import Clock, VirtualClock
from exoflow.sim.crm import Reply

TO, FROM = "+918030752400", "+919811111111"
AT_ONCE = 1.0  # wall seconds in which minutes of switch time must have passed, on a busy machine too
TALK = "{ignore_early_media=true,originate_timeout=20}freetdm/PRI1/A/09876543210"


def three_minutes(wire: Wire) -> None:
    """An app: a greeting of 20 s, a menu, an agent who talks 2.5 minutes."""
    App.greet(wire)
    wire.run("answer")
    wire.run("playback", "tone_stream://%(20000,0,400)")
    wire.run("play_and_get_digits", "1 1 1 5000 none tone_stream://%(10000,0,400) silence_stream://50 exo_m [12] 5000")
    wire.run("bridge", TALK)
    wire.start("hangup", "NORMAL_CLEARING")
    wire.event("CHANNEL_HANGUP_COMPLETE")


def test_a_call_of_three_minutes_takes_milliseconds() -> None:
    """20 ms on a free machine; asserted is what this process computes, for others may have the machine too."""
    agents = {"9876543210": AgentScript.answers(5, talks=150)}
    took = []
    with running(three_minutes, speed=None, agents=agents) as (switch, _):
        for _ in range(5):
            began, computed = time.perf_counter(), time.process_time()
            phone = switch.call(TO, FROM, keys="1")
            assert phone.wait(WAIT)
            took.append(time.process_time() - computed)
            assert time.perf_counter() - began < AT_ONCE
            assert phone.session is not None
            assert int(phone.session.channel.variables["duration"]) >= 176
            assert phone.pressed == ["1"]
        assert switch.violations == []
    assert min(took) < 0.02, took


def test_a_call_of_three_minutes_through_the_real_service(hall: Callable[..., Hall]) -> None:
    asks = {"passthru": {"url": "crm:/passthru"}, "ok": "agents", "redirect": "agents", "failed": "agents"}
    agents = {"connect": {"url": "crm:/connect"}, "answered": "bye", "unanswered": "bye"}
    steps = {"welcome": say("Welcome.", "choose"), "choose": menu({"1": "ask"}), "ask": asks, "agents": agents, "bye": BYE}
    running_hall = hall(steps, speed=None, agents={"9876543210": AgentScript.answers(5, talks=165)})
    took = []
    for _ in range(6):
        began = time.perf_counter()
        phone, state = running_hall.run(keys="1")
        took.append(time.perf_counter() - began)
        assert "leg.talked" in codes(state)
        assert phone.session is not None
        assert int(phone.session.channel.variables["duration"]) >= 170
    assert min(took) < AT_ONCE / 5, took
    assert running_hall.switch.violations == []


def test_timestamps_are_in_virtual_time() -> None:
    with running(speed=None) as (switch, app):
        switch.call(TO, FROM)
        wire = app.call()
        before = int(wire.run("answer").get("Event-Date-Timestamp"))
        after = int(wire.run("playback", "tone_stream://%(60000,0,400)").get("Event-Date-Timestamp"))
        assert 60_000_000 <= after - before < 62_000_000


def test_the_clock_waits_for_an_app_that_owes_a_command() -> None:
    """A caller who would hang up after ten seconds does not, while the app asks its CRM for a tenth of a second."""
    with running(speed=None) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        phone.after(10, phone.hangup)
        before = switch.clock.elapsed()
        gevent.sleep(0.1)
        assert switch.clock.elapsed() - before < 1
        assert wire.run("set", "exo_a=1").get("variable_exo_a") == "1"
        wire.start("playback", "tone_stream://%(60000,0,400)")
        assert phone.wait(AT_ONCE)
        assert phone.heard[0].seconds == pytest.approx(9.9, abs=0.2)


def test_the_guard_takes_a_call_from_a_mute_app_in_its_own_time() -> None:
    with running(speed=None, guard_seconds=0.2) as (switch, app):
        began = time.monotonic()
        phone = switch.call(TO, FROM)
        app.call(greet=False)
        assert phone.wait(WAIT)
        assert 0.2 <= time.monotonic() - began < AT_ONCE
        assert len(phone.heard) == 1
        assert switch.clock.elapsed() > 4, "the fallback's tones took no time of ours"


def test_nobody_there_for_two_seconds_takes_no_time() -> None:
    app = App()
    app.stop()
    with EmbeddedSwitch(app.address, speed=None) as switch:
        began = time.monotonic()
        phone = switch.call(TO, FROM)
        assert phone.wait(WAIT)
        assert time.monotonic() - began < AT_ONCE
        assert phone.session is not None
        assert phone.session.channel.variables["exo_fallback"] == "refused"


def test_unread_bytes_come_before_the_next_due_thing() -> None:
    """The app's answer to a prompt's end arrives long before the caller's patience is over, however slow the reader is."""
    with running(speed=None) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        phone.after(3600, phone.hangup)
        for _ in range(50):
            wire.run("playback", "tone_stream://%(1000,0,400)")
        assert not phone.wait(0)
        assert 50 <= switch.clock.elapsed() < 60


def test_a_held_clock_and_a_busy_thing_stop_the_jumps() -> None:
    clock = VirtualClock()
    done: list[float] = []
    with clock.held():
        clock.later(30, lambda: done.append(clock.elapsed()))
        gevent.sleep(0.05)
        assert not done
    busy = [True]
    clock.watch(lambda: busy[0])
    gevent.sleep(0.05)
    assert not done
    busy.clear()
    busy.append(False)
    gevent.sleep(0.05)
    assert done
    assert done[0] == pytest.approx(30, abs=0.01)
    clock.stop()


def test_what_is_due_comes_in_its_order_and_what_was_cancelled_never() -> None:
    clock = VirtualClock()
    done: list[str] = []
    clock.later(20, done.append, "second")
    clock.later(10, done.append, "first")
    clock.later(15, done.append, "never").cancel()
    clock.sleep(30)
    assert done == ["first", "second"]
    assert clock.elapsed() == pytest.approx(30, abs=0.1)
    clock.stop()


def test_bytes_on_their_way_between_two_sockets_hold_it() -> None:
    """A chain of answers over loopback is followed to its end before the clock jumps."""
    clock = VirtualClock()
    left, right = socket.socketpair()

    def echo(sock: socket.socket, count: int) -> None:
        for _ in range(count):
            sock.sendall(sock.recv(1))

    bounces = gevent.spawn(echo, right, 200)
    jumped: list[int] = []
    seen = [0]
    clock.later(1000, lambda: jumped.append(seen[0]))
    for _ in range(200):
        left.sendall(b"x")
        left.recv(1)
        seen[0] += 1
    bounces.join(WAIT)
    clock.sleep(1001)
    assert jumped == [200]
    clock.stop()


@pytest.mark.parametrize("watched", [True, False])
def test_a_real_answer_is_not_overtaken_while_music_plays(
    hall: Callable[..., Hall], monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    """The CRM takes 0.2 s of its own; a caller with 5 s of patience hears the answer, if the clock knows."""
    monkeypatch.setattr(hold, "HOLD_AFTER", 0.01)
    steps = {
        "welcome": say("Welcome.", "ask"),
        "ask": {"passthru": {"url": "crm:/passthru"}, "ok": "tell", "redirect": "bye", "failed": "bye"},
        "tell": say("It was found."),
        "bye": BYE,
    }
    one = hall(steps, speed=None)
    if not watched:
        assert isinstance(one.switch.clock, VirtualClock)
        one.switch.clock._busy.clear()  # what the hall set
    one.crm.script("/passthru", Reply(200, b"", delay=0.2))
    phone = one.call()
    phone.after(5, phone.hangup)
    one.ended(phone)
    assert ("It was found." in phone.texts) is watched


def test_a_speed_is_a_factor_and_must_be_one() -> None:
    clock = Clock(50)
    began = time.monotonic()
    clock.sleep(1)
    assert time.monotonic() - began < 0.5
    with pytest.raises(ValueError, match="above 0"):
        Clock(0)
