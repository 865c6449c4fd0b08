"""A PIN on the real switch: neither its CDR nor its log nor the channel's variables have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenarios.freeswitch import OnFreeSwitch
from scenarios.script import scenario

from ring2.box import Box
from ring2.network import Exchange

PIN = "90817263"
FLOW = {
    "ask": {"gather": {"say": "Your PIN?", "digits": 8, "timeout": 3, "secret": True}, "next": "pick"},
    "pick": {"menu": {"say": "Dial 5.", "timeout": 2, "attempts": 1}, "keys": {"5": "bye"}, "otherwise": "bye"},
    "bye": {"hangup": {}},
}


@pytest.mark.parametrize(
    ("does", "dialled", "left"),
    [
        ({"asked": f"press {PIN}", "asked 2": "press 5"}, "5", []),
        ({"asked": f"press {PIN}"}, "none", []),
        # what the switch keeps of a caller who leaves in the middle is all there is
        ({"asked": "press 9081", "asked + 2.2": "hang up"}, "none", ["exo_keys_1_1"]),
    ],
    ids=["with keys behind it", "alone", "left in the middle"],
)
def test_the_switch_keeps_no_secret(
    switches: tuple[Box, Exchange], tmp_path: Path, does: dict[str, str], dialled: str, left: list[str]
) -> None:
    box, exchange = switches
    with OnFreeSwitch(tmp_path, [scenario({"name": "a PIN", "flow": FLOW, "does": does})], box, exchange) as stage:
        (told,) = stage.play().values()
        assert told.problem == ""
        (cast,) = stage.casts
        cdr = box.cdr(cast.channel)
    exchange.reset()
    variables = cdr["variables"]
    assert variables["digits_dialed"] == dialled
    assert [name for name, value in variables.items() if "9081" in value and name.startswith("exo_")] == left
    if not left:
        assert PIN not in str(cdr)
        assert not any(PIN in line for line in box.log_lines())
