"""Folders that FreeSWITCH is told by name, and names that it would read as something else (a sound's: checks/sounds.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from exoflow.characters import switch_takes_path
from exoflow.config.draft import Draft
from exoflow.config.findings import Finding

TAKEN = "FreeSWITCH takes letters a to z, digits and `. , _ - + = @` in a name"


def check(draft: Draft) -> Iterator[Finding]:
    if draft.main is None:
        return
    # a folder that is not written lies in the main file's own folder
    for where, folder in (
        (("prompts", "folder"), draft.main.prompts.folder),
        (("switch", "recordings"), draft.main.switch.recordings),
    ):
        if not switch_takes_path(os.path.abspath(folder)):
            message = f"`{folder}`: {TAKEN}; write another folder here, or rename this one"
            yield draft.main_document.at("E610", message, *where)
