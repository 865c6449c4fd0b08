"""`exoflow check` and `exoflow schema` as an engineer and an editor meet them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from bench.checking import CHECK, STEPS, write_account
from exoflow.cli import main
from exoflow.config.model import Account, Main

ROOT = Path(__file__).parents[2]


def _check(*args):
    return CliRunner().invoke(main, ["check", *map(str, args)])


def test_good_configuration_exits_0():
    result = _check("-c", ROOT / "tests/config/design/exoflow.yaml")
    assert result.exit_code == 0
    assert ": error: " not in result.stdout
    assert "no errors, 1 warning" in result.stderr


def test_errors_exit_1_and_stand_at_their_place():
    path = ROOT / "tests/config/shape_main/exoflow.yaml"
    result = _check("-c", path)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == f"{path}:1:1: error: E201 unknown key `swich`; did you mean `switch`?"


def test_json():
    result = _check("-c", ROOT / "tests/config/shape_main/exoflow.yaml", "--format", "json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["errors"] == len(told["findings"]) == 16
    assert told["findings"][0]["code"] == "E201"
    assert {"path", "line", "col", "level", "code", "message"} == set(told["findings"][0])


def test_missing_default_file_names_the_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = _check()
    assert result.exit_code == 1
    assert result.stdout == "exoflow.yaml: error: E101 there is no such file; name the main file with `-c`\n"


def test_folder_as_main_file_names_a_file_in_it(tmp_path):
    result = _check("-c", tmp_path)
    assert result.exit_code == 1
    assert result.stdout == f"{tmp_path}: error: E101 this is a folder; name a file in it, e.g. {tmp_path}/exoflow.yaml\n"


def test_account_file_as_main_file_is_one_finding_with_the_main_file(tmp_path):
    shutil.copytree(ROOT / "examples/acme", tmp_path, dirs_exist_ok=True)
    result = _check("-c", tmp_path / "accounts/acme.yaml")
    assert result.exit_code == 1
    [line] = result.stdout.splitlines()
    assert "E111 this is an account's file" in line
    assert line.endswith(f"here {tmp_path}/exoflow.yaml")


def test_main_file_among_the_accounts_is_one_finding(tmp_path):
    shutil.copytree(ROOT / "examples/acme", tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "exoflow.yaml", tmp_path / "accounts/old.yaml")
    result = _check("-c", tmp_path / "exoflow.yaml")
    [line] = [line for line in result.stdout.splitlines() if "error" in line]
    assert line.startswith(f"{tmp_path}/accounts/old.yaml: error: E111 this is a main file")


def test_accounts_pattern_that_matches_nothing_is_an_error(tmp_path):
    (tmp_path / "exoflow.yaml").write_text("trunks: {PRI1: {span: PRI1}}\naccounts: accounts/*.yml\n")
    result = _check("-c", tmp_path / "exoflow.yaml")
    assert result.exit_code == 1
    assert "exoflow.yaml:2:11: error: E903 no file matches `accounts/*.yml`" in result.stdout


def test_check_of_two_thousand_steps_finds_nothing(tmp_path):
    """How long it takes is measured by `make bench`."""
    write_account(tmp_path, STEPS)
    command = [sys.executable, *CHECK]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_of_two_thousand_steps_tells_a_thousand_mistakes(tmp_path):
    write_account(tmp_path, STEPS)
    file = tmp_path / "large.yaml"
    file.write_text(file.read_text().replace("next: s", "next: x").replace("1: s", "1: t"))
    result = _check("-c", tmp_path / "exoflow.yaml")
    assert result.exit_code == 1
    assert result.stdout.count(" E301 ") == 1000


def test_check_needs_neither_the_wire_nor_the_store():
    """What costs its start: gevent, requests and SQLAlchemy take 0.4 s."""
    code = "import sys, exoflow.commands.check, exoflow.commands.schema; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"gevent", "greenswitch", "requests", "urllib3", "sqlalchemy", "alembic"} & set(loaded)


# --- the schema ---------------------------------------------------------------------------------


def _schema(*args):
    result = CliRunner().invoke(main, ["schema", *args])
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_schema_takes_either_file():
    schema = _schema()
    assert [choice["$ref"] for choice in schema["anyOf"]] == ["#/$defs/Main", "#/$defs/Account"]
    assert set(schema["$defs"]["Main"]["properties"]) == {f.alias or n for n, f in Main.model_fields.items()}
    assert set(schema["$defs"]["Account"]["properties"]) == set(Account.model_fields)


def test_schema_of_one_file():
    assert _schema("--file", "main")["$ref"] == "#/$defs/Main"
    assert "MenuStep" not in _schema("--file", "main")["$defs"]
    assert "MenuStep" in _schema("--file", "account")["$defs"]


def test_every_reference_in_the_schema_is_there():
    schema = _schema()
    text = json.dumps(schema)
    for name in set(text.split('"#/$defs/')[1:]):
        assert name.split('"')[0] in schema["$defs"]


def test_every_key_is_documented():
    undocumented = [
        f"{name}.{key}"
        for name, definition in _schema()["$defs"].items()
        for key, value in definition.get("properties", {}).items()
        if not value.get("description")
    ]
    assert undocumented == []
