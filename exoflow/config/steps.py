"""The steps of a flow as an engineer writes them: one model an applet, and the branches that lead on from it.

A step is a mapping with one applet's key (`menu:`), what that applet takes, and beside it the branches.
Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, StrictFloat, StrictInt, Tag, model_validator

from exoflow.config.actions import ConsentStep, MailStep, NoteStep, PageStep, SayValueStep, SetStep, SmsStep
from exoflow.config.queue import Queue
from exoflow.config.stepbase import (
    MANY,
    ONE,
    AgentNumber,
    Located,
    Name,
    OurNumber,
    Prompt,
    PromptOrUrl,
    Step,
    Strict,
    Url,
    UrlTemplate,
    digits_as_text,
    known_cause,
)
from exoflow.config.turns import (
    AgentStep,
    BackStep,
    GatherStep,
    LanguageStep,
    PauseStep,
    SwitchStep,
    TimingStep,
    TransferStep,
)
from exoflow.telephony.dialstring import MAX_AT_ONCE

# what steps are made of is found here, too
__all__ = [
    "AgentNumber",
    "AgentStep",
    "BackStep",
    "GatherStep",
    "LanguageStep",
    "Located",
    "Name",
    "OurNumber",
    "PauseStep",
    "Prompt",
    "Step",
    "Strict",
    "SwitchStep",
    "TimingStep",
    "TransferStep",
    "Url",
]

MAX_PROMPTS = 20  # in a row; as many audio URLs a CRM's answer may have
MAX_PASSTHRU_SECONDS = 15.0  # Exotel's own ceiling; a caller will not wait longer
MAX_RING_SECONDS = 60  # dialect, facts/exotel-dialect.md 4.3
MAX_TALK_SECONDS = 14_400  # four hours: a talk that is longer is a receiver laid aside


PhoneKey = Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "#"]


class Menu(PromptOrUrl):
    attempts: StrictInt = Field(3, ge=1, le=10, description="times the menu is offered before `otherwise`")
    timeout: StrictFloat = Field(5, ge=1, le=60, description="seconds to wait for a key after the prompt")
    wrong_key: Prompt | None = Field(None, description="played before the menu is offered again after a key it has not")
    no_input: Prompt | None = Field(None, description="played before the menu is offered again after silence")
    repeat_key: PhoneKey | None = Field(None, description="key that plays the menu again, without costing an attempt; often *")


class Passthru(Strict):
    url: UrlTemplate = Field(description="the account's CRM, asked by GET")
    fallback_url: UrlTemplate | None = Field(
        None, description="asked if `url` gives no answer in time, or a server's error (5xx)"
    )
    timeout: StrictFloat = Field(5, gt=0, le=MAX_PASSTHRU_SECONDS, description="seconds for the whole answer of each URL")
    hold: Prompt | None = Field(None, description="what an answered caller hears meanwhile; a soft tone unless set")
    wait: Literal[True] = Field(True, description="`false` sends it beside the flow, which goes on by `next`")


class PassthruBeside(Strict):
    url: UrlTemplate = Field(description="the account's CRM, told by GET")
    fallback_url: UrlTemplate | None = Field(
        None, description="told if `url` gives no answer in time, or a server's error (5xx)"
    )
    timeout: StrictFloat = Field(5, gt=0, le=MAX_PASSTHRU_SECONDS, description="seconds for the whole answer of each URL")
    wait: Literal[False] = Field(description="the flow does not wait, and the answer is only noted")


class Target(Strict):
    """Whom to ring: a group of this account, or numbers."""

    group: str | None = Field(None, description="a name under `groups`")
    numbers: list[AgentNumber] | None = Field(None, min_length=1, max_length=50, description="Indian numbers, in order")


class Fallback(Target):
    @model_validator(mode="after")
    def _one_target(self) -> Fallback:
        if (self.group is None) == (self.numbers is None):
            raise ValueError("needs either `group` or `numbers`")
        return self


class Confirm(Prompt):
    """What an agent is asked when he answers."""

    key: PhoneKey = Field("1", description="key that takes the call")
    seconds: StrictInt = Field(15, ge=3, le=60, description="seconds for it from the agent's answer, the prompts included")


class Connect(Target):
    url: UrlTemplate | None = Field(None, description="the CRM that names the agents, asked by GET")
    fallback_url: UrlTemplate | None = Field(
        None, description="asked if `url` gives no answer in time, or none that can be used"
    )
    timeout: StrictFloat = Field(5, gt=0, le=MAX_PASSTHRU_SECONDS, description="seconds for the CRM's whole answer")
    fallback: Fallback | None = Field(None, description="whom to ring when the CRM names nobody usable")
    record: Literal["none", "mono", "dual"] = Field(
        "none", description="the talk: not, in one channel, or caller and agent apart"
    )
    ring_seconds: StrictInt = Field(30, ge=5, le=MAX_RING_SECONDS, description="seconds one agent is rung")
    talk_seconds: StrictInt = Field(3600, ge=10, le=MAX_TALK_SECONDS, description="seconds after which a talk is cut")
    parallel: StrictInt = Field(1, ge=1, le=MAX_AT_ONCE, description="phones that ring at once; the first to answer talks")
    whisper: Prompt | None = Field(
        None, description="what an agent who answers hears first, alone, in the account's language; the caller hears ringing on"
    )
    confirm: Confirm | None = Field(
        None, description="then asks for a key, so that no mailbox takes the call; without it the next agent is rung"
    )
    opening: Prompt | None = Field(None, description="what both hear when their talk begins, each in his own language")
    ringback: Prompt | None = Field(None, description="what the caller hears while agents ring; Indian ringback unless set")
    hold: Prompt | None = Field(None, description="what the caller hears while the CRM is asked; a soft tone unless set")
    queue: Queue | None = Field(
        None, description="where callers wait while every agent of the group who can be reached is talking; nowhere unless set"
    )

    @property
    def has_group(self) -> bool:
        return self.group is not None or (self.fallback is not None and self.fallback.group is not None)

    @model_validator(mode="after")
    def _queue_of_a_group(self) -> Connect:
        if self.queue is not None and not self.has_group:
            raise ValueError("has a `queue`, which goes with a `group`, its own or its fallback's")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Connect:
        if sum(x is not None for x in (self.group, self.numbers, self.url)) != 1:
            raise ValueError("needs exactly one of `group`, `numbers` or `url`")
        if (self.fallback is not None or self.fallback_url is not None) and self.url is None:
            raise ValueError("`fallback` and `fallback_url` go with `url`")
        return self


class Voicemail(Prompt):
    max_seconds: StrictInt = Field(120, ge=5, le=600, description="seconds a message may have")
    silence_seconds: StrictInt = Field(5, ge=1, le=30, description="seconds of silence that end it")


class Hangup(Strict):
    cause: Annotated[str, BeforeValidator(digits_as_text), AfterValidator(known_cause)] = Field(
        "NORMAL_CLEARING", description="Q.850 cause by its FreeSWITCH name, e.g. USER_BUSY"
    )


def _one_or_several(value: Any) -> str:
    return MANY if isinstance(value, list) else ONE


class GreetingStep(Step):
    applet = "greeting"
    BRANCHES = ("next", "failed")
    greeting: Annotated[
        Annotated[PromptOrUrl, Tag(ONE)] | Annotated[list[Prompt], Field(min_length=1, max_length=MAX_PROMPTS), Tag(MANY)],
        Discriminator(_one_or_several),
    ] = Field(description="plays a prompt, or several in their order, or what a CRM tells")
    next: str = Field(description="the step that follows")
    failed: str | None = Field(None, description="the step if the CRM told nothing and there is no prompt; `next` unless set")

    @property
    def prompts(self) -> list[Prompt]:
        """Those that are written here."""
        written = self.greeting if isinstance(self.greeting, list) else [self.greeting]
        return [prompt for prompt in written if prompt.is_given]

    @property
    def asks(self) -> PromptOrUrl | None:
        """The CRM's address, if it tells the greeting."""
        return self.greeting if isinstance(self.greeting, PromptOrUrl) and self.greeting.url is not None else None

    @model_validator(mode="after")
    def _failed_of_a_url(self) -> GreetingStep:
        if self.failed is not None and (self.asks is None or self.prompts):
            raise ValueError("has a `failed` branch, which goes with a `url` and without a prompt of its own")
        return self


