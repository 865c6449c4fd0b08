"""No exoflow is there: FreeSWITCH alone serves callers by what exoflow has written from its accounts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import gevent
import pytest
from support.audio import Sound, read_wav, sine, write_wav
from support.esl import when

from exoflow.config.load import load
from exoflow.config.model import Config
from exoflow.lines.fallback import publish, write
from exoflow.lines.lines import Lines
from ring2.agents import answers, busy, silent
from ring2.box import Box
from ring2.network import Exchange, ExchangeCall
from ring2.test_dialplan import SIT

DID, QUIET = "8030752400", "8030752401"
ASHA, RAVI, MEENA = "9876543210", "9876543211", "9876543212"
ANNOUNCED = 700
"""Hz, for the account's own announcement"""
EXOFLOW = """
switch:
  recordings: {recordings}
  fallback: {fallback}
  event_socket: {{port: {port}, password: "{password}"}}
trunks:
  down: {{gateway: nowhere, outbound: {{dial_prefix: ""}}}}
  {trunk}: {{gateway: {trunk}, std_code: "80", outbound: {{cli: "8030752400", dial_prefix: "0"}}}}
"""
FAR = ("Pacific/Kiritimati", "Etc/GMT+12")
"""14 h ahead of UTC and 12 h behind: at any moment one of them has another day than the box"""
ACME = """
name: Acme
time_zone: {zone}
numbers:
  - {{number: "+918030752400", trunk: {trunk}, flow: main}}
agents: {{asha: {{number: "+91{asha}"}}, ravi: {{number: "+91{ravi}"}}}}
groups: {{support: {{agents: [asha, ravi]}}}}
flows: {{main: {{start: bye, steps: {{bye: {{hangup: {{}}}}}}}}}}
fallback: {{play: away.wav, ring_seconds: 5, talk_seconds: 60}}
"""
BETA = """
name: Beta
numbers: [{{number: "+918030752402", trunk: down, dnis: "8030752403", flow: main}}]
agents: {{meena: {{number: "+91{meena}"}}}}
groups: {{all: {{agents: [meena]}}}}
flows: {{main: {{start: bye, steps: {{bye: {{hangup: {{}}}}}}}}}}
"""


@pytest.fixture
def config(fs: Box, tmp_path: Path) -> Iterator[Config]:
    """Published to the box; taken away behind the test."""
    now = datetime.now(UTC)
    zone = next(name for name in FAR if now.astimezone(ZoneInfo(name)).date() != now.astimezone().date())
    values = {"trunk": fs.trunk, "zone": zone, "asha": ASHA, "ravi": RAVI, "meena": MEENA}
    folder = fs.conf / "dialplan" / "fallback"
    (tmp_path / "accounts").mkdir()
    main = EXOFLOW.format(
        recordings=fs.recordings / "own", fallback=folder, port=fs.event_port, password=fs.password, trunk=fs.trunk
    )
    (tmp_path / "exoflow.yaml").write_text(main)
    (tmp_path / "accounts" / "acme.yaml").write_text(ACME.format(**values))
    (tmp_path / "accounts" / "beta.yaml").write_text(BETA.format(**values))
    write_wav(tmp_path / "accounts" / "away.wav", Sound([sine(ANNOUNCED, 0.6)], 8000))
    loaded = load(tmp_path / "exoflow.yaml", {})
    assert loaded.config is not None, loaded.findings
    lines = Lines(loaded.config.switch.event_socket)
    lines.start()
    try:
        publish(loaded.config, lines)
        yield loaded.config
    finally:
        lines.stop()
        (folder / "exoflow.xml").unlink()
        fs.api("reloadxml")
        shutil.rmtree(fs.recordings / "own", ignore_errors=True)


def variables(fs: Box, call: ExchangeCall) -> dict[str, Any]:
    found: dict[str, Any] = fs.cdr(fs.uuid_of(call.uuid))["variables"]
    return found


def hears(sound: Sound, hz: int) -> bool:
    return max(sound.tone_blocks(hz), default=-120.0) > -25


