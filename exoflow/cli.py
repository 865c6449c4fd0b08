"""`exoflow`: one command a file in `exoflow/commands/`, imported only when it is asked for."""

from __future__ import annotations

import importlib

import click

from exoflow import __version__

COMMANDS = (
    "check",
    "schema",
    "prompts",
    "serve",
    "demo",
    "call",
    "calls",
    "counts",
    "deliveries",
    "agents",
    "call-backs",
    "crm",
    "api-key",
)


class _LazyGroup(click.Group):
    """Finds a command in the module of its name, so that `exoflow check` never imports gevent or SQLAlchemy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        name = name.replace("-", "_")
        module = importlib.import_module(f"exoflow.commands.{name}")
        command = getattr(module, name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="exoflow")
def main() -> None:
    """Answers a business's calls on FreeSWITCH."""
