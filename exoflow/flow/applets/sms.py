"""sms: sends an SMS through a provider's HTTP address."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from pydantic import SecretStr

from exoflow.config.actions import SmsStep
from exoflow.config.stepbase import FromEnvironment
from exoflow.crm.http import Answer
from exoflow.crm.mask import mask_values
from exoflow.flow.here import Here
from exoflow.flow.messages import by_http, send
from exoflow.flow.templates import Texts, address


class Sms:
    """Sends an SMS through a provider's HTTP address. `form` or `json` hold what the provider wants to have; every text in them
    is filled and then encoded as a whole, so that a value cannot end a field. `url` and `headers` may have
    `{name}`, too. Addresses go by the rules of a CRM's: private
    ones only by `crm.allow_private`, no redirects. Without a `failed` branch nobody waits: it goes out beside the call, and
    the call's record is closed after it. With one the flow waits, and an answered caller hears `hold`. Sent once, never
    repeated.

    Branches: `next`; `failed`, if set, when the provider is not there, too slow, or answers other than 2xx.
    Caller gone: works as ever. Store gone: works as ever. CRM gone: works as ever; for a provider that is gone see `failed`.
    Journey: sms.sending, or sms.unsent in a trial (evidence message); then sms.sent (evidence url, status, ms, answer), or
    sms.<status>, sms.timeout, sms.body, sms.refused, sms.dns, sms.tls, sms.address, sms.reset, sms.url with the cure; sms.once
    (under way when the call's socket was lost).
    """

    needs_caller = False

    def run(self, here: Here, step: SmsStep) -> str:
        sms, texts = step.sms, Texts(here)
        form = [(name, texts.text(text)) for name, text in (sms.form or {}).items()]
        body = json.dumps(texts.json(sms.json_body)).encode() if sms.json_body is not None else urlencode(form).encode()
        kind = "application/json" if sms.json_body is not None else "application/x-www-form-urlencoded"
        secrets = {name: _header(texts, value) for name, value in sms.headers.items()}
        where = address(here, sms.url)
        unset = list(dict.fromkeys([*texts.unset, *where.unset]))
        crm, account = here.parts.crm, here.account.crm
        common: dict[str, Any] = {"deadline": sms.timeout, "allow_private": account.allow_private}
        common |= {"mask": account.mask, "account": here.account_id}

        def ask() -> Answer:
            if sms.method == "get":
                return crm.get(where.url, form, headers=secrets, status_only=True, once=True, **common)
            return crm.post(where.url, body, headers={"content-type": kind} | secrets, **common)

        good = send(
            here,
            "sms",
            "An SMS is given to its provider",
            lambda: by_http(here, where, ask, "The SMS provider", list(secrets.values())),
            seconds=sms.timeout,
            wait=step.failed is not None,
            hold=sms.hold,
            shown=lambda: {"url": where.shown} | _fields(here, step),
            unset=unset,
        )
        return "next" if good else "failed"

    def gone(self, here: Here, step: SmsStep) -> str:
        return "next"


def _fields(here: Here, step: SmsStep) -> dict[str, Any]:
    """The form or JSON body as people may see it."""
    seen, sms = Texts(here, seen=True), step.sms
    filled = seen.json(sms.json_body) if sms.json_body is not None else seen.json(sms.form or {})
    shown: dict[str, Any] = mask_values(filled, here.account.crm.mask)
    return shown


def _header(texts: Texts, value: SecretStr) -> str:
    """What stands in the environment is sent as it is there."""
    text = value.get_secret_value()
    return text if isinstance(value, FromEnvironment) else texts.header(text)
