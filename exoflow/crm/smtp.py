"""Mail by SMTP, with an end to every wait. smtplib blocks, so it runs in threads of its own."""

from __future__ import annotations

import os
import smtplib
import socket
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Literal

import gevent
from gevent import monkey
from gevent.threadpool import ThreadPool

from exoflow.config.model import Mail
from exoflow.errors import ExoflowError

MAX_AT_ONCE = 4  # mails; the box's own mail server takes one in milliseconds

Reason = Literal["connect", "tls", "login", "refused", "timeout", "protocol"]

_CURES: dict[Reason, str] = {
    "connect": "is the mail server running, and is `mail.smtp` in the main file right?",
    "tls": "renew or correct the server's certificate, name its authority in `mail.ca_file`, or set `mail.security` to what it "
    "offers",
    "login": "correct `mail.user` and `mail.password`",
    "refused": "see the mail server's log: it must take mails from `mail.from` for these receivers",
    "timeout": "look at the mail server, or give the step a longer `timeout`",
    "protocol": "`mail.smtp` must lead to a mail server's SMTP port",
}


class MailFailure(ExoflowError):
    """The server did not take the mail."""

    def __init__(self, reason: Reason, ms: int, detail: str) -> None:
        self.reason, self.ms, self.detail = reason, ms, detail
        super().__init__(f"{detail} (after {ms} ms); {_CURES[reason]}")


class _NoAuthority(Exception):
    """The file of the server's authority cannot be used."""


class Mailer:
    """One for the process."""

    def __init__(self) -> None:
        self._threads = ThreadPool(MAX_AT_ONCE)
        self.in_flight = 0  # mails that wait for the server's answer: a rehearsal's clock must not overtake them

    def send(self, mail: Mail, to: Sequence[str], subject: str, text: str, *, call: str, deadline: float) -> int:
        """Gives one mail to the server; milliseconds that took. `deadline` in seconds is for everything. Raises MailFailure."""
        begun = time.monotonic()
        message = _message(mail, to, subject, text, call)
        job = _Job(mail, message, list(to), deadline)
        timer = gevent.Timeout(deadline)
        self.in_flight += 1
        try:
            with timer:
                problem = self._threads.spawn(job.run).get()
        except gevent.Timeout as over:
            if over is not timer:
                raise
            job.cut()
            problem = ("timeout", f"{mail.smtp} had not taken the mail within {deadline:g} s")
        finally:
            self.in_flight -= 1
        ms = round((time.monotonic() - begun) * 1000)
        if problem is not None:
            raise MailFailure(problem[0], ms, problem[1])
        return ms


def _message(mail: Mail, to: Sequence[str], subject: str, text: str, call: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = mail.sender
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(call, mail.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answer comes back
    message["X-Exoflow-Call"] = call
    message.set_content(text)
    return message


class _Job:
    """One mail, in a thread."""

    def __init__(self, mail: Mail, message: EmailMessage, to: list[str], seconds: float) -> None:
        self._mail, self._message, self._to, self._seconds = mail, message, to, seconds
        self._smtp: smtplib.SMTP | None = None
        self._over = False

    def given_up(self) -> bool:
        """Another thread may have said so since this was last asked."""
        return self._over

    def run(self) -> tuple[Reason, str] | None:
        """None if the server took it for all receivers, else the problem."""
        if self.given_up():  # it waited for a thread too long
            return None
        try:
            with self._connected() as smtp:
                self._smtp = smtp
                if self.given_up():
                    return None
                if self._mail.security == "starttls":
                    smtp.starttls(context=self._trusting())
                if self._mail.user is not None and self._mail.password is not None:
                    smtp.login(self._mail.user, self._mail.password.get_secret_value())
                refused = smtp.send_message(self._message, self._mail.sender, self._to)
        except smtplib.SMTPAuthenticationError as error:
            return "login", f"{self._mail.smtp} refused the login: {_said(error)}"
        except smtplib.SMTPRecipientsRefused as error:
            return "refused", f"{self._mail.smtp} refused {', '.join(error.recipients)}"
        except smtplib.SMTPResponseException as error:
            if not 200 <= error.smtp_code < 600:  # smtplib's -1: no number where SMTP has one
                return "protocol", f"{self._mail.smtp} does not speak SMTP: {_said(error)}"
            return "refused", f"{self._mail.smtp} answered {_said(error)}"
        except _NoAuthority as error:
            return "tls", str(error)
        except ssl.SSLCertVerificationError as error:
            return "tls", f"the certificate of {self._mail.smtp} is not good: {error.verify_message}"
        except ssl.SSLError as error:
            return "tls", f"TLS with {self._mail.smtp} failed: {error.reason or error}"
        except smtplib.SMTPNotSupportedError as error:
            return "tls" if "STARTTLS" in str(error) else "login", f"{self._mail.smtp}: {error}"
        except smtplib.SMTPServerDisconnected:
            return "connect", f"{self._mail.smtp} ended the connection before it had taken the mail"
        except TimeoutError:
            return "timeout", f"{self._mail.smtp} did not answer within {self._seconds:g} s"
        except (smtplib.SMTPException, ValueError) as error:
            return "protocol", f"{self._mail.smtp}: {error}"
        except OSError as error:
            return "connect", f"{self._mail.smtp} cannot be reached: {error.strerror or error}"
        return ("refused", f"{self._mail.smtp} refused {', '.join(refused)}") if refused else None

    def _connected(self) -> smtplib.SMTP:
        host, port = self._mail.address
        name = socket.gethostname()  # else smtplib asks the name servers for ours, for as long as they take
        if self._mail.security == "tls":
            return smtplib.SMTP_SSL(host, port, local_hostname=name, timeout=self._seconds, context=self._trusting())
        return smtplib.SMTP(host, port, local_hostname=name, timeout=self._seconds)

    def _trusting(self) -> ssl.SSLContext:
        """The system's authorities, and those of `mail.ca_file`. Raises _NoAuthority."""
        try:
            context = ssl.create_default_context()
            if self._mail.ca_file is not None:
                context.load_verify_locations(self._mail.ca_file)
        except OSError as error:
            raise _NoAuthority(f"mail.ca_file {self._mail.ca_file} cannot be read: {error.strerror or error}") from None
        return context

    def cut(self) -> None:
        """Ends the talk from outside, by the descriptor, for sockets are their thread's: its next read meets the end."""
        self._over = True
        sock = self._smtp.sock if self._smtp is not None else None
        if sock is None or sock.fileno() < 0:
            return
        same = monkey.get_original("socket", "socket")(fileno=os.dup(sock.fileno()))
        try:
            same.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended by itself
        finally:
            same.close()


def _said(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
    return f"{error.smtp_code} {''.join(c if c.isprintable() else ' ' for c in text)[:200]}"
