"""`exoflow serve`: answers calls until it is told to stop."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

from exoflow.config.model import Config

TAKEN = (
    "cannot listen on {0}: another process does. `ss -ltnp 'sport = :{1}'` shows which. An exoflow that systemd runs is "
    "stopped by `systemctl stop exoflow.socket exoflow.service`; any other program needs another port, or give exoflow "
    "another `switch.listen`, and FreeSWITCH the same in vars.xml (exoflow_hosts)"
)


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), default=Path("exoflow.yaml"), show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Also say what is normal.")
def serve(path: Path, verbose: bool) -> None:
    """Answer calls: FreeSWITCH's `socket` application connects to us. Stops on SIGTERM and SIGINT, when the calls are handed
    over to the next process by the dialplan."""
    from gevent import monkey

    monkey.patch_all()
    import gevent
    from gevent.event import Event

    from exoflow.commands.loading import loaded
    from exoflow.errors import ExoflowError
    from exoflow.serve import Service
    from exoflow.supervision import Supervisor

    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a migration is told by the store, in its own words
    stop = Event()
    gevent.signal_handler(signal.SIGTERM, stop.set)
    gevent.signal_handler(signal.SIGINT, stop.set)
    supervisor = Supervisor()
    config = loaded(path)
    try:
        service = Service(config, listener=supervisor.listener())
        service.start()
    except ExoflowError as error:
        raise click.ClickException(f"cannot start: {error}") from error
    except OSError as error:
        raise click.ClickException(_why(config, error)) from error
    supervisor.ready(said := _status(config, *service.address))
    click.echo(f"exoflow {said}")
    if not service.lines.up:
        click.echo(f"event socket not connected yet, trying on: {service.lines.problem}", err=True)
    stop.wait()
    supervisor.stopping()
    service.stop()
    _leave()


def _status(config: Config, host: str, port: int) -> str:
    return f"waits for calls on {host}:{port}; {len(config.accounts)} accounts, {len(config.trunks)} trunks"


def _why(config: Config, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return TAKEN.format(config.switch.listen, config.switch.listen_address.port)
    return f"cannot start: {error}"


def _leave() -> NoReturn:
    """All is written and closed: nothing that still runs in a thread (a slow look-up of a name) may hold the next start up."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
