"""`exoflow counts`: by the hour refusals, calls that the fallback served, all channels taken, what an ailing store cost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from exoflow.commands.calls import DEFAULT_ZONE
from exoflow.commands.loading import loaded
from exoflow.errors import ExoflowError
from exoflow.store import open_reader
from exoflow.store.counts import ALL_BUSY, arrivals_by_hour, by_hour, turned_away

TURNED_AWAY = "turned_away_estimate"
WORDS = {
    ALL_BUSY: "seconds with all channels taken",
    TURNED_AWAY: "callers who heard engaged meanwhile, an estimate",
    "refused": "calls refused above switch.max_calls",
    "door.limit": "calls refused above the trunk's exoflow_max_in",
    "door.drain": "calls refused while the box was drained",
    "door.number": "calls refused without digits that could be routed",
    "door.caller": "calls refused for what stood as the caller's number",
    "fallback.refused": "calls served by the fallback: no exoflow was there",
    "fallback.guard": "calls served by the fallback: exoflow took them and did nothing",
    "fallback.deaths": "calls served by the fallback: exoflow lost them three times",
    "stray_legs": "legs that SIP phones had FreeSWITCH dial by a transfer, which were ended",
    "silent": "connections of the switch that said nothing",
    "emfile": "times without a free descriptor",
    "stood_still": "times the process stood still",
    "leases_refused": "leases that the switch refused",
    "cdr.strange": "files among FreeSWITCH's CDRs that are none",
    "audio.fetched": "sounds fetched from CRMs, or spoken during calls",
    "audio.kept": "sounds of CRMs played from the copy",
    "audio.stale": "sounds played from the copy, for their server failed",
    "audio.dropped": "copies of sounds given up for newer ones",
    "audio.no_room": "sounds not played, for all copies were in use",
    "spilled.changes": "changes of records that went into the spill",
    "dropped.lines": "journey lines lost: neither store nor spill took them",
    "dropped.calls": "records of calls lost",
    "dropped.deliveries": "deliveries lost",
}


@click.command()
@click.option(
    "-c", "--config", "file", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), help="the main file"
)
@click.option("--store", "store_url", help="read this store (sqlite:///…) without a configuration")
@click.option("--hours", default=24, show_default=True, type=click.IntRange(1, 24 * 400), help="so far back")
@click.option("--json", "as_json", is_flag=True, help="for programs; times in UTC")
def counts(file: Path, store_url: str | None, hours: int, as_json: bool) -> None:
    """Show refusals, calls served by the fallback, seconds with all channels taken, and what was spilled or lost, by hour
    and trunk."""
    now = datetime.now(UTC)
    since = (now - timedelta(hours=hours - 1)).replace(minute=0, second=0, microsecond=0)
    try:
        reader = open_reader(store_url or loaded(file).store)
        try:
            counted, arrivals = reader.read(lambda c: (by_hour(c, since), arrivals_by_hour(c, since)))
        finally:
            reader.close()
    except ExoflowError as error:
        raise click.ClickException(str(error)) from error
    rows = _with_estimates(counted, arrivals, now)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo(f"Nothing was refused, lost or counted in the last {hours} hours.")
    else:
        _table(rows)


def _with_estimates(
    counted: list[tuple[datetime, str, str, float]], arrivals: dict[tuple[datetime, str], int], now: datetime
) -> list[dict[str, Any]]:
    rows = []
    for hour, name, trunk, amount in counted:
        rows.append({"hour": hour.isoformat(), "trunk": trunk, "name": name, "amount": round(amount, 1)})
        if name == ALL_BUSY:
            came = arrivals.get((hour, trunk), 0)
            seconds = min(3600.0, (now - hour).total_seconds())
            estimate = round(turned_away(came, amount, seconds), 1)
            rows.append({"hour": hour.isoformat(), "trunk": trunk, "name": TURNED_AWAY, "amount": estimate, "arrivals": came})
    return rows


def _table(rows: list[dict[str, Any]]) -> None:
    width = max(len(row["trunk"]) for row in rows)
    for row in rows:
        begins = datetime.fromisoformat(row["hour"]).astimezone(ZoneInfo(DEFAULT_ZONE))
        about = "~" if row["name"] == TURNED_AWAY else ""
        amount = f"{about}{row['amount']:g}"
        click.echo(f"{begins:%Y-%m-%d %H:%M}  {row['trunk']:{width}}  {amount:>10}  {WORDS.get(row['name'], row['name'])}")
