"""Commands of FreeSWITCH that exoflow's files, messages and pages tell an engineer to type."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("exoflow", "dialplan", "docs", "freeswitch-conf", "deploy")


def test_every_printed_global_setvar_has_its_equals_sign():
    """`global_setvar NAME VALUE` sets nothing and says nothing: mod_commands.c wants NAME=VALUE."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*")]
    texts = [file.read_text() for file in files if file.suffix in (".py", ".md", ".xml", ".conf")]
    printed = [use for text in texts for use in re.findall(r"global_setvar +[a-zA-Z]\w*.", text)]
    assert len(printed) >= 3
    assert [use for use in printed if not use.endswith("=")] == []
