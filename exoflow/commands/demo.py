"""`exoflow demo`: the server, a PRI of 30 channels, a CRM, agents and callers, in one process; each journey as it happens."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from exoflow.calls.model import CallState, Entry
    from exoflow.commands.inprocess import Hall
    from exoflow.sim.crm import DemoCrm
    from exoflow.sim.scenarios import Scenario

PAUSE_SECONDS = 5.0  # between two calls, of the wall clock: a few calls a minute
MAX_CALL_SECONDS = 300.0


@click.command()
@click.option("--calls", type=click.IntRange(min=1), help="end after so many calls; exit code 0 when all went as scripted")
@click.option(
    "--folder",
    default="exoflow-demo",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="its configuration, store and recordings; made if it is not there, kept afterwards",
)
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 1000),
    help="times the switch runs faster; the times of the journey then belong to two clocks",
)
@click.option("--from-call", default=1, type=click.IntRange(min=1), help="begin with this one of the scripted calls")
def demo(calls: int | None, folder: Path, speed: float, from_call: int) -> None:
    """Shows exoflow at work without FreeSWITCH: scripted callers, and each call's journey as it happens."""
    from gevent import monkey

    monkey.patch_all()
    from exoflow.commands.inprocess import started
    from exoflow.commands.loading import loaded
    from exoflow.sim.crm import DemoCrm
    from exoflow.sim.rehearsal import crm_port, write_demo

    try:
        main = write_demo(folder)
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error.strerror}; name another with --folder") from error
    config = loaded(main)
    port = crm_port(config)
    secret = next((a.deliveries.secret_text() for a in config.accounts.values() if a.deliveries), None)
    crm = DemoCrm(agents=["+919876543210", "+919876543211"], secret=secret or "", port=port)
    try:
        crm.start()
    except OSError as error:
        message = f"port {port}, which the demo's CRM has in {folder}/accounts/acme.yaml, is taken; is another demo running?"
        raise click.ClickException(message) from error
    try:
        with started(config, speed=speed) as hall:
            click.echo(
                f"A PRI of 30 channels, a CRM at {crm.url('/')}, two agents. Configuration, store and recordings: {folder}/"
            )
            good = _run(hall, crm, calls, from_call)
    except KeyboardInterrupt:
        good = True
    finally:
        crm.stop()
    _what_next(main)
    sys.exit(0 if good else 1)


def _run(hall: Hall, crm: DemoCrm, calls: int | None, from_call: int) -> bool:
    """The calls one after the other. True when all of them went as scripted."""
    import gevent

    from exoflow.sim.scenarios import SCENARIOS

    good = True
    for number in count(1) if calls is None else range(1, calls + 1):
        scenario = SCENARIOS[(from_call + number - 2) % len(SCENARIOS)]
        good = _one(hall, crm, number, scenario) and good
        if calls is None:
            gevent.sleep(PAUSE_SECONDS)
    for violation in hall.switch.violations:
        click.echo(f"the switch complains: {violation}", err=True)
    return good and not hall.switch.violations


def _one(hall: Hall, crm: DemoCrm, number: int, scenario: Scenario) -> bool:
    from exoflow.calls.show import journey_line
    from exoflow.commands.terminal import told
    from exoflow.sim.scenarios import NUMBER

    def entry(state: CallState, entry: Entry) -> None:
        # without its evidence, such as whole URLs: `exoflow calls ID` shows that
        click.echo(journey_line(replace(entry, evidence={}), hall.zone(state)))

    def notice(kind: str, text: str) -> None:
        if kind != "asked":
            click.echo(f"      phone: {told(kind, text)}")
        if kind == "hears" and scenario.hangs_up_at and text.startswith(scenario.hangs_up_at):
            phone.hangup()

    click.echo(f"\nCall {number}: {scenario.title}")
    hall.on_entry = entry
    hall.switch.set_agents(scenario.agents)
    for path in ("/passthru", "/connect"):
        crm.script(path, *([scenario.crm[path]] if path in scenario.crm else []))
    had = len(crm.deliveries)
    phone = hall.switch.call(
        NUMBER, scenario.caller, keys=scenario.keys, withheld=scenario.withheld, speaks=3.0, on_event=notice
    )
    if not phone.wait(MAX_CALL_SECONDS):
        phone.hangup()
    state = hall.state(phone)
    if state is None:
        click.echo(f"  NOT as scripted: exoflow never had this call, it ended with {phone.cause}", err=True)
        return False
    return _judged(hall, crm, state, scenario, had)


def _judged(hall: Hall, crm: DemoCrm, state: CallState, scenario: Scenario, had: int) -> bool:
    """Did the call end as scripted, and did its data reach the CRM, signed?"""
    crm.wait_for_deliveries(had + 1, 10.0)
    arrived = [d for d in crm.deliveries[had:] if d.signed and d.event["data"]["call"] == state.facts.id]
    told_crm = f"{arrived[0].event['type']} delivered and its signature is right" if arrived else "NO delivery came to the CRM"
    if state.outcome == scenario.outcome and arrived:
        click.echo(f"  as scripted: {state.outcome}; {told_crm}; call {state.facts.id[:8]}")
        return True
    click.echo(
        f"  NOT as scripted: {state.outcome} instead of {scenario.outcome}; {told_crm}; call {state.facts.id[:8]}", err=True
    )
    return False


def _what_next(main: Path) -> None:
    from exoflow.commands.again import program
    from exoflow.sim.scenarios import NUMBER

    us = program()
    lines = (
        ("the calls and why they ended so; with an id, one of them whole", f"{us} calls -c {main}"),
        ("the flow these callers met: change it", f"{main.parent}/accounts/acme.yaml"),
        ("is it still good?", f"{us} check -c {main}"),
        ("meet it yourself; keys are typed", f"{us} call -c {main} --to {NUMBER} --from +919811100001"),
    )
    click.echo("\nLook next:")
    for what, line in lines:
        click.echo(f"  {what}\n      {line}")
