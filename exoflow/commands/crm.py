"""`exoflow crm`: the addresses that accounts' calls lead to, whether they are asked at present, and one tried by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from pydantic import BaseModel

from exoflow.commands.again import program
from exoflow.commands.loading import loaded

if TYPE_CHECKING:
    from exoflow.config.model import Account, Config, Web

TEST = "test"
STATE_SECONDS = 2.0  # for /readyz of the running exoflow, on this box
STATE_BYTES = 1024 * 1024  # of its answer: a thousand circuits
DEFAULT_SECONDS = 5.0  # for an answer, where no step says how long
SAMPLE_CALLER = "+919999999901"  # of no subscriber's: the dialect's own sample
DELIVERIES = "deliveries"
CALL_BACKS = "call_backs"
ASKED = ("passthru", "connect", "greeting", "menu", "gather")  # in a call, by GET, with the dialect's parameters


@dataclass(frozen=True)
class Address:
    """One URL of an account. `where` is the flow and step that has it, `timeout` in seconds."""

    account: str
    where: str
    applet: str
    url: str
    timeout: float = DEFAULT_SECONDS
    flow: str = ""  # with the step that has it
    name: str = ""
    step: Any = None
    key: str = "url"  # of the applet's settings
    number: str = ""  # whose status callback it is, E.164


@click.command()
@click.argument("words", nargs=-1, metavar="[test ACCOUNT [WHERE]]")
@click.option(
    "-c", "--config", "file", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), help="the main file"
)
@click.option("--account", help="of this account only")
@click.option("--caller", default=SAMPLE_CALLER, show_default=True, help="for test: the caller's number, E.164")
@click.option("--digits", default="", help="for test: the keys the caller has pressed")
@click.option("--set", "variables", multiple=True, metavar="NAME=VALUE", help="for test: a variable that the call has by then")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def crm(
    words: tuple[str, ...],
    file: Path,
    account: str | None,
    caller: str,
    digits: str,
    variables: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the addresses that accounts' calls lead to, or try one as a call would.

    WHERE is a step as the list names it, or a URL; it may be left out if a call asks only one. A test runs that step on a
    call that is none: it sends what the call would send, with the header `Exoflow-Test`, judges the answer by the same
    functions, and prints both, with the branch that the flow takes. A step that sends an SMS or a page really sends it, and
    deliveries, dial events and status callbacks are sent of a call that never was. It ends with 1 if the CRM's answer cannot
    be used, so that the flow goes by its failure branch, its fallback or its own prompt. It is sent by this command itself,
    from this box; no circuit keeps it from asking.
    """
    if words[:1] == (TEST,) and len(words) in (2, 3):
        from gevent import monkey

        if not monkey.is_module_patched("socket"):
            monkey.patch_all()  # without it a server that trickles is waited for beyond every deadline
        from exoflow.commands.crm_trial import Pretence, tried

        known = dict(word.partition("=")[::2] for word in variables)
        where = words[2] if len(words) == 3 else ""
        tried(loaded(file), words[1], where, Pretence(caller, digits, known), as_json=as_json)
    elif words:
        raise click.UsageError(f"write `crm` for the list, or `crm {TEST} ACCOUNT [WHERE]`")
    else:
        _list(loaded(file), account, as_json, f"{program()} crm -c {file}")


def addresses(account_id: str, account: Account) -> Iterator[Address]:
    """All URLs of an account, in its file's order."""
    for flow_name, flow in account.flows.items():
        for name, step in flow.steps.items():
            settings = getattr(step, step.applet, None)
            given = settings.model_dump() if isinstance(settings, BaseModel) else {}
            seconds = float(given.get("url_timeout") or given.get("timeout") or DEFAULT_SECONDS)
            for path, url in _urls(given):
                where = f"{flow_name}/{name}" + ("" if path == "url" else f".{path}")
                yield Address(account_id, where, step.applet, url, seconds, flow_name, name, step, path)
    if account.deliveries is not None:
        yield Address(account_id, DELIVERIES, DELIVERIES, account.deliveries.url, account.deliveries.timeout)
    for name in ("dial_events", "status_callback"):
        told = getattr(account.crm, name)
        if told is not None:
            yield Address(account_id, f"crm.{name}", name, told.url, told.timeout)
    if (rules := account.call_backs) is not None:
        yield Address(account_id, f"{CALL_BACKS}.ask", CALL_BACKS, rules.ask, rules.timeout)
    for number in account.numbers:
        if (own := number.status_callback) is not None:
            where = f"numbers {number.number}"
            yield Address(account_id, where, "status_callback", own.url, own.timeout, number=number.number)


