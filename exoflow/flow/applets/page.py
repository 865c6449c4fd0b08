"""page: pages a program by a signed POST."""

from __future__ import annotations

import json
import uuid
from datetime import datetime

from exoflow.calls.payload import iso
from exoflow.clock import by_machine, utcnow
from exoflow.config.actions import PageStep
from exoflow.crm import signing
from exoflow.flow.here import Here
from exoflow.flow.messages import Sent, by_http, send
from exoflow.flow.templates import Address, Texts, address

PAGE_TYPE = "call.page"


class Page:
    """Pages a program by POST, beside the call, which goes on at once. The body is `{type: "call.page", timestamp, data: {call,
    account, number, caller, step, text, variables}}`, signed like a delivery (Standard Webhooks) with the secret of the
    account's `deliveries`. Sent once and not repeated: what must not be lost is in the delivery of the call's end.

    Branches: `next`.
    Caller gone: works as ever. Store gone: works as ever. CRM gone: only the journey tells of a receiver that is gone.
    Journey: page.sending, or page.unsent in a trial (evidence message); then page.sent (evidence
    url, status, ms, answer), or page.<status>, page.timeout, page.body, page.refused, page.dns,
    page.tls, page.address, page.reset, page.url, page.secret with the cure; page.once (under way
    when the call's socket was lost).
    """

    needs_caller = False

    def run(self, here: Here, step: PageStep) -> str:
        page, texts = step.page, Texts(here, seen=True)
        text = texts.text(page.text)
        now = utcnow()
        body, where = _body(here, text, now), address(here, page.url)
        send(
            here,
            "page",
            f"Paged: {text}",
            lambda: _deliver(here, step, where, body, now),
            seconds=page.timeout,
            wait=False,
            hold=None,
            shown=lambda: {"url": where.shown, "text": text},
            unset=list(dict.fromkeys([*texts.unset, *where.unset])),
        )
        return "next"

    def gone(self, here: Here, step: PageStep) -> str:
        return "next"


def _body(here: Here, text: str, now: datetime) -> bytes:
    facts = here.call.state.facts
    data = {
        "call": facts.id,
        "account": here.account_id,
        "number": facts.dialled,
        "caller": facts.caller,
        "step": here.step,
        "text": text,
        "variables": here.hidden.shown(here.variables),
    }
    return json.dumps({"type": PAGE_TYPE, "timestamp": iso(now), "data": data}, ensure_ascii=False).encode()


def _deliver(here: Here, step: PageStep, where: Address, body: bytes, now: datetime) -> Sent:
    try:
        headers = {"content-type": "application/json", **_signed(here, body, now)}
    except signing.BadSecret as problem:
        return Sent(False, "C", "secret", str(problem))

    account, page = here.account, step.page
    return by_http(
        here,
        where,
        lambda: here.parts.crm.post(
            where.url,
            body,
            deadline=page.timeout,
            allow_private=account.crm.allow_private,
            headers=headers,
            mask=account.crm.mask,
            account=here.account_id,
        ),
        "The paged program",
        [],
    )


def _signed(here: Here, body: bytes, now: datetime) -> dict[str, str]:
    """Headers of Standard Webhooks; without a secret only the id and the time. Raises BadSecret."""
    message, timestamp = f"msg_{uuid.uuid4().hex}", int(by_machine(now).timestamp())
    secret = here.account.deliveries.secret_text() if here.account.deliveries is not None else None
    if secret is None:
        return {"webhook-id": message, "webhook-timestamp": str(timestamp)}
    return signing.headers(secret, message, timestamp, body)
