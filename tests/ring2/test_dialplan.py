"""The dialplan's promises, kept by a real FreeSWITCH: whatever the app does, the caller never meets dead air."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from support.esl import AppCall, AppServer, when

from exoflow.calls.door import REFUSALS
from ring2.box import Box
from ring2.network import Exchange, ExchangeCall
from ring2.sip import invite

DID = "8030752400"
SIT = (950, 1400, 1800)
"""Hz; the three tones of an announcement that has no file."""


def talk(call: AppCall) -> None:
    """An app that lives: answers, plays, hangs up."""
    call.take()
    call.execute("answer")
    call.execute("playback", "tone_stream://%(500,0,600)")
    call.start("hangup", "NORMAL_CLEARING")


def hold(call: AppCall) -> None:
    """An app that keeps the call, unanswered."""
    call.take()
    call.wait_hangup(30)


@contextlib.contextmanager
def app(fs: Box, handler: Callable[[AppCall], None]) -> Iterator[AppServer]:
    with AppServer(handler, port=fs.exoflow_hosts.port) as server:
        yield server


def assert_fallback(fs: Box, call: ExchangeCall, why: str) -> None:
    """The caller heard the announcement to its end, and the CDR says why."""
    call.wait_ended(15)
    assert call.answered_at is not None
    assert (call.cause, call.q850) == ("NORMAL_CLEARING", 16)
    heard = call.heard()
    for hz in SIT:
        assert max(heard.tone_blocks(hz)) > -25, f"no {hz} Hz"
    assert fs.cdr(fs.uuid_of(call.uuid))["variables"]["exo_fallback"] == why


# --- the plain way ----------------------------------------------------------------------------


def test_an_app_gets_the_call_and_ends_it(fs: Box, exchange: Exchange) -> None:
    with app(fs, talk) as server:
        call = exchange.call(DID).wait_ended()
        assert (call.cause, call.q850) == ("NORMAL_CLEARING", 16)
        variables = fs.cdr(fs.uuid_of(call.uuid))["variables"]
        # it came once: the lines behind `socket` did not run
        assert len(server.calls) == 1
    brought = server.calls[0]
    assert (brought.var("exo_trunk"), brought.var("exo_did"), brought.var("exo_entry")) == (fs.trunk, DID, "1")
    assert brought.data["Caller-Destination-Number"] == DID
    assert brought.data["Caller-Caller-ID-Number"] == "09812345678"
    assert brought.data["Answer-State"] == "ringing"
    assert not {"exo_fallback", "exo_refused", "exo_end"} & set(variables)
    assert call.heard().tone(600) > -20


@pytest.mark.parametrize("did", ["24", "400", "2400", "0752400", "8030752400", "+918030752400"])
def test_short_and_long_dnis_reach_the_app(fs: Box, exchange: Exchange, did: str) -> None:
    with app(fs, hold) as server:
        call = exchange.call(did)
        brought = nth_call(server, 1)
        call.hangup()
    assert len(server.calls) == 1
    assert brought.uuid == fs.uuid_of(call.uuid)
    assert (brought.var("exo_did"), brought.data["Caller-Destination-Number"]) == (did.lstrip("+"), did)


@pytest.mark.parametrize(
    ("sent", "did"),
    [
        ("+918030752400;npdi", "918030752400"),
        ("+918030752400;rn=+91803075;npdi", "918030752400"),
        ("8030752400;phone-context=+91", "8030752400"),
        ("8030752400;phone-context=+65", "658030752400"),
        ("%2B918030752400", "918030752400"),
        ("+91-80-3075-2400", "918030752400"),
    ],
)
def test_a_number_in_sips_own_forms_reaches_the_app(fs: Box, sent: str, did: str) -> None:
    with app(fs, lambda call: call.start("hangup", "USER_BUSY") if call.take() else None) as server:
        assert invite(fs.sip_port, sent).status == 486
    [brought] = server.calls
    assert (brought.var("exo_did"), brought.var("exo_entry")) == (did, "1")


OWN_NAMES = [f"exoflow_{name}" for name in ("lease", "guard", "round", "died", "fallback", "announcement", "record")]


@pytest.mark.parametrize("did", ["7", "acme", "123x", "1234567890123456", "exoflow_unknown", *OWN_NAMES])
def test_what_is_no_number_of_ours_is_refused_as_unallocated(fs: Box, exchange: Exchange, did: str) -> None:
    with app(fs, hold) as server:
        call = exchange.call(did).wait_ended()
    assert (call.cause, call.q850, call.answered_at) == ("UNALLOCATED_NUMBER", 1, None)
    assert fs.cdr(fs.uuid_of(call.uuid))["variables"]["exo_refused"] == "number"
    assert not server.calls


def test_a_withheld_number_is_told_by_the_hidden_flags(fs: Box, exchange: Exchange) -> None:
    with app(fs, hold) as server:
        for number, withheld in enumerate((True, False), start=1):
            call = exchange.call(DID, withheld=withheld)
            nth_call(server, number)
            call.hangup()
    hidden, shown = (brought.data for brought in server.calls)
    assert (hidden["Caller-Privacy-Hide-Number"], hidden["Caller-Privacy-Hide-Name"]) == ("true", "true")
    assert (shown["Caller-Privacy-Hide-Number"], shown["Caller-Privacy-Hide-Name"]) == ("false", "false")
    # CDRs have no other sign of it
    told = [fs.cdr(data["Unique-ID"])["variables"].get("exo_withheld") for data in (hidden, shown)]
    assert told == ["true", None]


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("08040001234", "08040001234"),
        ("+918040001234", "+918040001234"),
        (None, None),
        # no part of a header that is not a number gets near a `set`
        ("8040${hostname}", None),
        ("anonymous", None),
    ],
)
def test_the_redirecting_number(fs: Box, exchange: Exchange, sent: str | None, seen: str | None) -> None:
    with app(fs, hold) as server:
        call = exchange.call(DID, diverted_from=sent)
        brought = nth_call(server, 1)
        call.hangup()
    assert brought.var("exo_diverted_from") == seen


def test_the_types_of_number_are_fields_of_the_dialplan_alone(fs: Box, exchange: Exchange) -> None:
    """No SIP caller has one: the call's profile gets that of an ISDN exchange, and the call is hunted from its beginning."""
    inline = "unset:exo_entry,set_profile_var:caller_ton=1,set_profile_var:destination_number_ton=2"
    with app(fs, hold) as server:
        call = exchange.call(DID)
        first = nth_call(server, 1)
        fs.api(f"uuid_transfer {first.uuid} '{inline},transfer:{DID} XML from-pri' inline")
        second = nth_call(server, 2)
        call.hangup()
    names = ("exo_caller_ton", "exo_dialled_ton", "exo_diverted_ton")
    assert [first.var(name) for name in names] == [None, None, None]
    assert [second.var(name) for name in names] == ["1", "2", None]
    assert fs.cdr(second.uuid)["variables"]["exo_caller_ton"] == "1"


