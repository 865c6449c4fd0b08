"""Why a request to a CRM gave no answer, in one word of ours."""

from __future__ import annotations

from typing import Literal

FailureReason = Literal["url", "dns", "refused", "address", "tls", "timeout", "reset", "body", "open"]


class Refusal(Exception):
    """A failure whose reason is known where it happens. No OSError, so that it passes through urllib3 as it is."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason, detail)
