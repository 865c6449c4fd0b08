"""Every attack of facts/freeswitch-socket.md, section 9: at the door, in a dial string, at a session, through a whole call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from eslpeer import WAIT, Command, Peer, channel_data, tcp_pair, within
from hall import ASHA, BYE, MEENA, RAVI, Hall, codes, menu
from hypothesis import given, settings
from hypothesis import strategies as st

from exoflow.calls.model import CallState
from exoflow.errors import UnsafeText
from exoflow.esl import safety
from exoflow.esl.session import CallSession
from exoflow.sim.crm import Reply, Request
from exoflow.telephony.dialstring import Endpoint, leg_string

NUMBER = "9811100001"
LEG = "0b1f6d5e-3c9a-4b7e-8f21-5d0c7a9e4b12"

# what no command may hold, wherever it stands
NOWHERE = {
    "newline": "x\nsession-id: 1",
    "blank line": "x\n\napi shutdown\n\n",
    "carriage return": "x\rcall-command: hangup",
    "NUL": "x\0y",
    "other control": "x\x1by",
    "variable": "${caller_id_number}",
    "global variable": "$${domain}",
    "api": "${system(touch /tmp/evil)}",
    "second order": "${crm}",
    "nested": "${${x}}",
    "escaped for set": "\\${system(id)}",
    "escaped twice": "\\\\${system(id)}",
    "escaped dollar": "$\\{system(id)}",
    "word pair": "reload mod_event_socket",
    "word pair apart": "mod_event_socket, please, now UnLoad",
    "word pair, other case": "UNLOAD Mod_Event_Socket",
    "half a surrogate pair": "x\ud800y",
}
# what sets variables if an argument begins with it
SCOPES = {
    "scope": "%[execute_on_answer=x]y",
    "scope, other delimiter": "%;[a=b]y",
    "scope, newline as delimiter": "%\n[a=b]y",
    "scope behind spaces": "  %[a=b]y",
}
# what is more than one word, number, path or leg
APART = {
    "second leg": f"{NUMBER},null/evil",
    "second try": f"{NUMBER}|null/evil",
    "enterprise": f"{NUMBER}:_:null/evil",
    "variables": f"{{a=b}}{NUMBER}",
    "leg variables": f"[a=b]{NUMBER}",
    "global variables": f"<a=b>{NUMBER}",
    "space": f"{NUMBER} x",
    "quote": f"{NUMBER}'",
    "double quote": f'{NUMBER}"',
    "backslash": f"{NUMBER}\\",
    "other digits": "९८१११००००१",
    "file joined": "/a.wav!/b.wav",
    "stream parameters": "{loops=9}/a.wav",
    "endpoint": "sofia/gateway/evil/1",
    "upwards": "/recordings/../etc/passwd",
    "upwards at the end": "/recordings/..",
    "empty": "",
    "endless": "9" * 5000,
}
ATTACKS = NOWHERE | SCOPES | APART


def named(attacks: dict[str, str]) -> list[Any]:
    return [pytest.param(text, id=name) for name, text in attacks.items()]


# --- the door ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", named(NOWHERE))
def test_refused_in_every_command(text: str) -> None:
    for door in (lambda t: safety.line("command", t), lambda t: safety.argument("playback", t)):
        for around in (text, f"/a.wav {text}", f"{text} x", f"\u00e9{text}"):
            with pytest.raises(UnsafeText) as failure:
                door(around)
            assert len(failure.value.text) <= 200


@pytest.mark.parametrize("text", named(SCOPES))
def test_refused_at_the_beginning_of_an_argument(text: str) -> None:
    with pytest.raises(UnsafeText):
        safety.argument("playback", text)


@pytest.mark.parametrize("text", named(ATTACKS))
@pytest.mark.parametrize("door", [safety.sound, safety.path, safety.uuid, safety.cause, safety.application])
def test_refused_where_a_name_or_path_is_due(door: Callable[[str], str], text: str) -> None:
    with pytest.raises(UnsafeText):
        door(text)
    good = {
        safety.sound: "/a.wav",
        safety.path: "/a.wav",
        safety.uuid: LEG,
        safety.cause: "USER_BUSY",
        safety.application: "set",
    }
    assert door(good[door]) == good[door]
    if text in NOWHERE.values():
        with pytest.raises(UnsafeText):
            door(good[door] + text)


@pytest.mark.parametrize("text", ["", "a b", "a'b", 'a"b', "a\tb", *NOWHERE.values()])
def test_refused_as_one_word(text: str) -> None:
    with pytest.raises(UnsafeText):
        safety.word("argument", text)


@pytest.mark.parametrize("text", named(ATTACKS))
def test_no_attack_reaches_a_dial_string(text: str) -> None:
    good = {"e164": "+919876543210", "cli": "8030752400", "leg_uuid": LEG, "endpoint": Endpoint("span", "PRI1"), "extra": {}}
    places: list[dict[str, Any]] = [
        *({key: text} for key in ("e164", "cli", "leg_uuid")),
        {"endpoint": Endpoint("span", text)},
        {"endpoint": Endpoint("gateway", text)},
        {"endpoint": Endpoint("span", "PRI1", hunt=text)},
        {"endpoint": Endpoint("span", "PRI1", dial_prefix=text or "x")},  # no prefix at all is a good one
        {"extra": {text: "x"}},
        {"extra": {"x": f"{text} "}},
    ]
    for place in places:
        with pytest.raises(UnsafeText):
            leg_string(ring_seconds=30, talk_seconds=60, **good | place)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab$\\{}()%[]\n\r\0 :,|'\"<>!/.unloadremod_event_socket\ud800é"), max_size=60))
def test_whatever_passes_is_harmless(text: str) -> None:
    try:
        safety.argument("set", text)
    except UnsafeText:
        return
    low = text.lower()
    assert not set("$\n\r\0") & set(text)
    assert not ("mod_event_socket" in low and ("unload" in low or "reload" in low))
    text.encode()


def test_what_we_say_passes() -> None:
    """The door is not so narrow that a flow's own words stick in it."""
    for text in (
        "/srv/exoflow/recordings/2026-11-23/ab_c-1.wav",
        "tone_stream://%(400,200,400,450);loops=-1",
        "silence_stream://10",
    ):
        assert safety.sound(text) == text
    for text in (
        "^^~ringback=%(400,200,400,450)~x=1",
        "1 1 1 4000 none file_string:///a.wav!/b.wav silence_stream://10 exo_k [0-9]",
    ):
        assert safety.argument("multiset", text) == text
    assert safety.line("command", "event plain CHANNEL_ANSWER reload") == "event plain CHANNEL_ANSWER reload"
    assert safety.cause("NORMAL_CLEARING") == "NORMAL_CLEARING"
    assert safety.uuid(LEG) == LEG


