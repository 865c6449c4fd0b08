"""Where in its flow a call is, so that another process can go on: in the call's row, and in short on the channel itself.

The row is written soon after each change, all changes made at once in one transaction with the journey's lines. The
channel's marker is newer: the switch itself sets it behind each application that takes time, also when nobody is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from exoflow.config.stepbase import Block
from exoflow.config.steps import Prompt

MARKER = "exo_done"  # the channel's variable
MAX_WAY = 100  # places; further back nobody wants to be led, and the row is written at each step
MAX_CRM_CHARS = 16_000  # of a CRM's answer that is kept for `set`; their answers have some hundred
_MARKER = re.compile(r"(\d{1,6})\.(\d{1,6})" + r"\.(\d{1,4})" * 5 + r"\Z")

# fields of Progress that are kept as they are
_SIMPLE = ("time", "typed", "late", "reason", "talked", "passed_over", "crm_said", "connect", "dial_url", "transfers")


class Place(NamedTuple):
    """A step of a flow of the account."""

    flow: str
    step: str


class Marker(NamedTuple):
    """Which application of which visit has ended, and what it takes to go on from there if the store is behind: ids only."""

    visit: int
    doing: int
    flow: int  # number of the flow in the account's file, from 0
    step: int  # of the step in the flow
    typed: int  # how many of the keys in exo_typed were used up
    lapses: int  # how often the call's lease had run out
    entry: int  # how often the call had been given to an app (exo_entry)

    @property
    def text(self) -> str:
        return ".".join(map(str, self))

    @classmethod
    def read(cls, text: str) -> Marker | None:
        """None for what is no marker."""
        found = _MARKER.match(text) if text.isascii() else None
        return cls(*map(int, found.groups())) if found is not None else None


@dataclass(slots=True)
class Progress:
    """How far a call is. What is kept of it (`written`) is of the beginning of the step, or of the last `keep` in it."""

    visit: int = 0  # of steps, over the whole call; the first is 1
    doing: int = 0  # applications of this visit that take time, as far as what is kept goes
    data: dict[str, Any] = field(default_factory=dict)  # what the applet needs to go on inside its step
    way: list[Place] = field(default_factory=list)  # where the caller has been, this step last
    backs: dict[Place, int] = field(default_factory=dict)  # how often each `back` has led back
    pending: list[Prompt] = field(default_factory=list)  # prompts that this step plays before its own
    time: str = ""  # when this step began, as texts have it
    typed: int = 0  # keys of exo_typed that were used up
    late: str = ""  # an end key that may still be pressed
    reason: str = ""  # code of the entry that explains the last failure
    talked: bool = False
    passed_over: bool = False  # was a step passed over because the caller had gone?
    crm_said: str = ""  # the last passthru's answer, if it is JSON
    connect: str = ""  # how far the last connect step is (crm/dialect.py); empty: there was none
    transfers: int = 0  # by agents' phones, that are settled
    dial_url: str = ""  # where the CRM wants to hear of phones that ring (crm/dialevents.py)

    def written(self, place: Place) -> dict[str, Any]:
        """As JSON, without what is empty; nothing in it changes afterwards, for another thread writes it."""
        found: dict[str, Any] = {"flow": place.flow, "step": place.step, "visit": self.visit, "doing": self.doing}
        found["data"] = self.data
        found["way"] = [list(one) for one in self.way[-MAX_WAY:]]
        found["backs"] = [[*one, times] for one, times in self.backs.items()]
        found["pending"] = [_prompt_written(prompt) for prompt in self.pending]
        for name in _SIMPLE:
            found[name] = getattr(self, name)
        return {name: value for name, value in found.items() if value or name == "doing"}

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Progress:
        """What `written` made, out of the store."""
        simple = ("visit", "doing", "data", *_SIMPLE)
        found = cls(**{name: kept[name] for name in simple if name in kept})
        found.way = [Place(*one) for one in kept.get("way", ())]
        found.backs = {Place(flow, step): times for flow, step, times in kept.get("backs", ())}
        found.pending = [_prompt_read(one) for one in kept.get("pending", ())]
        return found


def _prompt_written(prompt: Prompt) -> dict[str, Any]:
    words = {name: value for name in ("say", "play", "language") if (value := getattr(prompt, name)) is not None}
    return words | {"block": True} if isinstance(prompt, Block) else words


def _prompt_read(kept: Mapping[str, Any]) -> Prompt:
    kind = Block if kept.get("block") else Prompt
    # as it was checked when the configuration was read
    return kind.model_construct(say=kept.get("say"), play=kept.get("play"), language=kept.get("language"))
