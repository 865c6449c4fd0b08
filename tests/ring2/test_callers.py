"""What callers do: keys right, wrong and none, and leaving in the middle of each step; what they hear, and what is known."""

from __future__ import annotations

import gevent
import pytest
from support.audio import read_wav

from exoflow.config.model import Prompts
from exoflow.config.steps import Prompt
from exoflow.prompts import PromptBook
from ring2.agents import answers, silent
from ring2.site import (
    DIRECT,
    LOUD,
    MAIN,
    UNANSWERED,
    Reply,
    Site,
    agents_json,
    codes,
    entry,
    hears,
    steps,
    wait_for,
    when_heard,
)

pytestmark = pytest.mark.together

# --- keys -------------------------------------------------------------------------------------


def test_greeting_and_menu_are_heard_whole_and_no_key_leads_on(site: Site) -> None:
    visit = site.call(MAIN)
    visit.phone.wait_ended(40)
    state, heard = visit.state(), visit.heard()
    prompts = PromptBook(Prompts(engine="espeak-ng", voice="en-in", folder=site.folder / "prompts"))
    greeting, menu = (
        prompts.seconds(prompts.path(Prompt(say=text)))
        for text in ("Welcome to Acme Appliances.", "Dial 1 for support, 2 for sales.")
    )
    # greeting, menu, 1 s for a key, the tone for no key
    assert when_heard(heard, 700) == pytest.approx(greeting + menu + 1, abs=0.9)
    assert heard.part(0.1, greeting).level() > -40
    assert heard.part(greeting, greeting + menu - 0.3).level() > -40
    # the greeting is not said again
    assert when_heard(heard, 750) == pytest.approx(greeting + 3 * (menu + 1) + 2 * 0.4, abs=2)
    assert codes(state).count("menu.no_input") == 3
    assert entry(state, "menu.no_keys").evidence == {}
    assert steps(state) == ["welcome", "choose", "farewell", "bye"]
    assert (visit.phone.cause, state.outcome, state.ended_by) == ("NORMAL_CLEARING", "served", "exoflow")
    assert visit.delivery()["data"]["digits"] == ""


def test_wrong_key_no_key_right_key(site: Site) -> None:
    visit = site.call(MAIN)
    visit.phone.wait_answered().press("9", after=0.5)
    wait_for(lambda: (state := site.stored(visit.channel)) and "menu.no_input" in codes(state), 15, "no key")
    gevent.sleep(0.6)
    visit.phone.press("*")
    visit.phone.wait_ended()
    state, heard = visit.state(), visit.heard()
    assert [code for code in codes(state) if code.startswith("menu")] == ["menu.wrong_key", "menu.no_input", "menu.key"]
    assert entry(state, "menu.wrong_key").evidence["key"] == "9"
    assert (state.digits, steps(state)) == ("*", ["welcome", "choose", "info", "bye"])
    assert when_heard(heard, 500) < when_heard(heard, 700) < when_heard(heard, 600)
    assert visit.delivery()["data"]["digits"] == "*"


@pytest.mark.parametrize(
    ("key", "path", "cause"),
    [
        ("4", ["info", "bye"], "NORMAL_CLEARING"),
        ("#", ["bye"], "NORMAL_CLEARING"),
        ("0", ["engaged"], "USER_BUSY"),
    ],
)
def test_each_key_has_its_way(site: Site, key: str, path: list[str], cause: str) -> None:
    visit = site.call(MAIN)
    visit.phone.wait_answered().press(key, after=0.4)
    visit.phone.wait_ended()
    state = visit.state()
    assert steps(state) == ["welcome", "choose", *path]
    assert (visit.phone.cause, state.cause, state.outcome) == (cause, cause, "served")
    assert entry(state, "menu.key").evidence["key"] == key
    assert hears(visit.heard(), 600) == ("info" in path)


def test_a_key_that_leads_to_a_group(site: Site) -> None:
    site.exchange.agent("9845000003").behave(answers(after=0.3, talk=1.0))
    visit = site.call(MAIN)
    visit.phone.wait_answered().press("2", after=0.4)
    visit.phone.wait_ended()
    state = visit.state()
    assert steps(state) == ["welcome", "choose", "sales", "after", "bye"]
    assert (state.legs[0].number, state.legs[0].agent, state.recordings) == ("+919845000003", "lone", [])
    assert (state.outcome, len(visit.asked("/after"))) == ("answered", 1)
    # the agent hung up, the caller was still there for the rest of the flow
    assert (state.ended_by, state.caller_left) == ("exoflow", False)


