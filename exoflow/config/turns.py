"""Steps at which a call takes a turn: digits collected, cases told apart, hours, languages, other flows, ways back.

Times are in seconds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StrictBool, StrictFloat, StrictInt, Tag, model_validator

from exoflow.config.actions import VariableName
from exoflow.config.hours import DaySpans, WeekHours, day_spans
from exoflow.config.stepbase import ALTERNATIVE, Language, Prompt, PromptOrUrl, Step, Strict
from exoflow.telephony.numbers import to_e164

MAX_DIGITS = 128  # of FreeSWITCH's buffer
MAX_PAUSE_SECONDS = 300.0  # nobody stays on the line for longer
MAX_CASES = 1000  # an account's PIN codes or customers; more belongs into the CRM
MAX_ENTRY_CHARS = 100  # of the values in the name of a flow with values
WITHHELD = "withheld"


TEXT, NUMBER = ALTERNATIVE + "text", ALTERNATIVE + "number"


def _text_or_number(value: Any) -> str:
    return NUMBER if isinstance(value, int) else TEXT


Argument = str | int
GivenArgument = Annotated[
    Annotated[str, Field(max_length=2000), Tag(TEXT)] | Annotated[StrictInt, Tag(NUMBER)],
    Discriminator(_text_or_number),
]
Arguments = dict[VariableName, GivenArgument]


def entry_name(flow: str, arguments: Mapping[str, Argument]) -> str:
    """Under what name a flow with values for its parameters is kept; one without them has its own."""
    shown = ", ".join(f"{name}={value}" for name, value in sorted(arguments.items()))
    if len(shown) > MAX_ENTRY_CHARS:  # the journey, which leads a call back to its flow, has room for some 500
        shown = f"{shown[:MAX_ENTRY_CHARS]}… {hashlib.sha256(shown.encode()).hexdigest()[:8]}"
    return f"{flow}({shown})" if shown else flow


# --- digits ---------------------------------------------------------------------------------------


class Gather(PromptOrUrl):
    digits: StrictInt | None = Field(None, ge=1, le=MAX_DIGITS, description="digits to collect, no more and no fewer")
    min_digits: StrictInt | None = Field(None, ge=1, le=MAX_DIGITS, description="fewest digits; 1 unless set")
    max_digits: StrictInt | None = Field(None, ge=1, le=MAX_DIGITS, description="most digits, after which no end key is needed")
    end_key: Literal["#", "*", "none"] = Field("#", description="key that ends the digits")
    timeout: StrictFloat = Field(5, ge=1, le=60, description="seconds to wait for the first digit after the prompt")
    digit_timeout: StrictFloat = Field(3, ge=1, le=60, description="seconds to wait between two digits")
    attempts: StrictInt = Field(3, ge=1, le=10, description="times it is asked before `otherwise`")
    least: StrictInt | None = Field(None, ge=0, description="smallest number that is valid")
    most: StrictInt | None = Field(None, ge=0, description="biggest number that is valid")
    invalid: Prompt | None = Field(None, description="played before it is asked again after too few or wrong digits")
    no_input: Prompt | None = Field(None, description="played before it is asked again after silence")
    repeat_key: Literal["*", "#"] | None = Field(
        None, description="key that plays the prompt again, without costing an attempt"
    )
    variable: VariableName | None = Field(None, description="variable that gets the digits, beside `digits` of the CRM's URLs")
    secret: StrictBool = Field(
        False, description="digits such as a PIN: stars stand for them in records, journey, deliveries, pages and on disk"
    )

    @model_validator(mode="after")
    def _fits(self) -> Gather:
        if self.digits is not None and (self.min_digits is not None or self.max_digits is not None):
            raise ValueError("needs either `digits`, or `min_digits` and `max_digits`")
        if self.digits is None and self.max_digits is None and (self.is_given or self.needs_words):
            raise ValueError("needs `digits` or `max_digits`")
        if self.fewest > self.longest:
            raise ValueError("has a `min_digits` above its `max_digits`")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError("has a `least` above its `most`")
        if self.repeat_key is not None and self.repeat_key == self.end_key:
            raise ValueError(f"has {self.end_key} as `repeat_key` and as `end_key`; it can be one of them")
        return self

    @property
    def any_keys(self) -> bool:
        """Are a star and a hash digits, too? Only a CRM that asks may mean them."""
        return not self.is_given

    @property
    def fewest(self) -> int:
        return self.digits or self.min_digits or 1

    @property
    def longest(self) -> int:
        return self.digits or self.max_digits or MAX_DIGITS


class GatherStep(Step):
    applet = "gather"
    BRANCHES = ("next", "otherwise")
    GIVES_CHOICE = True
    gather: Gather = Field(description="plays a prompt and collects digits; digits pressed meanwhile count")
    next: str = Field(description="the step that follows the digits")
    otherwise: str | None = Field(None, description="the step after the last attempt without good digits; `next` unless set")


# --- cases ----------------------------------------------------------------------------------------


class Switch(Strict):
    on: Literal["select", "digits", "caller", "dialled"] | None = Field(
        None,
        description='`select`: the last passthru\'s answer 200 with `{"select": …}`; `digits`: the last ones pressed; '
        "`caller`, `dialled`: a number of the call",
    )
    variable: VariableName | None = Field(None, description="a variable's value, instead of `on`")

    @model_validator(mode="after")
    def _one_source(self) -> Switch:
        if (self.on is None) == (self.variable is None):
            raise ValueError("needs either `on` or `variable`")
        return self


_NUMBER_PREFIX = re.compile(r"\+[0-9]{1,14}\*")
_DIGITS_CASE = re.compile(r"[0-9*#]{1,128}")


class SwitchStep(Step):
    applet = "switch"
    BRANCHES = ("otherwise",)
    switch: Switch = Field(description="goes on by what is known of the call")
    cases: dict[Annotated[str, Field(min_length=1, max_length=200)], str] = Field(
        min_length=1,
        max_length=MAX_CASES,
        description="value to the step it leads to. Numbers as +91…; with `on: digits`, `caller` and `dialled` a `*` at the "
        "end stands for any further digits, and the longest case wins; `withheld` for callers without a number",
    )
    otherwise: str = Field(description="the step if no case fits, or nothing is known")

    @model_validator(mode="before")
    @classmethod
    def _cases_are_text(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("cases"), dict):
            data = {**data, "cases": {str(k) if isinstance(k, int) else k: v for k, v in data["cases"].items()}}
        return data

    @model_validator(mode="after")
    def _cases_fit(self) -> SwitchStep:
        for case in self.cases:
            if self.switch.on == "digits" and _DIGITS_CASE.fullmatch(case) is None:
                raise ValueError(f"has the case `{case}`, which cannot be pressed on a phone")
            if self.switch.on not in ("caller", "dialled"):
                continue
            if case == WITHHELD and self.switch.on == "caller":
                continue
            if _NUMBER_PREFIX.fullmatch(case) is None and to_e164(case) is None:
                raise ValueError(f"has the case `{case}`, which is no number; write +91… in full, or its begin with a `*`")
        return self

    def branches(self) -> dict[str, str]:
        return {f"cases.{case}": target for case, target in self.cases.items()} | {"otherwise": self.otherwise}

    def case_of(self, value: str) -> str | None:
        """The case that fits: the value itself, else the longest beginning of it that is a case with a `*`."""
        if value in self.cases:
            return value
        numbers = self.switch.on in ("caller", "dialled")
        if numbers and (exact := next((case for case in self.cases if to_e164(case) == value), None)) is not None:
            return exact
        if not (numbers or self.switch.on == "digits"):
            return None
        fitting = [case for case in self.cases if len(case) > 1 and case[-1] == "*" and value.startswith(case[:-1])]
        return max(fitting, key=len, default=None)


# --- hours ----------------------------------------------------------------------------------------


class Timing(Strict):
    hours: WeekHours = Field(
        min_length=1,
        description="days (`mon`, `mon-fri`, `sat,sun`) to spans of the account's time, `from` before `to`: [09:00-13:00, "
        "14:00-24:00]; days not named are closed. The end of a span is no longer open, but 23:59 means midnight",
    )
    holidays: StrictBool = Field(True, description="closed on the account's `holidays`, too")

    def spans(self) -> DaySpans:
        return day_spans(self.hours)


class TimingStep(Step):
    applet = "timing"
    BRANCHES = ("open", "closed", "holiday")
    timing: Timing = Field(description="tells whether the business is open now")
    open: str = Field(description="the step within the hours")
    closed: str = Field(description="the step outside of them")
    holiday: str | None = Field(None, description="the step on a holiday; `closed` unless set")


# --- language -------------------------------------------------------------------------------------


class LanguageChoice(Strict):
    to: Language = Field(description="language of all prompts from here on, as in `say: {en: …, hi: …}`")


class LanguageStep(Step):
    applet = "language"
    BRANCHES = ("next",)
    language: LanguageChoice = Field(description="chooses the language for the rest of the call")
    next: str = Field(description="the step that follows")


# --- agents ---------------------------------------------------------------------------------------


class AgentSwitch(Strict):
    state: Literal["on", "off"] = Field(description="`on`: the agent who calls takes calls from now on; `off`: no more")


class AgentStep(Step):
    applet = "agent"
    BRANCHES = ("done", "unknown")
    agent: AgentSwitch = Field(description="switches the agent who calls on or off")
    done: str = Field(description="the step that follows")
    unknown: str = Field(description="the step if no agent of the account has the caller's number")


# --- other places -----------------------------------------------------------------------------------


class Pause(Strict):
    seconds: StrictFloat = Field(gt=0, le=MAX_PAUSE_SECONDS, description="seconds to wait")
    sound: Prompt | None = Field(None, description="played before the wait; nothing unless set")


class PauseStep(Step):
    applet = "pause"
    BRANCHES = ("next",)
    pause: Pause = Field(description="plays and waits; keys pressed meanwhile are lost")
    next: str = Field(description="the step that follows")


class Transfer(Strict):
    flow: str = Field(description="a flow of this account; goes on at its start")
    arguments: Arguments = Field(default_factory=dict, alias="with", description="values for the flow's `parameters`")

    @property
    def entry(self) -> str:
        """The flow as it is run, with these values."""
        return entry_name(self.flow, self.arguments)


class TransferStep(Step):
    applet = "transfer"
    GIVES_CHOICE = True  # circles through several flows are looked for apart
    transfer: Transfer = Field(description="goes on in another flow")


class Back(Strict):
    to: Literal["choice", "step"] = Field(
        "choice",
        description="`choice`: the last menu or gather before the step that led here; `step`: the step before that one",
    )
    times: StrictInt = Field(5, ge=1, le=20, description="times in one call that this step leads back")


class BackStep(Step):
    applet = "back"
    BRANCHES = ("otherwise",)
    GIVES_CHOICE = True  # it has an end: `times`
    back: Back = Field(description="leads the caller back to where he came from")
    otherwise: str = Field(description="the step when there is nothing to go back to, or it was gone back often enough")
