"""Exotel's dialect, inwards: what a CRM lets a caller hear, as a greeting, a menu's prompt or the question of a gather.

Facts: exotel-dialect.md section 3. A greeting is `text/plain`, strictly: a text to speak, or audio URLs one a line, played in
order; or JSON with `greeting_url`. What this module decides itself: lines of both kinds in one answer are refused; of a text
all white space counts as one space, and control characters and dashes at its beginning are left out, for it becomes an
engine's input; a gather's `input_timeout` is 1 to 60 s, `repeat_menu` 0 to 9; `finish_on_key` is one key of a telephone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from exoflow.characters import one_line
from exoflow.crm.http import Answer
from exoflow.crm.strictjson import BadAnswer, Strict, Whole, media_type, read, short, text_of, web_address

MAX_TEXT_CHARS = 2000  # some two minutes of speech; as in the configuration
MAX_AUDIOS = 20  # of one greeting, one after another; as in the configuration
MAX_REPEATS = 9  # more tries than ten nobody makes; as `attempts` in the configuration
MAX_INPUT_SECONDS = 60  # for a key; as `timeout` in the configuration
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Heard:
    """A text to speak, or audio to fetch, in order."""

    text: str = ""
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatherAnswer:
    """What a gather asks. Seconds between two keys, and until the first."""

    prompt: Heard
    repeat_prompt: Heard
    most: int
    end_key: str  # "" is none
    seconds: int
    attempts: int


def parse_greeting(answer: Answer) -> Heard:
    """What is to be heard. Raises BadAnswer, naming the key or the line."""
    text = text_of(answer)
    kind = media_type(answer)
    if kind == JSON:
        return Heard(urls=(read(text, _GreetingUrl).greeting_url,))
    if kind != "text/plain":
        raise BadAnswer("content-type", f"is {short(kind)}; a greeting is text/plain, or {JSON} with `greeting_url`")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadAnswer("body", "is empty; there is nothing to speak or to play")
    audios = [_begins_as_url(line) for line in lines]
    if not any(audios):
        return Heard(text=_within("body", text))
    if len(lines) > MAX_AUDIOS:
        raise BadAnswer("body", f"has {len(lines)} lines of audio; at most {MAX_AUDIOS} are played")
    if not all(audios):
        raise BadAnswer(f"line {audios.index(False) + 1}", "is no URL, and other lines are; give a text or URLs, not both")
    for number, line in enumerate(lines, 1):
        try:
            web_address(line)
        except ValueError as problem:
            raise BadAnswer(f"line {number}", str(problem)) from None
    return Heard(urls=tuple(lines))


def parse_gather(answer: Answer) -> GatherAnswer:
    """What is to be asked. Raises BadAnswer, naming the key."""
    text = text_of(answer)
    if media_type(answer) != JSON and not text.startswith("{"):  # many CRMs send JSON as text/html
        raise BadAnswer("content-type", f"is {short(media_type(answer))}; a gather's answer is {JSON}")
    told = read(text, _Gather)
    prompt = told.gather_prompt.heard
    return GatherAnswer(
        prompt=prompt,
        repeat_prompt=prompt if told.repeat_gather_prompt is None else told.repeat_gather_prompt.heard,
        most=told.max_input_digits,
        end_key=told.finish_on_key,
        seconds=told.input_timeout,
        attempts=1 + told.repeat_menu,
    )


# --- forms ------------------------------------------------------------------------------------------


def _begins_as_url(line: str) -> bool:
    return line.lower().startswith(("http://", "https://"))


def speakable(text: str) -> str:
    """Raises ValueError for a text that has nothing to speak, or too much."""
    spoken = " ".join(one_line(text).split()).lstrip("-–— ")
    if not any(c.isalnum() for c in spoken):
        raise ValueError(f"{short(text)} has nothing to speak")
    if len(spoken) > MAX_TEXT_CHARS:
        raise ValueError(f"the text has {len(spoken)} characters; at most {MAX_TEXT_CHARS} are spoken")
    return spoken


def _within(key: str, text: str) -> str:
    try:
        return speakable(text)
    except ValueError as problem:
        raise BadAnswer(key, str(problem)) from None


def _end_key(text: str) -> str:
    if text not in ("", *"0123456789*#"):
        raise ValueError(f"{short(text)} is no key of a telephone, nor empty for none")
    return text


_Url = Annotated[str, AfterValidator(web_address)]


class _GreetingUrl(Strict):
    greeting_url: _Url


class _GatherPrompt(Strict):
    NOTHING = (None, "")

    text: Annotated[str, AfterValidator(speakable)] | None = None
    audio_url: _Url | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> _GatherPrompt:
        if (self.text is None) == (self.audio_url is None):
            raise ValueError("needs either `text` or `audio_url`, and not both")
        return self

    @property
    def heard(self) -> Heard:
        return Heard(text=self.text) if self.text is not None else Heard(urls=(self.audio_url or "",))


class _Gather(Strict):
    """The keys of section 3."""

    gather_prompt: _GatherPrompt
    max_input_digits: Whole = Field(255, ge=1, le=255)
    finish_on_key: Annotated[str, AfterValidator(_end_key)] = "#"
    input_timeout: Whole = Field(5, ge=1, le=MAX_INPUT_SECONDS)
    repeat_menu: Whole = Field(0, ge=0, le=MAX_REPEATS)
    repeat_gather_prompt: _GatherPrompt | None = None

    @field_validator("repeat_gather_prompt", mode="before")
    @classmethod
    def _only_what_is_said_again(cls, value: Any) -> Any:
        """A prompt with nothing in it is none."""
        return None if isinstance(value, dict) and not any(value.values()) else value
