"""`exoflow serve`: answers calls until it is told to stop."""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from gevent.event import Event

    from exoflow.config.model import Config
    from exoflow.serve import Service
    from exoflow.supervision import Supervisor

log = logging.getLogger("exoflow")

TAKEN = (
    "cannot listen on {0}: another process does. `ss -ltnp 'sport = :{1}'` shows which. An exoflow that systemd runs is "
    "stopped by `systemctl stop exoflow.socket exoflow.service`; any other program needs another port, or give exoflow "
    "another `switch.listen`, and FreeSWITCH the same in vars.xml (exoflow_hosts)"
)


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), default=Path("exoflow.yaml"), show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Also log what is normal: each call that arrives and ends, reloads.")
def serve(path: Path, verbose: bool) -> None:
    """Answer calls: FreeSWITCH's `socket` application connects to us.

    SIGTERM and SIGINT end it: the dialplan hands the calls over to the next process. SIGHUP has it read its configuration
    again; one with errors is refused, and the present one stays.
    """
    gc.disable()  # what is imported and configured stays: looking through it again and again costs a tenth of the start
    from gevent import monkey

    monkey.patch_all()
    import gevent
    from gevent.event import Event

    from exoflow.commands.loading import loaded
    from exoflow.errors import ExoflowError
    from exoflow.memory import GivingBack
    from exoflow.serve import Service
    from exoflow.supervision import Supervisor

    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a migration is told by the store, in its own words
    stop, again = Event(), Event()
    gevent.signal_handler(signal.SIGTERM, stop.set)
    gevent.signal_handler(signal.SIGINT, stop.set)
    gevent.signal_handler(signal.SIGHUP, again.set)
    supervisor = Supervisor()
    config = loaded(path)
    try:
        service = Service(config, listener=supervisor.listener())
        service.start()
    except ExoflowError as error:
        raise click.ClickException(f"cannot start: {error}") from error
    except OSError as error:
        raise click.ClickException(_why(config, error)) from error
    supervisor.ready(_status(service))
    gc.freeze()
    gc.enable()
    click.echo(f"exoflow {_status(service)}")
    if supervisor.listener() is not None and service.address[1] != config.switch.listen_address.port != 0:
        log.warning("systemd listens on %s:%d and not on switch.listen: correct exoflow.socket", *service.address)
    gevent.spawn(_reload, service, supervisor, again)
    gevent.spawn(GivingBack(lambda: len(service.book.live)).run)
    if not service.lines.up:
        click.echo(f"event socket not connected yet, trying on: {service.lines.problem}", err=True)
    stop.wait()
    supervisor.stopping()
    service.stop()
    _leave()


def _reload(service: Service, supervisor: Supervisor, again: Event) -> None:
    """Once for all SIGHUPs that came before it began."""
    while True:
        again.wait()
        again.clear()
        supervisor.reloading()
        try:
            service.reload()
        except Exception:
            log.exception("the configuration could not be read again; the present one stays")
        supervisor.ready(_status(service))


def _status(service: Service) -> str:
    (host, port), config = service.address, service.config
    status = f"waits for calls on {host}:{port}; {len(config.accounts)} accounts, {len(config.trunks)} trunks"
    return f"{status}; the last reload was refused: {service.reload_problem}" if service.reload_problem else status


def _why(config: Config, error: OSError) -> str:
    listen, port = config.switch.listen, config.switch.listen_address.port
    if error.filename is not None:
        return f"cannot start: {error.filename}: {error.strerror}; exoflow's user must be able to use it"
    if error.errno == errno.EADDRINUSE:
        return TAKEN.format(listen, port)
    if error.errno == errno.EACCES:
        return f"cannot listen on {listen}: this user may not; give `switch.listen` a port from 1024 on"
    # EINVAL: an IPv6 address that holds on one link only (fe80::…) names no interface
    if error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL) or isinstance(error, socket.gaierror):
        reason = "no interface of this machine has that address (`ip address` shows them)"
        if isinstance(error, socket.gaierror):
            reason = "that host has no address"
        return f"cannot listen on {listen}: {reason}; write `switch.listen` as 127.0.0.1:{port}"
    return f"cannot start: {error}"


def _leave() -> NoReturn:
    """All is written and closed: nothing that still runs in a thread (a slow look-up of a name) may hold the next start up."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
