"""A number is claimed before it is rung, for as long as its leg lives on the switch, and is never claimed for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from dying import kill
from eslpeer import event_frame
from hall import ASHA, BYE, CALLER, MEENA, RAVI, Hall, codes, entry, eventually, outcomes, say

from exoflow.agents.claims import ABSENT_SECONDS, UNBORN_SECONDS, Claims
from exoflow.agents.watch import Watch
from exoflow.calls.model import CallFacts, CallState, Leg, Placed
from exoflow.errors import CallEnded, Disconnected
from exoflow.esl.codec import Event, FrameReader
from exoflow.lines.listing import Channel
from exoflow.sim import AgentScript
from exoflow.sim.crm import Reply

Start = Callable[..., Hall]
LEG, OTHER, A_LEG = (f"5f8b28d1-82cc-4a5f-8e6a-ee2b64a2145{at}" for at in range(3))
EVERYBODY = {"agents": {"connect": {"group": "support"}, "answered": "bye", "unanswered": "bye"}, "bye": BYE}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def event(name: str, channel: str, dialled: str = "09876543210", direction: str = "outbound") -> Event:
    headers = {"Unique-ID": channel, "Caller-Destination-Number": dialled, "Call-Direction": direction}
    (frame,) = FrameReader().feed(event_frame(name, headers))
    return Event.from_plain(frame.body)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def claims(clock: Clock) -> Claims:
    return Claims(clock)


# --- claiming ---------------------------------------------------------------------------------------


def test_a_number_is_claimed_once(claims: Claims) -> None:
    assert claims.claim(ASHA, LEG, "one")
    assert not claims.claim(ASHA, OTHER, "two")
    assert claims.claim(RAVI, OTHER, "two")
    assert claims.claim(ASHA, LEG, "one")  # the call came back to its own leg
    claims.release(LEG)
    assert claims.claim(ASHA, "third", "three")


def test_a_number_with_several_lines_is_claimed_so_often(claims: Claims) -> None:
    assert [claims.claim(ASHA, leg, leg, lines=2) for leg in ("a", "b", "c")] == [True, True, False]
    claims.release("b")
    assert claims.claim(ASHA, "c", "c", lines=2)


def test_an_attempt_that_made_no_leg_ends_its_claim(claims: Claims) -> None:
    claims.claim(ASHA, LEG, "one")
    with claims.attempted([LEG], lambda: True):
        pass
    assert not len(claims)


def test_the_claim_of_a_leg_that_was_seen_ends_when_the_leg_does(claims: Claims) -> None:
    claims.claim(ASHA, LEG, "one")
    with claims.attempted([LEG], lambda: True):
        claims.hear(event("CHANNEL_CREATE", LEG))
    assert not claims.claim(ASHA, OTHER, "two")
    claims.hear(event("CHANNEL_HANGUP_COMPLETE", LEG))
    assert claims.claim(ASHA, OTHER, "two")


def test_a_command_that_may_still_wait_in_the_switch_keeps_the_claim(claims: Claims, clock: Clock) -> None:
    switch = Switch()
    switch.callers = {A_LEG}
    claims.claim(ASHA, LEG, "one", dialler=A_LEG)
    with claims.attempted([LEG], lambda: True):
        claims.told([LEG])  # and the attempt was given up
    clock.now += 3600.0
    looked_twice(claims, switch, clock)
    assert not claims.claim(ASHA, OTHER, "two")


@pytest.mark.parametrize("made", [False, True])
def test_the_end_of_the_bridge_tells_whether_there_was_a_leg(claims: Claims, made: bool) -> None:
    claims.claim(ASHA, LEG, "one", dialler=A_LEG)
    with claims.attempted([LEG], lambda: True):
        claims.told([LEG])
        claims.done(LEG, made=made)  # before the leg's own events have come
    assert claims.claim(ASHA, OTHER, "two") is not made
    claims.hear(event("CHANNEL_HANGUP_COMPLETE", LEG))
    assert claims.claim(ASHA, "third", "three") is made


def test_without_events_the_attempts_end_is_the_claims(claims: Claims) -> None:
    claims.claim(ASHA, LEG, "one")
    claims.hear(event("CHANNEL_CREATE", LEG))
    with pytest.raises(CallEnded), claims.attempted([LEG], lambda: False):
        raise CallEnded
    assert not len(claims)


def test_a_lost_socket_does_not_end_a_claim_for_the_leg_rings_on(claims: Claims) -> None:
    claims.claim(ASHA, LEG, "one")
    with pytest.raises(Disconnected), claims.attempted([LEG], lambda: True):
        raise Disconnected("a test")
    assert not claims.claim(ASHA, OTHER, "two")
    assert [claim.channel for claim in claims.unowned] == [LEG]


def test_who_calls_us_is_engaged_until_his_call_is_over(claims: Claims) -> None:
    over = []
    with claims.calling(ASHA, A_LEG, "one", lambda: bool(over)):
        assert not claims.claim(ASHA, LEG, "one")
    assert not claims.claim(ASHA, LEG, "one")  # it left this process, and lives
    over.append(True)
    with claims.calling(ASHA, A_LEG, "one", lambda: bool(over)):
        pass
    assert claims.claim(ASHA, LEG, "one")


def test_legs_that_the_switch_dials_by_itself_engage_their_numbers(claims: Claims) -> None:
    claims.hear(event("CHANNEL_CREATE", LEG, "09876543210"))
    claims.hear(event("CHANNEL_CREATE", OTHER, "8030752400", direction="inbound"))
    claims.hear(event("CHANNEL_CREATE", A_LEG, "conference"))
    assert not claims.claim(ASHA, "mine", "one")
    assert len(claims) == 1


def test_an_event_that_comes_behind_the_channels_end_changes_nothing(claims: Claims) -> None:
    claims.hear(event("CHANNEL_HANGUP_COMPLETE", LEG))
    claims.hear(event("CHANNEL_CREATE", LEG))
    claims.recall(ASHA, LEG, "one", seen=True)
    assert not len(claims)


# --- held against the switch --------------------------------------------------------------------------


class Switch:
    """What it tells when it is asked."""

    up = True

    def __init__(self) -> None:
        self.legs: dict[str, str] = {}  # uuid: digits
        self.callers: set[str] = set()
        self.ending: set[str] = set()  # hung up, and their phones may not know it yet

    def channels(self) -> list[Channel]:
        legs = [Channel(uuid, "outbound", dialled) for uuid, dialled in self.legs.items()]
        return legs + [Channel(uuid, "inbound", "8030752400") for uuid in self.callers]

    def existing(self, channels: Iterable[str]) -> set[str]:
        return set(channels) & (set(self.legs) | self.callers) - self.ending


def left(*legs: Leg, caller: str | None = None) -> CallState:
    facts = CallFacts("call", A_LEG, Leg.__dataclass_fields__["dialled_at"].default, "PRI1", "8030752400", CALLER)
    facts.caller = caller
    return CallState(facts, legs=list(legs))


def looked(claims: Claims, switch: Switch, *states: CallState) -> Claims:
    watch = Watch(claims, switch, lambda: states)
    watch.start()
    watch.stop()
    return claims


def test_after_a_start_the_legs_on_the_switch_have_their_claims(claims: Claims) -> None:
    switch = Switch()
    switch.legs = {LEG: "09876543210", OTHER: "9876543211"}
    looked(claims, switch)
    assert [bool(claims.holders(number)) for number in (ASHA, RAVI, MEENA)] == [True, True, False]


def test_a_leg_that_the_list_has_not_yet_is_known_from_the_store(claims: Claims) -> None:
    switch = Switch()
    switch.channels = list  # type: ignore[method-assign]
    switch.legs = {LEG: "09876543210"}
    looked(claims, switch, left(Leg(LEG, 1, ASHA, "PRI1", seen=True)))
    assert claims.holders(ASHA)


def looked_twice(claims: Claims, switch: Switch, clock: Clock, *states: CallState) -> None:
    """So far apart that an absence counts."""
    looked(claims, switch, *states)
    clock.now += ABSENT_SECONDS
    looked(claims, switch)


def test_of_legs_that_are_over_nothing_is_claimed(claims: Claims, clock: Clock) -> None:
    looked_twice(claims, Switch(), clock, left(Leg(LEG, 1, ASHA, "PRI1", seen=True), caller=RAVI))
    assert not len(claims)
    assert claims.found_over == 2


def test_a_leg_that_another_call_was_given_instead_is_not_claimed_after_a_restart(claims: Claims) -> None:
    switch = Switch()
    switch.callers = {A_LEG}
    looked(claims, switch, left(Leg(LEG, 1, ASHA, "PRI1", outcome="engaged")))
    assert not len(claims)


def test_an_absence_counts_when_it_lasts(claims: Claims, clock: Clock) -> None:
    switch = Switch()
    claims.hold(ASHA, LEG)
    looked(claims, switch)
    clock.now += ABSENT_SECONDS - 0.1
    looked(claims, switch)
    assert claims.holders(ASHA)
    switch.legs = {LEG: "09876543210"}
    looked(claims, switch)
    switch.legs.clear()
    clock.now += ABSENT_SECONDS
    looked(claims, switch)
    assert claims.holders(ASHA)  # it was there in between


def test_a_leg_that_was_not_made_yet_is_claimed_as_long_as_its_caller_lives(claims: Claims, clock: Clock) -> None:
    switch = Switch()
    switch.callers = {A_LEG}
    looked(claims, switch, left(Leg(LEG, 1, ASHA, "PRI1")))
    clock.now += 3600.0
    looked_twice(claims, switch, clock)
    assert not claims.claim(ASHA, OTHER, "two")
    switch.legs = {LEG: "09876543210"}  # its bridge was only late
    looked(claims, switch)
    switch.callers.clear()
    looked_twice(claims, switch, clock)
    assert not claims.claim(ASHA, OTHER, "two")
    switch.legs.clear()
    looked_twice(claims, switch, clock)
    assert claims.claim(ASHA, OTHER, "two")


def test_a_leg_that_was_never_made_frees_its_agent_when_its_caller_has_gone(claims: Claims, clock: Clock) -> None:
    switch = Switch()
    switch.callers = switch.ending = {A_LEG}  # its thread may still be in the bridge
    looked_twice(claims, switch, clock, left(Leg(LEG, 1, ASHA, "PRI1")))
    assert not claims.claim(ASHA, OTHER, "two")
    switch.callers, switch.ending = set(), set()
    looked_twice(claims, switch, clock)
    assert claims.claim(ASHA, OTHER, "two")


def test_a_leg_that_hangs_up_is_claimed_until_all_of_its_end_is_done(claims: Claims, clock: Clock) -> None:
    switch = Switch()
    switch.legs, switch.ending = {LEG: "09876543210"}, {LEG}
    looked_twice(claims, switch, clock, left(Leg(LEG, 1, ASHA, "PRI1", seen=True)))
    assert not claims.claim(ASHA, OTHER, "two")
    switch.legs.clear()
    looked_twice(claims, switch, clock)
    assert claims.claim(ASHA, OTHER, "two")


def test_a_placed_call_that_has_not_begun_is_claimed_for_a_minute(claims: Claims, clock: Clock) -> None:
    switch, call = Switch(), left(caller=ASHA)
    call.facts.placed = Placed(None, 30, 60)
    looked(claims, switch, call)
    clock.now += UNBORN_SECONDS - 0.1
    looked(claims, switch)
    assert not claims.claim(ASHA, OTHER, "two")
    clock.now += 0.2
    looked(claims, switch)
    assert claims.claim(ASHA, OTHER, "two")


def test_a_claim_with_an_owner_is_not_looked_for(claims: Claims) -> None:
    claims.claim(ASHA, LEG, "one")
    claims.hear(event("CHANNEL_CREATE", LEG))
    looked(claims, Switch())
    assert not claims.claim(ASHA, OTHER, "two")


def test_a_store_or_a_switch_that_does_not_answer_is_done_without(claims: Claims) -> None:
    def no_store() -> list[CallState]:
        raise Disconnected("a test")

    switch = Switch()
    switch.legs = {LEG: "09876543210"}
    watch = Watch(claims, switch, no_store)
    watch.start()
    watch.stop()
    assert claims.holders(ASHA)
    switch.existing = lambda channels: no_store()  # type: ignore[assignment,method-assign,return-value]
    looked(claims, switch)
    assert claims.holders(ASHA)


# --- calls ------------------------------------------------------------------------------------------


def test_an_agent_who_talks_is_not_rung_though_the_crm_names_him(hall: Start) -> None:
    steps = {
        "agents": {"connect": {"url": "crm:/agents"}, "answered": "bye", "unanswered": "sorry"},
        "sorry": say("No."),
        "bye": BYE,
    }
    h = hall(steps, agents={ASHA: AgentScript.answers(1, None), RAVI: AgentScript.answers(1, 5)})
    h.crm.script("/agents", lambda request: Reply.agents(ASHA, *([RAVI] if request.get("CallFrom") == "09811100002" else [])))
    talks = h.call()
    h.until(lambda: talks.talked_at)
    second, third = h.call(from_number="+919811100002"), h.call(from_number="+919811100003")
    state = h.ended(second)
    assert [leg.number for leg in state.legs] == [RAVI]
    (told,) = entry(state, "connect.passed_over").evidence["agents"]
    assert (told["agent"], told["why"]) == ("Asha", "engaged")
    state = h.ended(third)
    assert (state.legs, state.outcome, state.reason) == ([], "missed", "connect.engaged")
    assert third.texts == ["No."]
    h.ended(talks)
    eventually(lambda: not len(h.service.staff.claims))


def test_engaged_by_us_and_busy_from_the_network_are_different_reasons(hall: Start) -> None:
    h = hall(EVERYBODY, agents={ASHA: AgentScript.busy(), RAVI: AgentScript.busy()})
    _, busy = h.run()
    for number in (ASHA, RAVI):
        h.service.staff.claims.hold(number, f"{number} talks")
    _, engaged = h.run()
    assert (busy.reason, engaged.reason) == ("leg.busy", "connect.engaged")
    assert (outcomes(busy.legs), engaged.legs) == (["busy", "busy"], [])


def test_who_becomes_free_meanwhile_is_rung_after_the_others(hall: Start) -> None:
    h = hall(EVERYBODY, agents={ASHA: AgentScript.answers(1, 5), RAVI: AgentScript.silent()})
    h.service.staff.claims.hold(ASHA, "talks")
    phone = h.call()
    h.until(lambda: h.switch.rung)
    h.service.staff.claims.release("talks")
    state = h.ended(phone)
    assert [(leg.number, leg.outcome) for leg in state.legs] == [(RAVI, "no_answer"), (ASHA, "answered")]
    assert codes(state).count("connect.passed_over") == 1


def test_an_agent_who_calls_us_is_not_rung_for_himself(hall: Start) -> None:
    h = hall(EVERYBODY, agents={RAVI: AgentScript.answers(1, 5)})
    _, state = h.run(from_number="+919876543210")
    assert [leg.number for leg in state.legs] == [RAVI]
    eventually(lambda: not len(h.service.staff.claims))


@pytest.mark.parametrize(
    "script", [AgentScript.busy(), AgentScript.without_channel(), AgentScript.answers(1, 2), AgentScript.silent()]
)
def test_no_attempt_leaves_a_claim(hall: Start, script: AgentScript) -> None:
    h = hall(EVERYBODY, agents={ASHA: script, RAVI: script})
    h.run()
    eventually(lambda: not len(h.service.staff.claims))
    assert h.service.staff.claims.found_over == 0


def test_a_caller_who_leaves_while_an_agent_is_rung_frees_him(hall: Start) -> None:
    h = hall(EVERYBODY, agents={ASHA: AgentScript.silent()})
    phone = h.call()
    h.until(lambda: h.switch.rung)
    phone.hangup()
    h.ended(phone)
    eventually(lambda: not len(h.service.staff.claims))


def test_without_the_event_socket_agents_are_claimed_all_the_same(hall: Start) -> None:
    h = hall(EVERYBODY, agents={ASHA: AgentScript.answers(1, 20), RAVI: AgentScript.answers(1, 5)}, lines=False)
    talks = h.call()
    h.until(lambda: talks.talked_at)
    _, state = h.run(from_number="+919811100002")
    assert [leg.number for leg in state.legs] == [RAVI]
    h.ended(talks)
    eventually(lambda: not len(h.service.staff.claims))


def test_no_phone_rings_twice_though_a_bridge_comes_long_after_its_command(hall: Start) -> None:
    h = hall(EVERYBODY, agents={ASHA: AgentScript.answers(1, 900), RAVI: AgentScript.answers(1, 5)})
    h.switch.late_commands, h.switch.list_lag_seconds = {"bridge": 600.0}, 30.0
    first = h.call()
    h.until(lambda: first.session.starved)
    h.switch.late_commands = {}
    with h.switch.clock.held():
        died = h.service
        kill(h)
        eventually(lambda: h.service is not died and h.service.staff.claims.holders(ASHA))
        clock = Clock()
        clock.now, h.service.staff.claims.clock = h.service.staff.claims.clock(), clock
        for _ in range(3):
            h.service.staff.watch._look(listed=True)
            clock.now += 100.0
        second = h.call(from_number="+919811100002")
    state = h.ended(second)
    assert [leg.number for leg in state.legs] == [RAVI]
    h.until(lambda: first.talked_at)
    assert h.switch.rung.count("09876543210") == 1
    first.hangup()
    h.ended(first)
    eventually(lambda: not len(h.service.staff.claims))


def test_a_callers_second_call_is_served_for_itself_and_says_so(hall: Start) -> None:
    h = hall(EVERYBODY, agents={ASHA: AgentScript.answers(20, 30), RAVI: AgentScript.answers(1, 5)})
    first = h.call()
    h.until(lambda: h.switch.rung)
    _, state = h.run()
    assert [leg.agent for leg in state.legs] == ["Ravi"]
    assert entry(state, "connect.second_call").evidence == {"calls": [h.states[first.uuid].facts.id]}
    assert "connect.second_call" not in codes(h.ended(first))


def test_a_call_to_another_account_is_no_second_call(hall: Start) -> None:
    theirs = [{"number": "+918030752401", "trunk": "PRI1", "flow": "main"}]
    h = hall(EVERYBODY, agents={ASHA: AgentScript.answers(20, 30)}, accounts={"acme": {}, "other": {"numbers": theirs}})
    first = h.call()
    h.until(lambda: h.switch.rung)
    _, state = h.run(to="+918030752401")
    assert "connect.second_call" not in codes(state)
    assert "connect.passed_over" in codes(state)  # his phone rings, whoever has him rung
    h.ended(first)
