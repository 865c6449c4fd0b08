"""`exoflow call`: telephones in the terminal. Calls a number of ours on the embedded switch and shows what the caller meets."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from exoflow.commands.terminal import Terminal
    from exoflow.config.model import Config
    from exoflow.sim.agents import AgentScript
    from exoflow.sim.phone import Phone

MAX_CALL_SECONDS = 3600.0  # of the wall clock; a flow that never ends is given up then
AGENTS = ("answer", "busy", "silent", "reject", "unreachable", "announcement", "no-channel", "hand")
MOST_CALLS = 100  # at once or in turn: more than a terminal can show


@click.command()
@click.option("--to", metavar="NUMBER", help="our number, as the caller's exchange knows it: +918030752400; not needed for one")
@click.option("--from", "from_number", required=True, metavar="NUMBER", help="the caller's number")
@click.option(
    "--keys", default=None, metavar="KEYS", help="keys for the questions in turn, `-` lets one pass; else they are typed"
)
@click.option(
    "-c", "--config", "path", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), metavar="FILE"
)
@click.option(
    "--agents",
    type=click.Choice(AGENTS),
    default="answer",
    show_default=True,
    help="what every agent's phone does; hand: waits for typed lines",
)
@click.option("--talk", default=5.0, show_default=True, type=click.FloatRange(0, 3600), help="seconds an agent talks")
@click.option(
    "--calls",
    default=1,
    show_default=True,
    type=click.IntRange(1, MOST_CALLS),
    help="so many callers at once, their numbers counting up from --from; --keys are those of each",
)
@click.option("--in-turn", is_flag=True, help="with --calls: one after the other instead")
@click.option("--at", metavar="TIME", help='the call comes at this time of the account\'s zone: "2026-11-08 20:00"')
@click.option("--real", is_flag=True, help="really send SMS, mails, pages, deliveries and status callbacks")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="keep the recordings in this folder; they have the right lengths and no sound",
)
@click.option("--withheld", is_flag=True, help="the caller hides the number")
@click.option("--diverted-from", metavar="NUMBER", help="the number that was dialled and diverted to ours")
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 1000),
    help="times the switch runs faster; the times of the journey then belong to two clocks",
)
def call(
    to: str | None,
    from_number: str,
    keys: str | None,
    path: Path,
    agents: str,
    talk: float,
    calls: int,
    in_turn: bool,
    at: str | None,
    real: bool,
    keep: Path | None,
    withheld: bool,
    diverted_from: str | None,
    speed: float,
) -> None:
    """Calls a number of the configuration and shows the call's journey.

    Flow and accounts are the real ones. What the flow needs an answer to is really asked of the CRM: passthru, connect,
    gather, sounds by URL, the question before a call-back. SMS, mails, pages, deliveries, dial events and status callbacks
    are shown and not sent, unless --real. Switch, trunk and agents are the embedded switch's; no phone rings anywhere.
    Store, prompts and recordings are in a folder that is removed afterwards, so a server that runs here is not disturbed.

    --at sets the time that the call goes by: office hours, holidays, timing, {time}, and what the CRM is told.

    Lines that can be typed while it runs:

    \b
      12#      keys that the caller presses; 2:12# those of call 2 (--calls)
      h        the caller hangs up, of several all; 2:h that of call 2
      a1       the agent at phone 1 answers (--agents hand)
      b1, r1   phone 1 is busy, or the agent rejects the call
      e1       the agent at phone 1 hangs up

    The end of input (Ctrl-D) and Ctrl-C hang up too, and the journey is still shown; a second Ctrl-C ends the command. From a
    file or pipe lines are read only without --keys or with --agents hand.
    """
    from gevent import monkey

    monkey.patch_all()
    from exoflow import clock
    from exoflow.commands.inprocess import started
    from exoflow.commands.loading import loaded
    from exoflow.commands.numbers import dialled, moment_of, plain
    from exoflow.commands.sheets import Sheets
    from exoflow.commands.terminal import Terminal

    from_number = plain(from_number)
    for name, number in (("--to", plain(to or "0")), ("--from", from_number)):
        digits = number.removeprefix("+")
        if not (digits.isascii() and digits.isdigit()):
            raise click.BadParameter(f"{number!r} is no number; write e.g. +918030752400", param_hint=name)
    if not set(keys or "") <= set("0123456789*#-"):
        raise click.BadParameter(f"{keys!r} has what no phone has; there are 0 to 9, * and #", param_hint="--keys")
    terminal = Terminal(several=calls > 1, hand=agents == "hand")
    config, script = loaded(path), _script(agents, talk, terminal)
    ours = dialled(config, to)
    if at is not None:
        clock.set_to(moment_of(at, ours.account))
    options = {"speed": speed, "agents": _named(config, script), "default_agent": script, "recordings": _kept_in(keep)}
    reading = sys.stdin.isatty() or keys is None or agents == "hand"
    with (
        tempfile.TemporaryDirectory(prefix="exoflow-call-") as scratch,
        started(config, sends=real, scratch=Path(scratch), **options) as hall,
    ):
        if at is not None:
            clock.set_to(moment_of(at, ours.account))  # again, for starting took its time
            hall.switch.clock.follow()
        terminal.begin(reading=reading, real=real)
        hall.on_entry = terminal.noted
        with terminal.attended(reading=reading):
            for turn in range(calls):
                if terminal.left:
                    break
                dialling = {"keys": keys or "", "withheld": withheld, "rdnis": diverted_from, "trunk": ours.span}
                phone = terminal.dial(hall.switch, ours.number, _counted_up(from_number, turn), **dialling)
                if in_turn:
                    _ended(phone)
            for one in terminal.callers:
                if one.phone is not None:
                    _ended(one.phone)
        sheets = Sheets(hall, real=real, kept=keep is not None)
        missed = [complaint for one in terminal.callers if (complaint := sheets.show(one))]
        for violation in hall.switch.violations:
            click.echo(f"the switch complains: {violation}", err=True)
        if missed and terminal.left:
            missed.append("The caller hung up first, as at the end of input: where nobody types, write --keys")
        if missed:
            raise click.ClickException("\n".join(missed))


def _kept_in(folder: Path | None) -> Path | None:
    """The folder of `--keep`, made if it is not there. Raises click.BadParameter."""
    from exoflow.errors import UnsafeText
    from exoflow.esl import safety

    if folder is None:
        return None
    try:
        folder = folder.absolute()
        safety.path(str(folder))
        folder.mkdir(parents=True, exist_ok=True)
    except (UnsafeText, OSError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else problem
        raise click.BadParameter(f"{folder} cannot hold recordings: {what}; name another folder", param_hint="--keep") from None
    return folder


def _ended(phone: Phone) -> None:
    if not phone.wait(MAX_CALL_SECONDS):
        phone.hangup()
        phone.wait(1.0)


def _counted_up(number: str, by: int) -> str:
    """`+919811111111` and 1 give `+919811111112`."""
    digits = number.removeprefix("+")
    return number[: len(number) - len(digits)] + str(int(digits) + by).zfill(len(digits))


def _named(config: Config, script: AgentScript) -> dict[str, AgentScript]:
    """The script for each agent of the accounts, under the agent's name."""
    agents = [(key, agent) for account in config.accounts.values() for key, agent in account.agents.items()]
    return {agent.number: script.called(agent.name or key) for key, agent in agents}


def _script(name: str, talk: float, terminal: Terminal) -> AgentScript:
    from exoflow.sim.agents import AgentScript

    return {
        "answer": AgentScript.answers(2.0, talk),
        "busy": AgentScript.busy(),
        "silent": AgentScript.silent(),
        "reject": AgentScript.rejects(),
        "unreachable": AgentScript.unreachable(),
        "announcement": AgentScript.announcement(),
        "no-channel": AgentScript.without_channel(),
        "hand": AgentScript.by_hand(terminal.rings),
    }[name]