# --- a session's socket --------------------------------------------------------------------------


@pytest.fixture
def line() -> Iterator[tuple[CallSession, Peer]]:
    ours, theirs = tcp_pair()
    session, peer = CallSession(("127.0.0.1", 0), ours), Peer(theirs)
    connecting = gevent.spawn(session.connect)
    peer.command()
    peer.send(channel_data())
    connecting.get(timeout=WAIT)
    yield session, peer
    session.stop()
    peer.close()


def next_command(session: CallSession, peer: Peer) -> Command:
    """What the switch reads next, if the session now asks for its status."""
    asking = gevent.spawn(session.api, "status")
    command = peer.command()
    peer.api("UP")
    with within(what="the reply"):
        assert asking.get() == "UP"
    return command


@pytest.mark.parametrize("text", named(NOWHERE))
def test_nothing_of_it_is_sent(line: tuple[CallSession, Peer], text: str) -> None:
    session, peer = line
    doors: list[Callable[[], Any]] = [
        lambda: session.execute("playback", text, deadline=1),
        lambda: session.execute("set", f"exo_x={text}", deadline=1),
        lambda: session.execute(text, "", deadline=1),
        lambda: session.call_command("playback", text),
        lambda: session.call_command(text),
        lambda: session.call_command("playback", text, block=True, response_timeout=1),
        lambda: session.playback(text),
        lambda: session.bridge(text),
        lambda: session.hangup(text),
        lambda: session.hang_up(text),
        lambda: session.say(text=text),
        lambda: session.play_and_get_digits(prompt_file=text),
        lambda: session.play_and_get_digits(variable=text),
        lambda: session.api(text),
        lambda: session.command(text),
        lambda: session.commands("linger 5", text),
        lambda: session.send(text),
        lambda: session.linger(text),
    ]
    for door in doors:
        with pytest.raises(UnsafeText):
            door()
    assert next_command(session, peer).lines == ["api status"], "not a byte of it was sent"


