"""passthru: tells the account's CRM about the call and lets its answer choose the way."""

from __future__ import annotations

from typing import Any

from exoflow.characters import one_line
from exoflow.config.steps import PassthruBesideStep, PassthruStep
from exoflow.flow.asking import ask, events_first, tell
from exoflow.flow.here import Here

BY_STATUS = {200: "ok", 302: "redirect"}  # branch by what the CRM answers; all else is `failed`
MAX_SELECT_CHARS = 200  # of a case's name


class Passthru:
    """GETs `url` with the dialect's parameters; the answer must come within `timeout` seconds (5).
    Its status chooses: 200 is `ok`, 302 `redirect`, all else `failed`, whatever the body is;
    without a `failed` branch the failure goes by `redirect`, as in Exotel's binary choice. An
    answered caller hears `hold`, or a soft tone, and keys pressed meanwhile are the next
    question's. A `fallback_url` is asked if `url` gave no answer in time, or a server's error
    (5xx), within as many seconds once more; Exotel has none here. The body of a 200, if it can be
    read within that time, may hold `{"select": "…"}` for a `switch` behind it, and values for a
    `set`. With `wait: false` it is sent beside the flow, which goes on by `next` at once; the
    answer is only noted, and the call's record waits for it. `fallback_url` is then told by the
    same rules, with what was known at the step.

    Branches: `ok`, `redirect`, `failed`; with `wait: false` only `next`.
    Caller gone: sent all the same, for CRMs take the call's data from a passthru behind a connect. Store gone: works as ever.
    CRM gone: `failed`, with the reason in the journey.
    Journey: crm.200 … (any status), crm.dns, crm.refused, crm.address, crm.tls, crm.timeout, crm.reset, crm.body (evidence url,
    status, ms, answer or unread); crm.open (not asked, since it did not answer lately; evidence circuit, since, last_failure);
    passthru.branch (evidence branch, because, select); passthru.again (asked once more, for the call's socket was lost in the
    question); passthru.beside; crm.fallback_url (the second URL is asked).
    """

    needs_caller = False

    def run(self, here: Here, step: PassthruStep | PassthruBesideStep) -> str:
        if isinstance(step, PassthruBesideStep):
            events_first(here)
            told = step.passthru
            tell(here, told.url, timeout=told.timeout, fallback_url=told.fallback_url)
            here.note("E", "passthru.beside", f"The CRM is told beside the flow: on to {step.next}")
            return "next"
        if (known := here.data.get("branch")) is not None:
            here.came_back("the CRM had answered")
            return str(known)
        if here.data:
            here.came_back("the CRM was being asked")
            here.note("D", "passthru.again", "Whether the CRM had got the request is unknown: it is asked again")
        here.keep(asking=True)
        events_first(here)
        settings = step.passthru
        asked = ask(here, settings.url, timeout=settings.timeout, hold=settings.hold, fallback_url=settings.fallback_url)
        here.remember(asked.answer.body if asked.answer is not None else b"")
        status = asked.answer.status if asked.answer is not None else None
        here.selected = _select(here.crm_said) if status == 200 else None
        branch = BY_STATUS.get(status or 0, "failed")
        if branch == "failed" and step.failed is None:
            branch = "redirect"
        evidence: dict[str, Any] = {"branch": branch, "because": asked.code}
        if here.selected is not None:
            evidence["select"] = here.hidden.cover(here.selected)
        here.note("F", "passthru.branch", f"On by `{branch}` to {step.branches()[branch]}", **evidence)
        here.keep(branch=branch)
        here.call.on_disk()  # an answered CRM is not asked twice, whatever dies now
        return branch

    def gone(self, here: Here, step: PassthruStep | PassthruBesideStep) -> None:
        """Never asked: a passthru runs without a caller and ends by itself."""


def _select(said: Any) -> str | None:
    """What a CRM selects; a number counts as its digits. None if it selects nothing."""
    value = said.get("select") if isinstance(said, dict) else None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    text = str(value).strip()
    return text if text and len(text) <= MAX_SELECT_CHARS and one_line(text) == text else None
