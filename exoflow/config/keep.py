"""A configuration as it was read: its files' texts, and the hash that names it.

A call ends on the configuration it began with (design, section 3), also in another process and after the files were changed. So
each good one is kept whole. Secrets that stand in files of their own or in the environment are not part of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Kept:
    """`files` are the texts by their names relative to the main file's folder, the main file first."""

    hash: str = ""
    files: Mapping[str, str] = field(default_factory=dict, repr=False)  # a password may stand in them

    @property
    def main(self) -> str:
        """Name of the main file."""
        return next(iter(self.files))


def keep(base: Path, texts: Iterable[tuple[Path, str]]) -> Kept:
    """The files that were read, the main file first, whose folder is `base`. Equal names and texts have equal hashes."""
    files = {os.path.relpath(path, base): text for path, text in texts}
    digest = hashlib.sha256()
    for name, text in files.items():
        for part in (name, text):
            raw = part.encode("utf-8", "surrogateescape")  # a file's name need not be UTF-8
            digest.update(len(raw).to_bytes(8, "big") + raw)
    return Kept(digest.hexdigest(), files)
