"""Agents and groups of an account. Times are in seconds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from exoflow.config.hours import WeekHours
from exoflow.config.stepbase import MAIL_ADDRESS, MAX_MAIL_ADDRESS, Label
from exoflow.config.steps import AgentNumber, Strict

MAX_LINES = 480  # calls to one number at once: the channels of a trunk (model.Trunk)
MAX_PAUSE_SECONDS = 3600  # who shall not be rung for longer is switched off
MAX_STICKY_DAYS = 365  # a caller of a year ago is a new one

Ring = Literal["in_order", "equally", "longest_idle", "all_at_once"]


class Agent(Strict):
    number: AgentNumber = Field(description="Indian fixed, mobile or toll-free number, E.164")
    email: Annotated[str, Field(pattern=MAIL_ADDRESS, max_length=MAX_MAIL_ADDRESS)] | None = Field(
        None, description="his name in the CRM: `AgentEmail` of dial events"
    )
    name: Label | None = Field(None, description="for people, in the journey")
    hours: WeekHours | None = Field(
        None,
        min_length=1,
        description="days to spans of the account's time in which groups ring him, as in `timing`; always unless set",
    )
    lines: StrictInt = Field(
        1, ge=1, le=MAX_LINES, description="calls that his number takes at once; more than 1 where an office's exchange answers"
    )


class Pauses(Strict):
    """Seconds for which a group leaves an agent alone after an attempt that came to nothing; 0: not at all."""

    no_answer: StrictInt = Field(0, ge=0, le=MAX_PAUSE_SECONDS, description="after he let it ring, or could not be reached")
    busy: StrictInt = Field(0, ge=0, le=MAX_PAUSE_SECONDS, description="after his line was busy")
    rejected: StrictInt = Field(0, ge=0, le=MAX_PAUSE_SECONDS, description="after he refused the call")


class Group(Strict):
    agents: list[str] = Field(min_length=1, description="names under `agents`, in the order in which they are rung")
    ring: Ring = Field(
        "in_order",
        description="`equally`: by number, from behind the one whom this flow tried last; `longest_idle`: first who has been "
        "free for longest; `all_at_once`: up to five together, the first to answer talks",
    )
    sticky_days: StrictInt | None = Field(
        None,
        ge=1,
        le=MAX_STICKY_DAYS,
        description="whom a caller talked with within so many days is rung first for him",
    )
    wrap_up_seconds: StrictInt = Field(0, ge=0, le=MAX_PAUSE_SECONDS, description="seconds left to an agent behind each talk")
    pause_seconds: Pauses = Field(Pauses(), description="seconds for which one who was not reached is left alone")
