"""The configuration is read again while calls go on: checked first, prompts rendered, and only then taken.

All of it happens in threads and in a process of its own, so that the calls' loop stands still at no point.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from gevent import subprocess

from exoflow.config.findings import Finding
from exoflow.config.load import load
from exoflow.config.model import Config
from exoflow.errors import ExoflowError, PromptError
from exoflow.prompts import PromptBook, Wanted
from exoflow.threads import in_thread

T = TypeVar("T")

PROMPT_SECONDS = 600.0  # for all texts that are new; espeak-ng renders some ten a second
# read once, at the start: sockets, files and connections that calls in progress depend on
FIXED = ("switch.listen", "switch.event_socket", "switch.max_calls", "switch.cdr", "store", "spill", "web")
_EXOFLOW = (sys.executable, "-c", "from exoflow.cli import main; main()")


class Refused(ExoflowError):
    """The files have errors; `findings` are all of them."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        more = f" ({len(findings)} errors in all)" if len(findings) > 1 else ""
        super().__init__(f"{findings[0]}{more}")


def read_again(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration whose main file is `path`, good, and its prompts on disk. Raises Refused, PromptError."""
    loaded = in_thread(load, path, environ)
    if loaded.config is None:
        raise Refused(loaded.errors)
    config = loaded.config
    if in_thread(_missing, config):
        _render(path)
        if missing := in_thread(_missing, config):
            wanted = ", ".join(f"{item.path} ({item.where})" for item in missing)
            raise PromptError(f"sound files are missing: {wanted}; bring them, or use `say`")
    return config


def fixed(old: Config, new: Config) -> list[str]:
    """Keys that have another value now, which counts only after a restart."""
    return [name for name in FIXED if attrgetter(name)(old) != attrgetter(name)(new)]


def _missing(config: Config) -> list[Wanted]:
    return PromptBook(config.prompts).missing(config)


def _render(path: Path) -> None:
    """Raises PromptError with what the rendering process said."""
    command = [*_EXOFLOW, "prompts", "build", "-c", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROMPT_SECONDS)
    except subprocess.TimeoutExpired:
        raise PromptError(
            f"prompts were not rendered within {PROMPT_SECONDS:g} s; run `exoflow prompts build -c {path}`, then reload"
        ) from None
    if done.returncode != 0:
        raise PromptError(f"prompts cannot be rendered: {done.stderr.strip() or done.returncode}")
