"""What FreeSWITCH does by itself while no exoflow is there: whom it rings, what it says first."""

from __future__ import annotations

import os
from collections.abc import Iterator

from exoflow.config.draft import AccountDraft, Draft
from exoflow.config.findings import Finding, did_you_mean
from exoflow.config.model import Prompts
from exoflow.config.promptpath import prompt_path


def check(draft: Draft) -> Iterator[Finding]:
    main = draft.main
    if main is not None and main.switch.fallback is None and any(a.account.groups for a in draft.accounts):
        message = (
            "no agent is rung while exoflow is away; write under `switch` where FreeSWITCH's dialplan/fallback is, e.g. "
            "`fallback: /etc/freeswitch/dialplan/fallback`, and let exoflow's user write into it"
        )
        yield draft.main_document.at("W707", message, "switch", key=True)
    for account in draft.accounts:
        yield from _group(account)
        yield from _sound(account, None if draft.main is None else draft.main.prompts)


def _group(a: AccountDraft) -> Iterator[Finding]:
    group = a.account.fallback.group
    if group is not None and group not in a.account.groups:
        known = did_you_mean(group, a.account.groups) or "; the account has no `groups`"
        yield a.document.at("E303", f"unknown group `{group}`{known}", "fallback", "group")


def _sound(a: AccountDraft, prompts: Prompts | None) -> Iterator[Finding]:
    prompt = a.account.fallback.spoken(a.account.language)
    if prompt is None:
        return
    if isinstance(prompt.play, str):
        if not os.path.isfile(prompt.play):
            message = f"no such sound file: {prompt.play}; relative paths start at the folder of this file"
            yield a.document.at("E602", message, "fallback", "play")
    elif prompts is not None and prompts.engine is None and not os.path.isfile(path := prompt_path(prompts, prompt)):
        message = (
            "nothing can speak this text: write `prompts: {engine: espeak-ng}` into the main file, "
            f"or put a recording at {path}"
        )
        yield a.document.at("E601", message, "fallback", "say")