@pytest.mark.parametrize("field", ["min_digits", "terminators", "prompt_file", "error_file", "variable", "digits_regex"])
@pytest.mark.parametrize("text", ["a b", "a'b", 'a"b', ""])
def test_no_argument_of_digits_shifts_the_others(line: tuple[CallSession, Peer], field: str, text: str) -> None:
    session, peer = line
    with pytest.raises(UnsafeText):
        session.play_and_get_digits(**{field: text})
    assert next_command(session, peer).lines == ["api status"]


def test_a_gap_before_the_failure_transfer_is_refused(line: tuple[CallSession, Peer]) -> None:
    session, peer = line
    with pytest.raises(UnsafeText, match="shift"):
        session.play_and_get_digits(digit_timeout=1000)
    with pytest.raises(UnsafeText, match="shift"):
        session.play_and_get_digits(digits_regex="[1-3]", transfer_on_fail="1")
    assert next_command(session, peer).lines == ["api status"]


@pytest.mark.parametrize(
    "text", ["9811100001,null/evil", "{a=b}x", "a  b", "é\u2028x", "%0Aapi status", "session-id: 1", "x" * 70_000]
)
def test_what_is_sent_is_the_argument_and_nothing_else(line: tuple[CallSession, Peer], text: str) -> None:
    session, peer = line
    gevent.spawn(session.execute, "log", text, deadline=60)
    command = peer.command()
    assert (command.application, command.argument) == ("log", text)
    assert sorted(command.headers) == [
        "call-command", "content-length", "content-type", "event-lock", "event-uuid", "execute-app-name", "sendmsg",
    ]  # fmt: skip
    peer.reply()
    assert next_command(session, peer).lines == ["api status"]


# --- a whole call on the embedded switch --------------------------------------------------------

STEPS = {
    "ask": menu({"1": "crm"}, otherwise="crm"),
    "crm": {"passthru": {"url": "crm:/passthru"}, "ok": "agents", "redirect": "bye"},
    "agents": {"connect": {"url": "crm:/connect", "fallback": {"group": "support"}}, "answered": "bye", "unanswered": "bye"},
    "bye": BYE,
}
# what the app may ask of the switch beside a call's own socket
OUR_API = (
    "uuid_break",
    "uuid_kill",
    "uuid_exists",
    "uuid_getvar",
    "global_getvar",
    "show",
    "status",
    "sched_del",
    "sched_transfer",
)


def assert_unharmed(hall: Hall, *texts: str) -> None:
    assert [str(violation) for violation in hall.switch.violations] == []
    assert {command for command, _ in hall.switch.api_calls} <= set(OUR_API), hall.switch.api_calls
    assert all(attempt.number in (f"0{ASHA[3:]}", f"0{RAVI[3:]}") for attempt in hall.switch.attempts)
    known = {"sched_cancel", "set", "multiset", "ring_ready", "answer", "playback", "play_and_get_digits", "bridge", "hangup",
             "mkdir", "record_session", "stop_record_session", "flush_dtmf", "sleep"}  # fmt: skip
    executed = [(name, argument) for channel, name, argument in hall.tap.executed if channel in hall.states]
    assert {name for name, _ in executed} <= known | {
        "limit",
        "unset",
        "sched_transfer",
        "socket",
        "execute_extension",
        "set_profile_var",
    }  # these are the dialplan's
    for text in texts:
        if len(text) > 3:
            assert not [argument for _, argument in executed if text in argument]


def sent(text: str) -> str:
    """As it can come over a wire."""
    return text.encode("utf-8", "replace").decode()


def call_all(hall: Hall, calls: list[dict[str, Any]]) -> list[CallState]:
    """Calls, a dozen at a time: each has two channels of the 30."""
    states = []
    for start in range(0, len(calls), 12):
        phones = [hall.call(keys="1", **options) for options in calls[start : start + 12]]
        states += [hall.ended(phone) for phone in phones]
    return states


