"""The embedded switch follows the project's own dialplan files, by the rules of FreeSWITCH's dialplan_xml."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from simclient import WAIT, codes, event_socket, eventually, running

from exoflow.sim.dialplan import CONTEXT, Dialplan, DialplanError, folder, read_globals
from exoflow.sim.expand import expand
from exoflow.sim.session import Session
from exoflow.sim.switch import EmbeddedSwitch

PROJECT = Path(__file__).parents[2]
TO, FROM = "+918030752400", "+919811111111"


@pytest.fixture
def session() -> Session:
    """A call that nobody routes."""
    switch = EmbeddedSwitch(("127.0.0.1", 1))
    switch.spawn = lambda *_: None  # type: ignore[method-assign,assignment,return-value]
    found = switch.call(TO, FROM).session
    assert found is not None
    return found


def plan(tmp_path: Path, extensions: str) -> Dialplan:
    path = tmp_path / "plan.xml"
    path.write_text(f'<include>\n<context name="from-pri">{extensions}</context>\n</include>\n')
    return Dialplan(path)


def actions(dialplan: Dialplan, session: Session, destination: str = "8030752400") -> list[tuple[str, str]] | None:
    found = dialplan.hunt(session, destination, "from-pri")
    return None if found is None else [(action.application, action.data) for action in found.actions]


def test_the_projects_own_files_are_what_it_reads() -> None:
    assert folder() == PROJECT
    whole = Dialplan(PROJECT / "dialplan" / f"{CONTEXT}.xml")
    assert {"trunk", "drain", "admission", "app", "round", "guard", "fallback-end", "unknown"} <= {
        extension.name for extension in whole.contexts[CONTEXT]
    }
    assert read_globals(PROJECT / "freeswitch-conf" / "vars.xml")["exoflow_guard_seconds"] == "5"


def test_an_installation_has_them_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import setuptools; setuptools.setup()", "--quiet", "install_data", "-d", str(tmp_path)]
    built = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    files = [path for path in (PROJECT / "dialplan").rglob("*") if path.is_file()]
    for path in [*files, PROJECT / "freeswitch-conf" / "vars.xml"]:
        assert (tmp_path / "share" / "exoflow" / path.relative_to(PROJECT)).read_bytes() == path.read_bytes()


def test_conditions_actions_and_breaks(tmp_path: Path, session: Session) -> None:
    two = '<condition field="destination_number" expression="^80"{first}><action application="a" data="1"/></condition>'
    two += '<condition field="context" expression="^nobody$"{second}><action application="b"/>'
    two += '<anti-action application="c" data="{data}"/></condition>'
    two += '<condition><action application="d"/></condition>'

    def of(first: str = "", second: str = "") -> list[tuple[str, str]] | None:
        text = two.replace("{first}", first).replace("{second}", second).replace("{data}", "$1")
        return actions(plan(tmp_path / _fresh(tmp_path), f'<extension name="x">{text}</extension>'), session)

    assert of() == [("a", "1"), ("c", "$1")], "a condition that fails ends the extension, its anti-actions run"
    assert of(second=' break="never"') == [("a", "1"), ("c", "$1"), ("d", "")]
    assert of(first=' break="on-true"') == [("a", "1")]
    assert of(first=' break="always"') == [("a", "1")]


def _fresh(tmp_path: Path) -> str:
    name = f"p{len(list(tmp_path.iterdir()))}"
    (tmp_path / name).mkdir()
    return name


def test_continue_groups_and_a_hunt_without_result(tmp_path: Path, session: Session) -> None:
    text = (
        '<extension name="marks" continue="true"><condition field="destination_number" expression="^(80)(\\d+)$">'
        '<action application="set" inline="true" data="exo_a=$2-${expr(1+1)}"/></condition></extension>'
        '<extension name="first"><condition field="${exo_a}/$${hostname}" expression="^30752400-2/(.+)$">'
        '<action application="one" data="$1 ${exo_a}"/></condition></extension>'
        '<extension name="second"><condition><action application="two"/></condition></extension>'
    )
    assert actions(plan(tmp_path, text), session) == [("one", "embedded ${exo_a}")]
    assert session.channel.variables["exo_a"] == "30752400-2", "inline actions run while the hunt goes on"
    nothing = plan(tmp_path / _fresh(tmp_path), '<extension name="no"><condition field="rdnis" expression="."/></extension>')
    assert actions(nothing, session) is None


@pytest.mark.parametrize(("rule", "met"), [("all", False), ("any", True), ("xor", True)])
def test_several_expressions_in_one_condition(tmp_path: Path, session: Session, rule: str, met: bool) -> None:
    text = f'<extension name="x"><condition regex="{rule}"><regex field="rdnis" expression="^1"/>'
    text += '<regex field="destination_number" expression="^80"/><action application="yes"/><anti-action application="no"/>'
    found = actions(plan(tmp_path, text + "</condition></extension>"), session)
    assert found == [("yes" if met else "no", "")]


def test_nested_conditions(tmp_path: Path, session: Session) -> None:
    inner = '<condition field="context" expression="from-pri"><action application="inner"/></condition>'
    text = f'<extension name="x"><condition field="destination_number" expression="^80">{inner}</condition></extension>'
    assert actions(plan(tmp_path, text), session) == [("inner", "")]


def test_what_cannot_run_while_the_hunt_goes_on_is_passed_over_and_counted(tmp_path: Path, session: Session) -> None:
    text = '<extension name="x"><condition><action application="answer" inline="true"/><action application="a"/></condition>'
    text += "</extension>"
    assert actions(plan(tmp_path, text), session) == [("a", "")]
    assert (codes(session.switch), session.channel.answered) == (["inline"], False)


def test_what_it_does_not_know_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DialplanError, match="mweek"):
        plan(tmp_path, '<extension name="x"><condition mweek="2-6"><action application="a"/></condition></extension>')
    with pytest.raises(DialplanError, match="no XML"):
        plan(tmp_path / _fresh(tmp_path), "<extension>")
    with pytest.raises(DialplanError, match="cannot be read"):
        Dialplan(tmp_path / "gone.xml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${expr(${exo_n}+1)}", "8"),
        ("${expr((1795414766605373-1795414766600000)/1000)}", "5.373"),
        ("${expr(1/0)}", "ERR"),
        ("${cond(${exo_n} < 100 ? few : many)}", "few"),
        ("${cond(${expr(${exo_n}*100)} < 100 ? few : many)}", "many"),
        ("${cond('a' == 'b' ? same)}", ""),
        ("${file_exists(/nowhere)}", "false"),
        ("${exo_${exo_which}}", "7"),
        ("${exo_n}/${gone}/${destination_number}", "7//8030752400"),
        ("${exo_list[1]}", "b"),
        ("${destination_number:3}", "0752400"),
        ("a ${ unclosed", "a ${ unclosed"),
        ("\\${exo_n}", "${exo_n}"),
    ],
)
def test_expansion(session: Session, text: str, value: str) -> None:
    session.channel.variables |= {"exo_n": "7", "exo_which": "n", "exo_list": "ARRAY::a|:b"}
    assert expand(session, text) == value
    assert session.switch.violations == []


def test_a_function_in_a_variables_value_and_one_that_does_something_are_counted(session: Session) -> None:
    session.channel.variables["crm"] = "${expr(1+1)}"
    assert expand(session, "${crm}") == "<RAN expr(1+1)>"
    assert expand(session, "${system(id)}") == "<RAN system(id)>"
    assert codes(session.switch) == ["api_expansion", "api_expansion"]


def test_a_drained_box_refuses_new_calls() -> None:
    with running() as (switch, _):
        switch.globals["exoflow_drain"] = "true"
        phone = switch.call(TO, FROM)
        assert phone.wait(WAIT)
        assert phone.session is not None
        assert (phone.cause, phone.session.channel.variables["exo_refused"]) == ("NORMAL_TEMPORARY_FAILURE", "drain")


def test_what_is_no_number_is_unallocated() -> None:
    with running() as (switch, _):
        phone = switch.call("7", FROM)
        assert phone.wait(WAIT)
        assert phone.session is not None
        assert (phone.cause, phone.session.channel.variables["exo_refused"]) == ("UNALLOCATED_NUMBER", "number")


NAMES = ("died", "lease", "guard", "round", "fallback", "announcement", "record", "again_62efa520d8259b42bc490ac5")


@pytest.mark.parametrize("name", [*(f"exoflow_{name}" for name in NAMES), "EXOFLOW_LEASE", "frontdesk", "+", ";npdi"])
def test_no_name_of_the_dialplans_own_can_be_dialled(name: str) -> None:
    """Whatever the exchange sends: no app is asked, and no other application runs."""
    with running() as (switch, _):
        phone = switch.call(name, FROM)
        assert phone.wait(WAIT)
        assert phone.session is not None
        assert (phone.cause, phone.session.channel.variables["exo_refused"]) == ("UNALLOCATED_NUMBER", "number")
        assert phone.session.channel.variables["exo_trunk"] == "PRI1"
        assert [name for name, _, _ in phone.session.ran if name not in ("set", "hangup")] == []
        assert phone.answered_at is None


def test_the_dialplan_knows_its_own_names() -> None:
    """A name that is new here belongs to NAMES."""
    text = "".join(path.read_text() for path in (PROJECT / "dialplan" / "from-pri").glob("*.xml"))
    found = set(re.findall(r'(?:expression="\^|data=")exoflow_([a-z]+)(?:\$| XML|_")', text))
    found |= {name for some in re.findall(r"exoflow_\(\?:([a-z|]+)\)", text) for name in some.split("|")}
    assert found <= {name.partition("_")[0] for name in NAMES}, found


def test_a_transfer_takes_a_forward_and_without_any_the_call_ends() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        assert wire.run("set", "max_forwards=1").get("variable_max_forwards") == "1"
        wire.start("transfer", "exoflow_fallback XML from-pri")
        assert phone.wait(WAIT)
        assert phone.cause == "EXCHANGE_ROUTING_ERROR"


def test_a_lease_that_runs_out_gives_the_call_to_an_app_anew() -> None:
    """The frozen app's socket stays open; its place in the trunk, its variables and its digits stay the call's own."""
    with running(most_calls=1) as (switch, app):
        phone = switch.call(TO, FROM)
        frozen = app.call()
        frozen.run("multiset", "^^;exo_call=abc;exo_typed=4")
        frozen.start("sched_transfer", "+0.1 exoflow_lease XML from-pri")
        frozen.start("playback", "tone_stream://%(1000,0,600);loops=-1")
        first = app.call(greet=False)
        given = app.greet(first)
        assert [given.get(f"variable_exo_{name}") for name in ("entry", "end", "lapses", "call", "typed", "did")] == [
            "2", "lease", "1", "abc", "4", "8030752400",
        ]  # fmt: skip
        assert (given.get("Caller-Destination-Number"), given.get("variable_max_forwards")) == ("8030752400", "70")
        assert switch.limits == {"exoflow_in_PRI1": 1}
        first.start("hangup", "NORMAL_CLEARING")
        assert phone.wait(WAIT)
        assert codes(switch) == []


def test_the_third_lease_is_one_too_many() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        for _ in range(3):
            app.call().start("sched_transfer", "+0.1 exoflow_lease XML from-pri")
        assert phone.wait(WAIT)
        assert phone.session is not None
        variables = phone.session.channel.variables
        assert (variables["exo_fallback"], variables["exo_lapses"]) == ("deaths", "3")


def test_a_call_that_a_late_lease_takes_from_the_fallback_is_the_apps_again() -> None:
    with running(speed=1.0) as (switch, app):
        phone = switch.call(TO, FROM)
        wire = app.call()
        wire.start("transfer", "exoflow_fallback XML from-pri")
        assert phone.session is not None
        phone.session.channel.set("exo_fallback", "guard")
        eventually(lambda: phone.texts)
        switch.channels[phone.uuid].session.transfer("exoflow_lease", "from-pri")  # type: ignore[union-attr]
        again = app.call()
        assert "variable_exo_fallback" not in again.frames[0].headers
        again.start("hangup", "NORMAL_CLEARING")
        assert phone.wait(WAIT)
        assert "exo_fallback" not in phone.session.channel.variables


def test_a_call_is_admitted_once() -> None:
    with running() as (switch, app):
        phone = switch.call(TO, FROM)
        app.call().start("hangup", "NORMAL_CLEARING")
        assert phone.wait(WAIT)
        assert phone.session is not None
        assert [name for name, _, _ in phone.session.ran].count("limit") == 1


def test_the_fallback_of_a_number_comes_first(tmp_path: Path) -> None:
    """A file in fallback/, as an installation has it; the rest is the project's own."""
    copy = tmp_path / "dialplan"
    subprocess.run(["cp", "-r", str(PROJECT / "dialplan"), str(copy)], check=True)
    (copy / "fallback" / "acme.xml").write_text(
        '<include>\n<extension name="acme">'
        '<condition field="destination_number" expression="^exoflow_fallback$"/>'
        '<condition field="${exo_trunk}/${exo_did}" expression="^PRI1/8030752400$">'
        '<action application="answer"/><action application="playback" data="tone_stream://%(500,0,777)"/>'
        '<action application="hangup" data="NORMAL_CLEARING"/></condition></extension>\n</include>\n'
    )
    with running(guard_seconds=0.1) as (switch, app):
        switch.dialplan = Dialplan(copy / f"{CONTEXT}.xml")
        mine, other = switch.call(TO, FROM), switch.call("+918030752401", FROM)
        for _ in (mine, other):
            app.call(greet=False)
        assert mine.wait(WAIT)
        assert other.wait(WAIT)
        assert mine.texts == ["tone %(500,0,777)"]
        assert "loops=2" in other.texts[0]


def test_reloadxml_reads_the_files_again_and_keeps_what_it_had_when_they_are_broken(tmp_path: Path) -> None:
    copy = tmp_path / "dialplan"
    subprocess.run(["cp", "-r", str(PROJECT / "dialplan"), str(copy)], check=True)
    with running() as (switch, _):
        switch.dialplan = Dialplan(copy / f"{CONTEXT}.xml")
        link = event_socket(switch.event_socket_address)
        unknown = copy / "from-pri" / "15-numbers.xml"
        unknown.write_text(unknown.read_text().replace("UNALLOCATED_NUMBER", "INVALID_NUMBER_FORMAT"))
        assert link.api("reloadxml") == "+OK [Success]\n"
        unknown.write_text("<extension>")
        assert link.api("reloadxml").startswith("-ERR [")
        phone = switch.call("7", FROM)
        assert phone.wait(WAIT)
        assert phone.cause == "INVALID_NUMBER_FORMAT"
