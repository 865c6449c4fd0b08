"""What FreeSWITCH does by itself while no exoflow is there: written from the accounts, and followed by the embedded switch."""

from __future__ import annotations

import random
import re
import shutil
import stat
import time
import wave
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hall import BYE, Hall, eventually
from pydantic import ValidationError
from simclient import codes, event_socket

from exoflow.config.load import load
from exoflow.config.model import Config, EventSocket, Number, OwnFallback, Trunk
from exoflow.config.people import Agent
from exoflow.errors import Disconnected
from exoflow.lines import fallback
from exoflow.lines.fallback import FILE, Digits, FallbackError, content, publish, write
from exoflow.lines.lines import Lines
from exoflow.sim import AgentScript, EmbeddedSwitch
from exoflow.sim.dialplan import CONTEXT, Dialplan

PROJECT = Path(__file__).parents[2]
WRITTEN = Path(__file__).parents[1] / "fallback"
ACME, SECOND, BETA, NOBODYS = "8030752400", "8030752401", "8030752499", "8030752300"
FROM = "+919811111111"
ASHA, RAVI, MEENA = "9876543210", "9876543211", "9876543212"
RELOAD = ("reloadxml", "")
EXPANSIONS = {
    "${exo_trunk}",
    "${exo_did}",
    "${originate_disposition}",
    "${exo_fallback_folder}",
    "${exo_fallback_day}",
    "${exo_fallback_record}",
    "${strftime(${expr(${strepoch()}",
    "${uuid}",
}
EVIL = [
    '"/><action application="system" data="id"/>',
    "${system(id)}",
    "$${exoflow_hosts}",
    "x,null/evil",
    "x|y",
    "a b",
    "a'b",
    "a\nb",
    "</condition>",
    "<!-- include -->",
    "x;y",
    "^.*",
    "../../etc",
]


