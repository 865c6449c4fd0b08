"""`exoflow demo` and `exoflow call` as a user starts them: in a process of their own, many times faster than the clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exoflow.sim.scenarios import NUMBER, SCENARIOS

SECONDS = 60  # for one run of a command; it takes a tenth


def exoflow(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from exoflow.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, exoflow("demo", "--calls", str(len(SCENARIOS)), "--speed", "20", folder=folder)


def test_all_calls_of_the_demo_go_as_scripted(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, ran = demo
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for scenario in SCENARIOS:
        assert scenario.title in ran.stdout
    assert ran.stdout.count("its signature is right") == len(SCENARIOS)
    assert "NOT as scripted" not in ran.stdout + ran.stderr


def test_the_demo_leaves_a_configuration_and_calls_to_look_at(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = demo
    assert exoflow("check", "-c", "exoflow-demo/exoflow.yaml", folder=folder).returncode == 0
    listed = exoflow("calls", "-c", "exoflow-demo/exoflow.yaml", folder=folder)
    assert listed.stdout.count("acme") == len(SCENARIOS), listed.stdout + listed.stderr


def test_a_call_from_the_terminal_shows_what_the_caller_meets(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = demo
    arguments = ["--to", NUMBER, "--from", "+919811111111", "--keys", "2", "--speed", "20", "-c", "exoflow-demo/exoflow.yaml"]
    ran = exoflow("call", *arguments, folder=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for line in ('hears  "Welcome to Acme."', "presses 2", "Asha rings", "Asha talks", "ends: NORMAL_CLEARING", "Journey"):
        assert line in ran.stdout, ran.stdout


def test_a_number_that_is_not_ours_is_told_with_those_that_are(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = demo
    ran = exoflow(
        "call",
        "--to",
        "+918030752499",
        "--from",
        "+919811111111",
        "-c",
        "exoflow-demo/exoflow.yaml",
        "--keys",
        "-",
        folder=folder,
    )
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "'+918030752499' is no number of ours" in ran.stderr
    assert f"{NUMBER}  Acme Appliances (acme), flow main" in ran.stderr


def test_what_is_no_number_is_refused(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = demo
    ran = exoflow("call", "--to", "acme", "--from", "+919811111111", "-c", "exoflow-demo/exoflow.yaml", folder=folder)
    assert ran.returncode == 2
    assert "write e.g. +918030752400" in ran.stderr
