"""What leads outside: CRMs' addresses, networks that may be reached, the store."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from exoflow.characters import belongs
from exoflow.config.draft import AccountDraft, Draft
from exoflow.config.findings import Finding
from exoflow.config.model import Address, Main
from exoflow.config.parameters import URL_KEYS
from exoflow.config.templates import is_template

SQLITE = "sqlite:///"

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def check(draft: Draft) -> Iterator[Finding]:
    if draft.main is not None and (not draft.main.store.startswith(SQLITE) or draft.main.store == SQLITE):
        message = f"this version keeps its data in SQLite; write e.g. `store: {SQLITE}exoflow.db`"
        yield draft.main_document.at("E804", message, "store")
    elif draft.main is not None and not all(map(belongs, draft.main.store)):
        yield draft.main_document.at("E804", "the file's name has a control character; write it without", "store")
    if draft.main is not None and draft.main.switch.cdr is None:
        message = (
            "how calls end while exoflow is away stays unknown; write `cdr:` and the folder that vars.xml calls exoflow_cdr_dir"
        )
        yield draft.main_document.at("W706", message, "switch", key=True)
    if draft.main is not None:
        yield from _ports(draft, draft.main)
    if draft.main is not None and draft.main.mail is not None and draft.main.mail.ca_file is not None:
        yield from _authorities(draft, draft.main.mail.ca_file)
    for account in draft.accounts:
        networks: list[_Network] = []
        for i, text in enumerate(account.account.crm.allow_private):
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                message = f"`{text}` is not a network: {error}; write e.g. 10.1.0.0/16 or 192.168.1.7/32"
                yield account.document.at("E802", message, "crm", "allow_private", i)
        for where, url in _urls(account):
            if (problem := _names_problem(where, url)) is not None:
                yield account.document.at("E801", problem, *where)
            else:
                yield from _url(account, where, url, networks)


def _ports(draft: Draft, main: Main) -> Iterator[Finding]:
    """Two listeners of ours on one port, or a server that we are told to ask where we listen."""
    event_socket = main.switch.event_socket
    known: list[tuple[tuple[str, ...], Address]] = [(("switch", "listen"), main.switch.listen_address)]
    if main.web is not None:
        known.append((("web", "listen"), main.web.listen_address))
    listeners = len(known)
    known.append((("switch", "event_socket"), Address(event_socket.host, event_socket.port)))
    if main.mail is not None:
        known.append((("mail", "smtp"), main.mail.address))
    for i, (where, address) in enumerate(known):
        for other, taken in known[: min(i, listeners)]:
            if address.port == taken.port != 0 and _one_host(address.host, taken.host):
                message = f"port {address.port} is already {'.'.join(other)}; give one of them another port"
                yield draft.main_document.at("E808", message, *where)


def _one_host(one: str, other: str) -> bool:
    """May a connection to the one reach the other? `localhost` and the wildcards are met by any address of this box."""
    alike = {"localhost": "127.0.0.1", "::1": "127.0.0.1"}
    hosts = {alike.get(one, one), alike.get(other, other)}
    return len(hosts) == 1 or bool(hosts & {"0.0.0.0", "::"})


def _authorities(draft: Draft, file: Path) -> Iterator[Finding]:
    try:
        good = b"-----BEGIN CERTIFICATE-----" in file.read_bytes()
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}; check its name, and that exoflow's user may read it"
        yield draft.main_document.at("E101", message, "mail", "ca_file")
        return
    if not good:
        message = f"{file} holds no certificate; bring the authority's as PEM, which begins with -----BEGIN CERTIFICATE-----"
        yield draft.main_document.at("E101", message, "mail", "ca_file")


def _urls(a: AccountDraft) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for flow, name, step in a.steps_as_run():
        settings = getattr(step, step.applet)
        for key in URL_KEYS:
            if (url := getattr(settings, key, None)) is not None:
                yield ("flows", flow, "steps", name, step.applet, key), url
    if a.account.deliveries is not None:
        yield ("deliveries", "url"), a.account.deliveries.url
    if a.account.crm.dial_events is not None:
        yield ("crm", "dial_events", "url"), a.account.crm.dial_events.url
    if a.account.crm.status_callback is not None:
        yield ("crm", "status_callback", "url"), a.account.crm.status_callback.url
    if a.account.call_backs is not None:
        yield ("call_backs", "ask"), a.account.call_backs.ask
    for i, number in enumerate(a.account.numbers):
        if number.status_callback is not None:
            yield ("numbers", i, "status_callback", "url"), number.status_callback.url


def _names_problem(where: tuple[str | int, ...], url: str) -> str | None:
    """A `{name}` where none is filled."""
    if where[0] != "flows":
        return (
            "no call's variables are known here; write the address out, and a brace as %7B or %7D" if is_template(url) else None
        )
    begin, found, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest if found else begin, maxsplit=1)[0]
    if is_template(authority) or (found and is_template(begin)):
        return "a variable cannot name the host; write it out, as in https://crm.example/orders/{order}"
    return None


def _url(a: AccountDraft, where: tuple[str | int, ...], url: str, networks: list[_Network]) -> Iterator[Finding]:
    if (problem := url_problem(url)) is not None:
        yield a.document.at("E801", f"{problem}; write e.g. https://crm.example/exotel/passthru", *where)
        return
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return  # a name; where it leads is known only when it is asked
    if not address.is_global and not any(address in network for network in networks):
        message = (
            f"{host} is a private address and would be refused; to allow it write into this account "
            f"`crm: {{allow_private: [{address}/{address.max_prefixlen}]}}`"
        )
        yield a.document.at("W803", message, *where)


def url_problem(url: str) -> str | None:
    """What keeps a text from being an http or https address; None if it is one."""
    if not url.isascii() or any(c <= " " or c in '\x7f\\"<>' for c in url):
        return "the address has spaces or characters that must be written as %XX"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"not an address ({error})"
    if parts.scheme not in ("http", "https"):
        return f"`{parts.scheme}:` is not http or https" if parts.scheme else "the address lacks http:// or https://"
    if not parts.hostname or port == 0:
        return "the address names no host" if not parts.hostname else "port 0 cannot be reached"
    return None
