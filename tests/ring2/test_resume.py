"""`exoflow serve` is killed with SIGKILL in the middle of a call on a real FreeSWITCH, and started again at once by its
supervisor: callers, agents and the CRM see one call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from sqlalchemy import create_engine
from support.audio import Sound, read_wav, sine, write_wav
from support.supervisor import RESTART_SECONDS, Supervisor

from exoflow.sim.crm import Reply, Request
from ring2.agents import answers, busy, rejects, silent
from ring2.box import Box
from ring2.freeswitch import fill
from ring2.network import Exchange
from ring2.site import Site, Visit, agents_json, codes, entry, wait_for

PROMPTS, KEYS, CRM, AGENTS, MESSAGE, ASKED = (f"80307524{number}" for number in range(20, 26))
LONG_HZ, LONG_SECONDS = 660, 3.0


class Revived(Site):
    """A site whose exoflow has a supervisor."""

    supervisor: Supervisor

    def start(self) -> None:
        self.crm.start()
        self._dripping.__enter__()
        for path in ("/lookup", "/agents", "/after"):
            self.crm.script(path, self._reply)
        self._write_configuration()
        where = (self.box.exoflow_hosts.host, self.box.exoflow_hosts.port)
        self.supervisor = Supervisor(self.folder / "exoflow.yaml", log=self.log, listen=where).start()
        self.supervisor.wait_ready(30)
        self._engine = create_engine(f"sqlite:///{self.folder / 'exoflow.db'}")

    def stop(self) -> None:
        self.supervisor.stop()
        super().stop()

    def kill(self) -> None:
        self.supervisor.kill()

    def digits(self, visit: Visit) -> str:
        """The last ones that the store has of this call."""
        state = self.stored(visit.channel)
        return state.digits if state is not None else ""

    def _write_configuration(self) -> None:
        super()._write_configuration()
        fill(Path(__file__).parent / "resume.yaml", self.folder / "accounts" / "resume.yaml", {"CRM": self.crm.url("")})
        write_wav(self.folder / "tones" / "long.wav", Sound([sine(LONG_HZ, LONG_SECONDS)], 8000))
        main = self.folder / "exoflow.yaml"
        if "cdr:" not in main.read_text():
            main.write_text(main.read_text().replace("  recordings:", f"  cdr: {self.box.cdr_folder}\n  recordings:"))


@pytest.fixture(scope="module")
def revived(switches: tuple[Box, Exchange], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Revived]:
    running = Revived(*switches, tmp_path_factory.mktemp("revived"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def site(revived: Revived, fs: Box) -> Revived:
    revived.supervisor.wait_ready(20)
    return revived


def resumed(visit: Visit) -> str:
    """What the journey says was found."""
    return str(entry(visit.state(), "call.resumed").text)


def test_a_prompt_plays_on_and_is_not_played_again(site: Revived) -> None:
    visit = site.call(PROMPTS)
    visit.phone.wait_answered()
    gevent.sleep(1)
    site.kill()
    visit.phone.wait_ended()
    assert "played to its end" in resumed(visit)
    heard = visit.heard()
    levels = heard.tone_blocks(LONG_HZ)
    loud = [at for at, level in enumerate(levels) if level > -25]
    assert len(loud) == pytest.approx(LONG_SECONDS * 10, abs=3)
    assert loud[-1] - loud[0] == len(loud) - 1, "in one piece"
    assert max(heard.tone_blocks(750)) > -25
    assert codes(visit.state()).count("greeting.played") == 2


def test_keys_pressed_around_the_kill_count(site: Revived) -> None:
    visit = site.call(KEYS)
    visit.phone.press("12", after=1.0)
    site.kill()
    visit.phone.press("34")
    wait_for(lambda: site.digits(visit) == "1234", 10, "the first digits")
    visit.phone.press("56")
    visit.phone.wait_ended()
    assert "keys 1234" in resumed(visit)
    assert [sent["digits"] for sent in visit.asked("/lookup")] == ['"56"']


@pytest.mark.parametrize("restart_after", [0.1, 1.3])
def test_keys_of_the_gap_answer_the_next_question(site: Revived, restart_after: float) -> None:
    """Of 2.4 s of typing; the later the next process is there, the more of them wait in the channel."""
    visit = site.call(KEYS)
    visit.phone.wait_answered()
    gevent.sleep(1)
    site.supervisor.restart_after = restart_after
    site.kill()
    for key in "123456":
        visit.phone.press(key)
        gevent.sleep(0.4)
    visit.phone.wait_ended()
    site.supervisor.restart_after = RESTART_SECONDS
    digits = [line.evidence["digits"] for line in visit.state().journey if line.code == "gather.digits"]
    assert digits == ["1234", "56"]


def test_an_answered_crm_is_not_asked_twice(site: Revived) -> None:
    def answer(request: Request) -> Reply:
        gevent.spawn_later(0.1, site.kill)
        return Reply(200)

    visit = site.call(CRM, {"/lookup": answer})
    visit.phone.wait_ended()
    assert len(visit.asked("/lookup")) == 1
    assert codes(visit.state()).count("passthru.branch") == 1
    assert visit.state().outcome == "served"


def test_a_crm_that_was_being_asked_is_asked_again(site: Revived) -> None:
    def answer(request: Request) -> Reply:
        gevent.spawn_later(0.3, site.kill)
        return Reply(200, delay=2)

    visit = site.call(CRM, {"/lookup": [answer, Reply(200)]})
    visit.phone.wait_ended()
    assert len(visit.asked("/lookup")) == 2
    assert "being asked" in resumed(visit)
    assert entry(visit.state(), "passthru.again")


@pytest.mark.parametrize("when", ["ringing", "talking"])
def test_an_agent_talks_on_and_his_answer_counts(site: Revived, when: str) -> None:
    agents = site.agents(busy(), answers(after=2.5, talk=4.0), answers())
    visit = site.call(AGENTS, {"/agents": agents_json(*agents)})
    visit.phone.wait_answered().speak(440)
    wait_for(lambda: agents[1].attempts and agents[1].attempts[0].alerting_at, 10, "the second agent's ringing")
    if when == "talking":
        wait_for(lambda: agents[1].attempts[0].answered_at, 10, "his answer")
        gevent.sleep(1)
    site.kill()
    visit.phone.wait_ended()
    state = visit.state()
    assert [len(agent.attempts) for agent in agents] == [1, 1, 0]
    assert [leg.outcome for leg in state.legs] == ["busy", "answered"]
    assert all(leg.seen for leg in state.legs)
    assert state.legs[1].talk_seconds == pytest.approx(4.0, abs=0.3)
    assert "was rung on and answered" in resumed(visit)
    assert [(one.kind, one.state) for one in state.recordings] == [("talk", "good")], state.recordings
    assert read_wav(Path(state.recordings[0].path)).seconds == pytest.approx(4.0, abs=0.3)
    assert len(visit.asked("/agents")) == len(visit.asked("/after")) == 1
    assert state.outcome == "answered"


@pytest.mark.parametrize("when", ["ringing", "asked"])
def test_of_several_who_ring_and_are_asked_each_is_rung_once(site: Revived, when: str) -> None:
    """One is a mailbox, the other presses the key; both are asked by the switch alone."""
    agents = site.agents(answers(after=2.5), answers(after=2.5, listens=3.5, presses="1", talk=4.0), answers())
    visit = site.call(ASKED, {"/agents": agents_json(*agents)})
    visit.phone.wait_answered().speak(440)
    wait_for(lambda: all(agent.attempts and agent.attempts[0].alerting_at for agent in agents[:2]), 10, "both agents' ringing")
    if when == "asked":
        wait_for(lambda: agents[1].attempts[0].answered_at, 10, "his answer")
        gevent.sleep(1)
    site.kill()
    visit.phone.wait_ended()
    state = visit.state()
    assert [len(agent.attempts) for agent in agents] == [1, 1, 0]
    assert [leg.outcome for leg in state.legs] == ["taken", "answered"]
    assert all(leg.seen for leg in state.legs)
    assert state.legs[1].talk_seconds == pytest.approx(4.0, abs=0.5)
    assert "was rung on and answered" in resumed(visit)
    assert [(one.kind, one.state) for one in state.recordings] == [("talk", "good")], state.recordings
    assert read_wav(Path(state.recordings[0].path)).seconds == pytest.approx(4.0, abs=0.5)
    assert len(visit.asked("/agents")) == 1


def test_who_rejects_meanwhile_is_not_rung_again_and_the_next_one_is(site: Revived) -> None:
    def rings_and_rejects(attempt: Any) -> None:
        attempt.ring()
        attempt.pause(2.0)
        rejects("CALL_REJECTED")(attempt)

    agents = site.agents(rings_and_rejects, answers(after=0.5, talk=2.0))
    visit = site.call(AGENTS, {"/agents": agents_json(*agents)})
    wait_for(lambda: agents[0].attempts and agents[0].attempts[0].alerting_at, 10, "the first agent's ringing")
    site.kill()
    visit.phone.wait_ended()
    state = visit.state()
    assert [len(agent.attempts) for agent in agents] == [1, 1]
    assert [(leg.outcome, leg.q850) for leg in state.legs] == [("rejected", 21), ("answered", 16)]
    assert "did not answer" in resumed(visit)
    assert [one.state for one in state.recordings] == ["good"], state.recordings


def test_a_message_is_recorded_on_and_taken(site: Revived) -> None:
    visit = site.call(MESSAGE)
    visit.phone.wait_answered()
    gevent.sleep(1.5)
    visit.phone.speak(440)
    gevent.sleep(1)
    site.kill()
    gevent.sleep(2)
    visit.phone.press("#")
    visit.phone.wait_ended()
    state = visit.state()
    assert [(one.kind, one.state) for one in state.recordings] == [("voicemail", "good")], state.recordings
    # a second of it from before the kill, two from after
    assert 2.3 < read_wav(Path(state.recordings[0].path)).seconds < 4.5
    assert "message had been recorded" in resumed(visit)
    assert state.outcome == "voicemail"
    assert len(visit.asked("/after")) == 1


def test_a_long_message_is_recorded_on_though_nobody_keeps_its_lease(site: Revived) -> None:
    visit = site.call(MESSAGE)
    visit.phone.wait_answered()
    gevent.sleep(1.5)
    visit.phone.speak(440)
    gevent.sleep(0.5)
    site.kill()
    gevent.sleep(22)
    visit.phone.press("#")
    visit.phone.wait_ended()
    state = visit.state()
    assert [(one.kind, one.state) for one in state.recordings] == [("voicemail", "good")], state.recordings
    assert read_wav(Path(state.recordings[0].path)).seconds > 22
    assert "message had been recorded" in resumed(visit)


def test_a_caller_who_leaves_in_a_talk_that_no_app_hears_has_his_record(site: Revived) -> None:
    (agent,) = site.agents(answers(after=0.3))
    visit = site.call(AGENTS, {"/agents": agents_json(agent)})
    wait_for(lambda: agent.attempts and agent.attempts[0].answered_at, 10, "the agent's answer")
    gevent.sleep(0.5)
    site.kill()
    gevent.sleep(1.5)
    visit.phone.hangup()
    state = visit.state(30)
    assert (state.outcome, state.ended_by) == ("answered", "caller")
    assert state.legs[0].talk_seconds == pytest.approx(2.0, abs=0.4)
    assert [one.state for one in state.recordings] == ["good"], state.recordings
    assert len(visit.asked("/after")) == 1
    assert visit.delivery()


def test_nobody_is_rung_for_a_caller_who_left_while_the_first_agent_rang(site: Revived) -> None:
    agents = site.agents(silent(), answers())
    visit = site.call(AGENTS, {"/agents": agents_json(*agents)})
    wait_for(lambda: agents[0].attempts and agents[0].attempts[0].alerting_at, 10, "the agent's ringing")
    site.kill()
    visit.phone.hangup()
    state = visit.state(30)
    assert [len(agent.attempts) for agent in agents] == [1, 0]
    assert [leg.outcome for leg in state.legs] == ["caller_gone"]
    assert (state.outcome, state.ended_by) == ("missed", "caller")
