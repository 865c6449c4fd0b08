"""What leads out of a configuration: ports, names of files and folders, time zones."""

from __future__ import annotations

from pathlib import Path

import pytest

from exoflow.config.load import load
from exoflow.linesound import wav

CLINIC = Path(__file__).parents[2] / "examples/clinic"


def found(folder: Path, main: str = "", *, account: str = "") -> list[tuple[str, int, str]]:
    """Code, line and message of the errors. `main` is put in front of a main file, `account` behind an account's."""
    (folder / "accounts").mkdir(parents=True, exist_ok=True)
    (folder / "exoflow.yaml").write_text(f"{main}\ntrunks: {{PRI1: {{span: PRI1}}}}\nprompts: {{engine: text}}\n")
    text = 'name: Clinic\nnumbers:\n  - {number: "+918030752400", trunk: PRI1, flow: main}\n'
    flow = "flows: {main: {start: bye, steps: {bye: {hangup: {}}}}}\n"
    (folder / "accounts/clinic.yaml").write_text(text + (account or flow))
    return [(one.code, one.line, one.message) for one in load(folder / "exoflow.yaml", {}).errors]


@pytest.mark.parametrize(
    "main",
    [
        "web: {listen: 127.0.0.1:65536}",
        "switch: {listen: 127.0.0.1:99999}",
        "mail: {smtp: localhost:99999, from: calls@acme.example}",
    ],
)
def test_port_above_65535_is_found_at_its_line(tmp_path, main):
    [(_, line, message)] = found(tmp_path, main)
    assert line == 1
    assert "is above 65535" in message


@pytest.mark.parametrize(
    ("main", "told"),
    [
        ("switch: {listen: 127.0.0.1:8080}\nweb: {listen: 127.0.0.1:8080}", "already switch.listen"),
        ("switch: {listen: 127.0.0.1:8080}\nweb: {listen: 0.0.0.0:8080}", "already switch.listen"),
        ("switch: {listen: '[::]:8080'}\nweb: {listen: 127.0.0.1:8080}", "already switch.listen"),
        ("switch: {listen: localhost:8080}\nweb: {listen: 127.0.0.1:8080}", "already switch.listen"),
        ("switch: {listen: 127.0.0.1:8021}", "already switch.listen"),
        ("web: {listen: 127.0.0.1:25}\nmail: {smtp: localhost:25, from: a@b.example}", "already web.listen"),
    ],
)
def test_two_on_one_port_are_found(tmp_path, main, told):
    codes = found(tmp_path, main)
    assert [code for code, _, _ in codes] == ["E808"]
    assert told in codes[0][2]


@pytest.mark.parametrize(
    "main",
    [
        "switch: {listen: 127.0.0.1:8080}\nweb: {listen: 127.0.0.2:8080}",
        "switch: {listen: 127.0.0.1:0}\nweb: {listen: 127.0.0.1:0}",
        "web: {listen: 127.0.0.1:25}\nmail: {smtp: mail.acme.example:25, from: a@b.example}",
    ],
)
def test_one_port_on_several_hosts_is_none_too_many(tmp_path, main):
    assert found(tmp_path, main) == []


@pytest.mark.parametrize("zone", ["right/Asia/Kolkata", "Factory", "posix/Asia/Kolkata", "localtime", "posixrules", "IST5"])
def test_zone_that_is_none_of_people_s_is_found(tmp_path, zone):
    flow = "flows: {main: {start: bye, steps: {bye: {hangup: {}}}}}\n"
    [(code, _, _)] = found(tmp_path, account=f"time_zone: {zone}\n{flow}")
    assert code == "E306"


@pytest.mark.parametrize("folder", ["my clinic", "clinic [new]", "क्लिनिक", "it's", "50%off$", "a!b"])
def test_folder_whose_name_freeswitch_misreads_is_found_and_its_accounts_are_read(tmp_path, folder):
    codes = found(tmp_path / folder)
    assert [code for code, _, _ in codes] == ["E610", "E610"]
    assert all("FreeSWITCH takes letters" in message for _, _, message in codes)
    good = f"switch: {{recordings: {tmp_path}/recordings}}"
    main = tmp_path / folder / "exoflow.yaml"
    main.write_text(f"{good}\ntrunks: {{PRI1: {{span: PRI1}}}}\nprompts: {{engine: text, folder: {tmp_path}/prompts}}\n")
    config = load(main, {}).config
    assert config is not None
    assert list(config.accounts) == ["clinic"]
    assert config.store == f"sqlite:///{tmp_path}/{folder}/exoflow.db"


@pytest.mark.parametrize("name", ["main menu.wav", "Welcome (final).wav", "स्वागत.wav", "a;b.wav"])
def test_sound_whose_name_freeswitch_misreads_is_found_at_its_place(tmp_path, name):
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts" / name).write_bytes(wav(bytes(1600)))
    steps = f'hello: {{greeting: {{play: "{name}"}}, next: bye}}\n      bye: {{hangup: {{}}}}\n'
    account = f"flows:\n  main:\n    start: hello\n    steps:\n      {steps}"
    codes = found(tmp_path, account=account)
    assert ("E610", 8) in [(code, line) for code, line, _ in codes]
