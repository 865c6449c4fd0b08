"""`exoflow crm`: the addresses that accounts' calls lead to, whether they are asked at present, and one asked by hand."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from exoflow.calls.model import CallFacts, CallState
from exoflow.calls.show import clean
from exoflow.commands.again import program
from exoflow.commands.loading import loaded
from exoflow.config.model import Account, Config, Web
from exoflow.crm.answers import parse_agents
from exoflow.crm.breaker import origin_of
from exoflow.crm.dialect import GREETING_PARAMETERS, JSON_HEADERS, parameters
from exoflow.crm.heard import Heard, parse_gather, parse_greeting
from exoflow.crm.http import Answer, CrmClient, CrmFailure
from exoflow.crm.mask import mask_url
from exoflow.crm.strictjson import BadAnswer

TEST = "test"
STATE_SECONDS = 2.0  # for /readyz of the running exoflow, on this box
STATE_BYTES = 1024 * 1024  # of its answer: a thousand circuits
DEFAULT_SECONDS = 5.0  # for an answer, where no step says how long
SAMPLE_CALLER = "+919999999901"  # of no subscriber's: the dialect's own sample
DELIVERIES = "deliveries"
ASKED = ("passthru", "connect", "greeting", "menu", "gather")  # by GET, with the dialect's parameters


@dataclass(frozen=True)
class Address:
    """One URL of an account. `where` is the flow and step that has it, `timeout` in seconds."""

    account: str
    where: str
    applet: str
    url: str
    timeout: float = DEFAULT_SECONDS
    step: Any = None


@click.command()
@click.argument("words", nargs=-1, metavar="[test ACCOUNT [WHERE]]")
@click.option(
    "-c", "--config", "file", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), help="the main file"
)
@click.option("--account", help="of this account only")
@click.option("--caller", default=SAMPLE_CALLER, show_default=True, help="for test: the caller's number, E.164")
@click.option("--digits", default="", help="for test: the keys the caller has pressed")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def crm(words: tuple[str, ...], file: Path, account: str | None, caller: str, digits: str, as_json: bool) -> None:
    """List the addresses that accounts' calls lead to, or ask one as a call would.

    WHERE is a step as the list names it, or a URL; it may be left out if only one is asked. A test sends one GET with the
    parameters of a call that is none, prints the answer and what exoflow would make of it, and ends with 1 if that is
    nothing good. It is sent by this command itself, from this box.
    """
    config = loaded(file)
    if words[:1] == (TEST,) and len(words) in (2, 3):
        _test(config, words[1], words[2] if len(words) == 3 else "", CallPretended(caller, digits), as_json)
    elif words:
        raise click.UsageError(f"write `crm` for the list, or `crm {TEST} ACCOUNT [WHERE]`")
    else:
        _list(config, account, as_json, f"{program()} crm -c {file}")


def addresses(account_id: str, account: Account) -> Iterator[Address]:
    """All URLs of an account, in its file's order."""
    for flow_name, flow in account.flows.items():
        for name, step in flow.steps.items():
            settings = getattr(step, step.applet, None)
            told = settings.model_dump() if isinstance(settings, BaseModel) else {}
            seconds = float(told.get("url_timeout") or told.get("timeout") or DEFAULT_SECONDS)
            for path, url in _urls(told):
                where = f"{flow_name}/{name}" + ("" if path == "url" else f".{path}")
                yield Address(account_id, where, step.applet, url, seconds, step)
    if account.deliveries is not None:
        yield Address(account_id, DELIVERIES, DELIVERIES, account.deliveries.url, account.deliveries.timeout)
    for name in ("dial_events", "status_callback"):
        where = getattr(account.crm, name)
        if where is not None:
            yield Address(account_id, f"crm.{name}", name, where.url, where.timeout)
    for number in account.numbers:
        if (own := number.status_callback) is not None:
            yield Address(account_id, f"numbers {number.number}", "status_callback", own.url, own.timeout)


