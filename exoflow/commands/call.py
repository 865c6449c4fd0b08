"""`exoflow call`: telephones in the terminal. Calls a number of ours on the embedded switch and shows what the caller meets."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from exoflow.commands.inprocess import Hall
    from exoflow.commands.terminal import Caller, Terminal
    from exoflow.config.model import Config
    from exoflow.sim.agents import AgentScript
    from exoflow.sim.phone import Phone

MAX_CALL_SECONDS = 3600.0  # of the wall clock; a flow that never ends is given up then
AGENTS = ("answer", "busy", "silent", "reject", "unreachable", "announcement", "no-channel", "hand")
MOST_CALLS = 100  # at once or in turn: more than a terminal can show


@click.command()
@click.option("--to", required=True, metavar="NUMBER", help="our number, as the caller's exchange knows it: +918030752400")
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
    to: str,
    from_number: str,
    keys: str | None,
    path: Path,
    agents: str,
    talk: float,
    calls: int,
    in_turn: bool,
    withheld: bool,
    diverted_from: str | None,
    speed: float,
) -> None:
    """Calls a number of the configuration and shows the call's journey.

    Flow, accounts and CRM are the real ones: the CRM is asked, and gets the call's data. Switch, trunk and agents are the
    embedded switch's; no phone rings anywhere. Store, prompts and recordings are in a folder that is removed afterwards, so a
    server that runs here is not disturbed.

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
    from exoflow.commands.inprocess import started
    from exoflow.commands.loading import loaded
    from exoflow.commands.terminal import Terminal
    from exoflow.sim.switch import exchange_number

    for name, number in (("--to", to), ("--from", from_number)):
        digits, _ = exchange_number(number)
        if not (digits.isascii() and digits.isdigit()):
            raise click.BadParameter(f"{number!r} is no number; write e.g. +918030752400", param_hint=name)
    if not set(keys or "") <= set("0123456789*#-"):
        raise click.BadParameter(f"{keys!r} has what no phone has; there are 0 to 9, * and #", param_hint="--keys")
    terminal = Terminal(several=calls > 1)
    config, script = loaded(path), _script(agents, talk, terminal)
    reading = sys.stdin.isatty() or keys is None or agents == "hand"
    with (
        tempfile.TemporaryDirectory(prefix="exoflow-call-") as scratch,
        started(config, speed=speed, agents=_named(config, script), default_agent=script, scratch=Path(scratch)) as hall,
    ):
        with terminal.attended(reading=reading):
            for at in range(calls):
                if terminal.left:
                    break
                caller = _counted_up(from_number, at)
                phone = terminal.dial(hall.switch, to, caller, keys=keys or "", withheld=withheld, rdnis=diverted_from)
                if in_turn:
                    _ended(phone)
            for one in terminal.callers:
                if one.phone is not None:
                    _ended(one.phone)
        missed = [complaint for one in terminal.callers if (complaint := _shown(hall, one))]
        for violation in hall.switch.violations:
            click.echo(f"the switch complains: {violation}", err=True)
        if missed and terminal.left:
            missed.append("The caller hung up first, as at the end of input: where nobody types, write --keys")
        if missed:
            raise click.ClickException("\n".join(missed))


def _shown(hall: Hall, caller: Caller) -> str:
    """The sheet of a call that has ended; its complaint if exoflow never had it."""
    from exoflow.calls.show import call_sheet
    from exoflow.commands.terminal import times_of

    assert caller.phone is not None
    state = hall.state(caller.phone)
    click.echo("")
    click.echo(times_of(caller))
    if state is None:
        return f"{caller.prefix}exoflow never had this call; it ended with {caller.phone.cause}"
    deliveries = hall.deliveries(state)
    click.echo(call_sheet(state, hall.zone(state), account_name=hall.account_name(state), deliveries=deliveries))
    return ""


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
