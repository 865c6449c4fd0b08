"""In which order callers of a group are served, and when: pure rules, without calls."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from exoflow.agents.queue import FEW_SERVED, SETTLE_SECONDS, Place, Queues

START = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
TEAM, OTHER = ("acme", "support"), ("acme", "sales")


@dataclass(frozen=True)
class Agent:
    leg: str


class World:
    """A clock, agents who are free or not, and places that claim them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.free: list[str] = []
        self.queues = Queues(lambda: START + timedelta(seconds=self.seconds), lambda: self.seconds)

    def place(self, call: str, came: float) -> Place:
        return Place(call, START + timedelta(seconds=came), self._claim)

    def _claim(self, avoided: Collection[str]) -> Sequence[Agent]:
        found = next((name for name in self.free if name not in avoided), None)
        if found is None:
            return ()
        self.free.remove(found)
        return [Agent(found)]

    def frees(self, name: str) -> None:
        self.free.append(name)
        self.queues.wake()


@pytest.fixture
def world() -> World:
    return World()


def served(*places: Place) -> list[str]:
    return [place.call for place in places if place.woken.is_set()]


def test_who_came_first_is_served_first(world: World) -> None:
    one, two, three = places = [world.place(name, at) for at, name in enumerate(("one", "two", "three"))]
    for place in (two, three, one):  # as they come back after a death
        world.queues.join(TEAM, place)
    assert [world.queues.position(TEAM, place) for place in places] == [1, 2, 3]
    world.frees("asha")
    assert served(*places) == ["one"]
    assert one.picked == [Agent("asha")]
    assert [world.queues.position(TEAM, place) for place in places] == [0, 1, 2]
    world.frees("ravi")
    assert served(*places) == ["one", "two"]


def test_two_who_are_freed_at_once_are_for_the_first_two(world: World) -> None:
    places = [world.place(name, at) for at, name in enumerate(("one", "two", "three"))]
    for place in places:
        world.queues.join(TEAM, place)
    world.free += ["asha", "ravi"]
    world.queues.wake()
    assert served(*places) == ["one", "two"]


def test_who_leaves_is_passed_by(world: World) -> None:
    one, two = world.place("one", 0), world.place("two", 1)
    world.queues.join(TEAM, one)
    world.queues.join(TEAM, two)
    world.queues.leave(TEAM, one)
    world.queues.leave(TEAM, one)  # twice is not wrong
    world.frees("asha")
    assert served(one, two) == ["two"]
    assert world.queues.waiting(TEAM) == 0


def test_who_was_not_put_through_is_at_the_head_again_without_that_agent(world: World) -> None:
    one, two = world.place("one", 0), world.place("two", 1)
    world.free = ["asha"]
    world.queues.join(TEAM, one)
    world.queues.join(TEAM, two)
    assert served(one, two) == ["one"]
    one.avoided = {"asha": START + timedelta(seconds=15)}  # she did not answer him
    world.queues.join(TEAM, one)
    assert [world.queues.position(TEAM, place) for place in (one, two)] == [1, 2]
    world.frees("ravi")
    assert (one.picked, served(one, two)) == ([Agent("ravi")], ["one"])
    one.avoided = {"asha": START + timedelta(seconds=15)}
    world.queues.join(TEAM, one)
    world.frees("asha")
    assert served(one, two) == ["two"]  # for whom nothing speaks against her
    world.seconds = 15
    world.frees("asha")
    assert one.picked == [Agent("asha")]


def test_an_agent_of_two_groups_is_for_who_waits_longest(world: World) -> None:
    sales, support = world.place("sales", 3), world.place("support", 5)
    world.queues.join(TEAM, support)
    world.queues.join(OTHER, sales)
    world.frees("asha")
    assert served(sales, support) == ["sales"]


def test_whose_leg_has_ended_is_nobodys_until_his_call_has_told(world: World) -> None:
    one = world.place("one", 0)
    world.queues.join(TEAM, one)
    world.queues.let_go("asha")
    world.frees("asha")
    assert served(one) == []
    world.queues.settled(["asha"])
    world.queues.wake()
    assert served(one) == ["one"]


def test_of_whom_no_call_tells_he_is_free_after_a_while(world: World) -> None:
    one = world.place("one", 0)
    world.queues.join(TEAM, one)
    world.queues.let_go("asha")
    world.seconds = SETTLE_SECONDS - 0.1
    world.frees("asha")
    assert served(one) == []
    world.seconds = SETTLE_SECONDS
    world.queues.wake()
    assert served(one) == ["one"]


def test_what_a_caller_has_to_expect_is_drawn_from_those_before_him(world: World) -> None:
    places = [world.place(str(at), 0) for at in range(5)]
    for place in places:
        world.queues.join(TEAM, place)
    assert world.queues.expected(TEAM, places[-1]) is None
    for at in range(FEW_SERVED):
        world.seconds += 40 + 40 * at
        world.frees("asha")
    assert world.queues.expected(TEAM, places[2]) == pytest.approx(60)
    assert world.queues.expected(TEAM, places[4]) == pytest.approx(180)
    assert world.queues.expected(OTHER, places[4]) is None


def test_who_waits_to_be_called_back_has_a_place_and_no_line(world: World) -> None:
    caller, called_back = world.place("caller", 2), world.place("called back", 1)
    called_back.on_line = False
    for place in (caller, called_back):
        world.queues.join(TEAM, place)
    assert (world.queues.waiting(TEAM), world.queues.on_line(TEAM)) == (2, 1)
    assert [world.queues.position(TEAM, place) for place in (called_back, caller)] == [1, 2]
