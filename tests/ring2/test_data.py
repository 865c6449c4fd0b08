"""A call's data on a real FreeSWITCH: what is told while it goes on, and its recording fetched by its address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
from standardwebhooks import Webhook
from support.audio import read_wav
from support.bodies import check

from ring2.agents import answers, busy
from ring2.box import Box
from ring2.network import Exchange
from ring2.site import DIRECT, MAIN, Reply, Site, Visit, agents_json, wait_for

PUBLIC = "https://calls.example.in"
EVENTS = "[call.started, call.answered, call.ended, call.missed, recording.ready, recording.failed]"


class TellingSite(Site):
    """Whose account wants to be told of everything, and whose recordings have addresses."""

    def _write_configuration(self) -> None:
        super()._write_configuration()
        _change(self.folder / "exoflow.yaml", "web: {", f'web: {{public_url: "{PUBLIC}", ')
        account = self.folder / "accounts" / "acme.yaml"
        _change(account, "secret_file:", f"events: {EVENTS}, secret_file:")
        _change(account, "crm: {", f'crm: {{dial_events: {{url: "{self.crm.url("/dial")}"}}, ')

    def told(self, visit: Visit, count: int) -> list[dict[str, Any]]:
        """What the CRM has got of a call, when it is so much, each verified by the published library."""
        call_id = visit.state().facts.id

        def got() -> list[Any]:
            found = [one for one in self.crm.deliveries if one.event["data"]["call"] == call_id]
            return found if len(found) >= count else []

        return [Webhook(self.secret).verify(one.body, one.headers) for one in wait_for(got, 10, "the deliveries")]


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def telling(switches: tuple[Box, Exchange], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TellingSite]:
    box, exchange = switches
    running = TellingSite(box, exchange, tmp_path_factory.mktemp("telling") / "exoflow")
    try:
        running.start()
        running.crm.script("/dial", Reply(200))
        yield running
    finally:
        running.close()


def fetch(site: TellingSite, url: str, **headers: str) -> requests.Response:
    """In a thread: gevent has patched nothing here."""
    local = url.replace(PUBLIC, f"http://127.0.0.1:{site.web_port}")
    return gevent.get_hub().threadpool.apply(requests.get, (local,), {"headers": headers, "timeout": 20})


def test_a_talk_is_told_in_order_and_its_recording_is_fetched(telling: TellingSite) -> None:
    (agent,) = telling.agents(answers(after=0.5, talk=3))
    visit = telling.call(MAIN, {"/agents": agents_json(agent)})
    visit.phone.press("1", after=0.3)
    visit.phone.wait_ended(40)
    state = visit.state()
    events = telling.told(visit, 4)
    for event in events:
        check(json.dumps(event))
    assert [event["type"] for event in events] == ["call.started", "call.answered", "recording.ready", "call.ended"]
    started, answered, ready, ended = (event["data"] for event in events)
    assert started["outcome"] is None
    assert answered["leg"] == state.legs[0].uuid
    assert answered["legs"][0]["released_at"] is None
    url = ready["recording"]["url"]
    assert len(url) <= 140
    assert url == ended["recordings"][0]["url"] == visit.asked("/after")[0]["RecordingUrl"]
    wav = fetch(telling, url.rpartition(".")[0] + ".wav")
    path = Path(state.recordings[0].path)
    assert (wav.status_code, wav.content) == (200, path.read_bytes())
    assert len(read_wav(path).channels) == 2
    part = fetch(telling, url.rpartition(".")[0] + ".wav", Range="bytes=0-3")
    assert (part.status_code, part.content) == (206, b"RIFF")
    assert fetch(telling, url).status_code == 200


def test_each_phone_that_rings_is_told_of_before_the_passthru(telling: TellingSite) -> None:
    first, second = telling.agents(busy(), answers(after=0.5, talk=1))
    visit = telling.call(MAIN, {"/agents": agents_json(first, second)})
    visit.phone.press("1", after=0.3)
    visit.phone.wait_ended(40)
    call_id = visit.state().facts.id
    telling.told(visit, 4)
    mine = [one for one in telling.crm.requests if one.get("CallSid") == call_id and one.path in ("/dial", "/after")]
    numbers = [f"0{agent.number}" for agent in (first, second)]
    events = [(one.get("Status"), one.get("DialWhomNumber")) for one in mine[:4]]
    assert events == [(status, number) for number in numbers for status in ("busy", "free")]
    assert mine[4].path == "/after"


def test_a_call_whose_caller_leaves_before_an_agent_is_told_as_missed(telling: TellingSite) -> None:
    visit = telling.call(DIRECT, {"/agents": agents_json()})
    visit.phone.wait_answered()
    visit.phone.hangup()
    assert [event["type"] for event in telling.told(visit, 2)] == ["call.started", "call.missed"]
