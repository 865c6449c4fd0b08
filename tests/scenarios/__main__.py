"""`python -m scenarios`: plays the scenarios of both rings and compares them.

    list                     what there is
    embedded [WORD…]         on the embedded switch; only scenarios whose names have one of the words
    freeswitch [WORD…]       on FreeSWITCH
    compare [WORD…]          on both, and whether they tell the same
    random [COUNT]           on both: random flows and callers, 50 unless told

Ends with 1 when a call was not as its scenario says, or the rings differ in what differences.yaml does not list.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gevent import monkey

monkey.patch_all()

from scenarios import chance  # noqa: E402
from scenarios.embedded import Embedded  # noqa: E402
from scenarios.rings import both_switches, compared  # noqa: E402
from scenarios.script import Scenario, read_all  # noqa: E402
from scenarios.stage import Stage  # noqa: E402
from scenarios.told import Told, unexpected  # noqa: E402

Judge = Callable[[Scenario, Told], list[str]]


def main(arguments: Sequence[str]) -> int:
    what, words = (arguments[0] if arguments else "compare"), arguments[1:]
    if what == "random":
        scenarios, wanted = chance.calls(int(words[0]) if words else 50), chance.wrong
    else:
        scenarios = [one for one in read_all() if not words or any(word in one.id for word in words)]
        wanted = unexpected
    if what == "list":
        print("\n".join(one.id for one in scenarios))
        return 0
    if what not in ("embedded", "freeswitch", "compare", "random"):
        print(__doc__)
        return 2
    wrong = 0
    told: list[dict[str, Told]] = []
    with tempfile.TemporaryDirectory(prefix="exoflow-scenarios-") as folder:
        if what != "freeswitch":
            told.append(_played(Embedded(Path(folder) / "embedded", scenarios)))
            wrong += _shown("embedded", scenarios, told[-1], wanted)
        if what != "embedded":
            with both_switches(Path(folder)) as stage:
                told.append(_played(stage(scenarios)))
            wrong += _shown("FreeSWITCH", scenarios, told[-1], wanted)
    if len(told) == 2:
        wrong += _compared(told[0], told[1])
    return min(wrong, 1)


def _played(stage: Stage) -> dict[str, Told]:
    began = time.monotonic()
    with stage:
        up = time.monotonic()
        told = stage.play()
    print(f"{stage.ring}: {len(told)} calls in {time.monotonic() - up:.1f} s ({up - began:.1f} s to start)")
    return told


def _shown(ring: str, scenarios: Sequence[Scenario], told: dict[str, Told], wanted: Judge) -> int:
    wrong = {one.id: found for one in scenarios if (found := wanted(one, told[one.id]))}
    for name, found in wrong.items():
        print(f"  {name}", *found, sep="\n      ")
    print(f"{ring}: {len(scenarios) - len(wrong)} of {len(scenarios)} as expected")
    return len(wrong)


def _compared(one: dict[str, Told], other: dict[str, Told]) -> int:
    found = compared(one, other)
    for name, lines in found.different.items():
        print(f"  {name}", *lines, sep="\n      ")
    print(f"the same in both rings: {found.same} of {len(one)}; listed differences: {len(found.known)}")
    for name in found.mended:
        print(f"  no longer different, take it off differences.yaml: {name}")
    return len(found.different) + len(found.mended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
