"""CDR files of the embedded switch beside those that a real FreeSWITCH 1.10.12 wrote for the same call."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from simclient import WAIT, Wire, running

from exoflow.sim import AgentScript

RECORDED = Path(__file__).parents[1] / "wire" / "recorded" / "cdr"
TO, FROM = "+918030752400", "09812345678"
# what only a channel with SIP and audio has
_OF_SIP = re.compile(
    r"sip_|rtp_|switch_[rm]_sdp|.*media_(ip|port|flow)|sofia_|recovery_|ep_codec|original_|dtmf_type|playback_|last_sent|"
    r".*proto_specific|DP_MATCH|call_uuid|originate_failed|bridge_(uuid|channel)|last_bridge|signal_bond"
)
LEGS = {"busy": "09000000001", "silent": "09000000002", "talked": "09000000004"}


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The CDRs of the recorded call, made again here."""
    folder = tmp_path_factory.mktemp("cdr")
    agents = {
        LEGS["busy"]: AgentScript.busy(),
        LEGS["silent"]: AgentScript.silent(),
        LEGS["talked"]: AgentScript.answers(1, 2),
    }
    with running(speed=None, agents=agents, cdr=folder / "made") as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        for application, argument in (("ring_ready", ""), ("answer", ""), ("set", "exo_call=0123")):
            wire.run(application, argument)
        wire.run("playback", "tone_stream://%(600,0,400)")
        for name, number in LEGS.items():
            own = f"origination_uuid=leg-{name},ignore_early_media=true,originate_timeout=3"
            wire.run("bridge", f"{{{own}}}freetdm/PRI1/A/{number}")
        wire.start("hangup", "NORMAL_CLEARING")
        assert phone.wait(WAIT)
        uuid = phone.uuid
    names = {"caller": uuid, **{f"leg-{name}": f"leg-{name}" for name in LEGS}}
    return {name: read(folder / "made" / f"{uuid}.cdr.json") for name, uuid in names.items()}


def shape(value: Any) -> Any:
    """Names and their order, without what they hold."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items() if name not in ("variables", "callStats", "app_log")}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


@pytest.mark.parametrize("name", ["caller", "leg-busy", "leg-silent", "leg-talked"])
def test_a_cdr_has_the_fields_of_a_real_one(written: dict[str, dict[str, Any]], name: str) -> None:
    real, ours = read(RECORDED / f"{name}.cdr.json"), written[name]
    assert list(ours) == list(real)
    assert shape(ours) == shape(real)
    assert ours["channel_data"] | {"flags": ""} == real["channel_data"] | {"flags": ""}
    missing = {v for v in real["variables"] if not _OF_SIP.match(v)} - set(ours["variables"])
    assert not missing


@pytest.mark.parametrize("name", ["caller", "leg-busy", "leg-silent", "leg-talked"])
def test_a_cdr_says_the_same(written: dict[str, dict[str, Any]], name: str) -> None:
    real, ours = read(RECORDED / f"{name}.cdr.json"), written[name]
    same = ["hangup_cause", "hangup_cause_q850", "digits_dialed", "direction", "last_app", "last_arg", "limit_rate"]
    assert {v: ours["variables"].get(v) for v in same} == {v: real["variables"].get(v) for v in same}
    assert abs(int(ours["variables"]["billsec"]) - int(real["variables"]["billsec"])) <= 1
    for time in ("answered_time", "bridged_time", "progress_time", "progress_media_time", "hangup_time", "transfer_time"):
        assert (ours["callflow"][0]["times"][time] == "0") == (real["callflow"][0]["times"][time] == "0"), time


def test_the_log_of_applications_is_that_of_the_same_dialplan(written: dict[str, dict[str, Any]]) -> None:
    def log(cdr: dict[str, Any]) -> list[tuple[str, str]]:
        rows = [(row["app_name"], row.get("app_data", "")) for row in cdr["app_log"]["applications"]]
        plain = [(name, re.sub(r"\d{16}|127\.0\.0\.1:\d+", "N", data)) for name, data in rows]
        # ISDN alone tells types of number
        of_isdn = ("exo_caller_ton", "exo_dialled_ton", "exo_max_in")
        return [row for row in plain if row[0] not in ("bridge", "limit") and not row[1].startswith(of_isdn)]

    real = read(RECORDED / "caller.cdr.json")
    assert log(written["caller"]) == log(real)
    extension, theirs = written["caller"]["callflow"][0]["extension"], real["callflow"][0]["extension"]
    assert (extension["name"], extension["number"], extension["current_app"]) == (
        theirs["name"],
        theirs["number"],
        theirs["current_app"],
    )
    assert [a["app_name"] for a in extension["applications"]] == [a["app_name"] for a in theirs["applications"]]


def test_a_file_is_there_before_the_leg_reports_its_end(tmp_path: Path) -> None:
    with running(cdr=tmp_path) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        phone.hangup()
        wire.event("CHANNEL_HANGUP_COMPLETE")
        assert (tmp_path / f"{phone.uuid}.cdr.json").exists()


def test_a_call_that_was_refused_says_why_and_one_that_was_transferred_has_both_routes(tmp_path: Path) -> None:
    with running(cdr=tmp_path, most_calls=1, speed=None) as (switch, app):
        first = switch.call(TO, FROM)
        wire = app.call()
        refused = switch.call(TO, FROM)
        assert refused.wait(WAIT)
        variables = read(tmp_path / f"{refused.uuid}.cdr.json")["variables"]
        assert (variables["exo_refused"], variables["hangup_cause_q850"], variables["limit_usage"]) == ("limit", "17", "2")
        wire.start("transfer", "exoflow_fallback XML from-pri")
        assert first.wait(WAIT)
        flow = read(tmp_path / f"{first.uuid}.cdr.json")["callflow"]
        numbers = [entry["caller_profile"]["destination_number"] for entry in flow]
        assert numbers == ["exoflow_fallback", "8030752400"]
        assert flow[0]["extension"]["name"] == "fallback-announcement"
        assert flow[0]["times"]["transfer_time"] != "0"


def test_a_folder_that_cannot_be_written_harms_no_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with running(cdr=tmp_path / "file" / "cdr") as (switch, app):
        phone = switch.call(TO, FROM)
        app.call().start("hangup", "USER_BUSY")
        assert phone.wait(WAIT)
        assert phone.cause == "USER_BUSY"


def test_the_talk_after_an_apps_death_is_in_the_agents_file(tmp_path: Path) -> None:
    """The caller hangs up while nobody holds the call: only the CDRs tell how long they talked."""
    agents = {"9876543210": AgentScript.answers(1, talks=None)}

    def dies(wire: Wire) -> None:
        wire.send("connect\n\n")
        wire.frame()
        wire.command("event plain ALL")
        wire.run("sched_cancel")
        wire.start("bridge", "{origination_uuid=leg,ignore_early_media=true}freetdm/PRI1/A/09876543210")
        wire.event("CHANNEL_BRIDGE")

    with running(dies, cdr=tmp_path, agents=agents, speed=None) as (switch, _):
        phone = switch.call(TO, FROM)
        assert phone.wait_until(lambda p: p.talked_at is not None, WAIT)
        phone.after(40, phone.hangup)
        assert phone.wait(WAIT)
        variables = read(tmp_path / "leg.cdr.json")["variables"]
    assert 39 <= int(variables["billsec"]) <= 41
