"""`exoflow deliveries`: what the CRMs were to be told and how it went, one delivery with its attempts, and sending again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from exoflow.calls import posted
from exoflow.calls.payload import iso
from exoflow.calls.posted import Posted, Wanted
from exoflow.calls.show import clean
from exoflow.commands.again import program
from exoflow.commands.calls import DEFAULT_ZONE
from exoflow.commands.loading import loaded
from exoflow.config.model import Account
from exoflow.crm.outgoing import shown
from exoflow.crm.resend import folder_of, wish
from exoflow.errors import ExoflowError
from exoflow.store import Reader, open_reader

SEND = "send"
SHORT_ID = 12  # characters of a delivery's id in the list: `msg_` and eight digits
TAKEN_SECONDS = 4.0  # a running exoflow looks each second; its commit may take some, too
LOOK_SECONDS = 0.05
WORDS = {"leased": "being sent", "dead": "given up"}

_AGO = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class _Box:
    """The store, and how to name it again."""

    reader: Reader
    accounts: dict[str, Account]
    again: str

    def time(self, at: datetime, account: str) -> str:
        known = self.accounts.get(account)
        return at.astimezone(ZoneInfo(known.time_zone if known else DEFAULT_ZONE)).strftime("%d %b %H:%M:%S")


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID | send [ID]...]")
@click.option(
    "-c", "--config", "file", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), help="the main file"
)
@click.option("--store", "store_url", help="read this store (sqlite:///…) without a configuration; times are then India's")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="so many deliveries")
@click.option("--account", help="of this account only")
@click.option("--state", type=click.Choice(posted.STATES), help="leased: being sent now; dead: given up")
@click.option("--type", "type_", metavar="TYPE", help="of this type only, e.g. call.missed")
@click.option("--since", metavar="WHEN", help="made since then: 30m, 2h, 3d (ago), or a date, 2026-10-01")
@click.option("--json", "as_json", is_flag=True, help="for programs; times in UTC")
def deliveries(
    ids: tuple[str, ...],
    file: Path,
    store_url: str | None,
    limit: int,
    account: str | None,
    state: str | None,
    type_: str | None,
    since: str | None,
    as_json: bool,
) -> None:
    """List deliveries, show one with its attempts, or send some again.

    ID is a delivery's webhook-id or its first digits. `send` without an ID sends all that the filters name, of which there
    must be one. What is sent again bears the same webhook-id, so that a CRM that has it can tell.
    """
    wanted = Wanted(account, state, type_, None if since is None else _moment(since))
    again = f"{program()} deliveries " + (f"-c {file}" if store_url is None else f"--store {store_url}")
    accounts: dict[str, Account] = {}
    try:
        if store_url is None:
            config = loaded(file)
            store_url, accounts = config.store, config.accounts
        reader = open_reader(store_url)
        try:
            box = _Box(reader, accounts, again)
            if ids[:1] == (SEND,):
                _send(box, ids[1:], wanted, limit, as_json)
            elif len(ids) > 1:
                raise click.UsageError(f"one ID is shown at a time; to send them again: {again} send {' '.join(ids)}")
            elif ids:
                _show(box, _one(box, ids[0]), as_json)
            else:
                _list(box, wanted, limit, as_json)
        finally:
            reader.close()
    except ExoflowError as error:
        raise click.ClickException(str(error)) from error


def _moment(text: str) -> datetime:
    if ago := _AGO.fullmatch(text.strip()):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise click.BadParameter("write for example 30m, 2h, 3d or 2026-10-01", param_hint="--since") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(DEFAULT_ZONE))


def _one(box: _Box, beginning: str) -> Posted:
    found = box.reader.read(lambda c: posted.by_id(c, beginning))
    if not found:
        raise click.ClickException(f"no delivery's id begins with {beginning!r}; `{box.again}` lists the newest")
    if len(found) > 1:
        several = "\n".join(f"  {one.delivery.webhook_id}" for one in found)
        raise click.ClickException(f"several deliveries' ids begin with {beginning!r}; give more of it:\n{several}")
    return found[0]


# --- looking ----------------------------------------------------------------------------------------


def _list(box: _Box, wanted: Wanted, limit: int, as_json: bool) -> None:
    found = box.reader.read(lambda c: posted.newest(c, wanted, limit))
    if as_json:
        _print_json([_data(one) for one in found])
        return
    if not found:
        click.echo("No deliveries are as wanted." if wanted else "No deliveries yet.")
        return
    table = [("MADE", "DELIVERY", "ACCOUNT", "CALL", "TYPE", "STATE", "TRIES", "WHY")]
    for one in found:
        delivery = one.delivery
        table.append(
            (
                box.time(delivery.created_at, one.account),
                delivery.webhook_id[:SHORT_ID],
                clean(one.account),
                one.call_id[:8],
                delivery.type,
                WORDS.get(delivery.state, delivery.state),
                str(len(delivery.attempts)),
                clean(delivery.problem),
            )
        )
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    example = next((row for row in table[1:] if row[-1]), table[1])[1]
    click.echo(f"\nOne with its attempts: {box.again} {example}\nSend it again: {box.again} {SEND} {example}")


def _show(box: _Box, one: Posted, as_json: bool) -> None:
    if as_json:
        account = box.accounts.get(one.account)
        _print_json({**_data(one), "body": shown(one.delivery.type, one.body, account.crm.mask if account else ())})
        return
    delivery = one.delivery
    state = WORDS.get(delivery.state, delivery.state)
    if delivery.delivered_at is not None:
        state += f" {box.time(delivery.delivered_at, one.account)}"
    elif delivery.state == "pending":
        state += f", due {box.time(delivery.next_at, one.account)}"
    click.echo(f"Delivery {delivery.webhook_id}")
    facts = [
        ("type", f"{delivery.type}, number {delivery.seq} of call {one.call_id}"),
        ("account", clean(one.account)),
        ("made", box.time(delivery.created_at, one.account)),
        ("state", state),
        ("why", clean(delivery.problem)),
        ("body", f"{len(one.body.encode())} bytes; --json shows it"),
    ]
    for name, text in facts:
        if text:
            click.echo(f"  {name:<8} {text}")
    click.echo("Attempts" if delivery.attempts else "No attempt yet")
    for attempt in delivery.attempts:
        came = str(attempt.status) if attempt.status is not None else attempt.reason.replace("_", " ")
        said = f'  "{clean(attempt.answer)}"' if attempt.answer else ""
        click.echo(f"  {box.time(attempt.at, one.account)}  {came}  {attempt.ms} ms  {clean(attempt.url)}{said}")


def _data(one: Posted) -> dict[str, Any]:
    delivery = one.delivery
    return {
        "webhook_id": delivery.webhook_id,
        "account": one.account,
        "call": one.call_id,
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


# --- sending again ------------------------------------------------------------------------------------


def _send(box: _Box, ids: Sequence[str], wanted: Wanted, limit: int, as_json: bool) -> None:
    if ids and wanted:
        raise click.UsageError("`send` takes either IDs or filters (--account, --state, --type, --since)")
    if not ids and not wanted:
        raise click.UsageError("`send` needs an ID, or a filter such as --state dead")
    rows = [_one(box, one) for one in ids] or box.reader.read(lambda c: posted.newest(c, wanted, limit))
    chosen = {row.delivery.webhook_id: row for row in rows if row.delivery.state != "leased"}
    under_way = [row.delivery.webhook_id for row in rows if row.delivery.state == "leased"]
    folder = folder_of(box.reader.path)
    try:
        left = [wish(folder, webhook_id) for webhook_id in chosen]
    except FileNotFoundError:
        raise click.ClickException(f"{folder}: is not there yet; start `exoflow serve` once, it makes it") from None
    except OSError as error:
        text = f"{folder}: {error.strerror}; send as the user that `exoflow serve` runs as"
        raise click.ClickException(text) from error
    patience = time.monotonic() + TAKEN_SECONDS
    while (waiting := [path for path in left if path.exists()]) and time.monotonic() < patience:
        time.sleep(LOOK_SECONDS)
    if as_json:
        taken = [webhook_id for webhook_id in chosen if folder / webhook_id not in waiting]
        _print_json({"sent_again": taken, "waiting": [path.name for path in waiting], "being_sent": under_way})
        return
    for webhook_id in under_way:
        click.echo(f"{webhook_id} is being sent just now; it is left as it is")
    if len(left) > len(waiting):
        click.echo(f"{len(left) - len(waiting)} deliveries are due now; how it goes: {box.again}")
    if waiting:
        click.echo(f"{len(waiting)} deliveries wait in {folder}: sent as soon as `exoflow serve` runs and its store is well")
    if not rows:
        click.echo("No deliveries are as wanted.")
