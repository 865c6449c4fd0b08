"""`exoflow call`: a phone in the terminal. Calls one of our numbers on the embedded switch and shows what the caller meets."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from exoflow.config.model import Config
    from exoflow.sim.agents import AgentScript
    from exoflow.sim.phone import Phone
    from exoflow.sim.switch import EmbeddedSwitch

MAX_CALL_SECONDS = 3600.0  # of the wall clock; a flow that never ends is given up then
AGENTS = ("answer", "busy", "silent", "reject", "unreachable", "announcement", "no-channel")


@click.command()
@click.option("--to", required=True, metavar="NUMBER", help="our number, as the caller's exchange knows it: +918030752400")
@click.option("--from", "from_number", required=True, metavar="NUMBER", help="the caller's number")
@click.option(
    "--keys", default=None, metavar="KEYS", help="keys for the questions in turn, `-` lets one pass; else they are typed"
)
@click.option(
    "-c", "--config", "path", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), metavar="FILE"
)
@click.option("--agents", type=click.Choice(AGENTS), default="answer", show_default=True, help="what every agent's phone does")
@click.option("--talk", default=5.0, show_default=True, type=click.FloatRange(0, 3600), help="seconds an agent talks")
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
    withheld: bool,
    diverted_from: str | None,
    speed: float,
) -> None:
    """Calls a number of the configuration and shows the call's journey.

    Flow, accounts and CRM are the real ones: the CRM is asked, and gets the call's data. Switch, trunk and agents are the
    embedded switch's; no phone rings anywhere. Store, prompts and recordings are in a folder that is removed afterwards, so a
    server that runs here is not disturbed. While a question waits, typed keys are pressed; `h` hangs up.
    """
    from gevent import monkey

    monkey.patch_all()
    from exoflow.calls.show import call_sheet
    from exoflow.commands.inprocess import started
    from exoflow.commands.loading import loaded
    from exoflow.sim.switch import exchange_digits

    for name, number in (("--to", to), ("--from", from_number)):
        if not exchange_digits(number).isascii() or not exchange_digits(number).isdigit():
            raise click.BadParameter(f"{number!r} is no number; write e.g. +918030752400", param_hint=name)
    config, script = loaded(path), _script(agents, talk)
    with (
        tempfile.TemporaryDirectory(prefix="exoflow-call-") as scratch,
        started(config, speed=speed, agents=_named(config, script), default_agent=script, scratch=Path(scratch)) as hall,
    ):
        click.echo(f"{from_number} calls {to}")
        phone = _dial(hall.switch, to, from_number, keys, withheld, diverted_from)
        if not phone.wait(MAX_CALL_SECONDS):
            phone.hangup()
            phone.wait(1.0)
        state = hall.state(phone)
        if state is None:
            raise click.ClickException(f"exoflow never had this call; it ended with {phone.cause}")
        deliveries = hall.deliveries(state)
        click.echo("")
        click.echo(call_sheet(state, hall.zone(state), account_name=hall.account_name(state), deliveries=deliveries))
        for violation in hall.switch.violations:
            click.echo(f"the switch complains: {violation}", err=True)


def _dial(
    switch: EmbeddedSwitch, to: str, from_number: str, keys: str | None, withheld: bool, diverted_from: str | None
) -> Phone:
    import gevent

    def show(kind: str, text: str) -> None:
        line = told(kind, text)
        if line:
            click.echo(f"  {switch.clock.elapsed() - begun:6.1f} s  {line}")

    begun = switch.clock.elapsed()
    phone = switch.call(to, from_number, keys=keys or "", withheld=withheld, rdnis=diverted_from, on_event=show)
    if keys is None and sys.stdin.isatty():
        gevent.spawn(_typed, phone)
    return phone


def told(kind: str, text: str) -> str:
    """What the phone's owner notices, as a line; empty for what is not shown."""
    if kind == "hears":
        return "hears  " + (f'"{text}"' if not text.startswith(("tone", "silence", "ringback", "hold music")) else f"[{text}]")
    if kind == "asked":
        return "is asked for a key" if text == "1" else f"is asked for up to {text} keys"
    return {"ringing": "rings", "answered": "is answered", "key": f"presses {text}", "agent": text, "ended": f"ends: {text}"}[
        kind
    ]


def _typed(phone: Phone) -> None:
    """Keys from the terminal, line by line, until the call ends."""
    from gevent import select

    while not phone.wait(0):
        ready, _, _ = select.select([sys.stdin], [], [], 0.5)
        if not ready:
            continue
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip().lower() in ("h", "hangup"):
            phone.hangup()
            return
        phone.press("".join(char for char in line if char in "0123456789*#"))


def _named(config: Config, script: AgentScript) -> dict[str, AgentScript]:
    """The script for each agent of the accounts, under the agent's name."""
    agents = [(key, agent) for account in config.accounts.values() for key, agent in account.agents.items()]
    return {agent.number: script.called(agent.name or key) for key, agent in agents}


def _script(name: str, talk: float) -> AgentScript:
    from exoflow.sim.agents import AgentScript

    return {
        "answer": AgentScript.answers(2.0, talk),
        "busy": AgentScript.busy(),
        "silent": AgentScript.silent(),
        "reject": AgentScript.rejects(),
        "unreachable": AgentScript.unreachable(),
        "announcement": AgentScript.announcement(),
        "no-channel": AgentScript.without_channel(),
    }[name]
