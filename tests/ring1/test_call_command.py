"""`exoflow call` with somebody at the terminal: each line is typed when the command has shown what it answers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from click.testing import CliRunner

from exoflow.commands.call import call
from exoflow.sim.rehearsal import write_demo
from exoflow.sim.scenarios import NUMBER

SECONDS = 60  # for one run of the command; it takes two
ASKED = "is asked for a key"


class Terminal:
    """One run of the command; `until` reads what it shows."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [
            sys.executable,
            "-c",
            "from exoflow.cli import main; main()",
            "call",
            "--to",
            NUMBER,
            "--from",
            "+919811111111",
        ]
        self.process = subprocess.Popen(
            [*command, "-c", str(write_demo(folder)), "--speed", "5", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.shown = ""

    def until(self, text: str) -> str:
        """The next line with this text in it."""
        assert self.process.stdout is not None
        with gevent.Timeout(SECONDS):
            for line in self.process.stdout:
                self.shown += line
                if text in line:
                    return line
        raise AssertionError(f"{text!r} was never shown:\n{self.shown}")

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def rest(self) -> str:
        """All that is shown, when the command has ended well."""
        assert self.process.stdout is not None
        with gevent.Timeout(SECONDS):
            self.shown += self.process.stdout.read()
            assert self.process.wait() == 0, self.shown
        return self.shown

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[list[Terminal]]:
    started: list[Terminal] = []
    yield started
    for terminal in started:
        terminal.close()


def start(terminals: list[Terminal], folder: Path, *options: str) -> Terminal:
    terminals.append(Terminal(folder, *options))
    return terminals[-1]


def test_typed_keys_lead_to_an_agent_and_the_times_are_told(terminals: list[Terminal], tmp_path: Path) -> None:
    terminal = start(terminals, tmp_path, "--talk", "3")
    terminal.until(ASKED)
    terminal.type("2")
    terminal.until("Asha talks")
    shown = terminal.rest()
    assert "presses 2" in shown
    assert "ring after" in shown
    talk = float(shown.partition(", talk ")[2].partition(" s")[0])
    assert 2.5 < talk < 6, shown


@pytest.mark.parametrize("how", ["h", "end of input", "ctrl-c"])
def test_the_caller_hangs_up_and_the_journey_is_shown(how: str, terminals: list[Terminal], tmp_path: Path) -> None:
    terminal = start(terminals, tmp_path)
    terminal.until(ASKED)
    if how == "h":
        terminal.type("h")
    elif how == "ctrl-c":
        terminal.process.send_signal(signal.SIGINT)
    else:
        assert terminal.process.stdin is not None
        terminal.process.stdin.close()
    terminal.until("ends: NORMAL_CLEARING")
    shown = terminal.rest()
    assert "Journey" in shown
    assert "abandoned" in shown
    assert "talk 0.0 s" in shown


def test_agents_phones_are_answered_and_refused_by_hand(terminals: list[Terminal], tmp_path: Path) -> None:
    """One agent is busy, the next answers, talks, and hangs up; what cannot be done is told."""
    terminal = start(terminals, tmp_path, "--agents", "hand", "--keys", "2", "--speed", "4")
    assert "a1 answers" in terminal.until("phone 1 (")
    terminal.type("e1")
    terminal.until("phone 1 has not been answered")
    terminal.type("b1")
    terminal.until("phone 2 (")
    terminal.type("a1")
    terminal.until("phone 1 does not ring")
    terminal.type("a2")
    terminal.until(" talks")
    terminal.type("a2")
    terminal.until("e2 hangs up")
    terminal.type("e2")
    terminal.until(" gone")
    shown = terminal.rest()
    assert "17 USER_BUSY" in shown
    assert "outcome        answered" in shown


@pytest.mark.parametrize(("leaves", "why"), [(True, "the caller has gone"), (False, "it has rung for long enough")])
def test_a_phone_that_stops_ringing_by_itself_is_told(
    leaves: bool, why: str, terminals: list[Terminal], tmp_path: Path
) -> None:
    """By the caller's hanging up, or by the limit of the ringing; what was refused by hand is not told again."""
    terminal = start(terminals, tmp_path, "--agents", "hand", "--keys", "2", "--speed", "4" if leaves else "20")
    terminal.until("phone 1 (")
    if leaves:
        terminal.type("b1")
        terminal.until("phone 2 (")
        terminal.type("h")
    number = 2 if leaves else 1
    assert why in terminal.until(f"phone {number} (")
    if not leaves:
        terminal.type("a1")
        terminal.until("phone 1 does not ring")
    assert terminal.rest().count("stops ringing") == (1 if leaves else 2)


def test_several_callers_have_their_own_lines_and_keys(terminals: list[Terminal], tmp_path: Path) -> None:
    terminal = start(terminals, tmp_path, "--calls", "2", "--speed", "4")
    waiting = {terminal.until(ASKED)[:2] for _ in range(2)}
    assert waiting == {"1:", "2:"}
    terminal.type("1")
    terminal.until("which call?")
    terminal.type("2:2")
    assert terminal.until("presses 2").startswith("2:")
    terminal.type("1:h")
    assert terminal.until("ends: NORMAL_CLEARING").startswith("1:")
    terminal.type("what")
    terminal.until("'what' is not understood")
    terminal.type("7:1")
    terminal.until("there is no call 7")
    shown = terminal.rest()
    assert "1: +919811111111 calls" in shown
    assert "2: +919811111112 calls" in shown
    assert shown.count("Journey") == 2
    assert "abandoned" in shown
    assert "outcome        answered" in shown


def test_callers_in_turn_with_the_same_keys(terminals: list[Terminal], tmp_path: Path) -> None:
    shown = start(terminals, tmp_path, "--calls", "2", "--in-turn", "--keys", "2", "--talk", "1", "--speed", "20").rest()
    assert shown.index("1:  ") < shown.index("2: +919811111112 calls")
    assert shown.index("ends:") < shown.index("2: +919811111112 calls")
    assert shown.count("presses 2") == 2


def test_the_help_tells_what_can_be_typed() -> None:
    shown = CliRunner().invoke(call, ["--help"]).output
    for line in ("2:12#", "the caller hangs up", "a1 ", "b1, r1", "e1 ", "Ctrl-C"):
        assert line in shown, shown


def test_who_reads_no_longer_ends_the_command(terminals: list[Terminal], tmp_path: Path) -> None:
    terminal = start(terminals, tmp_path)
    assert terminal.process.stdout is not None
    terminal.process.stdout.readline()
    terminal.process.stdout.close()
    terminals.remove(terminal)  # there is nothing left to read at its end
    try:
        assert terminal.process.wait(SECONDS) == 1
    finally:
        terminal.process.kill()


@pytest.mark.parametrize("keys", ["1x", "1 2"])
def test_what_no_phone_has_is_refused(keys: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(call, ["--to", NUMBER, "--from", "+919811111111", "--keys", keys])
    assert result.exit_code == 2
    assert "0 to 9, * and #" in result.output


def test_where_nobody_types_the_cure_is_told(terminals: list[Terminal], tmp_path: Path) -> None:
    terminal = start(terminals, tmp_path)
    assert terminal.process.stdin is not None
    terminal.process.stdin.close()
    terminal.until("write --keys")
