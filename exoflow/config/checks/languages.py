"""Callers who chose a language hear it: texts without theirs, values without words, and voices that would read it wrongly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exoflow.config.actions import SayValueStep
from exoflow.config.draft import AccountDraft, Draft, prompts_of
from exoflow.config.findings import Finding
from exoflow.config.model import Account
from exoflow.config.spoken import LANGUAGES, table_of
from exoflow.config.steps import LanguageStep, Step, TransferStep

FOR_AGENTS = (("connect", "whisper"), ("connect", "confirm"))  # who hear the account's language, whatever callers choose

Place = tuple[str, str]  # flow as it is run, and step


def check(draft: Draft) -> Iterator[Finding]:
    for account in draft.accounts:
        heard = _languages_heard(account.as_run())
        yield from dict.fromkeys(_texts(account, heard))  # a step may be run with several values
        yield from dict.fromkeys(_values(account, heard))
        yield from _voices(account, draft)


def _texts(a: AccountDraft, heard: Mapping[Place, list[str]]) -> Iterator[Finding]:
    account = a.as_run()
    languages = account.languages
    for flow_name, flow in account.flows.items():
        for name, step in flow.steps.items():
            for inner, prompt in prompts_of(step, languages):
                where = ("flows", flow_name.partition("(")[0], "steps", name, *inner)
                written = prompt.languages
                if written and account.language not in written:
                    message = f"there is no `{account.language}`, the account's language; callers without a choice need it"
                    yield a.document.at("E605", message, *where, key=True)
                    continue
                if inner in FOR_AGENTS:
                    continue
                if not written and (prompt.say is None or prompt.language is not None):
                    continue  # music is for everybody, and a text with a language of its own is meant so
                missing = [one for one in heard.get((flow_name, name), ()) if one not in (written or [account.language])]
                if missing:
                    message = (
                        f"not in {', '.join(missing)}: callers who chose that hear it in {account.language}; write `say: {{…}}`"
                    )
                    yield a.document.at("W606", message, *where, key=True)


def _values(a: AccountDraft, heard: Mapping[Place, list[str]]) -> Iterator[Finding]:
    account = a.as_run()
    for flow_name, flow in account.flows.items():
        for name, step in flow.steps.items():
            if not isinstance(step, SayValueStep) or step.say_value.language is not None:
                continue
            missing = [one for one in heard.get((flow_name, name), ()) if table_of(one) is None]
            if missing:
                said = step.language_for(account.language, account.language)
                message = (
                    f"exoflow has no words of values in {', '.join(missing)}: callers who hear that get the value in {said}; "
                    f"there are words in {', '.join(LANGUAGES)}"
                )
                yield a.document.at("W608", message, "flows", flow_name.partition("(")[0], "steps", name, "say_value", key=True)


def _languages_heard(account: Account) -> dict[Place, list[str]]:
    """The languages that a caller may hear when he comes to a step: the account's, or what he has chosen."""
    heard: dict[Place, list[str]] = {}
    entries = [number.entry for number in account.numbers if number.entry in account.flows]
    todo = [((entry, account.flows[entry].start), account.language) for entry in entries]
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
        chosen, where = _chosen(step)
        if chosen is not None and chosen not in (*prompts.voices, a.account.language):
            message = f"no voice for `{chosen}`, `{prompts.voice}` would read it; write `prompts: {{voices: {{{chosen}: …}}}}`"
            yield a.document.at("W607", message, "flows", flow, "steps", name, *where)


def _chosen(step: Step) -> tuple[str | None, tuple[str, str]]:
    """The language that a step itself names, and where."""
    if isinstance(step, LanguageStep):
        return step.language.to, ("language", "to")
    return (step.say_value.language if isinstance(step, SayValueStep) else None), ("say_value", "language")
