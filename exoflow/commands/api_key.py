"""`exoflow api-key`: a key for the Calls API. The token is shown once; the configuration takes its hash alone."""

from __future__ import annotations

import re
from pathlib import Path

import click

from exoflow.commands.loading import loaded
from exoflow.config.findings import did_you_mean
from exoflow.config.model import KEY_NAME
from exoflow.web.apikeys import new_key


@click.command(name="api-key")
@click.argument("account")
@click.option(
    "-c", "--config", "file", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), help="the main file"
)
@click.option("--key", "name", help="its name, for programs that log in with the account's sid; made up unless given")
def api_key(account: str, file: Path, name: str | None) -> None:
    """Make a key with which ACCOUNT's calls can be read, and placed if `api.place_calls` is on.

    Changes no file: the lines to add are printed.
    """
    accounts = loaded(file).accounts
    if account not in accounts:
        raise click.ClickException(f"there is no account {account!r}{did_you_mean(account, accounts)}")
    if name is not None and re.fullmatch(KEY_NAME, name) is None:
        raise click.ClickException("a key's name has 2 to 64 letters, digits, - and _")
    made = new_key(name)
    click.echo(f"# for whoever may use the Calls API for {account}; the token is shown this once\nkey:   {made.key}")
    click.echo(f"token: {made.token}\n")
    click.echo(f"# into the file of {account}, then SIGHUP; beside the `keys` that are there")
    click.echo(f"api:\n  keys:\n    - key: {made.key}\n      token_hash: {made.token_hash}")
