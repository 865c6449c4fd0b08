"""`exoflow schema`: the JSON Schema of the configuration, for editors that complete and check while one types."""

from __future__ import annotations

import json

import click

from exoflow.calls.schemas import MODELS
from exoflow.calls.schemas import schema as delivery_schema
from exoflow.config.schema import FILES
from exoflow.config.schema import schema as json_schema


@click.command()
@click.option("--applets", is_flag=True, help="instead: every applet for people, as Markdown (docs/applets.md)")
@click.option("--file", "file", type=click.Choice(list(FILES)), help="only the main file's or an account's schema")
@click.option("--delivery", type=click.Choice(list(MODELS)), help="instead: of a delivery's body (docs/schemas)")
def schema(file: str | None, applets: bool, delivery: str | None) -> None:
    """Prints the JSON Schema of the configuration's files."""
    if delivery is not None:
        click.echo(json.dumps(delivery_schema(delivery), indent=1, ensure_ascii=False))
        return
    if applets:
        from exoflow.commands.applets_page import page

        click.echo(page(), nl=False)
        return
    click.echo(json.dumps(json_schema(file), indent=1))
