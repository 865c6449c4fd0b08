"""How the user has to call us again: hints are commands that can be copied."""

from __future__ import annotations

import os
import shutil
import sys


def program() -> str:
    """`exoflow`, or the path it was started by if the shell would not find it."""
    started = sys.argv[0]
    found = shutil.which("exoflow")
    if os.path.basename(started) != "exoflow" or (found is not None and os.path.samefile(found, started)):
        return "exoflow"
    return started
