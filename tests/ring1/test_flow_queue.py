"""connect with a queue: what a caller hears who waits for agents that talk, in which order callers are put through, and how
else a queue is left."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hall import ASHA, BYE, RAVI, WAIT, Hall, codes, entry, eventually, outcomes, prompt_files, say, visited

from exoflow.calls.model import CallState
from exoflow.config.load import load
from exoflow.config.steps import ConnectStep
from exoflow.config.yaml12 import read
from exoflow.linesound import RATE, wav
from exoflow.sim import AgentScript, Phone

ROOT = Path(__file__).parents[2]
Start = Callable[..., Hall]
# what no event tells is looked at each second of the wall, and on a virtual clock when a sound ends: so there are some
PLACE = {"every": 10, "position": {"before": {"say": "Number"}}}
OTHERS = [f"+91981110000{at}" for at in range(2, 8)]


def queued(**queue: Any) -> dict[str, Any]:
    words = {"say": "All our agents are talking."}
    return {
        "agents": {
            "connect": {"group": "one", "queue": words | queue},
            "answered": "after",
            "unanswered": "sorry",
            "queue_full": "full",
            "queue_timeout": "late",
            **({"left_queue": "left"} if "leave_key" in queue else {}),
        },
        "after": say("Goodbye."),
        "sorry": say("Nobody is there."),
        "full": say("Too many wait."),
        "late": say("It is late."),
        "left": say("As you like."),
        "bye": BYE,
    }


def desk(hall: Start, steps: dict[str, Any], asha: Any, *, account: dict[str, Any] | None = None, **settings: Any) -> Hall:
    """One agent, Asha, and callers."""
    groups = {"groups": {"one": {"agents": ["asha"], **settings}}}
    h = hall(steps, agents={ASHA: asha}, account=groups | (account or {}))
    on_the_switchs_clock(h)
    return h


def on_the_switchs_clock(h: Hall) -> None:
    h.service.staff.clock = lambda: datetime.fromtimestamp(h.switch.clock.micros() / 1e6, UTC)


def talking(h: Hall) -> Phone:
    """A caller who talks with Asha."""
    phone = h.call()
    assert phone.wait_until(lambda one: one.talked_at is not None, 10)
    return phone


def enters(h: Hall, at: int = 0, **caller: Any) -> Phone:
    """One more caller, who is in the queue."""
    before = len(h.entries)
    phone = h.call(from_number=OTHERS[at], **caller)
    h.until(lambda: any(one.code == "queue.entered" for one in h.entries[before:]))
    return phone


def told(state: CallState) -> list[str]:
    return [code for code in codes(state) if code.startswith(("queue.", "leg.")) and code != "queue.announced"]


def test_who_waits_hears_words_and_music_and_is_put_through(hall: Start) -> None:
    h = desk(hall, queued(), [AgentScript.answers(1, 40), AgentScript.answers(2, 5)])
    first = talking(h)
    second = enters(h)
    state = h.ended(second)
    assert told(state) == ["queue.entered", "queue.served", "leg.dialled", "leg.talked"]
    assert second.texts[0] == "All our agents are talking."
    assert "tone" in second.texts[1]
    assert second.texts[-1] == "Goodbye."
    assert entry(state, "queue.entered").evidence["position"] == 1
    assert entry(state, "queue.served").evidence["waited"] == pytest.approx(40, abs=6)
    assert second.talked_at is not None
    assert h.ended(first).talk_leg is not None
    assert state.outcome == "answered"
    assert len(h.service.staff.claims) == 0
    assert h.switch.violations == []


def test_the_queue_is_not_for_a_group_with_a_free_agent(hall: Start) -> None:
    h = desk(hall, queued(), AgentScript.answers(1, 3))
    _, state = h.run()
    assert told(state) == ["leg.dialled", "leg.talked"]


def test_the_queue_is_not_for_a_group_that_cannot_be_reached(hall: Start) -> None:
    h = desk(hall, queued(), AgentScript.answers(1, 3))
    h.service.staff.switch("acme", "asha", False, "test")
    phone, state = h.run()
    assert told(state) == []
    assert (state.outcome, state.reason) == ("missed", "connect.away")
    assert phone.texts == ["Nobody is there."]


def test_an_agent_who_does_not_answer_leads_to_no_queue(hall: Start) -> None:
    h = desk(hall, queued(), AgentScript.busy())
    _, state = h.run()
    assert told(state) == ["leg.dialled", "leg.busy"]


def test_who_came_first_is_first_over_two_flows(hall: Start) -> None:
    flows = {name: {"start": "agents", "steps": queued()} for name in ("main", "sales")}
    ours = [{"number": f"+91803075240{at}", "trunk": "PRI1", "flow": name} for at, name in enumerate(flows)]
    h = desk(hall, queued(), AgentScript.answers(1, 20), account={"numbers": ours, "flows": flows})
    talking(h)
    waiting = [enters(h, at, to=f"+91803075240{at % 2}") for at in range(4)]
    states = [h.ended(phone) for phone in waiting]
    talked = [phone.talked_at or 0 for phone in waiting]
    assert talked == sorted(talked)
    assert all(after - before >= 20 for before, after in pairwise(talked))  # she talks with one at a time
    assert [entry(state, "queue.entered").evidence["position"] for state in states] == [1, 2, 3, 4]
    assert {state.facts.flow for state in states} == {"main", "sales"}
    assert h.service.staff.queues.waiting(("acme", "one")) == 0


def test_a_full_queue(hall: Start) -> None:
    h = desk(hall, queued(size=2), AgentScript.answers(1, 60))
    talking(h)
    enters(h, 0)
    enters(h, 1)
    phone, state = h.run(from_number=OTHERS[2])
    assert phone.texts == ["Too many wait."]
    assert told(state) == ["queue.full"]
    assert (state.outcome, state.reason) == ("missed", "queue.full")


def test_a_time_that_is_over(hall: Start) -> None:
    h = desk(hall, queued(max_seconds=30), AgentScript.answers(1, 300))
    talking(h)
    phone = enters(h)
    state = h.ended(phone)
    assert phone.texts[-1] == "It is late."
    assert told(state) == ["queue.entered", "queue.timeout"]
    assert entry(state, "queue.timeout").evidence["waited"] == pytest.approx(30, abs=7)
    assert (state.outcome, state.reason) == ("missed", "queue.timeout")


def test_what_follows_a_queue_is_unanswered_unless_it_is_set(hall: Start) -> None:
    steps = queued(max_seconds=10)
    del steps["agents"]["queue_timeout"]
    h = desk(hall, steps, AgentScript.answers(1, 300))
    talking(h)
    state = h.ended(enters(h))
    assert visited(state) == ["agents", "sorry", "bye"]


@pytest.mark.parametrize("seconds", [0.5, 20])
def test_the_key_that_leaves(hall: Start, seconds: float) -> None:
    """Pressed in the words, or in the music; others do nothing."""
    h = desk(hall, queued(leave_key="1"), AgentScript.answers(1, 300))
    talking(h)
    phone = enters(h)
    phone.after(seconds - 0.3, phone.press, "2")
    phone.after(seconds, phone.press, "1")
    state = h.ended(phone)
    assert phone.texts[-1] == "As you like."
    assert told(state) == ["queue.entered", "queue.left"]
    assert entry(state, "queue.left").evidence["waited"] == pytest.approx(seconds, abs=2)
    assert state.reason == "queue.left"


def test_who_hangs_up_is_out_at_once(hall: Start) -> None:
    h = desk(hall, queued(), [AgentScript.answers(1, 40), AgentScript.answers(1, 5)])
    talking(h)
    first, second = enters(h, 0), enters(h, 1)
    first.after(5, first.hangup)
    state = h.ended(first)
    assert told(state) == ["queue.entered", "queue.abandoned"]
    assert state.outcome == "abandoned"  # no agent was dialled for him
    (told_of,) = h.deliveries(state)
    assert told_of.type == "call.missed"  # somebody should call him back
    assert entry(state, "queue.abandoned").evidence["waited"] == pytest.approx(5, abs=2)
    after = h.ended(second)
    assert told(after) == ["queue.entered", "queue.served", "leg.dialled", "leg.talked"]
    assert len(h.switch.attempts) == 2


def test_who_is_told_his_place_and_how_long_it_takes(hall: Start) -> None:
    announce = {
        "every": 10,
        "position": {"before": {"say": "You are number"}},
        "wait": {"before": {"say": "You will wait"}, "after": {"say": "minutes."}},
    }
    h = desk(hall, queued(announce=announce), AgentScript.answers(1, 70))
    talking(h)
    waiting = [enters(h, at) for at in range(4)]
    states = [h.ended(phone) for phone in waiting[:3]]
    heard = [text for phone in waiting for text in phone.texts]
    assert "You are number" in waiting[0].texts
    assert waiting[0].texts[waiting[0].texts.index("You are number") + 1] == "one"
    assert "You will wait" not in waiting[0].texts  # nobody knows yet
    third = waiting[2].texts
    assert third[third.index("You will wait") : third.index("You will wait") + 3] == ["You will wait", "two", "minutes."]
    places = [one.evidence["position"] for one in states[2].journey if one.code == "queue.announced"]
    assert places == [3, 2, 1] or places == [3, 2, 1, 1]
    assert "tone" not in [text for text in heard if "number" in text]


def test_an_agent_who_does_not_answer_leaves_the_caller_at_the_head(hall: Start) -> None:
    scripts = [AgentScript.answers(1, 30), AgentScript.silent(), AgentScript.answers(1, 5), AgentScript.answers(1, 5)]
    steps = queued(announce=PLACE)
    steps["agents"]["connect"]["ring_seconds"] = 5
    h = desk(hall, steps, scripts, pause_seconds={"no_answer": 20})
    talking(h)
    first, second = enters(h, 0), enters(h, 1)
    one, other = h.ended(first), h.ended(second)
    assert outcomes(one.legs) == ["no_answer", "answered"]
    assert outcomes(other.legs) == ["answered"]
    assert told(one) == [
        "queue.entered",
        "queue.served",
        "leg.dialled",
        "leg.no_answer",
        "queue.served",
        "leg.dialled",
        "leg.talked",
    ]
    assert first.talked_at is not None
    assert second.talked_at is not None
    assert first.talked_at < second.talked_at


def test_a_second_call_is_told_once_however_often_it_is_rung_for(hall: Start) -> None:
    scripts = [AgentScript.answers(1, 30), AgentScript.silent(), AgentScript.silent(), AgentScript.answers(1, 5)]
    steps = queued(announce=PLACE)
    steps["agents"]["connect"]["ring_seconds"] = 5
    h = desk(hall, steps, [*scripts, AgentScript.answers(1, 5)], pause_seconds={"no_answer": 20})
    talking(h)
    first, second = enters(h, 0), enters(h, 0)
    state = h.ended(first)
    assert outcomes(state.legs) == ["no_answer", "no_answer", "answered"]
    assert entry(state, "connect.second_call").evidence == {"calls": [h.states[second.uuid].facts.id]}
    assert outcomes(h.ended(second).legs) == ["answered"]


def test_the_time_behind_a_talk_is_the_agents(hall: Start) -> None:
    h = desk(hall, queued(announce=PLACE), AgentScript.answers(1, 20), wrap_up_seconds=30)
    first = talking(h)
    state = h.ended(enters(h))
    assert h.ended(first).talk_leg is not None
    assert 30 <= entry(state, "queue.served").evidence["waited"] - 20 <= 45
    assert told(state) == ["queue.entered", "queue.served", "leg.dialled", "leg.talked"]


@pytest.mark.parametrize("how", ["socket", "kill"])
def test_a_death_leaves_the_order_as_it_was(hall: Start, how: str) -> None:
    h = desk(hall, queued(), AgentScript.answers(1, 40))
    talking(h)
    waiting = [enters(h, at) for at in range(3)]
    if how == "kill":
        with h.switch.clock.held():
            h.service.store.write(lambda connection: None)
            h.service.stop()
            h.serve()
            on_the_switchs_clock(h)
    else:
        h.lose_socket(waiting[0])
    states = [h.ended(phone) for phone in waiting]
    talked = [phone.talked_at or 0 for phone in waiting]
    assert talked == sorted(talked)
    assert all(talked)
    assert all(told(state) == ["queue.entered", "queue.served", "leg.dialled", "leg.talked"] for state in states)
    assert all(phone.texts.count("All our agents are talking.") == 1 for phone in waiting)
    assert h.switch.violations == []


def test_who_hangs_up_in_the_queue_while_no_exoflow_is_there_was_missed_as_well(hall: Start) -> None:
    h = desk(hall, queued(), AgentScript.answers(1, 40))
    talking(h)
    phone = enters(h)
    with h.switch.clock.held():
        h.service.store.write(lambda connection: None)
        h.service.stop()
        phone.hangup()
        assert phone.wait(WAIT)
        h.serve()
        eventually(lambda: [one.type for one in h.deliveries(h.states[phone.uuid])] == ["call.missed"])
    assert "queue.abandoned" in codes(h.ended(phone))


def test_what_is_typed_behind_the_leave_key_is_for_the_next_question(hall: Start) -> None:
    number = {"gather": {"say": "Your number?", "digits": 4, "timeout": 3, "attempts": 1}, "next": "bye"}
    h = desk(hall, queued(leave_key="*") | {"left": number}, AgentScript.answers(1, 300))
    talking(h)
    phone = enters(h)
    for at, key in enumerate("77*4711"):
        phone.after(3 + at * 0.3, phone.press, key)
    assert entry(h.ended(phone), "gather.digits").evidence["digits"] == "4711"


def test_a_queue_needs_a_group(hall: Start) -> None:
    with pytest.raises(AssertionError, match="goes with a `group`"):
        hall({"agents": {"connect": {"numbers": [RAVI], "queue": {}}, "answered": "bye", "unanswered": "bye"}, "bye": BYE})


def test_the_page_s_example_is_right(hall: Start, tmp_path: Path) -> None:
    written, _ = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/queue.md").read_text(), re.S)
    (tmp_path / "page.yaml").write_text(written)
    steps = read(tmp_path / "page.yaml").value
    music = tmp_path / "accounts/sounds/music.wav"
    music.parent.mkdir(parents=True)
    music.write_bytes(wav(bytes(2 * RATE)))
    h = hall(steps)
    step = h.config.accounts["acme"].flows["main"].steps["agents"]
    assert isinstance(step, ConnectStep)
    assert step.connect.queue is not None
    assert (step.connect.queue.max_seconds, step.connect.queue.size, step.connect.queue.leave_key) == (180, 20, "1")
    assert {finding.code for finding in load(h.folder / "exoflow.yaml", {}).findings} <= {"W603", "W707"}


def test_numbers_of_the_announcement_are_rendered_before(hall: Start) -> None:
    h = desk(hall, queued(size=25, announce=PLACE), AgentScript.busy())
    assert {"one", "nineteen", "twenty five"} <= set(prompt_files(h))
    assert "twenty six" not in prompt_files(h)


def test_who_leaves_in_the_moment_he_is_served_gives_his_agent_to_the_next(hall: Start) -> None:
    h = desk(hall, queued(), [AgentScript.answers(1, 300), AgentScript.answers(1, 5)])
    talking(h)
    first, second = enters(h, 0), enters(h, 1)
    staff = h.service.staff
    [talk] = staff.claims.holders(ASHA)
    with h.switch.clock.held():
        first.hangup()
        staff.claims.release(talk.channel)  # before his call has heard of its end
        staff.queues.settled([ASHA])
        staff.queues.wake()
        [claimed] = staff.claims.holders(ASHA)
        assert claimed.call == h.states[first.uuid].facts.id
    assert "leg.talked" not in told(h.ended(first))
    assert told(h.ended(second))[:3] == ["queue.entered", "queue.served", "leg.dialled"]
