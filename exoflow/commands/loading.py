"""For commands that need a good configuration."""

from __future__ import annotations

from pathlib import Path

import click

from exoflow.config.load import load
from exoflow.config.model import Config


def loaded(path: Path) -> Config:
    """The configuration; its errors are printed and end the command."""
    found = load(path)
    if found.config is None:
        for finding in found.errors:
            click.echo(str(finding), err=True)
        raise click.ClickException(f"{path} has errors; `exoflow check -c {path}` lists them")
    return found.config
