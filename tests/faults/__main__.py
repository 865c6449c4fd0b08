"""`python -m faults [NAME …]` in tests/: runs the experiments, all or those named, and prints their table.

Ends with 1 if a promise was broken. A row that could not be shown is printed, and is no success.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import importlib  # noqa: E402
import pkgutil  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "ring1"))  # the experiments share the hall of ring 1

import faults  # noqa: E402
from faults import Row  # noqa: E402


def experiments(names: list[str]) -> Iterator[str]:
    """Modules of this package that have a `run`."""
    for found in pkgutil.iter_modules(faults.__path__):
        if found.name != "__main__" and (not names or found.name in names):
            module = importlib.import_module(f"faults.{found.name}")
            if hasattr(module, "run"):
                yield found.name


def rows_of(name: str) -> list[Row]:
    """An experiment that fails itself has shown nothing."""
    print(f"--- {name}", flush=True)
    began = time.monotonic()
    try:
        rows = list(importlib.import_module(f"faults.{name}").run())
    except Exception as error:
        traceback.print_exc()
        rows = [Row(name, "", "NOT SHOWN", f"the experiment itself failed: {error}")]
    print(f"    {time.monotonic() - began:.0f} s", flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """As in docs/reliability.md."""
    lines = ["| experiment | where | result | counts |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + [f"| {row.experiment} | {row.where} | {row.result} | {row.told} |" for row in rows])


def main(names: list[str]) -> int:
    known = list(experiments(names))
    if unknown := set(names) - set(known):
        print(f"no experiment {', '.join(sorted(unknown))}; there is: {', '.join(experiments([]))}")
        return 2
    rows = [row for name in known for row in rows_of(name)]
    print(table(rows))
    return int(any(row.result == "BROKEN" for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
