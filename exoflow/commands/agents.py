"""`exoflow agents`: who takes calls now, who not and why; and switches agents on and off."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from exoflow.agents.showing import Shown, everybody
from exoflow.agents.standing import WORDS
from exoflow.agents.wishes import Wish, folder_of, leave
from exoflow.calls.payload import iso
from exoflow.calls.show import clean
from exoflow.commands.again import program
from exoflow.commands.loading import loaded
from exoflow.config.findings import did_you_mean
from exoflow.config.model import Config
from exoflow.errors import ExoflowError
from exoflow.store import Reader, open_reader

SWITCHES = {"on": True, "off": False}
TAKEN_SECONDS = 4.0  # a running exoflow looks each second; its commit may take some, too
LOOK_SECONDS = 0.05


@click.command()
@click.argument("words", nargs=-1, metavar="[on|off AGENT...]")
@click.option(
    "-c", "--config", "file", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), help="the main file"
)
@click.option("--account", help="of this account only")
@click.option("--json", "as_json", is_flag=True, help="for programs; times in UTC")
def agents(words: tuple[str, ...], file: Path, account: str | None, as_json: bool) -> None:
    """List agents, who is not rung now and why; or switch some on or off.

    AGENT is a name under `agents` in the account's file. Who is off is not rung, whoever names him, until he is switched on:
    here, or by himself where a flow has an `agent` step.
    """
    if words and (words[0] not in SWITCHES or len(words) < 2):
        raise click.UsageError(f"write `{program()} agents on NAME` or `{program()} agents off NAME`; alone it lists all")
    try:
        config = loaded(file)
        if account is not None and account not in config.accounts:
            raise click.UsageError(f"there is no account `{account}`{did_you_mean(account, config.accounts)}")
        reader = open_reader(config.store)
        try:
            if words:
                _switch(reader, _wishes(config, account, words), as_json)
            else:
                _list(reader, config, account, as_json)
        finally:
            reader.close()
    except ExoflowError as error:
        raise click.ClickException(str(error)) from error


# --- looking ----------------------------------------------------------------------------------------


def _list(reader: Reader, config: Config, account: str | None, as_json: bool) -> None:
    wanted = {name: one for name, one in config.accounts.items() if account in (None, name)}
    people = reader.read(lambda connection: everybody(connection, wanted, datetime.now(UTC)))
    if as_json:
        click.echo(json.dumps([_data(one) for one in people], ensure_ascii=False, indent=2))
        return
    if not people:
        click.echo("There are no agents; an account's file names them under `agents`.")
        return
    table = [("ACCOUNT", "AGENT", "NUMBER", "GROUPS", "NOW", "LAST TALK")]
    for one in people:
        zone = ZoneInfo(config.accounts[one.account].time_zone)
        freed = "" if one.freed_at is None else one.freed_at.astimezone(zone).strftime("%d %b %H:%M:%S")
        table.append((one.account, clean(one.name), one.agent.number, clean(", ".join(one.groups)), _now(one, zone), freed))
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _now(one: Shown, zone: ZoneInfo) -> str:
    if one.why is None:
        return "free"
    text = WORDS[one.why]
    if one.call is not None:
        text += f" ({one.call[:8]})"
    if one.by_groups:
        text += f" ({clean(', '.join(one.by_groups))})"
    if one.why == "off" and one.state is not None:
        text += f" since {one.state.changed_at.astimezone(zone):%d %b %H:%M} by {one.state.changed_by}"
    return text


def _data(one: Shown) -> dict[str, Any]:
    return {
        "account": one.account,
        "agent": one.name,
        "name": one.agent.name,
        "number": one.agent.number,
        "lines": one.agent.lines,
        "groups": one.groups,
        "state": one.why or "free",
        "by_groups": one.by_groups,
        "call": one.call,
        "available": one.state is None or one.state.available,
        "changed_at": None if one.state is None else iso(one.state.changed_at),
        "changed_by": None if one.state is None else one.state.changed_by,
        "freed_at": iso(one.freed_at),
    }


# --- switching ----------------------------------------------------------------------------------------


def _wishes(config: Config, account: str | None, words: Sequence[str]) -> list[Wish]:
    found = []
    for name in words[1:]:
        having = [one for one, settings in config.accounts.items() if account in (None, one) and name in settings.agents]
        if not having:
            known = [agent for settings in config.accounts.values() for agent in settings.agents]
            raise click.UsageError(f"there is no agent `{name}`{did_you_mean(name, known)}")
        if len(having) > 1:
            raise click.UsageError(
                f"several accounts have an agent `{name}` ({', '.join(having)}): add `--account {having[0]}`"
            )
        found.append(Wish(having[0], name, SWITCHES[words[0]]))
    return found


def _switch(reader: Reader, wishes: Sequence[Wish], as_json: bool) -> None:
    folder = folder_of(reader.path)
    try:
        left = {leave(folder, wish): wish for wish in wishes}
    except FileNotFoundError:
        raise click.ClickException(f"{folder}: is not there yet; start `exoflow serve` once, it makes it") from None
    except OSError as error:
        text = f"{folder}: {error.strerror}; switch as the user that `exoflow serve` runs as"
        raise click.ClickException(text) from error
    patience = time.monotonic() + TAKEN_SECONDS
    while (waiting := [path for path in left if path.exists()]) and time.monotonic() < patience:
        time.sleep(LOOK_SECONDS)
    if as_json:
        named = [{"account": wish.account, "agent": wish.agent, "available": wish.available} for wish in wishes]
        click.echo(json.dumps({"switched": named, "waiting": [left[path].agent for path in waiting]}, indent=2))
        return
    for path, wish in left.items():
        state = "on" if wish.available else "off"
        then = (
            f", as soon as `exoflow serve` runs (waiting in {folder}; FreeSWITCH's own fallback rings as before until then)"
            if path in waiting
            else ""
        )
        click.echo(f"{wish.agent} of {wish.account} is {state}{then}")
