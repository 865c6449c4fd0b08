"""mail: sends a mail by the main file's mail server."""

from __future__ import annotations

from exoflow.calls.model import Stage
from exoflow.config.actions import MailStep
from exoflow.config.model import Mail as MailServer
from exoflow.crm.smtp import MailFailure
from exoflow.flow.here import Here
from exoflow.flow.messages import Sent, send
from exoflow.flow.templates import Texts


class Mail:
    """Sends a plain text mail by the server under `mail` in the main file, to the addresses in `to`, else to the account's
    `contacts`. A value is one line in it. Without a `failed` branch nobody waits: it goes out beside the call. Given to the
    server once, never repeated; the server's own queue does the rest.

    Branches: `next`; `failed`, if set, when the server is not there, too slow, or refuses.
    Caller gone: works as ever. Store gone: works as ever. CRM gone: works as ever; for a mail server that is gone see `failed`.
    Journey: mail.sending (evidence to, subject), or mail.unsent in a trial (evidence message); then
    mail.sent (evidence ms), or mail.connect, mail.tls, mail.login, mail.refused, mail.protocol,
    mail.timeout with the cure; mail.no_server or mail.no_receiver (the configuration lacks it);
    mail.once (under way when the call's socket was lost).
    """

    needs_caller = False

    def run(self, here: Here, step: MailStep) -> str:
        server = here.parts.config.mail
        to = step.mail.to or here.account.contacts
        if server is None or not to:
            code, lack = (
                ("no_server", "the main file has no `mail`") if server is None else ("no_receiver", "it has no receiver")
            )
            here.note("C", f"mail.{code}", f"No mail was sent: {lack}; `exoflow check` tells where to write it")
            return "next" if step.failed is None else "failed"
        texts = Texts(here)
        subject, text = texts.line(step.mail.subject), texts.text(step.mail.text)
        good = send(
            here,
            "mail",
            f"A mail to {', '.join(to)} is given to {server.smtp}",
            lambda: _deliver(here, server, to, subject, text, step.mail.timeout),
            seconds=step.mail.timeout,
            wait=step.failed is not None,
            hold=step.mail.hold,
            shown=lambda: {"text": Texts(here, seen=True).text(step.mail.text)},
            to=to,
            subject=Texts(here, seen=True).line(step.mail.subject),
            unset=texts.unset,
        )
        return "next" if good else "failed"

    def gone(self, here: Here, step: MailStep) -> str:
        return "next"


def _deliver(here: Here, server: MailServer, to: list[str], subject: str, text: str, seconds: float) -> Sent:
    try:
        ms = here.parts.mailer.send(server, to, subject, text, call=here.call.id, deadline=seconds)
    except MailFailure as failure:
        stage: Stage = "D" if failure.reason in ("connect", "tls") else "E"
        return Sent(False, stage, failure.reason, str(failure), {"ms": failure.ms})
    return Sent(True, "E", "sent", f"{server.smtp} took the mail in {ms} ms", {"ms": ms})