@pytest.fixture(autouse=True)
def indian_box(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file has the distance between the box's time zone and the account's."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    shutil.copytree(WRITTEN, tmp_path / "site")
    (tmp_path / "site" / "fallback").mkdir()
    loaded = load(tmp_path / "site" / "exoflow.yaml", {})
    assert loaded.config is not None, loaded.findings
    return loaded.config


# --- the file -----------------------------------------------------------------------------------


def test_the_whole_file(config: Config) -> None:
    text, numbers, left_out = content(config)
    assert text.decode().replace(str(config.base), "/site") == (WRITTEN / "exoflow.xml").read_text()
    assert (numbers, left_out) == (4, ())


def test_digits_are_those_by_which_the_number_is_found(config: Config) -> None:
    """Whatever the exchange sends, the number's own agents are rung exactly where the app would find that number."""
    numbers = [number for account in config.accounts.values() for number in account.numbers]
    digits = Digits(config)
    claimed = {(number.trunk, form): number for number in numbers for form in digits.of(number)}
    sent = {form for number in numbers for form in _sent(number)} | {"24", "00", "0", "91", "5", "7" * 15}
    assert "8030752400" in sent
    for trunk in config.trunks:
        for form in sent:
            if 2 <= len(form) <= 15:
                route = config.route(form, trunk)
                assert claimed.get((trunk, form)) is (None if route is None else route.number), (trunk, form)


@pytest.mark.parametrize("seed", range(20))
def test_many_numbers_with_each_others_digits(config: Config, seed: int) -> None:
    """As before, with numbers and dnis that are made to collide."""
    some = random.Random(seed)
    acme = config.accounts["acme"]
    found = {f"+9180{some.choice(('307', '308'))}524{some.randrange(12):02d}" for _ in range(12)}
    numbers = [
        Number(number=one, trunk="PRI1", flow="main", dnis=some.choice((None, None, f"{some.randrange(12):02d}", "2400")))
        for one in sorted(found)
    ]
    many = replace(config, accounts={"acme": acme.model_copy(update={"numbers": numbers})})
    digits = Digits(many)
    claimed = {form: number for number in numbers for form in digits.of(number)}
    for form in {form for number in numbers for form in _sent(number) if 2 <= len(form) <= 15}:
        route = many.route(form, "PRI1")
        assert claimed.get(form) is (None if route is None else route.number), form


def _sent(number: Number) -> Iterator[str]:
    digits = number.number.removeprefix("+")
    for count in range(1, 13):
        yield digits[-count:]
    for before in ("0", "00", "00" + digits[:2], "080"):
        yield before + digits
        yield before + digits[2:]


def test_a_number_with_a_common_end_has_the_others_only(config: Config) -> None:
    same = Number(number="+914430752400", trunk="PRI1", flow="main")
    acme = config.accounts["acme"]
    both = replace(config, accounts={"acme": acme.model_copy(update={"numbers": [*acme.numbers, same]})})
    assert "2400" in Digits(config).of(acme.numbers[0])
    found = Digits(both).of(acme.numbers[0])
    assert "2400" not in found
    assert "8030752400" in found


def _changed(config: Config, **changes: Any) -> Config:
    """The configuration with values that never came through its own checks."""
    acme = config.accounts["acme"]
    number, trunk = acme.numbers[0], config.trunks["PRI1"]
    agents = acme.agents
    if "agent" in changes:
        agents = agents | {"asha": Agent.model_construct(number=changes["agent"], name=None)}
    if "gateway" in changes:
        trunk = Trunk.model_construct(**{**trunk.model_dump(), "span": None, "gateway": changes["gateway"]})
        trunk = trunk.model_copy(update={"outbound": config.trunks["PRI1"].outbound})
    if "cli" in changes:
        trunk = trunk.model_copy(update={"outbound": trunk.outbound.model_copy(update={"cli": changes["cli"]})})
    if "number" in changes:
        number = number.model_copy(update={"number": changes["number"]})
    if "dnis" in changes:
        number = number.model_copy(update={"dnis": changes["dnis"]})
    own = acme.fallback
    if "play" in changes:
        own = OwnFallback.model_construct(**{**own.model_dump(), "say": None, "play": changes["play"]})
    account = acme.model_copy(update={"numbers": [number], "agents": agents, "fallback": own})
    switch = config.switch.model_copy(update={"recordings": Path(changes.get("recordings", config.switch.recordings))})
    return replace(
        config,
        switch=switch,
        trunks={"PRI1": trunk},
        accounts={changes.get("account", "acme"): account},
    )


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("place", ["account", "number", "dnis", "agent", "gateway", "cli", "play", "recordings"])
def test_nothing_hostile_becomes_xml_or_an_expansion(config: Config, place: str, evil: str) -> None:
    value: Any = f"/x/{evil}" if place in ("play", "recordings") else evil
    if place == "play" and "\n" in evil:  # the model's own door
        with pytest.raises(ValidationError):
            content(_changed(config, play=value))
        return
    text, _, left_out = content(_changed(config, **{place: value}))
    root = ET.fromstring(text)
    assert {one.get("application") for one in root.iter("action")} <= {
        "sched_cancel", "stop_record_session", "set", "answer", "sleep", "playback", "record_session", "bridge",
        "execute_extension",
    }  # fmt: skip
    assert set(re.findall(r"\$+\{[^}]*\}", text.decode())) <= EXPANSIONS
    assert b"$$" not in text
    said = [data for one in root.iter("action") if evil in (data := one.get("data", ""))]
    if said:  # what passes does so whole, where it means nothing: a comma or a bar in a path is a letter like others
        assert place in ("account", "play", "recordings")
        assert not re.search(r"[\s$'\"<>|]", evil), said
    elif place not in ("dnis", "play"):
        assert left_out


def test_who_is_switched_off_is_not_in_it(config: Config) -> None:
    text, numbers, _ = content(config, lambda account, agent: (account, agent) != ("acme", "asha"))
    assert (ASHA.encode() in text, RAVI.encode() in text, numbers) == (False, True, 4)
    text, numbers, left_out = content(config, lambda account, agent: False)
    assert (b"bridge" in text, numbers, left_out) == (False, 4, ())


def test_each_shift_has_its_own_first_agents(config: Config) -> None:
    acme = config.accounts["acme"]
    shifts = [{"mon-fri": ["09:00-18:00"]}] * 10 + [{"mon-fri": ["18:00-24:00"]}] * 10
    agents = {f"a{at}": Agent(number=f"+9198765{at:05d}", hours=hours) for at, hours in enumerate(shifts)}
    group = acme.groups["others"].model_copy(update={"agents": list(agents)})
    many = acme.model_copy(update={"agents": agents, "groups": {"all": group}, "numbers": acme.numbers[:1]})
    text, _, left_out = content(replace(config, accounts={"acme": many}))
    assert text.count(b"{ignore_early_media") == 40
    assert left_out == ()


def test_agents_beyond_the_limit_are_told(config: Config) -> None:
    acme = config.accounts["acme"]
    agents = {f"a{at}": Agent(number=f"+9198765{at:05d}") for at in range(12)}
    group = acme.groups["others"].model_copy(update={"agents": list(agents)})
    many = acme.model_copy(update={"agents": agents, "groups": {"all": group}, "numbers": acme.numbers[:1]})
    text, _, left_out = content(replace(config, accounts={"acme": many}))
    assert text.count(b"{ignore_early_media") == 20, "ten agents over two trunks"
    assert ["10th" in told for told in left_out] == [True]


# --- writing ------------------------------------------------------------------------------------


def test_it_is_written_once_and_for_everybody_to_read(config: Config) -> None:
    first = write(config)
    assert first.path == config.base / "fallback" / FILE
    assert (first.changed, first.numbers) == (True, 4)
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o644
    inode = first.path.stat().st_ino
    assert write(config).changed is False
    assert first.path.stat().st_ino == inode
    changed = replace(config, accounts={"beta": config.accounts["beta"]})
    assert write(changed).changed is True
    assert [path.name for path in first.path.parent.iterdir()] == [FILE], "no other file is left"


def test_without_a_folder_nothing_is_written(config: Config) -> None:
    assert write(replace(config, switch=config.switch.model_copy(update={"fallback": None}))).path is None


def test_a_write_that_fails_leaves_the_old_file(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(config).path
    assert path is not None
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fallback.os, "fsync", full)
    with pytest.raises(FallbackError, match="No space left"):
        write(replace(config, accounts={}))
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_a_folder_that_is_not_there_is_told_with_the_cure(config: Config) -> None:
    (config.base / "fallback").rmdir()
    with pytest.raises(FallbackError, match="make the folder"):
        write(config)


# --- publishing ---------------------------------------------------------------------------------


def lines_of(switch: EmbeddedSwitch) -> Lines:
    host, port = switch.event_socket_address
    lines = Lines(EventSocket(host=host, port=port, password=switch.password))
    lines.start()
    return lines


def test_the_switch_is_told_to_read_it(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    with EmbeddedSwitch(("127.0.0.1", 1)) as switch:
        lines = lines_of(switch)
        try:
            publish(config, lines)
            publish(config, lines)
        finally:
            lines.stop()
        assert switch.api_calls.count(RELOAD) == 2, "also when nothing changed: FreeSWITCH may not have read it"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert (config.base / "fallback" / FILE).is_file()


def test_a_switch_that_is_away_reads_it_when_it_is_back(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    switch = EmbeddedSwitch(("127.0.0.1", 1))
    with switch:
        lines = lines_of(switch)
        lines.stop()
        with pytest.raises(Disconnected):
            lines.reload_dialplan()
        publish(config, lines)
        assert "event socket" in caplog.text, "told, and nothing else follows from it"
        again = lines
        again.start()
        try:
            assert switch.api_calls.count(RELOAD) == 1
        finally:
            again.stop()


def test_no_fault_of_it_reaches_the_caller(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Config) -> None:
        raise KeyError("group")

    monkeypatch.setattr(fallback, "content", broken)
    publish(config, Lines(EventSocket()))
    assert "by a fault of exoflow" in caplog.text


def test_exoflow_publishes_it_at_its_start_and_at_each_reload(hall: Callable[..., Hall], tmp_path: Path) -> None:
    folder = tmp_path / "fallback"
    folder.mkdir()
    running = hall({"bye": BYE}, switch={"fallback": str(folder)})
    eventually(lambda: running.switch.api_calls.count(RELOAD) == 1)
    written = (folder / FILE).read_bytes()
    assert b"8030752400" in written
    main = running.folder / "accounts" / "acme.yaml"
    main.write_text(main.read_text().replace(ASHA, "9876543299"))
    assert running.service.reload()
    eventually(lambda: running.switch.api_calls.count(RELOAD) == 2)
    assert b"09876543299" in (folder / FILE).read_bytes()
    assert (folder / FILE).read_bytes() != written


# --- followed -----------------------------------------------------------------------------------


def installed(config: Config, tmp_path: Path) -> Dialplan:
    copy = tmp_path / "dialplan"
    shutil.copytree(PROJECT / "dialplan", copy)
    result = write(replace(config, switch=config.switch.model_copy(update={"fallback": copy / "fallback"})))
    assert result.changed
    return Dialplan(copy / f"{CONTEXT}.xml")


def serve(config: Config, tmp_path: Path, agents: dict[str, AgentScript], **options: Any) -> EmbeddedSwitch:
    trunks = {"PRI1": 30, "voip.example-2": 30}
    switch = EmbeddedSwitch(("127.0.0.1", 1), speed=None, agents=agents, trunk=trunks, cdr=tmp_path / "cdr", **options)
    switch.dialplan = installed(config, tmp_path)
    (tmp_path / "cdr").mkdir()
    return switch


def test_the_numbers_own_agents_are_rung_in_order_and_the_talk_is_recorded(config: Config, tmp_path: Path) -> None:
    agents = {ASHA: AgentScript.busy(), RAVI: AgentScript.answers(2.0, 5.0)}
    with serve(config, tmp_path, agents) as switch:
        phone = switch.call(ACME, FROM)
        assert phone.wait(20)
        assert phone.session is not None
        variables = phone.session.channel.variables
        assert [attempt.number for attempt in switch.attempts] == [f"0{ASHA}", f"0{RAVI}"]
        assert [attempt.variables["exo_fallback_leg"] for attempt in switch.attempts] == ["1", "3"]
        assert codes(switch) == ["missing_sound"], "the announcement was not rendered; nothing else is wrong"
    assert (variables["exo_fallback"], variables["exo_fallback_leg"]) == ("refused", "3")
    assert (variables["exo_fallback_account"], variables["exo_fallback_number"]) == ("acme", "+918030752400")
    assert phone.cause == "NORMAL_CLEARING"
    path = Path(variables["exo_fallback_record"])
    assert re.fullmatch(
        r"\d{4}/\d\d/\d\d/fallback-" + phone.uuid + r"\.wav", str(path.relative_to(config.base / "recordings/acme"))
    )
    with wave.open(str(path)) as sound:
        assert sound.getnchannels() == 2
        assert sound.getnframes() / sound.getframerate() == pytest.approx(5, abs=0.2)
    assert "loops=2" not in " ".join(phone.texts), "a talk is the end"


def test_of_two_calls_that_begin_a_day_at_once_both_are_recorded(
    config: Config, tmp_path: Path, another_call_first: None
) -> None:
    (config.base / "recordings").mkdir()
    with serve(config, tmp_path, {ASHA: AgentScript.answers(1.0, 1.0)}) as switch:
        phone = switch.call(ACME, FROM)
        assert phone.wait(20)
        assert phone.session is not None
    assert Path(phone.session.channel.variables["exo_fallback_record"]).exists()


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_a_recordings_day_is_the_accounts(config: Config, tmp_path: Path, zone: str) -> None:
    """14 h ahead of UTC and 12 h behind: at any moment one of them has another day than the box."""
    config.accounts["acme"] = config.accounts["acme"].model_copy(update={"time_zone": zone})
    with serve(config, tmp_path, {ASHA: AgentScript.answers(1.0, 1.0)}) as switch:
        days = {datetime.fromtimestamp(switch.clock.micros() / 1e6, ZoneInfo(zone)).strftime("%Y/%m/%d")}
        phone = switch.call(ACME, FROM)
        assert phone.wait(20)
        assert phone.session is not None
        days.add(datetime.fromtimestamp(switch.clock.micros() / 1e6, ZoneInfo(zone)).strftime("%Y/%m/%d"))
    path = Path(phone.session.channel.variables["exo_fallback_record"])
    assert str(path.parent.relative_to(config.base / "recordings/acme")) in days


@pytest.mark.parametrize(
    ("digits", "told", "recorded"),
    [
        (ACME, None, True),
        (ACME, "agreed", True),
        (ACME, "refused", False),
        (BETA, None, False),
        (BETA, "agreed", True),
        (BETA, "refused", False),
    ],
)
def test_nobody_is_recorded_against_his_will(
    config: Config, tmp_path: Path, digits: str, told: str | None, recorded: bool
) -> None:
    """ACME never asks; BETA asks each caller in its flow, and only who has agreed by then is recorded."""
    with serve(config, tmp_path, {}) as switch:
        phone = switch.call(digits, FROM, variables={} if told is None else {"exo_consent": told})
        assert phone.wait(20)
        assert phone.session is not None
        variables = phone.session.channel.variables
        assert len(switch.attempts) == 1
    assert ("exo_fallback_record" in variables) is recorded
    assert [path.suffix for path in (config.base / "recordings").rglob("*.wav")] == [".wav"] * recorded


def test_nobody_answers(config: Config, tmp_path: Path) -> None:
    agents = {ASHA: AgentScript.silent(), RAVI: AgentScript.rejects()}
    with serve(config, tmp_path, agents) as switch:
        phone = switch.call(ACME, FROM)
        assert phone.wait(20)
        assert phone.session is not None
        path = Path(phone.session.channel.variables["exo_fallback_record"])
        assert len(switch.attempts) == 2, "who does not answer is not rung over another trunk"
    assert "loops=2" in phone.texts[-1]
    assert phone.cause == "NORMAL_CLEARING"
    assert not path.exists()


def test_another_trunk_when_ours_is_full(config: Config, tmp_path: Path) -> None:
    agents = {MEENA: [AgentScript.without_channel(), AgentScript.answers(1.0, 2.0)]}
    with serve(config, tmp_path, agents) as switch:  # type: ignore[arg-type]
        phone = switch.call(BETA, FROM)
        assert phone.wait(20)
        assert phone.session is not None
        tried = [(attempt.trunk, attempt.number, attempt.variables["exo_fallback_leg"]) for attempt in switch.attempts]
        assert "exo_fallback_record" not in phone.session.channel.variables, "this account asks first, and nobody did"
    assert tried == [("PRI1", f"0{MEENA}", "1"), ("voip.example-2", MEENA, "2")]
    assert phone.cause == "NORMAL_CLEARING"


def test_a_gateways_number_by_its_dnis(config: Config, tmp_path: Path) -> None:
    with serve(config, tmp_path, {ASHA: AgentScript.answers(1.0, 1.0)}) as switch:
        phone = switch.call("24", FROM, trunk="voip.example-2")
        assert phone.wait(20)
        assert [(attempt.trunk, attempt.number) for attempt in switch.attempts] == [("voip.example-2", ASHA)]


@pytest.mark.parametrize("digits", [NOBODYS, "8030752999"])
def test_a_number_without_agents_or_of_nobody_gets_the_announcement(config: Config, tmp_path: Path, digits: str) -> None:
    with serve(config, tmp_path, {}) as switch:
        phone = switch.call(digits, FROM)
        assert phone.wait(20)
        assert switch.attempts == []
        assert codes(switch) == []
    assert "loops=2" in phone.texts[-1]


def test_a_fallback_written_anew_meanwhile_rings_nobody_elses_agent(config: Config, tmp_path: Path) -> None:
    with serve(config, tmp_path, {MEENA: AgentScript.without_channel()}) as switch:

        def renew(_: object) -> bool:
            if switch.attempts:
                switch.dialplan = Dialplan(PROJECT / "dialplan" / f"{CONTEXT}.xml")
            return bool(switch.attempts)

        phone = switch.call(BETA, FROM)
        link = event_socket(switch.event_socket_address)
        link.command("event plain CHANNEL_EXECUTE")
        link.event("CHANNEL_EXECUTE", Application="bridge")
        renew(phone)
        assert phone.wait(20)
        assert phone.cause == "NORMAL_CLEARING"
        assert "loops=2" in phone.texts[-1]
