"""passthru: tells the account's CRM about the call and lets its answer choose the way."""

from __future__ import annotations

from exoflow.config.steps import PassthruStep
from exoflow.flow.asking import ask
from exoflow.flow.here import Here
from exoflow.flow.variables import json_body


class Passthru:
    """200 is `ok`, 302 `redirect`, all else `failed`; without a `failed` branch the failure goes by `redirect`, as in
    Exotel's binary choice (facts, exotel-dialect.md section 2.2). Runs without a caller, too: CRMs take the call's data
    from a passthru behind a connect."""

    needs_caller = False

    def run(self, here: Here, step: PassthruStep) -> str:
        asked = ask(here, step.passthru.url, timeout=step.passthru.timeout, hold=step.passthru.hold)
        here.crm_said = json_body(asked.answer.body) if asked.answer is not None else None
        status = asked.answer.status if asked.answer is not None else None
        branch = {200: "ok", 302: "redirect"}.get(status or 0, "failed")
        if branch == "failed" and step.failed is None:
            branch = "redirect"
        here.note("F", "passthru.branch", f"On by `{branch}` to {step.branches()[branch]}", branch=branch, because=asked.code)
        return branch

    def gone(self, here: Here, step: PassthruStep) -> None:
        """Never asked: a passthru runs without a caller and ends by itself."""
