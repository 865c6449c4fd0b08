"""Asking an account's CRM in the middle of a call: the request, the hold audio, and the journey's lines of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from exoflow.flow.hidden import STARS
from exoflow.flow.hold import sound as hold_sound
from exoflow.flow.hold import while_asking

TELL_MARGIN = 1.0  # seconds beyond a question's own deadline before the record is closed without what came of it
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
    request = _request(here, url, timeout, headers, waits=not here.caller_gone)
    found = while_asking(here, request, hold_sound(here, hold, timeout), timeout)
    return _told(here, here.step, url, found, here.failed)


def tell(here: Here, url: str, *, timeout: float) -> None:
    """GETs `url` beside the flow, with what is known now; what comes of it is noted at the step that told."""
    request, step = _request(here, url, timeout, None, waits=False), here.step

    def note(stage: Stage, code: str, text: str, **evidence: Any) -> None:
        here.call.note(stage, code, text, step=step, **evidence)

    def send() -> None:
        _told(here, step, url, request(), note)

    here.afterwards(send, seconds=timeout + TELL_MARGIN)


def _request(
    here: Here, url: str, timeout: float, headers: Mapping[str, str] | None, *, waits: bool
) -> Callable[[], Answer | CrmFailure]:
    """The question with what is known of the call now, to be asked. `waits`: the caller does, and is not held by a dead CRM."""
    account, crm = here.account, here.parts.crm
    sent = parameters(here.call.state, now=datetime.now(UTC), account=account, account_id=here.account_id, digits=here.digits)
    secret = [] if here.call.state.digits != STARS else ["digits"]

    def get() -> Answer | CrmFailure:
        try:
            return crm.get(
                url,
                sent,
                deadline=timeout,
                allow_private=account.crm.allow_private,
                headers=headers,
                mask=[*account.crm.mask, *secret],
                account=here.account_id if waits else "",
            )
        except CrmFailure as failure:  # as a value: gevent would print it as an unhandled exception of its greenlet
            return failure

    return get


def _told(here: Here, step: str, url: str, found: Answer | CrmFailure, failed: Callable[..., None]) -> Asked:
    """Notes what came of a question at the step that asked it."""
    # the call's own parameters would hide what matters; they are the dialect's, and the call's record has them
    shown_url = mask_url(url, here.account.crm.mask)
    if isinstance(found, CrmFailure):
        code = f"crm.{found.reason}"
        stage = _STAGE.get(found.reason, "D")
        text = f"{urlsplit(url).hostname}: {found.detail} (after {found.ms} ms); {found.cure}"
        failed(stage, code, text, url=shown_url, status=found.status, ms=found.ms, **found.circuit)
        return Asked(None, code)
    code = f"crm.{found.status}"
    shown: dict[str, Any] = {"url": shown_url, "status": found.status, "ms": found.ms}
    shown |= {"answer": here.hidden.cover(found.excerpt), **found.circuit}
    if found.status >= 400 or found.status < 200:
        cure = "see the CRM's own log for the error" if found.status >= 500 else "check the URL and its key"
        failed("E", code, f"The CRM answered {found.status} in {found.ms} ms; {cure}", **shown)
    else:
        here.call.note("E", code, f"The CRM answered {found.status} in {found.ms} ms", step=step, **shown)
    return Asked(found, code)