# --- admission --------------------------------------------------------------------------------


def test_a_call_over_the_limit_hears_busy_and_is_marked(fs: Box, exchange: Exchange) -> None:
    fs.api(f"global_setvar exoflow_max_in_{fs.trunk}=2")
    try:
        with app(fs, hold) as server:
            inside = [exchange.call(DID) for _ in range(2)]
            nth_call(server, 2)
            third = exchange.call(DID).wait_ended()
            assert (third.cause, third.q850, third.answered_at) == ("USER_BUSY", 17, None)
            refused = fs.cdr(fs.uuid_of(third.uuid))["variables"]
            assert (refused["exo_refused"], refused["hangup_cause_q850"]) == ("limit", "17")

            # an app's death does not take the place away, although the trunk is full
            nth_call(server, 1).close()
            assert nth_call(server, 3).var("exo_entry") == "2"

            inside[0].hangup()
            fourth = exchange.call(DID)
            nth_call(server, 4)
            fourth.hangup()
            inside[1].hangup()
        admitted = fs.cdr(fs.uuid_of(inside[0].uuid))["variables"]
        assert "exo_refused" not in admitted
    finally:
        fs.api(f"global_setvar exoflow_max_in_{fs.trunk}=")


def test_draining_refuses_new_calls_and_keeps_those_inside(fs: Box, exchange: Exchange) -> None:
    with app(fs, hold) as server:
        inside = exchange.call(DID)
        first = nth_call(server, 1)
        fs.api("global_setvar exoflow_drain=true")
        try:
            outside = exchange.call(DID).wait_ended()
            assert (outside.cause, outside.q850) == ("NORMAL_TEMPORARY_FAILURE", 41)
            assert fs.cdr(fs.uuid_of(outside.uuid))["variables"]["exo_refused"] == "drain"
            first.close()
            nth_call(server, 2)
        finally:
            _do(fs, REFUSALS["drain"])
        assert fs.api("global_getvar exoflow_drain").strip() == "false"
        assert inside.ended_at is None
        exchange.call(DID)
        nth_call(server, 3)


