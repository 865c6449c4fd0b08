"""`exoflow check` in a process of its own, on an account of many steps."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 2000
CHECK = ("-c", "from exoflow.cli import main; main()", "check", "-c", "exoflow.yaml")


def write_account(folder: Path, steps: int) -> None:
    """A main file, and an account with a flow of so many steps of all kinds, one after the other."""
    kinds = (
        '{{greeting: {{say: "Welcome {i}."}}, next: s{j}}}',
        '{{menu: {{say: "Dial 1, 2 or 3 ({i})."}}, keys: {{1: s{j}, 2: s0, 3: bye}}, otherwise: bye}}',
        '{{passthru: {{url: "https://crm.example/passthru?n={i}"}}, ok: s{j}, redirect: bye}}',
        "{{connect: {{group: all, record: dual}}, answered: bye, unanswered: s{j}}}",
    )
    lines = [f"      s{i}: " + kinds[i % 4].format(i=i, j=i + 1) for i in range(steps - 2)]
    main = "prompts: {engine: text}\ntrunks: {PRI1: {span: PRI1}}\naccounts: large.yaml\n"
    (folder / "exoflow.yaml").write_text(main)
    (folder / "large.yaml").write_text(
        "name: Large\n"
        'numbers: [{number: "+918030752400", trunk: PRI1, flow: main}]\n'
        'agents: {asha: {number: "+919876543210"}}\n'
        "groups: {all: {agents: [asha]}}\n"
        "flows:\n  main:\n    start: s0\n    steps:\n"
        + "\n".join(lines)
        + f"\n      s{steps - 2}: {{greeting: {{say: Last.}}, next: bye}}\n      bye: {{hangup: {{}}}}\n"
    )


def cpu_of_check(*, rounds: int) -> list[float]:
    """Seconds of CPU, the start of the process included, once a round."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        write_account(Path(name), STEPS)
        for _ in range(rounds):
            before = os.times()
            subprocess.run([sys.executable, *CHECK], cwd=name, capture_output=True, check=True)
            after = os.times()
            children = after.children_user + after.children_system
            found.append(children - before.children_user - before.children_system)
    return found
