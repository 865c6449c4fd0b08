"""Asking an account's CRM in the middle of a call: the request, the hold audio, and the journey's lines of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from exoflow.calls.model import Stage
from exoflow.config.steps import Prompt
from exoflow.crm.dialect import parameters
from exoflow.crm.http import Answer, CrmFailure
from exoflow.crm.mask import mask_url
from exoflow.flow.here import Here

# which stage of the design's table a failure belongs to: D is the way to the CRM, E the CRM itself
_STAGE: dict[str, Stage] = {"timeout": "E", "body": "E"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of it: an answer, or the failure that is already in the journey."""

    answer: Answer | None
    code: str  # "crm.200", "crm.timeout", …


def ask(here: Here, url: str, *, timeout: float, hold: Prompt | None, headers: Mapping[str, str] | None = None) -> Asked:
    """GETs `url` with the dialect's parameters; an answered caller hears `hold` meanwhile. Ends within `timeout` seconds.

    Never raises for the CRM's sake: every failure is noted with its cure and returned.
    """
    account, crm = here.account, here.parts.crm
    now = datetime.now(UTC)
    sent = parameters(here.call.state, now=now, account=account, account_id=here.account_id)

    def get() -> Answer | CrmFailure:
        try:
            return crm.get(
                url,
                sent,
                deadline=timeout,
                allow_private=account.crm.allow_private,
                headers=headers,
                mask=account.crm.mask,
            )
        except CrmFailure as failure:  # as a value: gevent would print it as an unhandled exception of its greenlet
            return failure

    # the call's own parameters would hide what matters; they are the dialect's, and the call's record has them
    shown_url = mask_url(url, account.crm.mask)
    found = here.while_asking(get, here.hold_sound(hold, timeout), timeout)
    if isinstance(found, CrmFailure):
        code = f"crm.{found.reason}"
        stage = _STAGE.get(found.reason, "D")
        text = f"{urlsplit(url).hostname}: {found.detail} (after {found.ms} ms); {found.cure}"
        here.failed(stage, code, text, url=shown_url, status=found.status, ms=found.ms)
        return Asked(None, code)
    answer: Answer = found
    code = f"crm.{answer.status}"
    shown: dict[str, Any] = {"url": shown_url, "status": answer.status, "ms": answer.ms, "answer": answer.excerpt}
    if answer.status >= 400 or answer.status < 200:
        cure = "see the CRM's own log for the error" if answer.status >= 500 else "check the URL and its key"
        here.failed("E", code, f"The CRM answered {answer.status} in {answer.ms} ms; {cure}", **shown)
    else:
        here.note("E", code, f"The CRM answered {answer.status} in {answer.ms} ms", **shown)
    return Asked(answer, code)
