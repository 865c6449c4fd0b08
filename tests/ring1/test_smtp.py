"""Mails over TLS and STARTTLS, with a test authority; and a server that goes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from pydantic import SecretStr
from support.certificates import Authority, authority, self_signed
from support.mailbox import CLOSE, MailBox
from support.ports import free_port

from exoflow.config.load import load
from exoflow.config.model import Mail
from exoflow.crm.smtp import Mailer, MailFailure

LOGIN = {"EHLO": b"250-test\r\n250 AUTH PLAIN", "AUTH": b"235 welcome"}
SECURITIES = ["tls", "starttls"]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("authority"))


def mail_by(box: MailBox, security: str, **more: Any) -> Mail:
    port = box.address.rpartition(":")[2]
    return Mail.model_validate({"smtp": f"localhost:{port}", "from": "calls@acme.example", "security": security, **more})


def sent(mail: Mail, *, deadline: float = 10.0) -> int:
    return Mailer().send(mail, ["desk@acme.example"], "A subject", "A text", call="1", deadline=deadline)


def failure(mail: Mail, **how: Any) -> MailFailure:
    with pytest.raises(MailFailure) as caught:
        sent(mail, **how)
    return caught.value


@pytest.mark.parametrize("security", SECURITIES)
def test_login_and_mail_go_through_tls(trusted: Authority, security: str) -> None:
    with MailBox(LOGIN, tls=trusted.server("localhost"), starttls=security == "starttls") as box:
        login = {"user": "exo", "password": SecretStr("s3cret")}
        sent(mail_by(box, security, ca_file=trusted.file, **login))
    (mail,) = box.mails
    assert mail["Subject"] == "A subject"
    (auth,) = (command for command in box.commands if "AUTH" in command)
    if security == "starttls":
        assert auth.startswith("tls:AUTH PLAIN")
        assert [command for command in box.commands if not command.startswith("tls:")][1:] == ["STARTTLS"]


@pytest.mark.parametrize("security", SECURITIES)
@pytest.mark.parametrize(
    ("name", "end", "trusts", "told"),
    [
        ("localhost", "20991231235959Z", False, "certificate"),
        ("mail.acme.example", "20991231235959Z", True, "mismatch"),
        ("localhost", "20210101000000Z", True, "expired"),
    ],
)
def test_a_certificate_that_is_not_good_gets_nothing(
    trusted: Authority, security: str, name: str, end: str, trusts: bool, told: str
) -> None:
    with MailBox(LOGIN, tls=trusted.server(name, end=end), starttls=security == "starttls") as box:
        login = {"user": "exo", "password": SecretStr("s3cret")}
        failed = failure(mail_by(box, security, ca_file=trusted.file if trusts else None, **login))
    assert failed.reason == "tls"
    assert told in str(failed)
    assert "mail.ca_file" in str(failed)
    assert box.mails == []
    assert not any("AUTH" in command or "MAIL" in command for command in box.commands)


def test_nothing_is_said_in_clear_to_a_server_without_starttls() -> None:
    with MailBox(LOGIN) as box:
        failed = failure(mail_by(box, "starttls", user="exo", password=SecretStr("s3cret")))
    assert failed.reason == "tls"
    assert not any("AUTH" in command or "MAIL" in command for command in box.commands)


def test_a_server_that_speaks_tls_from_the_first_byte_is_no_starttls_server(trusted: Authority) -> None:
    with MailBox(tls=trusted.server("localhost")) as box:
        failed = failure(mail_by(box, "starttls", ca_file=trusted.file), deadline=1.0)
    assert failed.reason in ("timeout", "connect")
    assert box.mails == []


def test_a_login_that_the_server_does_not_know() -> None:
    with MailBox() as box:
        failed = failure(mail_by(box, "none", user="exo", password=SecretStr("s3cret")))
    assert failed.reason == "login"
    assert "mail.user" in str(failed)


@pytest.mark.parametrize("command", ["EHLO", "MAIL", "RCPT", "DATA", "TAKEN"])
def test_a_server_that_goes_away(command: str) -> None:
    with MailBox({command: CLOSE, "HELO": CLOSE}) as box:
        failed = failure(mail_by(box, "none"))
    assert failed.reason == "connect"
    assert "is the mail server running" in str(failed)


def test_mails_under_way_are_counted(trusted: Authority) -> None:
    mailer, came = Mailer(), Event()
    with MailBox({"DATA": b""}) as box:
        mail = mail_by(box, "none")
        sending = gevent.spawn(mailer.send, mail, ["desk@acme.example"], "A", "B", call="1", deadline=0.5)
        gevent.spawn(lambda: came.set() if mailer.in_flight == 1 else None)
        assert came.wait(5)
        with pytest.raises(MailFailure):
            sending.get(timeout=5)
    assert mailer.in_flight == 0


# --- the configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"), [(None, "cannot be read: No such file"), ("hello", "holds no certificate"), ("good", "")]
)
def test_the_authoritys_file_is_looked_at_when_the_configuration_is_read(
    trusted: Authority, tmp_path: Path, text: str | None, told: str
) -> None:
    if text is not None:
        (tmp_path / "mail.pem").write_text(trusted.file.read_text() if text == "good" else text)
    mail = "mail: {smtp: 'localhost:465', from: calls@acme.example, security: tls, ca_file: mail.pem}"
    (tmp_path / "exoflow.yaml").write_text(f"trunks: {{PRI1: {{span: PRI1}}}}\n{mail}\n")
    found = [finding for finding in load(tmp_path / "exoflow.yaml", {}).findings if finding.code == "E101"]
    assert [(finding.line, told in finding.message) for finding in found] == ([(2, True)] if told else [])


def test_a_file_that_has_gone_since_is_told(trusted: Authority, tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    with MailBox(tls=trusted.server("localhost")) as box:
        mail = mail_by(box, "tls", ca_file=trusted.file).model_copy(update={"ca_file": gone})
        failed = failure(mail)
    assert (failed.reason, str(gone) in str(failed)) == ("tls", True)


def test_a_self_signed_certificate_may_be_trusted_by_itself(tmp_path: Path) -> None:
    context = self_signed(tmp_path, "localhost")
    with MailBox(tls=context) as box:
        sent(mail_by(box, "tls", ca_file=tmp_path / "self.pem"))
    assert len(box.mails) == 1


def test_a_server_that_is_not_there() -> None:
    assert failure(Mail.model_validate({"smtp": f"127.0.0.1:{free_port()}", "from": "a@b.example"})).reason == "connect"