# all calls of a test ring the same agents together
MANY_AT_ONCE = {
    "agents": {
        name: {"number": number, "name": name.title(), "lines": 480}
        for name, number in (("asha", ASHA), ("ravi", RAVI), ("meena", MEENA))
    }
}


def test_hostile_callers(hall: Callable[..., Hall]) -> None:
    """The caller's number and name, and the number that diverted, are an attack: the call goes its way all the same."""
    h = hall(STEPS, account=MANY_AT_ONCE)
    texts = [sent(text) for text in ATTACKS.values()]
    for state in call_all(h, [{"from_number": text, "rdnis": text} for text in texts]):
        assert state.outcome == "answered", codes(state)
        assert state.facts.caller in (None, f"+91{NUMBER}")
        assert state.facts.diverted_from is None
    assert_unharmed(h, *texts)
    assert {request.path for request in h.crm.requests} == {"/passthru", "/connect", "/deliveries"}
    for request in h.crm.to("/passthru"):
        names = [name for name, _ in request.params]
        assert len(names) == len(set(names)), "a parameter came twice"


def test_hostile_dialled_numbers(hall: Callable[..., Hall]) -> None:
    """None of them becomes a call of an account, nor anything else."""
    h = hall(STEPS)
    phones = [h.call(to=sent(text) or " ") for text in list(ATTACKS.values())[:20]]
    phones += [h.call(to=digits) for digits in ("0", "99", "918030752400918030752400", "1" * 15)]
    for phone in phones:
        assert phone.wait(WAIT)
        assert phone.answered_at is None
        assert phone.cause in ("UNALLOCATED_NUMBER", "CALL_REJECTED")  # the latter by 05-hostile.xml
    assert h.switch.attempts == []
    assert_unharmed(h, *ATTACKS.values())


def test_hostile_answers_of_the_crm(hall: Callable[..., Hall]) -> None:
    """An answer with an attack in it is refused as a whole; the step's own fallback is rung, one agent at a time."""
    h = hall(STEPS, account=MANY_AT_ONCE)
    texts = [text for text in ATTACKS.values() if text]  # an empty item of a list counts for nothing
    replies = [Reply.agents(ASHA, text) for text in texts]
    replies += [Reply.plain(f"{ASHA},{sent(text)}") for text in list(APART.values())[:8]]
    replies += [Reply.plain(sent(text)) for text in list(NOWHERE.values())[:8]]
    replies += [Reply.agents(ASHA, max_ringing_duration=text) for text in list(NOWHERE.values())[:6]]
    replies += [Reply.agents(ASHA, **{sent(text): 1, "record": text}) for text in list(NOWHERE.values())[:6]]
    taken: list[Reply] = []

    def answer(request: Request) -> Reply:
        taken.append(replies[len(taken)])
        return taken[-1]

    h.crm.script("/connect", answer)
    for state in call_all(h, [{}] * len(replies)):
        assert state.outcome == "answered", codes(state)
        assert "connect.fallback" in codes(state), f"the answer was taken: {[entry.evidence for entry in state.journey]}"
        assert [leg.number for leg in state.legs] == [ASHA]
    assert taken == replies
    assert len(h.switch.attempts) == len(replies)
    assert_unharmed(h, *texts)


def test_a_hostile_answer_without_fallback_rings_nobody(hall: Callable[..., Hall]) -> None:
    steps = STEPS | {"agents": {"connect": {"url": "crm:/connect"}, "answered": "bye", "unanswered": "bye"}}
    h = hall(steps)
    h.crm.script("/connect", Reply.plain(f"{ASHA}|null/evil"))
    _, state = h.run(keys="1")
    assert h.switch.attempts == []
    assert state.outcome == "missed"
    assert_unharmed(h)


def test_a_hostile_passthru_answer_is_a_failure_and_nothing_else(hall: Callable[..., Hall]) -> None:
    h = hall(STEPS)
    attacks = list(NOWHERE.values())[:8]
    h.crm.script(
        "/passthru", *[Reply(302, text.encode("utf-8", "replace"), headers=[("Location", "http://x/")]) for text in attacks]
    )
    for _ in attacks:
        h.run(keys="1")
    assert h.switch.attempts == []
    assert_unharmed(h, *attacks)
