"""`exoflow call-backs`: who asked in a queue to be called back, since when, and what came of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from exoflow.agents.callbacks import WORDS, CallBack, since
from exoflow.calls.payload import iso
from exoflow.calls.show import clean
from exoflow.commands.calls import DEFAULT_ZONE
from exoflow.commands.loading import loaded
from exoflow.config.findings import did_you_mean
from exoflow.config.model import Account
from exoflow.errors import ExoflowError
from exoflow.store import open_reader


@click.command("call-backs")
@click.option(
    "-c", "--config", "file", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), help="the main file"
)
@click.option("--account", help="of this account only")
@click.option(
    "--days", default=7, show_default=True, type=click.IntRange(1, 366), help="besides the open ones those of so many days"
)
@click.option("-n", "--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="so many")
@click.option("--json", "as_json", is_flag=True, help="for programs; times in UTC")
def call_backs(file: Path, account: str | None, days: int, limit: int, as_json: bool) -> None:
    """List callers who asked to be called back, the newest first.

    In the order in which they are called the oldest place is the first; it is as old as the caller's in the queue was.
    """
    try:
        config = loaded(file)
        if account is not None and account not in config.accounts:
            raise click.UsageError(f"there is no account `{account}`{did_you_mean(account, config.accounts)}")
        reader = open_reader(config.store)
        try:
            asked = datetime.now(UTC) - timedelta(days=days)
            found = reader.read(lambda connection: since(connection, asked, account, limit))
        finally:
            reader.close()
    except ExoflowError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps([_data(one) for one in found], ensure_ascii=False, indent=2))
    elif not found:
        click.echo(f"Nobody waits to be called back, and nobody asked for it in the last {days} days.")
    else:
        _list(found, config.accounts)


def _list(found: list[CallBack], accounts: dict[str, Account]) -> None:
    table = [("ASKED", "ACCOUNT", "CALLER", "GROUP", "PLACE OF", "TRIES", "NOW", "WHY")]
    for one in found:
        known = accounts.get(one.account)
        zone = ZoneInfo(known.time_zone if known else DEFAULT_ZONE)
        asked, place = (at.astimezone(zone).strftime("%d %b %H:%M:%S") for at in (one.asked_at, one.since))
        now = WORDS[one.state]
        if one.state == "waiting" and one.next_at > datetime.now(UTC):
            now = f"not before {one.next_at.astimezone(zone):%d %b %H:%M}"
        why = "" if one.why == WORDS[one.state] else clean(one.why)
        table.append((asked, clean(one.account), one.caller, clean(one.team), place, str(one.tries), now, why))
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _data(one: CallBack) -> dict[str, Any]:
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in asdict(one).items()}
