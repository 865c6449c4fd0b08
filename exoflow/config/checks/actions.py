"""Variables that are used and never set, mails without a server, pages nobody can trust."""

from __future__ import annotations

from collections.abc import Iterator

from exoflow.config.actions import Acting, MailStep, PageStep, SayValueStep, SetStep
from exoflow.config.draft import AccountDraft, Draft
from exoflow.config.findings import Finding, did_you_mean
from exoflow.config.parameters import FILLED_IN_CALLS, used_in
from exoflow.config.steps import GatherStep, SwitchStep
from exoflow.config.templates import BUILT_IN, SPOKEN_BUILT_IN, names_in

RECORDING = "recording"
NO_ADDRESS = "`{recording}` is empty, for recordings have no address; write `web: {public_url: …}` into the main file"


def check(draft: Draft) -> Iterator[Finding]:
    for account in draft.accounts:
        # what a broken step sets is not known
        if not account.broken:
            reached = draft.main is None or (draft.main.web is not None and draft.main.web.public_url is not None)
            # a step may be run with several values
            yield from dict.fromkeys(_variables(account, variables(account), recordings_reached=reached))
        yield from _messages(account, draft)


def variables(a: AccountDraft) -> set[str]:
    """What the flows set, of all of them: a variable goes along when a call is transferred to another flow."""
    known = {name for _, _, step in a.steps() if isinstance(step, SetStep) for name in step.set.variables}
    known |= {s.gather.variable for _, _, s in a.steps() if isinstance(s, GatherStep) and s.gather.variable}
    return known | {name for flow in a.account.flows.values() for name in flow.parameters}


def may_name(key: str, known: set[str]) -> set[str]:
    """The names that a text under `say`, or an address, may have."""
    return known | set(SPOKEN_BUILT_IN if key == "say" else BUILT_IN)


def _variables(a: AccountDraft, known: set[str], *, recordings_reached: bool) -> Iterator[Finding]:
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
        for inner, text in step.templates() if isinstance(step, Acting) else ():
            for used in names_in(text):
                if used not in known and used not in BUILT_IN:
                    yield a.document.at("E311", _unknown(used, {*known, *BUILT_IN}), *where, *inner)
                elif used == RECORDING and not recordings_reached:
                    yield a.document.at("W805", NO_ADDRESS, *where, *inner)
    for flow, name, step in a.steps_as_run():
        where = ("flows", flow, "steps", name)
        named = [(path, key, used) for path, key, used in used_in(step) if key in FILLED_IN_CALLS]
        own = a.account.flows[flow].parameters if named else {}
        # what a flow with parameters names by itself is told by checks/parameters.py
        told = {(path, used) for path, _, used in used_in(a.account.flows[flow].steps[name])} if own else set()
        for path, key, used in named:
            if used not in may_name(key, known) and (path, used) not in told:
                yield a.document.at("E311", _unspoken(used, key, known), *where, *path)
            elif used == RECORDING and not recordings_reached:
                yield a.document.at("W805", NO_ADDRESS, *where, *path)


def _unspoken(name: str, key: str, known: set[str]) -> str:
    if name in BUILT_IN and key == "say":
        return f"`{name}` cannot be spoken{did_you_mean('', may_name(key, known))}"
    return _unknown(name, may_name(key, known))


def _unknown(name: str, known: set[str]) -> str:
    return f"no step sets the variable `{name}`{did_you_mean(name, known)}"


def _messages(a: AccountDraft, draft: Draft) -> Iterator[Finding]:
    for flow, name, step in a.steps():
        where = ("flows", flow, "steps", name)
        if isinstance(step, MailStep):
            for i, receiver in enumerate(step.mail.to or ()):
                if "{" in receiver or "}" in receiver:
                    message = "a receiver is written out: no variable is filled in it"
                    yield a.document.at("E311", message, *where, "mail", "to", i)
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