def test_a_key_that_leads_to_a_message(site: Site) -> None:
    visit = site.call(MAIN)
    visit.phone.wait_answered().press("3", after=0.4)
    # prompt and beep first; then the caller speaks for two seconds and falls silent
    wait_for(lambda: (state := site.stored(visit.channel)) and state.recordings, 10, "the recording's row")
    gevent.sleep(0.5)
    site.exchange.connect().api(f"uuid_broadcast {visit.phone.uuid} playback::tone_stream://%(2000,0,440) aleg")
    visit.phone.wait_ended(20)
    state = visit.state()
    [recording] = state.recordings
    sound = read_wav(recording.path)
    assert (recording.kind, recording.state, recording.channels) == ("voicemail", "good", 1)
    assert sum(level > LOUD for level in sound.tone_blocks(440)) == pytest.approx(20, abs=3)
    # a SIP phone that sends no frames leaves no silence in a file (switch_ivr_play_say.c:932); on a PRI frames never stop
    assert sound.seconds == pytest.approx(2.0, abs=0.3)
    # neither prompt nor beep is in it
    assert not hears(sound, 1000)
    assert hears(visit.heard(), 1000)
    assert (state.outcome, steps(state)) == ("voicemail", ["welcome", "choose", "message", "after", "bye"])
    [after] = visit.asked("/after")
    assert after["CallType"] == "voicemail"
    assert visit.delivery()["type"] == "call.ended"


# --- leaving ----------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0.0, 0.5, 3.0])
def test_leaving_in_greeting_or_menu(site: Site, after: float) -> None:
    visit = site.call(MAIN)
    visit.phone.hangup(after=after)
    state = visit.state()
    assert (state.outcome, state.reason, state.ended_by, state.q850) == ("abandoned", "caller.left", "caller", 16)
    left = entry(state, "caller.left")
    assert (left.step, left.stage) == ("choose", "C")
    assert left.at.timestamp() == pytest.approx(visit.phone.ended_at, abs=0.15)
    assert codes(state)[-1] == "caller.left"
    assert not visit.asked("/lookup")
    assert (visit.delivery()["type"], visit.delivery()["data"]["reason"]) == ("call.ended", "caller.left")


def test_leaving_unanswered(site: Site) -> None:
    """Before anything was played: the CRM of an unanswered step still takes its time."""
    visit = site.call(UNANSWERED, {"/lookup": Reply(200, b"OK", delay=1.5)})
    visit.phone.wait_ringing()
    wait_for(lambda: visit.requests("/lookup"), 5, "the request")
    visit.phone.hangup(cause="ORIGINATOR_CANCEL")
    state = visit.state()
    assert (state.answered_at, state.ended_by, state.caller_left) == (None, "caller", True)
    # 487 is no number of Q.850: FreeSWITCH tells 16 beside the name (switch_channel.c:405)
    assert (state.cause, state.q850) == ("ORIGINATOR_CANCEL", 16)
    # the CRM's answer is still waited for and decides the way
    assert codes(state)[-3:] == ["passthru.branch", "caller.left", "hangup.after"]
    assert visit.delivery()["data"]["answered_at"] is None


def test_leaving_while_the_crm_is_asked(site: Site) -> None:
    visit = site.call(MAIN, {"/lookup": Reply(200, b"OK", delay=2.0)})
    visit.phone.press("1", after=0.3)
    wait_for(lambda: visit.requests("/lookup"), 5, "the request")
    gevent.sleep(0.7)
    visit.phone.hangup()
    state = visit.state()
    assert (state.outcome, state.reason, state.legs) == ("abandoned", "caller.left", [])
    # its answer is still waited for, nobody is rung, and the passthru behind the connect fires
    assert (len(visit.asked("/lookup")), len(visit.asked("/agents")), len(visit.asked("/after"))) == (1, 0, 1)
    assert codes(state)[-1] == "hangup.after"
    assert codes(state).count("caller.left") == 1


def test_leaving_while_the_agents_url_is_asked(site: Site) -> None:
    [asha] = site.agents(silent())
    named = agents_json(asha)
    visit = site.call(DIRECT, {"/agents": Reply(200, named.body, "application/json", delay=1.5)})
    wait_for(lambda: visit.requests("/agents"), 5, "the request")
    gevent.sleep(0.6)
    visit.phone.hangup()
    state = visit.state()
    assert (state.outcome, state.legs, asha.attempts) == ("abandoned", [], [])
    [after] = visit.asked("/after")
    assert (after["CallType"], after["DialCallStatus"]) == ("client-hangup", "canceled")
    assert visit.delivery()["type"] == "call.missed"