class MenuStep(Step):
    applet = "menu"
    BRANCHES = ("otherwise",)
    GIVES_CHOICE = True
    menu: Menu = Field(description="plays a prompt and collects a key; keys pressed meanwhile count")
    keys: dict[PhoneKey, str] = Field(min_length=1, description="key of the phone to the step it leads to")
    otherwise: str = Field(description="the step after the last attempt without a good key")

    @model_validator(mode="before")
    @classmethod
    def _keys_are_text(cls, data: Any) -> Any:
        # `1:` is an integer to YAML and a key of the phone to everybody else
        if isinstance(data, dict) and isinstance(data.get("keys"), dict):
            data = {**data, "keys": {str(k) if isinstance(k, int) else k: v for k, v in data["keys"].items()}}
        return data

    @model_validator(mode="after")
    def _one_meaning(self) -> MenuStep:
        if self.menu.repeat_key in self.keys:
            raise ValueError(f"has {self.menu.repeat_key} as `repeat_key` and under `keys`; it can be one of them")
        return self

    def branches(self) -> dict[str, str]:
        return {f"keys.{key}": target for key, target in self.keys.items()} | {"otherwise": self.otherwise}


class PassthruStep(Step):
    applet = "passthru"
    BRANCHES = ("ok", "redirect", "failed")
    passthru: Passthru = Field(description="tells the CRM of the call and goes by its answer")
    ok: str = Field(description="the step after answer 200")
    redirect: str = Field(description="the step after answer 302")
    failed: str | None = Field(None, description="any other answer, or none in time; the `redirect` branch unless set")


