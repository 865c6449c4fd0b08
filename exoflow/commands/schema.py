"""`exoflow schema`: the JSON Schema of the configuration, for editors that complete and check while one types."""

from __future__ import annotations

import json

import click

from exoflow.config.schema import FILES
from exoflow.config.schema import schema as json_schema


@click.command()
@click.option("--applets", is_flag=True, help="instead: every applet for people, as Markdown (docs/applets.md)")
@click.option("--file", "file", type=click.Choice(list(FILES)), help="only the main file's or an account's schema")
def schema(file: str | None, applets: bool) -> None:
    """Prints the JSON Schema of the configuration's files."""
    if applets:
        from exoflow.commands.applets_page import page

        click.echo(page(), nl=False)
        return
    click.echo(json.dumps(json_schema(file), indent=1))