def _do(fs: Box, cure: str) -> None:
    """What the record of a refused call tells to do, word for word."""
    found = re.search(r"fs_cli -x '([^']+)'", cure)
    assert found is not None
    fs.api(found[1])


# --- an app that is not there -----------------------------------------------------------------


def test_without_an_app_the_caller_gets_the_fallback(fs: Box, exchange: Exchange) -> None:
    call = exchange.call(DID)
    assert_fallback(fs, call, "refused")
    cdr = fs.cdr(fs.uuid_of(call.uuid))["variables"]
    waited = (int(cdr["answer_uepoch"]) - int(cdr["start_uepoch"])) / 1e6
    # a supervisor may have restarted the app meanwhile
    assert 2.0 <= waited < 3.5


def test_an_app_that_is_back_within_two_seconds_gets_the_call(fs: Box, exchange: Exchange) -> None:
    call = exchange.call(DID)
    fs.uuid_of(call.uuid)
    gevent.sleep(0.8)
    with app(fs, talk) as server:
        call.wait_ended()
    assert (call.cause, len(server.calls)) == ("NORMAL_CLEARING", 1)
    assert call.heard().tone(600) > -20
    assert int(server.calls[0].var("exo_entry") or 0) > 2


def test_the_numbers_own_fallback_comes_before_the_announcement(fs: Box, exchange: Exchange) -> None:
    own = fs.conf / "dialplan" / "fallback" / "acme.xml"
    own.write_text(
        '<include><extension name="acme"><condition field="destination_number" expression="^exoflow_fallback$"/>\n'
        f'<condition field="${{exo_trunk}}/${{exo_did}}" expression="^{fs.trunk}/{DID}$">\n'
        '<action application="hangup" data="CALL_REJECTED"/></condition></extension></include>\n'
    )
    # the preprocessor drops lines that hold its include tags, so they get lines of their own
    own.write_text(own.read_text().replace("<include>", "<include>\n").replace("</include>", "\n</include>"))
    fs.api("reloadxml")
    try:
        ours, other = exchange.call(DID), exchange.call("8030752401")
        assert ours.wait_ended().cause == "CALL_REJECTED"
        assert other.wait_ended(15).cause == "NORMAL_CLEARING"
    finally:
        own.unlink()
        fs.api("reloadxml")


# --- an app that takes the call and does nothing ----------------------------------------------


def test_the_guard_ends_dead_air(fs: Box, exchange: Exchange) -> None:
    """Accepts and closes; accepts and stays mute; freezes after `connect`. At once, since each takes the guard's 5 s."""
    misdeeds = [AppCall.close, lambda call: call.eof.wait(20), lambda call: call.command("connect")]
    with app(fs, lambda call: misdeeds.pop(0)(call)) as server:
        calls = []
        for number in range(1, 4):
            calls.append(exchange.call(DID))
            wait_for(lambda: len(server.calls) >= number)  # noqa: B023
        for call in calls:
            assert_fallback(fs, call, "guard")
    for call in calls:
        cdr = fs.cdr(fs.uuid_of(call.uuid))["variables"]
        until_answer = (int(cdr["answer_uepoch"]) - int(cdr["start_uepoch"])) / 1e6
        # the scheduler counts whole seconds: +5 is 4 to 5 s, and it looks once a second
        assert 3.9 <= until_answer < 6.5


