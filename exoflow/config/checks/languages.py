"""Callers who chose a language hear it: texts without theirs, and voices that would read it wrongly."""

from __future__ import annotations

from collections.abc import Iterator

from exoflow.config.draft import AccountDraft, Draft, prompts_of
from exoflow.config.findings import Finding
from exoflow.config.model import Account
from exoflow.config.steps import LanguageStep, TransferStep

Place = tuple[str, str]  # flow as it is run, and step


def check(draft: Draft) -> Iterator[Finding]:
    for account in draft.accounts:
        yield from dict.fromkeys(_texts(account))  # a step may be run with several values
        yield from _voices(account, draft)


def _texts(a: AccountDraft) -> Iterator[Finding]:
    account = a.as_run()
    heard = _languages_heard(account)
    for flow_name, flow in account.flows.items():
        for name, step in flow.steps.items():
            for inner, prompt in prompts_of(step):
                where = ("flows", flow_name.partition("(")[0], "steps", name, *inner)
                written = prompt.languages
                if written and account.language not in written:
                    message = f"there is no `{account.language}`, the account's language; callers without a choice need it"
                    yield a.document.at("E605", message, *where, key=True)
                    continue
                if not written and (prompt.say is None or prompt.language is not None):
                    continue  # music is for everybody, and a text with a language of its own is meant so
                missing = [one for one in heard.get((flow_name, name), ()) if one not in (written or [account.language])]
                if missing:
                    message = (
                        f"not in {', '.join(missing)}: callers who chose that hear it in {account.language}; write `say: {{…}}`"
                    )
                    yield a.document.at("W606", message, *where, key=True)


def _languages_heard(account: Account) -> dict[Place, list[str]]:
    """The languages that a caller may have chosen when he comes to a step."""
    heard: dict[Place, list[str]] = {}
    todo: list[tuple[Place, str]] = []
    for flow_name, flow in account.flows.items():
        todo += [((flow_name, s.next), s.language.to) for s in flow.steps.values() if isinstance(s, LanguageStep)]
    while todo:
        place, language = todo.pop()
        flow_name, name = place
        step = account.flows[flow_name].steps.get(name) if flow_name in account.flows else None
        if step is None or language in heard.setdefault(place, []):
            continue
        heard[place].append(language)
        if isinstance(step, TransferStep) and step.transfer.entry in account.flows:
            todo.append(((step.transfer.entry, account.flows[step.transfer.entry].start), language))
        if not isinstance(step, LanguageStep):
            todo += [((flow_name, target), language) for target in step.branches().values()]
    return heard


def _voices(a: AccountDraft, draft: Draft) -> Iterator[Finding]:
    prompts = draft.main.prompts if draft.main is not None else None
    if prompts is None or prompts.engine in (None, "text"):
        return
    for flow, name, step in a.steps():
        if isinstance(step, LanguageStep) and (chosen := step.language.to) not in (*prompts.voices, a.account.language):
            message = f"no voice for `{chosen}`, `{prompts.voice}` would read it; write `prompts: {{voices: {{{chosen}: …}}}}`"
            yield a.document.at("W607", message, "flows", flow, "steps", name, "language", "to")
