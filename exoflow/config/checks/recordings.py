"""Recordings that nobody could fetch, although the configuration speaks of fetching them."""

from __future__ import annotations

from collections.abc import Iterator

from exoflow.config.draft import AccountDraft, Draft
from exoflow.config.findings import Finding


def check(draft: Draft) -> Iterator[Finding]:
    web = None if draft.main is None else draft.main.web
    for account in draft.accounts:
        yield from _of(account, reached=draft.main is None or (web is not None and web.public_url is not None))


def _of(a: AccountDraft, *, reached: bool) -> Iterator[Finding]:
    if "recordings" in a.account.model_fields_set and not reached:
        message = (
            "recordings have no address by which anybody could fetch them; write `web: {public_url: …}` into the main file, "
            "how the world reaches `web.listen`"
        )
        yield a.document.at("W805", message, "recordings", key=True)
    if a.account.recordings.access == "key" and not a.account.api.keys:
        message = "recordings are fetched with a key of `api`, which has none; make one with `exoflow api-key`, or write `link`"
        yield a.document.at("W805", message, "recordings", "access")