def _urls(told: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in told.items():
        if isinstance(value, Mapping):
            yield from _urls(value, f"{above}{key}.")
        elif isinstance(value, str) and key.endswith("url") and value.startswith(("http://", "https://")):
            yield above + key, value


# --- the list -----------------------------------------------------------------------------------------


def _list(config: Config, only: str | None, as_json: bool, again: str) -> None:
    from exoflow.calls.show import clean
    from exoflow.crm.breaker import origin_of
    from exoflow.crm.mask import mask_url

    if only is not None and only not in config.accounts:
        raise click.ClickException(no_account(config, only))
    chosen = {name: account for name, account in config.accounts.items() if only in (None, name)}
    circuits, unknown = _circuits(config.web)
    rows: list[dict[str, Any]] = []
    for name, account in chosen.items():
        for address in addresses(name, account):
            origin = origin_of(address.url) or ""
            path = mask_url(urlsplit(address.url).path or "/", account.crm.mask)
            circuit = circuits.get((name, origin, "")) or circuits.get((name, origin, path))
            shown = {"account": name, "where": address.where, "applet": address.applet}
            shown["url"] = mask_url(address.url, account.crm.mask)
            rows.append(
                {**shown, "circuit": None if unknown or address.applet not in ASKED else circuit or {"state": "closed"}}
            )
    if as_json:
        click.echo(json.dumps({"addresses": rows, "circuits_unknown": unknown or None}, ensure_ascii=False, indent=2))
        return
    if not rows:
        click.echo("No account has an address: calls lead to no CRM, and no deliveries are sent.")
        return
    table = [("ACCOUNT", "WHERE", "APPLET", "CIRCUIT", "URL")]
    table += [(row["account"], row["where"], row["applet"], _word(row["circuit"]), row["url"]) for row in rows]
    widths = [max(len(line[at]) for line in table) for at in range(len(table[0]))]
    for line in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        if row["circuit"] and row["circuit"]["state"] != "closed":
            circuit = row["circuit"]
            text = f"{row['where']} is not asked since {circuit['since']}: {circuit['last_failure']}, {circuit['detail']}"
            click.echo(f"\n{row['account']}: {clean(text)}; the next trial is due in {circuit['trial_in_seconds']:g} s")
    if unknown:
        click.echo(f"\nCircuits are not known: {unknown}")
    asked = next((row for row in rows if row["applet"] in ASKED), None)
    if asked is not None:
        click.echo(f"\nAsk one: {again} {TEST} {asked['account']} '{asked['where']}'")


def _word(circuit: Mapping[str, Any] | None) -> str:
    return "-" if circuit is None else str(circuit["state"])


def _circuits(web: Web | None) -> tuple[dict[tuple[str, str, str], dict[str, Any]], str]:
    """The running exoflow's circuits that are not closed, by account, host and path (empty: the whole host); or why they are
    not known."""
    if web is None:
        return {}, "the running exoflow is asked at `web.listen`, which is not configured"
    import http.client

    host, port = web.listen_address
    connection = http.client.HTTPConnection(host, port, timeout=STATE_SECONDS)
    try:
        connection.request("GET", "/readyz", headers={"Accept": "application/json"})
        found = json.loads(connection.getresponse().read(STATE_BYTES))
        return {(one["account"], one["host"], one["path"]): one for one in found["crm"]}, ""
    except (OSError, http.client.HTTPException):
        return {}, f"nobody answers at {host}:{port} (web.listen); is `exoflow serve` running?"
    except (ValueError, KeyError, TypeError):
        return {}, f"what answers at {host}:{port} (web.listen) is not this exoflow"
    finally:
        connection.close()


def no_account(config: Config, name: str) -> str:
    """What is wrong with an account's name."""
    return f"there is no account {name!r}; there are {', '.join(config.accounts)}"
