"""The steps of a flow as an engineer writes them: one model an applet, and the branches that lead on from it.

A step is a mapping with one applet's key (`menu:`), what that applet takes, and beside it the branches.
Times are in seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

MAX_PASSTHRU_SECONDS = 15.0  # Exotel's own ceiling; a caller will not wait longer
MAX_RING_SECONDS = 60  # dialect, facts/exotel-dialect.md 4.3
MAX_TALK_SECONDS = 14_400


class Strict(BaseModel):
    """No unknown keys, no changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Prompt(Strict):
    """What a caller hears: a text to speak, or a sound file."""

    say: str | None = Field(None, min_length=1, max_length=2000, description="text, rendered by `exoflow prompts build`")
    play: str | None = Field(None, min_length=1, description="sound file, relative to the file that names it")

    @model_validator(mode="after")
    def _one_source(self) -> Prompt:
        if (self.say is None) == (self.play is None):
            raise ValueError("needs either `say` or `play`, and not both")
        return self


class Menu(Prompt):
    attempts: int = Field(3, ge=1, le=10, description="times the menu is offered before `otherwise`")
    timeout: float = Field(5, ge=1, le=60, description="seconds to wait for a key after the prompt")
    wrong_key: Prompt | None = Field(None, description="played before the menu is offered again after a key it has not")
    no_input: Prompt | None = Field(None, description="played before the menu is offered again after silence")


class Passthru(Strict):
    url: str = Field(min_length=8, description="the account's CRM, asked by GET")
    timeout: float = Field(5, gt=0, le=MAX_PASSTHRU_SECONDS, description="seconds for the whole answer")
    hold: Prompt | None = Field(None, description="what an answered caller hears meanwhile; a soft tone unless set")


class Target(Strict):
    """Whom to ring: a group of this account, or numbers."""

    group: str | None = None
    numbers: list[str] | None = Field(None, min_length=1, max_length=50)


class Fallback(Target):
    @model_validator(mode="after")
    def _one_target(self) -> Fallback:
        if (self.group is None) == (self.numbers is None):
            raise ValueError("needs either `group` or `numbers`")
        return self


class Connect(Target):
    url: str | None = Field(None, min_length=8, description="the CRM that names the agents, asked by GET")
    timeout: float = Field(5, gt=0, le=MAX_PASSTHRU_SECONDS, description="seconds for the CRM's whole answer")
    fallback: Fallback | None = Field(None, description="whom to ring when the CRM names nobody usable")
    record: Literal["none", "mono", "dual"] = "none"
    ring_seconds: int = Field(30, ge=5, le=MAX_RING_SECONDS, description="seconds one agent is rung")
    talk_seconds: int = Field(3600, ge=10, le=MAX_TALK_SECONDS, description="seconds after which a talk is cut")
    ringback: Prompt | None = Field(None, description="what the caller hears while agents ring; Indian ringback unless set")
    hold: Prompt | None = Field(None, description="what the caller hears while the CRM is asked; a soft tone unless set")

    @model_validator(mode="after")
    def _one_source(self) -> Connect:
        if sum(x is not None for x in (self.group, self.numbers, self.url)) != 1:
            raise ValueError("needs exactly one of `group`, `numbers` or `url`")
        if self.fallback is not None and self.url is None:
            raise ValueError("`fallback` goes with `url`")
        return self


class Voicemail(Prompt):
    max_seconds: int = Field(120, ge=5, le=600, description="seconds a message may have")
    silence_seconds: int = Field(5, ge=1, le=30, description="seconds of silence that end it")


class Hangup(Strict):
    cause: str = Field("NORMAL_CLEARING", description="Q.850 cause by its FreeSWITCH name, e.g. USER_BUSY")


class Step(Strict):
    """Base of all steps. `applet` is the key that names it, `BRANCHES` are its keys that lead to other steps."""

    applet: ClassVar[str]
    BRANCHES: ClassVar[tuple[str, ...]] = ()
    # does the caller get a choice or an end here? (loops without one are refused)
    GIVES_CHOICE: ClassVar[bool] = False

    def branches(self) -> dict[str, str]:
        """The branches that are set: their key path in the step ("next", "keys.1") to the step they lead to."""
        return {name: getattr(self, name) for name in self.BRANCHES if getattr(self, name) is not None}


class GreetingStep(Step):
    applet = "greeting"
    BRANCHES = ("next",)
    greeting: Prompt
    next: str


class MenuStep(Step):
    applet = "menu"
    BRANCHES = ("otherwise",)
    GIVES_CHOICE = True
    menu: Menu
    keys: dict[Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "#"], str] = Field(min_length=1)
    otherwise: str

    @model_validator(mode="before")
    @classmethod
    def _keys_are_text(cls, data: Any) -> Any:
        # `1:` is an integer to YAML and a key of the phone to everybody else
        if isinstance(data, dict) and isinstance(data.get("keys"), dict):
            data = {**data, "keys": {str(k) if isinstance(k, int) else k: v for k, v in data["keys"].items()}}
        return data

    def branches(self) -> dict[str, str]:
        return {f"keys.{key}": target for key, target in self.keys.items()} | {"otherwise": self.otherwise}


class PassthruStep(Step):
    applet = "passthru"
    BRANCHES = ("ok", "redirect", "failed")
    passthru: Passthru
    ok: str
    redirect: str
    failed: str | None = Field(None, description="any other answer, or none in time; the `redirect` branch unless set")


class ConnectStep(Step):
    applet = "connect"
    BRANCHES = ("answered", "unanswered")
    GIVES_CHOICE = True  # a talk is what the caller came for
    connect: Connect
    answered: str
    unanswered: str


class VoicemailStep(Step):
    applet = "voicemail"
    BRANCHES = ("next",)
    GIVES_CHOICE = True
    voicemail: Voicemail
    next: str


class HangupStep(Step):
    applet = "hangup"
    GIVES_CHOICE = True
    hangup: Hangup


STEPS: dict[str, type[Step]] = {
    s.applet: s for s in (GreetingStep, MenuStep, PassthruStep, ConnectStep, VoicemailStep, HangupStep)
}


def applet_of(step: Any) -> str | None:
    """Which applet a raw or built step has; None if it has none or several."""
    if isinstance(step, Step):
        return step.applet
    found = [name for name in STEPS if isinstance(step, dict) and name in step]
    return found[0] if len(found) == 1 else None


AnyStep = Annotated[
    Annotated[GreetingStep, Tag("greeting")]
    | Annotated[MenuStep, Tag("menu")]
    | Annotated[PassthruStep, Tag("passthru")]
    | Annotated[ConnectStep, Tag("connect")]
    | Annotated[VoicemailStep, Tag("voicemail")]
    | Annotated[HangupStep, Tag("hangup")],
    Discriminator(
        applet_of,
        custom_error_type="applet",
        custom_error_message=f"a step has exactly one of: {', '.join(STEPS)}",
    ),
]