def test_leaving_while_an_agent_is_rung(site: Site) -> None:
    asha, ravi = site.agents(silent(), silent())
    visit = site.call(DIRECT, {"/agents": agents_json(asha, ravi)})
    wait_for(lambda: asha.attempts and asha.attempts[0].alerting_at, 10, "ringing")
    gevent.sleep(0.5)
    visit.phone.hangup()
    asha.attempts[0].wait_ended(2)
    state = visit.state()
    [leg] = state.legs
    assert (state.outcome, leg.outcome, leg.q850 is not None) == ("missed", "caller_gone", True)
    assert leg.alerting_at is not None
    assert ravi.attempts == []
    [after] = visit.asked("/after")
    assert (after["DialCallStatus"], after["Legs[0][CauseCode]"], after["Legs[0][Cause]"]) == (
        "canceled",
        "RING_TIMEOUT",
        "1003",
    )
    assert visit.delivery()["type"] == "call.missed"
    # nothing of the ringing is kept
    assert state.recordings == []
    assert not list((site.recordings / "acme").rglob(f"{state.facts.id}*"))


def test_leaving_in_talk(site: Site) -> None:
    [asha] = site.agents(answers(after=0.3))
    visit = site.call(DIRECT, {"/agents": agents_json(asha)})
    wait_for(lambda: asha.attempts and asha.attempts[0].answered_at, 10, "answer")
    gevent.sleep(1.0)
    visit.phone.hangup()
    assert asha.attempts[0].wait_ended(2).cause == "NORMAL_CLEARING"
    state = visit.state()
    assert (state.outcome, state.reason, state.ended_by) == ("answered", "", "caller")
    assert (entry(state, "caller.left").stage, len(visit.asked("/after"))) == ("H", 1)
    # one second is a talk, and is kept
    [recording] = state.recordings
    assert (recording.state, recording.problem) == ("good", "")
    assert read_wav(recording.path).seconds == pytest.approx(state.legs[0].talk_seconds, abs=0.3)


def test_leaving_in_voicemail(site: Site) -> None:
    visit = site.call(DIRECT, {"/agents": agents_json()})
    visit.phone.wait_answered().speak(440)
    wait_for(lambda: (state := site.stored(visit.channel)) and state.recordings, 10, "the recording's row")
    gevent.sleep(2.5)
    visit.phone.hangup()
    state = visit.state()
    [recording] = state.recordings
    assert (state.outcome, recording.state) == ("voicemail", "good")
    assert read_wav(recording.path).tone(440) > -20
    assert read_wav(recording.path).seconds == pytest.approx(2.0, abs=0.7)
    assert len(visit.asked("/after")) == 1
    assert codes(state)[-1] == "hangup.after"
    assert visit.delivery()["data"]["recordings"][0]["kind"] == "voicemail"


def test_leaving_before_the_beep_is_no_message(site: Site) -> None:
    visit = site.call(DIRECT, {"/agents": agents_json()})
    visit.phone.wait_answered()
    visit.phone.hangup()
    state = visit.state()
    assert (state.outcome, state.recordings) == ("abandoned", [])
    assert len(visit.asked("/after")) == 1
    assert visit.delivery()["type"] == "call.missed"


# --- cut off by somebody else --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "cause", "who"),
    [
        ("uuid_kill {channel}", "NORMAL_CLEARING", "FreeSWITCH ended the call"),
        ("uuid_kill {channel} MANAGER_REQUEST", "MANAGER_REQUEST", "An operator or a program"),
    ],
)
def test_an_operator_ends_the_call(site: Site, command: str, cause: str, who: str) -> None:
    """Without a cause FreeSWITCH says 16, as a caller does; who sent the BYE tells."""
    visit = site.call(MAIN)
    visit.phone.wait_answered()
    wait_for(lambda: (state := site.stored(visit.channel)) and "call.answered" in codes(state), 10, "the menu")
    assert site.box.api(command.format(channel=visit.channel)).startswith("+OK")
    state = visit.state()
    assert (state.ended_by, state.caller_left, state.cause) == ("switch", False, cause)
    assert (state.outcome, state.reason) == ("missed", "switch.ended")
    assert entry(state, "switch.ended").text.startswith(who)
    assert visit.delivery()["type"] == "call.missed"
