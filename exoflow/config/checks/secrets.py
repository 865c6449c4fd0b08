"""Passwords and secrets: read from their files or the environment while loading, so that nothing is missing later."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from exoflow.config.draft import Draft
from exoflow.config.findings import Finding
from exoflow.config.model import Account, Main
from exoflow.config.yaml12 import Document

EVENT_SOCKET_VARIABLE = "EXOFLOW_EVENT_SOCKET_PASSWORD"  # taken where the file names neither a password nor its file
MAX_SECRET_BYTES = 4096  # more is some other file
SIGNING_BYTES = range(24, 65)  # Standard Webhooks 1.0.0

_FROM_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(slots=True)
class Secrets:
    """Reads them all and keeps what it found to put into the models."""

    draft: Draft
    environ: Mapping[str, str]
    password: SecretStr | None = None
    by_account: dict[str, SecretStr] = field(default_factory=dict)

    def check(self) -> Iterator[Finding]:
        if self.draft.main is not None:
            yield from self._event_socket(self.draft.main, self.draft.main_document)
        for account in self.draft.accounts:
            yield from self._deliveries(account.id, account.account, account.document)

    def into_main(self, main: Main) -> Main:
        socket = main.switch.event_socket.model_copy(update={"password": self.password})
        return main.model_copy(update={"switch": main.switch.model_copy(update={"event_socket": socket})})

    def into_account(self, account_id: str, account: Account) -> Account:
        if account.deliveries is None:
            return account
        deliveries = account.deliveries.model_copy(update={"secret": self.by_account.get(account_id)})
        return account.model_copy(update={"deliveries": deliveries})

    def _event_socket(self, main: Main, document: Document) -> Iterator[Finding]:
        where = ("switch", "event_socket")
        socket = main.switch.event_socket
        text, findings = self._read(socket.password, socket.password_file, document, where, "password")
        yield from findings
        if text is None and not findings:
            text = self.environ.get(EVENT_SOCKET_VARIABLE) or None
            if text is None:
                message = (
                    "no password for FreeSWITCH's event socket: write `password_file: esl.password`, "
                    f"or set {EVENT_SOCKET_VARIABLE}"
                )
                yield document.at("W705", message, *where, key=True)
        self.password = None if text is None else SecretStr(text)

    def _deliveries(self, account_id: str, account: Account, document: Document) -> Iterator[Finding]:
        deliveries = account.deliveries
        if deliveries is None:
            return
        text, findings = self._read(deliveries.secret, deliveries.secret_file, document, ("deliveries",), "secret")
        yield from findings
        if text is not None:
            self.by_account[account_id] = SecretStr(text)
            if not _signs(text):
                key = "secret_file" if deliveries.secret is None else "secret"
                message = (
                    "a signing secret is `whsec_` and base64 of 24 to 64 bytes; make one with "
                    "`echo whsec_$(openssl rand -base64 32)`"
                )
                yield document.at("E703", message, "deliveries", key)
        elif not findings:
            message = (
                "deliveries without a secret are not signed, so the CRM cannot tell them from anybody else's; "
                "write `secret_file:`, made with `echo whsec_$(openssl rand -base64 32)`"
            )
            yield document.at("W704", message, "deliveries", key=True)

    def _read(
        self, given: SecretStr | None, file: Path | None, document: Document, where: tuple[Any, ...], key: str
    ) -> tuple[str | None, list[Finding]]:
        """The secret and what is wrong with it; (None, []) where none is configured."""
        if given is not None and file is not None:
            message = f"write either `{key}` or `{key}_file`, not both"
            return None, [document.at("E206", message, *where, f"{key}_file", key=True)]
        if file is not None:
            text, problem = _first_line(file)
            return text, [document.at("E701", problem, *where, f"{key}_file")] if problem else []
        if given is None:
            return None, []
        text = given.get_secret_value()
        if (variable := _FROM_ENVIRONMENT.fullmatch(text)) is None:
            return text, [] if text else [document.at("E701", f"`{key}` is empty; write one", *where, key)]
        found = self.environ.get(variable[1])
        if not found:
            message = f"the environment variable {variable[1]} is not set; set it, or write `{key}_file:`"
            return None, [document.at("E702", message, *where, key)]
        return found, []


def _first_line(file: Path) -> tuple[str | None, str]:
    """The secret in a file, or what keeps it from being read, with the cure."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_SECRET_BYTES + 1)
        text = raw.decode("utf-8").split("\n", 1)[0].strip()
    except OSError as error:
        return None, f"{file} cannot be read: {error.strerror}; check its name, and that exoflow's user may read it"
    except UnicodeDecodeError:
        return None, f"{file} is not text; it holds the secret in its first line"
    if not text or len(raw) > MAX_SECRET_BYTES:
        return None, f"{file} is {'empty' if not text else 'too large'}; it holds the secret in its first line"
    return text, ""


def _signs(secret: str) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return False
    return secret.startswith("whsec_") and len(key) in SIGNING_BYTES
