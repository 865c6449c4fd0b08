"""`exoflow calls`: the newest calls with their outcome and reason, or one call whole. Reads beside a running server."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from exoflow.calls import lookup, show
from exoflow.calls.model import CallState
from exoflow.calls.payload import call_data, iso
from exoflow.commands.again import program
from exoflow.config.load import load
from exoflow.config.model import Account
from exoflow.errors import ExoflowError
from exoflow.store import Reader, open_reader

DEFAULT_ZONE = "Asia/Kolkata"  # of calls that belong to no account


@click.command(name="calls")
@click.argument("call_id", metavar="[ID]", required=False)
@click.option(
    "-c", "--config", "file", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), help="the main file"
)
@click.option("--store", "store_url", help="read this store (sqlite:///…) without a configuration; times are then India's")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="so many calls")
@click.option("--account", help="of this account only")
@click.option("--outcome", help="with this outcome only: answered, missed, abandoned, served, voicemail, refused, lost")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def calls(
    call_id: str | None,
    file: Path,
    store_url: str | None,
    limit: int,
    account: str | None,
    outcome: str | None,
    as_json: bool,
) -> None:
    """List recent calls, or show one: ID is a call's id or its first digits."""
    accounts: dict[str, Account] = {}
    again = f"{program()} calls " + (f"-c {file}" if store_url is None else f"--store {store_url}")
    if store_url is None:
        store_url, accounts = _configured(file)
    try:
        reader = open_reader(store_url)
        try:
            if call_id is None:
                _list(reader, accounts, limit, account, outcome, as_json, again)
            else:
                _one(reader, accounts, call_id, as_json)
        finally:
            reader.close()
    except ExoflowError as error:
        raise click.ClickException(str(error)) from error


def _configured(file: Path) -> tuple[str, dict[str, Account]]:
    loaded = load(file)
    if loaded.config is None:
        for finding in loaded.findings:
            click.echo(str(finding), err=True)
        raise click.ClickException("the configuration has errors; `--store sqlite:///FILE` reads the calls without it")
    return loaded.config.store, loaded.config.accounts


def _list(
    reader: Reader,
    accounts: dict[str, Account],
    limit: int,
    account: str | None,
    outcome: str | None,
    as_json: bool,
    again: str,
) -> None:
    states = reader.read(lambda c: lookup.recent(c, limit, account=account, outcome=outcome))
    if as_json:
        _print_json([call_data(state) for state in states])
    elif not states:
        click.echo("No calls." if account or outcome else "No calls yet.")
    else:
        click.echo(show.call_list(states, lambda account_id: _zone(accounts, account_id), terminal_columns(), command=again))


def _one(reader: Reader, accounts: dict[str, Account], call_id: str, as_json: bool) -> None:
    def look(connection: Any) -> tuple[list[CallState], list[lookup.Delivery]]:
        found = lookup.by_id(connection, call_id)
        return found, lookup.deliveries_of(connection, found[0].facts.id) if len(found) == 1 else []

    found, deliveries = reader.read(look)
    if not found:
        raise click.ClickException(f"no call's id begins with {call_id!r}; `exoflow calls` lists the newest")
    if len(found) > 1:
        several = "\n".join(f"  {state.facts.id}" for state in found)
        raise click.ClickException(f"several calls' ids begin with {call_id!r}; give more of it:\n{several}")
    state = found[0]
    if as_json:
        _print_json({**call_data(state), "deliveries": [_delivery_data(delivery) for delivery in deliveries]})
        return
    account = accounts.get(state.facts.account or "")
    zone = _zone(accounts, state.facts.account)
    name = account.name if account else ""
    click.echo(show.call_sheet(state, zone, account_name=name, deliveries=deliveries, width=terminal_columns()))


def terminal_columns() -> int | None:
    """The terminal's width; None where the output goes to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _zone(accounts: dict[str, Account], account_id: str | None) -> tzinfo:
    account = accounts.get(account_id or "")
    return ZoneInfo(account.time_zone if account else DEFAULT_ZONE)


def _delivery_data(delivery: lookup.Delivery) -> dict[str, Any]:
    return {
        "webhook_id": delivery.webhook_id,
        "seq": delivery.seq,
        "type": delivery.type,
        "state": delivery.state,
        "created_at": iso(delivery.created_at),
        "next_at": iso(delivery.next_at) if delivery.state == "pending" else None,
        "delivered_at": iso(delivery.delivered_at),
        "problem": delivery.problem or None,
        "attempts": [
            {
                "at": iso(attempt.at),
                "url": attempt.url,
                "status": attempt.status,
                "ms": attempt.ms,
                "answer": attempt.answer,
                "reason": attempt.reason or None,
            }
            for attempt in delivery.attempts
        ],
    }


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, ensure_ascii=False, indent=2))