def test_the_guard_gives_the_call_to_another_host(fs: Box, exchange: Exchange) -> None:
    with app(fs, lambda call: call.eof.wait(20)) as mute, AppServer(talk, port=fs.other_hosts.port) as other:
        call = exchange.call(DID).wait_ended()
        assert (call.cause, len(mute.calls), len(other.calls)) == ("NORMAL_CLEARING", 1, 1)
        brought = other.calls[0]
        assert (brought.var("exo_did"), brought.var("exo_entry")) == (DID, "2")
        assert brought.data["Caller-Destination-Number"] == "exoflow_guard"
    assert call.heard().tone(600) > -20


def test_an_app_that_wakes_after_the_guard_can_tell(fs: Box, exchange: Exchange) -> None:
    """Its socket is still open to a call that is no longer its own: `connect` tells another destination and exo_entry."""
    with app(fs, lambda call: call.eof.wait(20)) as mute, AppServer(hold, port=fs.other_hosts.port) as other:
        call = exchange.call(DID)
        nth_call(other, 1, seconds=8)
        data = mute.calls[0].command("connect").headers
        assert data["Caller-Destination-Number"] == "exoflow_guard"
        assert data["variable_exo_entry"] == "2"
        call.hangup()


# --- an app that dies -------------------------------------------------------------------------


def test_a_death_in_a_prompt_brings_the_call_back_with_its_variables(fs: Box, exchange: Exchange) -> None:
    def dying(call: AppCall) -> None:
        call.take()
        if call.var("exo_entry") != "1":
            call.start("hangup", "NORMAL_CLEARING")
            return
        call.execute("answer")
        call.execute("multiset", "^^;exo_call=0123456789abcdef0123456789abcdef;exo_step=welcome")
        call.start("playback", "tone_stream://%(1500,0,600)")
        gevent.sleep(0.3)
        call.close()

    watcher = fs.connect("CHANNEL_EXECUTE_COMPLETE")
    ended: list[float] = []
    watcher.listeners.append(lambda event: ended.append(when(event)) if event.get("Application") == "playback" else None)
    with app(fs, dying) as server:
        call = exchange.call(DID, diverted_from="08040001234").wait_ended()
    watcher.close()
    assert (call.cause, len(server.calls)) == ("NORMAL_CLEARING", 2)
    back = server.calls[1]
    assert back.var("exo_call") == "0123456789abcdef0123456789abcdef"
    assert (back.var("exo_step"), back.var("exo_did"), back.var("exo_trunk")) == ("welcome", DID, fs.trunk)
    assert back.data["Caller-Destination-Number"] == DID
    # no transfer, which would have put a destination of ours there
    assert "Caller-RDNIS" not in back.data
    assert back.var("exo_diverted_from") == "08040001234"
    # the prompt was heard to its end, and the next app had the call at once
    [(start, end)] = call.heard().sounds()
    assert end - start == pytest.approx(1.5, abs=0.15)
    assert int(back.var("exo_socket_at") or 0) / 1e6 - ended[0] < 0.1


def test_three_deaths_in_ten_seconds_are_enough(fs: Box, exchange: Exchange) -> None:
    def deadly(call: AppCall) -> None:
        call.take()
        # less would count as not having been there
        gevent.sleep(0.3)
        call.close()

    with app(fs, deadly) as server:
        call = exchange.call(DID)
        assert_fallback(fs, call, "deaths")
    assert [brought.var("exo_entry") for brought in server.calls] == ["1", "2", "3"]


def test_keys_pressed_while_no_app_is_there_are_kept(fs: Box, exchange: Exchange) -> None:
    def first(call: AppCall) -> None:
        call.take()
        call.execute("answer")

    with app(fs, first):
        call = exchange.call(DID).wait_answered()
    call.press("3", after=0.2).press("#7", after=0.4)
    # the exchange sends two keys in 0.6 s; an app is back before the 2 s are over
    gevent.sleep(0.8)
    with app(fs, hold) as server:
        assert nth_call(server, 1).var("exo_typed") == "3#7"
        call.hangup()


def nth_call(server: AppServer, number: int, seconds: float = 5) -> AppCall:
    """The call that was brought as the `number`-th, once its app has it."""
    wait_for(lambda: len(server.calls) >= number, seconds)
    call = server.calls[number - 1]
    assert call.taken.wait(seconds)
    return call


def wait_for(happened: Callable[[], bool], seconds: float = 5) -> None:
    """Until it is true, looking every 10 ms."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        gevent.sleep(0.01)
