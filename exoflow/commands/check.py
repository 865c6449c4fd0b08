"""`exoflow check`: is this configuration good? Needs no network, no FreeSWITCH and no database."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from exoflow.config.findings import Finding
from exoflow.config.load import load


@click.command()
@click.option(
    "-c", "--config", "path", default="exoflow.yaml", show_default=True, type=click.Path(path_type=Path), metavar="FILE"
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def check(path: Path, form: str) -> None:
    """Checks the configuration; prints what is wrong as `path:line:col: error: CODE message`, exits 1 on errors."""
    loaded = load(path)
    errors = len(loaded.errors)
    warnings = len(loaded.findings) - errors
    if form == "json":
        click.echo(
            json.dumps({"errors": errors, "warnings": warnings, "findings": [_row(f) for f in loaded.findings]}, indent=1)
        )
    else:
        for finding in loaded.findings:
            click.echo(str(finding))
        click.echo(f"{path}: {_count(errors, 'error')}, {_count(warnings, 'warning')}", err=True)
    sys.exit(1 if errors else 0)


def _row(finding: Finding) -> dict[str, object]:
    return {
        "path": str(finding.path),
        "line": finding.line,
        "col": finding.col,
        "level": finding.level,
        "code": finding.code,
        "message": finding.message,
    }


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
