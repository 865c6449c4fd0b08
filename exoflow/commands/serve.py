"""`exoflow serve`: answers calls until it is told to stop."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import click


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), default=Path("exoflow.yaml"), show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Also say what is normal.")
def serve(path: Path, verbose: bool) -> None:
    """Answer calls: FreeSWITCH's `socket` application connects to us. Stops on SIGTERM and SIGINT."""
    from gevent import monkey

    monkey.patch_all()
    import gevent
    from gevent.event import Event

    from exoflow.commands.loading import loaded
    from exoflow.errors import ExoflowError
    from exoflow.serve import Service

    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a migration is told by the store, in its own words
    config = loaded(path)
    stop = Event()
    gevent.signal_handler(signal.SIGTERM, stop.set)
    gevent.signal_handler(signal.SIGINT, stop.set)
    try:
        service = Service(config)
        service.start()
    except (ExoflowError, OSError) as error:
        raise click.ClickException(f"cannot start: {error}") from error
    host, port = service.address
    click.echo(f"exoflow waits for calls on {host}:{port}; {len(config.accounts)} accounts, {len(config.trunks)} trunks")
    if not service.lines.up:
        click.echo(f"event socket not connected yet, trying on: {service.lines.problem}", err=True)
    stop.wait()
    service.stop()
