"""Loads a configuration: the main file, the accounts' files, and every check on them. Offline; nothing is changed."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from exoflow.config.checks import (
    actions,
    api,
    claims,
    fallback,
    holidays,
    languages,
    names,
    outside,
    parameters,
    paths,
    recordings,
    sounds,
    ways,
)
from exoflow.config.checks.secrets import Secrets
from exoflow.config.draft import AccountDraft, Draft
from exoflow.config.findings import Finding, finding
from exoflow.config.keep import Kept, keep
from exoflow.config.model import Account, Config, Main
from exoflow.config.shape import Shaped, shape
from exoflow.config.yaml12 import Document, parse, read

CHECKS = (
    names.check,
    parameters.check,
    ways.check,
    claims.check,
    sounds.check,
    paths.check,
    languages.check,
    holidays.check,
    outside.check,
    recordings.check,
    api.check,
    actions.check,
    fallback.check,
)

ACCOUNT_KEYS = {"name", "numbers", "flows", "agents", "groups"}  # an account's file has some of them
MAIN_FILE_LEVELS = 3  # folders up from an account's file in which its main file is looked for
# an account's id stands in URLs, logs and folders
_ACCOUNT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Loaded:
    """`config` is None when any finding is an error."""

    config: Config | None
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.level == "error"]


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Reads and checks the configuration whose main file is `path`; never raises for what stands in the files.

    Findings are in the order of the files, the main file first, and of the lines in each.
    """
    main = read(path)
    if _looks_like_account(main.value):
        return Loaded(None, main.findings or [finding("E111", _account_as_main(path), path, line=0)])
    shaped = shape(Main, main, environ)
    found, problems = _account_files(path, main, shaped.model) if isinstance(main.value, dict) else ([], [])
    return _loaded(main, shaped, [read(file) for file in found], problems, environ)


def load_kept(files: Mapping[str, str], base: Path, environ: Mapping[str, str] = os.environ) -> Loaded:
    """A configuration once more, from the texts that were kept of it (config/keep.py); `base` is the main file's folder.

    Secrets and sound files are looked for where they are, so it may have findings that it had not when it was kept.
    """
    main, *accounts = [parse(base / name, text.encode()) for name, text in files.items()]
    return _loaded(main, shape(Main, main, environ), accounts, [], environ)


def _loaded(
    main: Document, shaped: Shaped[Main], accounts: list[Document], problems: list[Finding], environ: Mapping[str, str]
) -> Loaded:
    draft = Draft(main, shaped.model)
    findings = [*main.findings, *shaped.findings, *problems]
    for document in accounts:
        findings += _take_account(document, draft, environ)
    secrets = Secrets(draft, environ)
    for check in CHECKS:
        findings += check(draft)
    findings += secrets.check()
    findings = list(dict.fromkeys(findings))  # a flow that is run with several values has its mistakes several times
    order = {document.path: i for i, document in enumerate([main, *accounts])}
    findings.sort(key=lambda f: (order[f.path], f.line, f.col, f.code))
    if any(f.level == "error" for f in findings) or shaped.model is None:
        return Loaded(None, findings)
    kept = keep(main.path.parent, ((document.path, document.text) for document in [main, *accounts]))
    return Loaded(_config(main.path, secrets.into_main(shaped.model), draft, secrets, kept), findings)


def _account_files(path: Path, document: Document, main: Main | None) -> tuple[list[Path], list[Finding]]:
    pattern = document.value.get("accounts") if main is None else main.accounts
    if not isinstance(pattern, str):
        pattern = Main.model_fields["accounts"].default
    found = sorted(Path(name) for name in glob.glob(os.path.join(glob.escape(str(path.parent)), pattern)))
    files = [file for file in found if not file.is_dir() and file.absolute() != path.absolute()]
    if files or main is None:
        return files, []
    message = f"no file matches `{pattern}`, so every call would be refused; copy examples/acme/accounts/acme.yaml there"
    return [], [document.at("E903", message, "accounts")]


def _looks_like_account(value: object) -> bool:
    return isinstance(value, dict) and "trunks" not in value and bool(ACCOUNT_KEYS & value.keys())


def _account_as_main(path: Path) -> str:
    """What to do when `-c` names an account's file."""
    mains = [folder / "exoflow.yaml" for folder in list(path.parents)[:MAIN_FILE_LEVELS]]
    near = next((main for main in mains if main.is_file()), None)
    cure = f"here {near}" if near else "the one that has `trunks:`"
    return f"this is an account's file, and `-c` takes the main file: {cure}"


def _take_account(document: Document, draft: Draft, environ: Mapping[str, str]) -> list[Finding]:
    file = document.path
    if isinstance(document.value, dict) and "trunks" in document.value:
        message = "this is a main file, not an account's; move it out of the accounts' folder"
        return [finding("E111", message, file, line=0)]
    if _ACCOUNT_ID.fullmatch(file.stem) is None:
        message = f"`{file.stem}` becomes the account's id; name the file with letters, digits, `-` and `_` only"
        document.findings.append(finding("E902", message, file, line=0))
    earlier = next((a for a in draft.accounts if a.id == file.stem), None)
    if earlier is not None:
        message = f"the account `{file.stem}` is also in {earlier.document.path}; rename one of the files"
        document.findings.append(finding("E901", message, file, line=0))
    shaped = shape(Account, document, environ)
    if shaped.model is not None:
        draft.accounts.append(AccountDraft(file.stem, document, shaped.model, shaped.broken))
    return [*document.findings, *shaped.findings]


def _config(path: Path, main: Main, draft: Draft, secrets: Secrets, kept: Kept) -> Config:
    base = path.parent.absolute()
    return Config(
        base=base,
        switch=main.switch,
        store=outside.SQLITE + str(base / main.store.removeprefix(outside.SQLITE)),
        prompts=main.prompts,
        trunks=main.trunks,
        accounts={a.id: secrets.into_account(a.id, a.as_run()) for a in draft.accounts},
        web=main.web,
        mail=main.mail,
        spill=main.spill,
        kept=kept,
    )