def test_a_numbers_own_agents_are_rung_and_the_talk_is_recorded(fs: Box, exchange: Exchange, config: Config) -> None:
    exchange.agent(ASHA).behave(busy())
    exchange.agent(RAVI).behave(answers(after=0.5, talk=3, hz=880))
    call = exchange.call(DID).speak(440, after=0.1)
    call.wait_ended(30)
    assert [attempt.number for attempt in exchange.attempts] == [ASHA, RAVI]
    assert exchange.attempts[0].dialled == f"0{ASHA}"
    assert exchange.attempts[1].cli == "8030752400"
    assert (call.cause, call.q850) == ("NORMAL_CLEARING", 16)
    heard = call.heard()
    assert hears(heard, ANNOUNCED)
    assert hears(heard, 880)
    assert not hears(heard, SIT[0]), "behind a talk comes nothing"
    told = variables(fs, call)
    assert (told["exo_fallback"], told["exo_fallback_account"], told["exo_fallback_leg"]) == ("refused", "acme", "3")
    assert told["exo_fallback_number"] == "+918030752400"
    path = Path(told["exo_fallback_record"])
    zone = ZoneInfo(config.accounts["acme"].time_zone)
    day = datetime.fromtimestamp(int(told["answer_epoch"]), zone).strftime("%Y/%m/%d")
    assert path == fs.recordings / "own" / "acme" / day / f"fallback-{told['uuid']}.wav"
    recorded = read_wav(path)
    assert recorded.seconds == pytest.approx(3, abs=0.3)
    assert len(recorded.channels) == 2
    dialled = [one.partition(";")[0] for one in told["originated_legs"].removeprefix("ARRAY::").split("|:")]
    legs = [fs.cdr(uuid)["variables"] for uuid in dialled]
    assert [(leg["exo_fallback_leg"], leg["exo_fallback_trunk"]) for leg in legs] == [("1", fs.trunk), ("3", fs.trunk)]
    assert {leg["originating_leg_uuid"] for leg in legs} == {told["uuid"]}


def test_who_refused_to_be_recorded_is_not(fs: Box, exchange: Exchange, config: Config) -> None:
    exchange.agent(ASHA).behave(answers(after=0.2, talk=1))
    call = exchange.call(DID)
    fs.api(f"uuid_setvar {fs.uuid_of(call.uuid)} exo_consent refused")
    call.wait_ended(20)
    assert exchange.attempts[0].wait_ended().answered_at is not None
    assert "exo_fallback_record" not in variables(fs, call)
    assert not (fs.recordings / "own").exists()


def test_nobody_answers(fs: Box, exchange: Exchange, config: Config) -> None:
    """Each phone is rung for its time, then the announcement for all numbers comes."""
    for number in (ASHA, RAVI):
        exchange.agent(number).behave(silent())
    call = exchange.call(DID).wait_ended(40)
    assert [attempt.number for attempt in exchange.attempts] == [ASHA, RAVI]
    for attempt in exchange.attempts:
        ended = attempt.wait_ended().ended_at
        assert ended is not None
        assert 3.5 < ended - attempt.at < 6.5
    assert hears(call.heard(), SIT[0])
    assert not Path(variables(fs, call)["exo_fallback_record"]).exists()


def test_a_caller_who_leaves_while_an_agent_is_rung(fs: Box, exchange: Exchange, config: Config) -> None:
    exchange.agent(ASHA).behave(silent())
    call = exchange.call(DID)
    with gevent.Timeout(10):
        while not exchange.attempts:
            gevent.sleep(0.02)
    call.hangup()
    assert exchange.attempts[0].wait_ended().cause == "ORIGINATOR_CANCEL"
    assert [attempt.number for attempt in exchange.attempts] == [ASHA]


def test_an_agent_is_rung_over_another_trunk_when_the_first_is_gone(fs: Box, exchange: Exchange, config: Config) -> None:
    """The number's trunk has no gateway on this box (its `exo_trunk` is given by the test's own transfer)."""
    exchange.agent(MEENA).behave(answers(after=0.2, talk=1))
    link = fs.connect("CHANNEL_EXECUTE")
    try:
        call = exchange.call("8030752403")
        channel = fs.uuid_of(call.uuid)
        link.api(f"uuid_setvar {channel} exo_trunk nowhere")
        call.wait_ended(20)
    finally:
        link.close()
    told = variables(fs, call)
    assert [(attempt.number, attempt.dialled) for attempt in exchange.attempts] == [(MEENA, f"0{MEENA}")]
    assert (told["exo_fallback_account"], told["exo_fallback_leg"]) == ("beta", "2")


@pytest.mark.parametrize("did", [QUIET, "24"])
def test_a_number_of_no_account_gets_the_announcement(fs: Box, exchange: Exchange, config: Config, did: str) -> None:
    call = exchange.call(did).wait_ended(20)
    assert not exchange.attempts
    assert hears(call.heard(), SIT[0])
    assert "exo_fallback_account" not in variables(fs, call)


def test_it_is_followed_from_the_next_call_on(fs: Box, exchange: Exchange, config: Config) -> None:
    """FreeSWITCH reads what was written only when it is told to, and all of it then."""
    exchange.agent(ASHA).behave(busy())
    exchange.agent(RAVI).behave(busy())
    acme = config.accounts["acme"].model_copy(update={"groups": {}})
    quiet = Config(**{**vars(config), "accounts": {"acme": acme}})
    assert write(quiet).changed
    first = exchange.call(DID).wait_ended(20)
    assert len(exchange.attempts) == 2, "the old one, until reloadxml"
    assert fs.api("reloadxml").startswith("+OK")
    second = exchange.call(DID).wait_ended(20)
    assert len(exchange.attempts) == 2
    assert first.ended_at is not None
    assert when(second.headers) > first.ended_at
    assert hears(second.heard(), ANNOUNCED)
