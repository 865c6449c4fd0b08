"""Variables that are used and never set, mails without a server, pages nobody can trust."""

from __future__ import annotations

from collections.abc import Iterator

from exoflow.config.actions import BUILT_IN, Acting, MailStep, PageStep, SayValueStep, SetStep, names_in
from exoflow.config.draft import AccountDraft, Draft
from exoflow.config.findings import Finding, did_you_mean
from exoflow.config.steps import GatherStep, SwitchStep


def check(draft: Draft) -> Iterator[Finding]:
    for account in draft.accounts:
        # of all flows: a variable goes along when a call is transferred to another flow
        known = {name for _, _, step in account.steps() if isinstance(step, SetStep) for name in step.set.variables}
        known |= {s.gather.variable for _, _, s in account.steps() if isinstance(s, GatherStep) and s.gather.variable}
        known |= {name for flow in account.account.flows.values() for name in flow.parameters}
        # what a broken step sets is not known
        if not account.broken:
            yield from _variables(account, known)
        yield from _messages(account, draft)


def _variables(a: AccountDraft, known: set[str]) -> Iterator[Finding]:
    for flow, name, step in a.steps():
        where = ("flows", flow, "steps", name)
        if isinstance(step, SetStep):
            for variable in sorted(set(step.set.variables) & set(BUILT_IN)):
                message = f"`{variable}` is a name that every call has; choose another one"
                yield a.document.at("E204", message, *where, "set", "variables", variable, key=True)
        if isinstance(step, SwitchStep) and (used := step.switch.variable) is not None and used not in known:
            yield a.document.at("E311", _unknown(used, known), *where, "switch", "variable")
        if isinstance(step, SayValueStep) and (used := step.say_value.variable) is not None and used not in known:
            yield a.document.at("E311", _unknown(used, known), *where, "say_value", "variable")
        if isinstance(step, Acting):
            for inner, text in step.templates():
                for used in names_in(text):
                    if used not in known and used not in BUILT_IN:
                        yield a.document.at("E311", _unknown(used, {*known, *BUILT_IN}), *where, *inner)


def _unknown(name: str, known: set[str]) -> str:
    return f"no step sets the variable `{name}`{did_you_mean(name, known)}"


def _messages(a: AccountDraft, draft: Draft) -> Iterator[Finding]:
    for flow, name, step in a.steps():
        where = ("flows", flow, "steps", name)
        if isinstance(step, MailStep):
            if draft.main is not None and draft.main.mail is None:
                message = (
                    "there is no mail server; write into the main file `mail: {smtp: localhost:25, from: calls@example.org}`"
                )
                yield a.document.at("E312", message, *where, "mail", key=True)
            if step.mail.to is None and not a.account.contacts:
                message = "the mail has no receiver; write `to: [name@example.org]`, or the account's `contacts`"
                yield a.document.at("W313", message, *where, "mail", key=True)
        if isinstance(step, PageStep) and (a.account.deliveries is None or not _has_secret(a)):
            message = "the page is not signed, for the account has no `deliveries` with a secret"
            yield a.document.at("W313", message, *where, "page", key=True)


def _has_secret(a: AccountDraft) -> bool:
    deliveries = a.account.deliveries
    return deliveries is not None and (deliveries.secret is not None or deliveries.secret_file is not None)
