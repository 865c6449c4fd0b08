"""What a call that comes back has with it: keys of the gap, the way, questions to others that were under way, its lease."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from dying import Death, Moment, kill
from hall import ASHA, BYE, MEENA, RAVI, WAIT, Hall, codes, entry, eventually, menu, say, visited

from exoflow.calls import cdr
from exoflow.config.stepbase import Block
from exoflow.config.steps import Prompt
from exoflow.flow.progress import MARKER, MAX_WAY, Marker, Place, Progress
from exoflow.sim import AgentScript, Phone
from exoflow.sim.crm import Reply, Request

Start = Callable[..., Hall]


def gather(then: str, digits: int = 4, **more: Any) -> dict[str, Any]:
    return {"gather": {"say": "Your number?", "digits": digits, "timeout": 3, **more}, "next": then}


MEANWHILE = {"hello": say("Good morning.", "wait"), "wait": {"pause": {"seconds": 2}, "next": "ask"}}


def back_with(h: Hall, phone: Phone, **variables: str) -> None:
    """The call loses its socket, and comes back with these in its channel."""
    assert phone.session is not None
    for name, value in variables.items():
        phone.session.channel.set(name, value)
    h.lose_socket(phone)


# --- what is written -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "1.2.3.4.5.6", "1.2.3.4.5.6.7.8", "1.2.3.4.5.6.x", "1.2.3.4.5.6.7\n", "١.2.3.4.5.6.7"]
)
def test_what_is_no_marker_is_none(text: str) -> None:
    assert Marker.read(text) is None


def test_a_marker_is_read_as_it_was_written() -> None:
    marker = Marker(12, 3, 0, 17, 4, 1, 2)
    assert Marker.read(marker.text) == marker
    assert len(Marker(*[9999] * 7).text) < 64


def test_progress_is_read_as_it_was_written_and_is_bounded() -> None:
    prompts = [Prompt(say={"en": "Hello.", "hi": "Namaste."}), Block.model_construct(say="lakh", play=None, language="en")]
    way = [Place("main", f"s{at}") for at in range(MAX_WAY + 20)]
    whole = Progress(
        7, 2, {"attempt": 2}, way, {Place("main", "b"): 3}, prompts, 4, "#", "menu.no_keys", True, True, '{"a": 1}'
    )
    written = whole.written(Place("main", "s9"))
    read = Progress.read(written)
    assert (written["flow"], written["step"]) == ("main", "s9")
    assert read.way == way[-MAX_WAY:]
    assert [type(one) for one in read.pending] == [Prompt, Block]
    read.way = way
    assert read == whole
    assert Progress.read(Progress().written(Place("main", "a"))) == Progress()


def test_what_is_written_is_not_changed_afterwards() -> None:
    """Another thread makes JSON of it."""
    progress = Progress(data={"a": 1}, way=[Place("main", "a")])
    written = progress.written(Place("main", "a"))
    progress.way.append(Place("main", "b"))
    progress.backs[Place("main", "b")] = 1
    assert written["way"] == [["main", "a"]]
    assert "backs" not in written


# --- keys of the gap -----------------------------------------------------------------------------------------


def test_keys_of_the_gap_are_the_next_questions_first_ones(hall: Start) -> None:
    h = hall(MEANWHILE | {"ask": gather("rate"), "rate": gather("bye", 2), "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    back_with(h, phone, exo_typed="471108")
    state = h.ended(phone)
    assert [one.evidence["digits"] for one in state.journey if one.code == "gather.digits"] == ["4711", "08"]
    assert [text for text in phone.texts if text != "silence"] == ["Good morning."], "nobody is asked what he has said"


def test_too_few_keys_of_the_gap_are_completed(hall: Start) -> None:
    h = hall(MEANWHILE | {"ask": gather("bye"), "bye": BYE})
    phone = h.call(keys=["11"])
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    back_with(h, phone, exo_typed="47")
    state = h.ended(phone)
    assert entry(state, "gather.digits").evidence["digits"] == "4711"


@pytest.mark.parametrize("moment", ["before", "in", "after"])
def test_too_few_keys_are_completed_though_the_app_dies_again(
    hall: Start, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    h = hall(MEANWHILE | {"ask": gather("bye"), "bye": BYE})
    death = Death(h, monkeypatch, "socket", 3, moment)
    phone = h.call(keys=["11"])
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    back_with(h, phone, exo_typed="47")
    state = h.ended(phone)
    assert death.applications[2] == "play_and_get_digits"
    assert death.struck
    assert entry(state, "gather.digits").evidence["digits"] == "4711"
    assert codes(state).count("call.resumed") == 2


def test_an_end_key_of_the_gap_ends_the_digits(hall: Start) -> None:
    ask = {"gather": {"say": "Your number?", "min_digits": 1, "max_digits": 4, "timeout": 3}, "next": "choose"}
    h = hall(MEANWHILE | {"ask": ask, "choose": menu({"5": "bye"}), "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    back_with(h, phone, exo_typed="47#5")
    state = h.ended(phone)
    assert entry(state, "gather.digits").evidence["digits"] == "47"
    assert entry(state, "menu.key").evidence["key"] == "5"


def test_keys_of_the_gap_are_used_once_though_the_app_dies_again(hall: Start) -> None:
    again = menu({"1": "bye"}, attempts=1, say="And now?")
    h = hall(MEANWHILE | {"ask": menu({"1": "one"}), "one": say("You chose one.", "again"), "again": again, "bye": BYE})
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    back_with(h, phone, exo_typed="1")
    assert phone.wait_until(lambda p: "You chose one." in p.texts or "And now?" in p.texts, WAIT)
    h.lose_socket(phone)
    state = h.ended(phone)
    assert [one.step for one in state.journey if one.code == "menu.key"] == ["ask"]
    assert entry(state, "menu.no_keys").step == "again"


def test_keys_from_before_a_talk_are_nobodys_behind_it(hall: Start) -> None:
    steps = {
        "hello": say("Good morning.", "agents"),
        "agents": {"connect": {"numbers": [ASHA]}, "answered": "ask", "unanswered": "bye"},
        "ask": menu({"1": "bye"}, attempts=1),
        "bye": BYE,
    }
    h = hall(steps)
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    back_with(h, phone, exo_typed="1")
    state = h.ended(phone)
    assert "menu.no_keys" in codes(state)


# --- the way and what was known ----------------------------------------------------------------------------------


def test_a_back_after_a_death_leads_to_the_menu_before_it(hall: Start) -> None:
    steps = {
        "top": menu({"1": "sub"}, say="Top?"),
        "sub": menu({"9": "up", "2": "bye"}, say="Sub?"),
        "up": {"back": {}, "otherwise": "lost"},
        "lost": say("Lost."),
        "bye": BYE,
    }
    h = hall(steps)
    phone = h.call(keys=["1", "9", "1", "2"])
    assert phone.wait_until(lambda p: "Sub?" in p.texts, WAIT)
    h.lose_socket(phone)
    state = h.ended(phone)
    assert phone.texts == ["Top?", "Sub?", "Top?", "Sub?"]
    assert visited(state) == ["top", "sub", "up", "top", "sub", "bye"]


# --- others who are asked -------------------------------------------------------------------------------------------


TELL = {"passthru": {"url": "crm:/tell"}, "ok": "last", "redirect": "bye"}


def test_a_crm_that_was_being_asked_is_asked_again_and_the_journey_says_so(hall: Start) -> None:
    h = hall({"tell": TELL, "last": say("Goodbye."), "bye": BYE})

    def answer(request: Request) -> Reply:
        h.service.store.write(lambda connection: None)
        gevent.spawn(kill, h)
        return Reply(200, delay=0.5)

    h.crm.script("/tell", answer, Reply(200))
    phone = h.call()
    assert phone.wait(WAIT)
    eventually(lambda: not h.service.book.live and h.service.book.recent(1)[0].outcome)
    (state,) = h.service.book.recent(5)
    assert len(h.crm.to("/tell")) == 2
    assert entry(state, "passthru.again")
    assert "being asked" in entry(state, "call.resumed").text
    assert codes(state).count("passthru.branch") == 1


def test_an_answered_crm_is_not_asked_twice_whatever_dies_right_behind_it(hall: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    h = hall({"tell": TELL, "last": say("Goodbye."), "bye": BYE})
    h.crm.script("/tell", Reply(200, b'{"select": "gold"}'))
    Death(h, monkeypatch, "kill with a slow store", 1, "before")
    phone = h.call()
    assert phone.wait(WAIT)
    eventually(lambda: not h.service.book.live and h.service.book.recent(1)[0].outcome)
    (state,) = h.service.book.recent(5)
    assert len(h.crm.to("/tell")) == 1
    assert codes(state).count("passthru.branch") == 1
    assert phone.texts == ["Goodbye."]


def test_a_message_under_way_is_not_sent_twice_and_a_later_one_is_sent(hall: Start) -> None:
    text = {"sms": {"url": "crm:/sms", "form": {"to": "1"}, "timeout": 2}, "next": "tell", "failed": "bye"}
    h = hall({"text": text, "tell": TELL, "last": {**text, "next": "bye"}, "bye": BYE})
    h.crm.script("/sms", Reply(200, delay=0.3), Reply(200))
    h.crm.script("/tell", Reply(200))
    phone = h.call()
    eventually(lambda: h.crm.to("/sms"))
    h.lose_socket(phone)
    state = h.ended(phone)
    assert [one.step for one in state.journey if one.code == "sms.once"] == ["text"]
    assert [one.step for one in state.journey if one.code == "sms.sending"] == ["text", "last"]
    assert len(h.crm.to("/sms")) == 2


# --- agents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("files", [True, False])
def test_an_agent_who_answers_while_nobody_is_there_counts_whatever_tells_of_him(hall: Start, lines: bool, files: bool) -> None:
    steps = {
        "agents": {"connect": {"numbers": [RAVI, ASHA, MEENA], "ring_seconds": 20}, "answered": "last", "unanswered": "bye"},
        "last": say("Goodbye."),
        "bye": BYE,
    }
    h = hall(
        steps,
        agents={RAVI: AgentScript.busy(), ASHA: AgentScript.answers(8, 40)},
        lines=lines,
        switch={"cdr": "cdr"} if files else {},
    )
    h.switch.cdr = h.folder / "cdr" if files else None
    phone = h.call()
    assert phone.wait_until(lambda p: ("rings", "09876543210") in p.agents, WAIT)
    h.lose_socket(phone)
    state = h.ended(phone)
    assert [leg.outcome for leg in state.legs] == ["busy", "answered"]
    leg = state.legs[1]
    assert leg.seen == (files or lines)
    assert leg.talk_seconds == pytest.approx(40, abs=0.5)
    assert state.outcome == "answered"
    assert phone.texts == ["Goodbye."]
    assert "answered meanwhile" in entry(state, "call.resumed").text


# --- the marker ------------------------------------------------------------------------------------------------------


def test_the_marker_stays_an_id(hall: Start) -> None:
    h = hall({"hello": say("Good morning."), "bye": BYE})
    h.run()
    (marker,) = [argument for argument in h.executed("set") if argument.startswith(MARKER)]
    assert Marker.read(marker.partition("=")[2]) == Marker(1, 1, 0, 0, 0, 0, 1)


# --- the end that nobody saw --------------------------------------------------------------------------------------


def test_a_call_is_finished_once(hall: Start, tmp_path: Path) -> None:
    h = hall({"hello": say("Good morning.", "tell"), "tell": TELL, "last": say("Goodbye."), "bye": BYE})
    h.switch.cdr = tmp_path / "cdr"  # which exoflow does not look at
    h.crm.script("/tell", Reply(200, delay=0.2))
    phone = h.call()
    assert phone.wait_until(lambda p: bool(p.heard), WAIT)
    with h.switch.clock.held():
        h.service.stop()
        phone.hangup()
        assert phone.wait(WAIT)
        h.serve()
    end = cdr.parse((tmp_path / "cdr" / f"{phone.uuid}.cdr.json").read_bytes())
    assert isinstance(end, cdr.CallEnd)
    call = h.service.book.resume(phone.uuid)
    assert call is not None
    gevent.joinall([gevent.spawn(h.service._reception.finish, call, end) for _ in range(3)])
    h.service._reception.finish(call, end)
    state = call.state
    assert (state.outcome, state.ended_by, state.cause) == ("abandoned", "caller", "NORMAL_CLEARING")
    assert codes(state).count("passthru.branch") == codes(state).count("caller.left") == codes(state).count("call.resumed") == 1
    assert len(h.crm.to("/tell")) == len(h.deliveries(state)) == 1
    assert "left while no exoflow had him" in entry(state, "call.resumed").text