def _urls(told: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in told.items():
        if isinstance(value, Mapping):
            yield from _urls(value, f"{above}{key}.")
        elif isinstance(value, str) and key.endswith("url") and value.startswith(("http://", "https://")):
            yield above + key, value


# --- the list -----------------------------------------------------------------------------------------


def _list(config: Config, only: str | None, as_json: bool, again: str) -> None:
    if only is not None and only not in config.accounts:
        raise click.ClickException(_no_account(config, only))
    chosen = {name: account for name, account in config.accounts.items() if only in (None, name)}
    circuits, unknown = _circuits(config.web)
    rows: list[dict[str, Any]] = []
    for name, account in chosen.items():
        for address in addresses(name, account):
            circuit = circuits.get((name, origin_of(address.url) or ""))
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


def _circuits(web: Web | None) -> tuple[dict[tuple[str, str], dict[str, Any]], str]:
    """The running exoflow's circuits that are not closed, by account and host; or why they are not known."""
    if web is None:
        return {}, "the running exoflow is asked at `web.listen`, which is not configured"
    host, port = web.listen_address
    connection = http.client.HTTPConnection(host, port, timeout=STATE_SECONDS)
    try:
        connection.request("GET", "/readyz", headers={"Accept": "application/json"})
        found = json.loads(connection.getresponse().read(STATE_BYTES))
        return {(one["account"], one["host"]): one for one in found["crm"]}, ""
    except (OSError, http.client.HTTPException):
        return {}, f"nobody answers at {host}:{port} (web.listen); is `exoflow serve` running?"
    except (ValueError, KeyError, TypeError):
        return {}, f"what answers at {host}:{port} (web.listen) is not this exoflow"
    finally:
        connection.close()


def _no_account(config: Config, name: str) -> str:
    return f"there is no account {name!r}; there are {', '.join(config.accounts)}"


# --- a test ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CallPretended:
    """What a test tells of its call."""

    caller: str
    digits: str

    def parameters(self, account_id: str, account: Account) -> list[tuple[str, str]]:
        now, call_id = datetime.now(UTC), uuid.uuid4().hex
        number = account.numbers[0] if account.numbers else None
        dialled = number.number if number else ""
        state = CallState(
            CallFacts(
                id=call_id,
                channel=call_id,
                created_at=now,
                trunk=number.trunk if number else "",
                dialled_raw=dialled.removeprefix("+"),
                caller_raw=self.caller,
                dialled=dialled or None,
                caller=self.caller,
                account=account_id,
                flow=number.flow if number else None,
                diverted_from=number.diverted_from if number else None,
            ),
            digits=self.digits,
        )
        return parameters(state, now=now, account=account, account_id=account_id)


def _test(config: Config, account_id: str, where: str, call: CallPretended, as_json: bool) -> None:
    if account_id not in config.accounts:
        raise click.ClickException(_no_account(config, account_id))
    account = config.accounts[account_id]
    address = _chosen(account_id, account, where)
    only = GREETING_PARAMETERS if address.applet in ("greeting", "menu") else ()
    sent = [(name, value) for name, value in call.parameters(account_id, account) if not only or name in only]
    shown: dict[str, Any] = {
        "url": mask_url(address.url, account.crm.mask),
        "timeout": address.timeout,
        "parameters": dict(sent),
    }
    client = CrmClient()
    try:
        answer = client.get(
            address.url,
            sent,
            deadline=address.timeout,
            allow_private=account.crm.allow_private,
            headers=JSON_HEADERS if address.applet in ("connect", "gather") else None,
            mask=account.crm.mask,
        )
    except CrmFailure as failure:
        good, meaning = False, f"{failure.detail}; {failure.cure}"
        shown |= {"status": failure.status, "ms": failure.ms, "reason": failure.reason}
    else:
        good, meaning = _judged(address, answer)
        kind = answer.headers.get("content-type", "")
        shown |= {"status": answer.status, "ms": answer.ms, "content_type": kind, "answer": answer.excerpt}
    finally:
        client.close()
    shown |= {"good": good, "meaning": meaning}
    click.echo(json.dumps(shown, ensure_ascii=False, indent=2) if as_json else _told(address, shown))
    if not good:
        raise click.exceptions.Exit(1)


def _chosen(account_id: str, account: Account, where: str) -> Address:
    if where.startswith(("http://", "https://")):
        return Address(account_id, "", "", where)
    listed = [address for address in addresses(account_id, account) if address.applet in ASKED]
    chosen = [address for address in listed if where in ("", address.where)]
    if len(chosen) == 1:
        return chosen[0]
    there = "\n".join(f"  {address.where}" for address in listed)
    if not there:
        raise click.ClickException(f"{account_id}: no step asks a CRM; name a URL")
    wrong = f"{account_id} asks no CRM at {where!r}" if where else f"{account_id} asks its CRM at several steps"
    raise click.ClickException(f"{wrong}; name one of these, or a URL:\n{there}")


def _judged(address: Address, answer: Answer) -> tuple[bool, str]:
    """What exoflow would make of it; False if that is a failure of the step."""
    if address.applet in ("greeting", "menu", "gather"):
        return _heard(address, answer)
    if address.applet != "connect":
        branch = {200: "ok", 302: "redirect"}.get(answer.status, "failed")
        branches = address.step.branches() if address.step is not None else {}
        if branches and branches.get(branch) is None:
            branch = "redirect" if "redirect" in branches else "next"
        return 200 <= answer.status < 400, f"on by `{branch}`" + (f" to {branches[branch]}" if branches.get(branch) else "")
    try:
        agents = parse_agents(answer)
    except BadAnswer as bad:
        return False, f"{bad}; the step's `fallback` is rung, if it has one"
    if not agents.numbers:
        return True, "nobody is free: the step's `fallback` is rung, if it has one"
    ignored = f"; not acted on: {', '.join(agents.ignored)}" if agents.ignored else ""
    return True, f"rung in this order: {', '.join(agents.numbers)}{ignored}"


def _heard(address: Address, answer: Answer) -> tuple[bool, str]:
    try:
        if address.applet != "gather":
            return True, _played(parse_greeting(answer))
        asked = parse_gather(answer)
    except BadAnswer as bad:
        return False, f"{bad}; the step's `fallback_url` is asked, or its own prompt is played"
    end = f"`{asked.end_key}`" if asked.end_key else "no key"
    return True, f"{_played(asked.prompt)}; up to {asked.most} digits, ended by {end}, {asked.attempts} times at most"


def _played(heard: Heard) -> str:
    if heard.text:
        return f"spoken: {heard.text}"
    return f"played, if it is a WAV of 8 kHz, 16 bit, mono: {', '.join(heard.urls)}"


def _told(address: Address, shown: Mapping[str, Any]) -> str:
    asked = f"{address.applet} at {address.where}, " if address.where else ""
    lines = [f"GET {shown['url']}", f"  ({asked}answer wanted within {shown['timeout']:g} s), with"]
    lines += [f"    {name}={clean(value)}" for name, value in shown["parameters"].items()]
    if "answer" in shown:
        lines.append(f"Answer: {shown['status']} in {shown['ms']} ms, {clean(shown['content_type'] or 'no content type')}")
        lines.append(f"    {clean(shown['answer']) or '(empty)'}")
    else:
        lines.append(f"No answer: {shown['reason']} after {shown['ms']} ms")
    lines.append(f"exoflow: {clean(shown['meaning'])}")
    return "\n".join(lines)
