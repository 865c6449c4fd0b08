"""`exoflow prompts`: what callers hear, rendered and listed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from exoflow.config.model import Config
    from exoflow.prompts import Wanted

_config_file = click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    default=Path("exoflow.yaml"),
    show_default=True,
    metavar="FILE",
    help="the main file",
)


@click.group()
def prompts() -> None:
    """The prompts of the flows."""


@prompts.command()
@_config_file
@click.option("--all", "everything", is_flag=True, help="render also what is there already")
def build(config_file: Path, everything: bool) -> None:
    """Renders each `say` that has no sound file yet."""
    from exoflow.errors import PromptError
    from exoflow.prompts import PromptBook

    config = _load(config_file)
    book, seconds_made = PromptBook(config.prompts), 0.0

    def show(wanted: Wanted, seconds: float) -> None:
        nonlocal seconds_made
        seconds_made += seconds
        click.echo(f"{seconds:6.1f} s  {_shown(wanted.path)}  {_text(wanted)}  ({wanted.where})")

    try:
        report = book.build(config, only_missing=not everything, progress=show)
    except PromptError as problem:
        click.echo(f"error: {problem}", err=True)
        sys.exit(1)
    made = f"{len(report.made)} made ({seconds_made:.1f} s of sound)" if report.made else "none to make"
    click.echo(f"prompts in {_shown(config.prompts.folder)}: {made}, {report.kept} were there")
    for wanted in report.absent:
        click.echo(f"error: {wanted.where}: no sound file {wanted.path}; put it there, or use `say`", err=True)
    if report.absent:
        sys.exit(1)


@prompts.command(name="list")
@_config_file
def list_prompts(config_file: Path) -> None:
    """Shows each prompt, its file and whether it is there; exits 1 if one is missing."""
    from exoflow.errors import PromptError
    from exoflow.prompts import PromptBook

    config = _load(config_file)
    book = PromptBook(config.prompts)
    missing = {wanted.path for wanted in book.missing(config)}
    for wanted in book.wanted(config):
        try:
            state = "MISSING" if wanted.path in missing else f"{book.seconds(wanted.path):5.1f} s"
        except PromptError:  # the switch may know a format that Python's wave does not
            state = "   ?  s"
        click.echo(f"{state}  {_shown(wanted.path)}  {_text(wanted)}  ({wanted.where})")
    if missing:
        click.echo(f"{len(missing)} missing: `exoflow prompts build -c {config_file}` renders the texts", err=True)
        sys.exit(1)


def _load(config_file: Path) -> Config:
    """The configuration; prints its findings, exits 1 if there are errors."""
    from exoflow.config.load import load

    loaded = load(config_file)
    if loaded.config is None:
        for finding in loaded.findings:
            click.echo(str(finding), err=True)
        sys.exit(1)
    return loaded.config


def _text(wanted: Wanted) -> str:
    text = wanted.prompt.say
    if not isinstance(text, str):
        return "[file]"
    return f'"{text}"' if len(text) <= 60 else f'"{text[:59]}…"'


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
