"""A configuration's hash, and the same configuration again from its kept texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from exoflow.config.load import load, load_kept
from exoflow.config.model import Config

MAIN = """\
switch: {event_socket: {password_file: esl.password}}
trunks: {PRI1: {span: PRI1, std_code: "80"}}
accounts: %s
"""
ACCOUNT = """\
name: Acme
numbers: [{number: "+918030752400", trunk: PRI1, flow: main}]
deliveries: {url: "https://crm.example/calls", secret: "${ACME}"}
flows: {main: {start: bye, steps: {bye: {hangup: {}}}}}
"""
ENVIRON = {"ACME": "whsec_" + "ab" * 20}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _written(tmp_path / "one")


def _written(folder: Path, accounts: str = "accounts/*.yaml") -> Path:
    (folder / "accounts").mkdir(parents=True)
    (folder / "exoflow.yaml").write_text(MAIN % accounts)
    (folder / "accounts" / "acme.yaml").write_text(ACCOUNT)
    (folder / "esl.password").write_text("first-password")
    return folder


def _loaded(folder: Path) -> Config:
    found = load(folder / "exoflow.yaml", ENVIRON)
    assert found.config is not None, [str(finding) for finding in found.errors]
    return found.config


def test_equal_files_have_equal_hashes_wherever_they_are(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = _loaded(folder).kept
    assert len(here.hash) == 64
    assert here.main == "exoflow.yaml"
    assert list(here.files) == ["exoflow.yaml", "accounts/acme.yaml"]
    assert _loaded(_written(tmp_path / "other")).kept == here
    monkeypatch.chdir(folder)
    assert _loaded(Path("")).kept == here


def _change_a_text(folder: Path) -> None:
    (folder / "accounts/acme.yaml").write_text(ACCOUNT.replace("Acme", "Acne"))


def _rename_an_account(folder: Path) -> None:
    (folder / "accounts/acme.yaml").rename(folder / "accounts/acne.yaml")


def _move_a_line_to_the_other_file(folder: Path) -> None:
    (folder / "exoflow.yaml").write_text(MAIN % "accounts/*.yaml" + "#\n")


@pytest.mark.parametrize("change", [_change_a_text, _rename_an_account, _move_a_line_to_the_other_file])
def test_every_change_of_a_file_changes_the_hash(folder: Path, change: Callable[[Path], None]) -> None:
    before = _loaded(folder).kept.hash
    change(folder)
    assert _loaded(folder).kept.hash != before


def test_secrets_of_files_and_environment_are_not_kept(folder: Path) -> None:
    kept = _loaded(folder).kept
    assert "first-password" not in str(kept.files)
    assert ENVIRON["ACME"] not in str(kept.files)
    (folder / "esl.password").write_text("second-password")
    assert _loaded(folder).kept == kept


def test_it_is_the_same_again_from_its_texts_after_the_files_have_gone(folder: Path) -> None:
    first = _loaded(folder)
    (folder / "accounts/acme.yaml").unlink()
    (folder / "exoflow.yaml").write_text("trunks: {}")
    again = load_kept(first.kept.files, first.base, ENVIRON).config
    assert again == first
    assert again is not None
    assert again.switch.event_socket.password_text() == "first-password"
    assert again.accounts["acme"].deliveries == first.accounts["acme"].deliveries


def test_accounts_outside_the_folder_are_kept_too(tmp_path: Path) -> None:
    folder = _written(tmp_path / "one", accounts="../elsewhere/*.yaml")
    (tmp_path / "elsewhere").mkdir()
    (folder / "accounts/acme.yaml").rename(tmp_path / "elsewhere/acme.yaml")
    first = _loaded(folder)
    assert list(first.kept.files) == ["exoflow.yaml", "../elsewhere/acme.yaml"]
    assert load_kept(first.kept.files, first.base, ENVIRON).config == first


def test_what_is_missing_by_now_is_found(folder: Path) -> None:
    first = _loaded(folder)
    (folder / "esl.password").unlink()
    found = load_kept(first.kept.files, first.base, ENVIRON)
    assert found.config is None
    assert [finding.code for finding in found.errors] == ["E701"]