class PassthruBesideStep(Step):
    """`passthru` with `wait: false`."""

    applet = "passthru"
    BRANCHES = ("next",)
    passthru: PassthruBeside = Field(description="tells the CRM of the call beside the flow")
    next: str = Field(description="the step that follows at once")


class ConnectStep(Step):
    applet = "connect"
    BRANCHES = ("answered", "unanswered", "queue_full", "queue_timeout", "left_queue", "call_back")
    GIVES_CHOICE = True  # a talk is what the caller came for
    connect: Connect = Field(description="rings agents one after another and joins the first who answers to the caller")
    answered: str = Field(description="the step after the talk")
    unanswered: str = Field(description="the step if no agent answered")
    queue_full: str | None = Field(None, description="the step if the queue has its `size`; `unanswered` unless set")
    queue_timeout: str | None = Field(None, description="the step behind `max_seconds` of waiting; `unanswered` unless set")
    left_queue: str | None = Field(None, description="the step behind the queue's `leave_key`; `unanswered` unless set")
    call_back: str | None = Field(
        None, description="the step for who asked to be called back, by the queue's `call_back`, which needs it; often a hangup"
    )

    @model_validator(mode="after")
    def _ways_out_of_a_queue(self) -> ConnectStep:
        out = next((name for name in ("queue_full", "queue_timeout", "left_queue") if getattr(self, name) is not None), None)
        if out is not None and self.connect.queue is None:
            raise ValueError(f"has a `{out}` branch, which goes with a `queue`")
        if self.left_queue is not None and self.connect.queue is not None and self.connect.queue.leave_key is None:
            raise ValueError("has a `left_queue` branch, which goes with the queue's `leave_key`")
        return self

    @model_validator(mode="after")
    def _way_of_who_is_called_back(self) -> ConnectStep:
        offered = self.connect.queue is not None and self.connect.queue.call_back is not None
        if offered != (self.call_back is not None):
            raise ValueError("needs both a `call_back` branch and a queue's `call_back`, or none of them")
        return self

    def spoken(self, languages: Sequence[str]) -> list[Prompt]:
        return [] if self.connect.queue is None else self.connect.queue.spoken(languages)


class VoicemailStep(Step):
    applet = "voicemail"
    BRANCHES = ("next",)
    GIVES_CHOICE = True
    voicemail: Voicemail = Field(description="plays a prompt and records a message")
    next: str = Field(description="the step that follows")


class HangupStep(Step):
    applet = "hangup"
    GIVES_CHOICE = True
    hangup: Hangup = Field(description="ends the call")


STEPS: dict[str, type[Step]] = {
    step.applet: step
    for step in (
        GreetingStep,
        MenuStep,
        GatherStep,
        PassthruStep,
        ConnectStep,
        VoicemailStep,
        HangupStep,
        SetStep,
        SayValueStep,
        NoteStep,
        ConsentStep,
        SmsStep,
        MailStep,
        PageStep,
        SwitchStep,
        TimingStep,
        LanguageStep,
        PauseStep,
        TransferStep,
        BackStep,
        AgentStep,
    )
}

# every form a step may have; an applet with two forms has a second tag
BESIDE = "passthru beside"
MODELS: dict[str, type[Step]] = {**STEPS, BESIDE: PassthruBesideStep}


def applet_of(step: Any) -> str | None:
    """Which applet a raw or built step has; None if it has none or several."""
    if isinstance(step, Step):
        return step.applet
    found = [name for name in STEPS if isinstance(step, dict) and name in step]
    return found[0] if len(found) == 1 else None


def tag_of(step: Any) -> str | None:
    """Which of MODELS a raw or built step is."""
    if isinstance(step, Step):
        return next(tag for tag, model in MODELS.items() if type(step) is model)
    applet = applet_of(step)
    settings = step[applet] if applet == PassthruStep.applet else None
    wait = settings.get("wait", True) if isinstance(settings, dict) else True
    # of a `wait: no` the branches tell what was meant
    return BESIDE if wait is False or (wait is not True and "next" in step) else applet


if TYPE_CHECKING:
    AnyStep = Step
else:
    AnyStep = Annotated[
        reduce(or_, (Annotated[step, Tag(tag)] for tag, step in MODELS.items())),
        Discriminator(
            tag_of,
            custom_error_type="applet",
            custom_error_message=f"a step has exactly one of: {', '.join(STEPS)}",
        ),
    ]
