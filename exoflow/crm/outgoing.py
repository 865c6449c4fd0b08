"""How a row of the outbox is sent, by its type: a signed delivery by POST, a dial event by GET, a status callback as a form.

The body of the latter two is `{"url": …, "parameters": [[name, value], …]}`, of a status callback with `content_type` if the
call or its number has one. Without a URL it is the one that the account has when the row is sent, so that a corrected one
counts from the next attempt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from exoflow.clock import by_machine
from exoflow.config.model import Account
from exoflow.crm import callback_body, signing
from exoflow.crm.http import Answer
from exoflow.crm.mask import mask_url
from exoflow.errors import ExoflowError
from exoflow.store.outbox import Claimed

DIAL = "dial."  # types of dial events begin so
BUSY, FREE = "dial.busy", "dial.free"
STATUS = "status."  # types of status callbacks
DIAL_SECONDS = 5.0  # as next
USER_AGENT = "Exotel Servers"  # of status callbacks: receivers of the dialect take no other, as they are not signed
CALLBACK_SECONDS = 15.0  # for an address that came with the call; those of the account have their own


class NoEndpoint(ExoflowError):
    """The account no longer says where such rows go."""

    def __init__(self, account: str, key: str) -> None:
        super().__init__(f"account {account!r} has no `{key}` any more; configure its url again, or this is lost in the end")


class Client(Protocol):
    """What is needed of `crm.http.CrmClient`."""

    def get(
        self,
        url: str,
        params: Sequence[tuple[str, str]] = ...,
        *,
        deadline: float,
        allow_private: Sequence[str] = ...,
        mask: Collection[str] = ...,
        account: str = ...,
        status_only: bool = ...,
    ) -> Answer: ...

    def post(
        self,
        url: str,
        body: bytes,
        *,
        deadline: float,
        allow_private: Sequence[str] = ...,
        headers: Mapping[str, str] | None = ...,
        mask: Collection[str] = ...,
        account: str = ...,
    ) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """`send` raises CrmFailure."""

    url: str
    send: Callable[[], Answer]


def written(parameters: Sequence[tuple[str, str]], url: str | None = None, content_type: str = "") -> str:
    """The body of a row that is no signed delivery."""
    told: dict[str, Any] = {"url": url, "parameters": parameters}
    if content_type:
        told["content_type"] = content_type
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def shown(type: str, body: str, mask: Collection[str] = ()) -> Any:
    """A row's body as people may see it."""
    told = json.loads(body)
    if type.startswith((DIAL, STATUS)) and told.get("url"):
        told["url"] = mask_url(told["url"], mask)
    return told


def outgoing(row: Claimed, account: Account | None, client: Client, at: datetime) -> Outgoing:
    """Raises NoEndpoint, signing.BadSecret."""
    if account is None:
        raise NoEndpoint(row.account, "deliveries")
    if row.type.startswith(DIAL):
        return _dial_event(row, account, client)
    if row.type.startswith(STATUS):
        return _status_callback(row, account, client)
    return _delivery(row, account, client, at)


def _delivery(row: Claimed, account: Account, client: Client, at: datetime) -> Outgoing:
    where = account.deliveries
    if where is None:
        raise NoEndpoint(row.account, "deliveries")
    secret, timestamp = where.secret_text(), int(by_machine(at).timestamp())
    if secret is None:
        signed = {"webhook-id": row.webhook_id, "webhook-timestamp": str(timestamp)}
    else:
        signed = signing.headers(secret, row.webhook_id, timestamp, row.body)
    headers = {"content-type": "application/json", **signed}
    common = _common(row, account, where.timeout)
    return Outgoing(where.url, lambda: client.post(where.url, row.body, headers=headers, **common))


def _common(row: Claimed, account: Account, seconds: float) -> dict[str, Any]:
    """What every request of an account has."""
    crm = account.crm
    return {"deadline": seconds, "allow_private": crm.allow_private, "mask": crm.mask, "account": row.account}


def _dial_event(row: Claimed, account: Account, client: Client) -> Outgoing:
    told, where = json.loads(row.body), account.crm.dial_events
    url = told["url"] or (where.url if where is not None else None)
    if url is None:
        raise NoEndpoint(row.account, "crm.dial_events")
    sent = [(name, value) for name, value in told["parameters"]]
    common = _common(row, account, DIAL_SECONDS if where is None else where.timeout)
    return Outgoing(url, lambda: client.get(url, sent, status_only=True, **common))


def _status_callback(row: Claimed, account: Account, client: Client) -> Outgoing:
    told, where = json.loads(row.body), account.crm.status_callback
    url = told["url"] or (where.url if where is not None else None)
    if url is None:
        raise NoEndpoint(row.account, "crm.status_callback")
    wanted = told.get("content_type") or (where.content_type if where and not told["url"] else callback_body.URLENCODED)
    fields = [(name, value) for name, value in told["parameters"]]
    kind, form = callback_body.encoded(fields, wanted, row.webhook_id)
    headers = {"Content-Type": kind, "User-Agent": USER_AGENT}
    common = _common(row, account, CALLBACK_SECONDS if where is None else where.timeout)
    return Outgoing(url, lambda: client.post(url, form, headers=headers, **common))
