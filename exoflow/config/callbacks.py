"""Being called back: what a queue offers, and the account's rules for it. Nothing is offered unless the account has rules."""

from __future__ import annotations

from pydantic import Field, StrictFloat, StrictInt

from exoflow.config.actions import PhoneKey
from exoflow.config.hours import WeekHours
from exoflow.config.stepbase import Prompt, Strict, Url

MAX_KEEP_HOURS = 168  # a week; who is called back later has forgotten why he had called
MAX_TRIES = 5  # times that his telephone is rung; more is a nuisance to him
MAX_AGAIN_MINUTES = 1440  # a day


class Offer(Strict):
    """In a queue: the caller may be called back in place of waiting."""

    key: PhoneKey = Field(description="key by which he asks for it, at any time in the queue; `call_back` follows")
    offer: Prompt | None = Field(None, description="played once, behind the queue's own words")
    confirm: Prompt = Field(description="what he hears when he has asked, and it is kept")
    hello: Prompt = Field(description="what he hears first when he answers the call-back")


class CallBacks(Strict):
    """When callers who asked for it are called back, and who says whether they may be."""

    hours: WeekHours = Field(
        min_length=1,
        description="days to spans of the account's time in which it is offered and done, as in `timing`",
    )
    ask: Url = Field(
        description="the do-not-call hook: asked by GET before he is rung; 200: he may be called, 302 or 404: he may not, "
        "anything else: not now"
    )
    timeout: StrictFloat = Field(5, gt=0, le=15, description="seconds for the hook's whole answer")
    keep_hours: StrictInt = Field(24, ge=1, le=MAX_KEEP_HOURS, description="hours after which nobody is called back any more")
    tries: StrictInt = Field(2, ge=1, le=MAX_TRIES, description="times that he is rung at most")
    again_minutes: StrictInt = Field(
        10, ge=1, le=MAX_AGAIN_MINUTES, description="minutes to the next try, also to the next question where the hook failed"
    )
