"""Every command block of the README runs, in order, in one shell, in a fresh clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _script() -> str:
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    # a shell that prints each command, and stops at the first that fails
    return "set -eux\n" + "\n".join(blocks)


def test_readme_names_the_two_commands_that_do_everything() -> None:
    script = _script()
    assert "make run" in script
    assert "make test" in script


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the README says to clone; this tree is no clone")
def test_every_command_block_of_the_readme(tmp_path: Path) -> None:
    """`make test` would run this test again, so there pytest only collects; the environment is the one we run in."""
    clone = tmp_path / "exoflow"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True, capture_output=True)
    _with_uncommitted_changes(clone)
    (clone / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    for source in ("setup.cfg", "pyproject.toml"):
        os.utime(clone / source, (0, 0))  # older than the environment: make need not install again
    environment = os.environ | {
        "PYTEST_ADDOPTS": "--collect-only -qq",
        "PYTHONPATH": str(clone),  # the clone's code, in the environment that has everything installed
    }
    environment.pop("MAKELEVEL", None)
    done = subprocess.run(
        ["bash", "-c", _script()], cwd=clone, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "call.ended delivered and its signature is right" in done.stdout, "make run placed no call"
    assert "outcome        answered" in done.stdout, "the first flow's call was not answered"
    assert "outcome        missed" in done.stdout or "outcome        voicemail" in done.stdout


def _with_uncommitted_changes(clone: Path) -> None:
    """A clone has what is committed; while somebody works, the README is tested with his changes."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = ROOT / name
        if source.is_file():
            target = clone / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
        else:
            (clone / name).unlink(missing_ok=True)
