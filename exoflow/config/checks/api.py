"""The APIs of calls and agents: can anybody use them, where an account's file speaks of them?"""

from __future__ import annotations

from collections.abc import Iterator

from exoflow.config.draft import Draft
from exoflow.config.findings import Finding


def check(draft: Draft) -> Iterator[Finding]:
    # a `web` with mistakes of its own is there all the same
    served = draft.main is None or "web" in draft.main_document.value
    for a in draft.accounts:
        if a.account.api.place_calls and not a.account.api.keys:
            message = (
                "calls are placed with a key of `api`, which has none, so nobody can; make one with `exoflow api-key`, or take "
                "`place_calls` out"
            )
            yield a.document.at("W806", message, "api", "place_calls", key=True)
        if a.account.api.keys and not served:
            message = (
                "no API is served, so these keys open nothing; write "
                '`web: {listen: "127.0.0.1:8080"}` into the main file, or take the keys out'
            )
            yield a.document.at("W807", message, "api", "keys", key=True)
