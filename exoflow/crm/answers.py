"""Exotel's dialect, inwards: the agents a CRM names for a connect step.

Two forms (facts, exotel-dialect.md sections 4.2 and 4.3): plain text with comma-separated numbers, or JSON with
`destination.numbers` and settings. One invalid key, value or number rejects the whole answer; an optional key that is null or
empty, and a part that is off, say nothing. Which form it is shows in the body: many CRMs send JSON as text/html, and every
number is held against the same rules anyway.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from exoflow.characters import one_line
from exoflow.crm.http import Answer
from exoflow.crm.strictjson import BadAnswer, Strict, Whole, media_type, read, short, text_of, web_address
from exoflow.errors import UnsafeText
from exoflow.telephony.dialstring import MAX_AT_ONCE
from exoflow.telephony.numbers import agent_number, listed, parted, to_e164

MAX_NUMBERS = 50  # at 30 s each nobody waits for more; as in the configuration
MAX_RING_SECONDS = 60  # section 4.3
MAX_TALK_SECONDS = 4500  # section 4.3
MAX_TEXT_CHARS = 500  # of what is spoken to an agent who has just answered; half a minute
MAX_PARAMS = 3  # section 4.3: "3 headers, 200 bytes"
MAX_PARAMS_BYTES = 200  # the same

# how these begin, whatever type the server says
_JSON_OBJECT = re.compile(r'\{\s*["}]')
_PARAM_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")
_PARAM_VALUE = re.compile(r"[A-Za-z0-9_.@/+-]*")  # of what a dial string may have (telephony/dialstring)
_WEB_PAGE = re.compile(r"<(!doctype|html|\?xml)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Playback:
    """What is heard when an agent answers: a text that is spoken, or the audio under a URL."""

    to: Literal["callee", "both"]
    text: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Music:
    """What the caller hears while agents ring."""

    kind: Literal["default_tone", "operator_tone", "custom_tone"]
    url: str = ""


@dataclass(frozen=True, slots=True)
class AgentsAnswer:
    """Whom to ring, in order, and what the CRM wants of the talk; None where it says nothing."""

    numbers: list[str]  # E.164; empty: nobody is free
    record: bool | None = None
    dual: bool | None = None
    ring_seconds: int | None = None
    talk_seconds: int | None = None
    again: bool = False  # the CRM wants to be asked after each attempt that failed
    shown: str | None = None  # the account's number (E.164) that agents see
    at_once: int | None = None  # phones that ring together
    music: Music | None = None
    playback: Playback | None = None
    headers: dict[str, str] = field(default_factory=dict)  # of SIP
    trunk: str | None = None
    events_url: str | None = None  # where dial events go (section 4.4)
    ignored: tuple[str, ...] = ()  # keys of the dialect that this version knows of and does not act on


def _ringable(text: str) -> str:
    try:
        return agent_number(text.strip())
    except UnsafeText as unsafe:
        raise ValueError(f"{short(text)} refused: {unsafe.problem}") from None


def _digits(value: Any) -> Any:
    """A number that came as an integer of JSON."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return str(int(value)) if whole and not isinstance(value, bool) else value


_Number = Annotated[str, BeforeValidator(_digits), AfterValidator(_ringable)]
_NOT_ACTED_ON = Field(None, json_schema_extra={"ignored": True})


class _Part(Strict):
    NOTHING: ClassVar[tuple[Any, ...]] = (None, "", {}, [])


class _Destination(_Part):
    numbers: list[_Number] = Field(max_length=MAX_NUMBERS)
    trunk: str | None = None

    @field_validator("numbers", mode="before")
    @classmethod
    def _of_any_form(cls, value: Any) -> Any:
        """A text is a list as in a plain answer; empty entries are left out."""
        if value is None:
            return []
        if isinstance(value, str):
            return listed(value)
        if not isinstance(value, list):
            return [value] if isinstance(_digits(value), str) else value
        return [one for one in value if one is not None and (not isinstance(one, str) or parted(one))]


class _Music(_Part):
    type: Literal["default_tone", "operator_tone", "custom_tone"]
    value: str | None = None

    @model_validator(mode="after")
    def _has_its_url(self) -> _Music:
        if (self.type == "custom_tone") != bool(self.value):
            raise ValueError("an audio URL as `value` goes with custom_tone, and with no other `type`")
        web_address(self.value) if self.value else None
        return self


class _Playback(_Part):
    playback_to: Literal["both", "callee"]
    type: Literal["text", "audio_url"]
    value: str = Field(min_length=1)

    @model_validator(mode="after")
    def _is_what_it_says(self) -> _Playback:
        if self.type == "audio_url":
            web_address(self.value)
        elif len(self.value) > MAX_TEXT_CHARS:
            raise ValueError(f"the text has {len(self.value)} characters; at most {MAX_TEXT_CHARS} are spoken")
        elif one_line(self.value) != self.value or not self.value.strip():
            raise ValueError(f"{short(self.value)} cannot be spoken")
        return self


class _Parallel(_Part):
    activate: bool = False
    max_parallel_attempts: Whole = Field(MAX_AT_ONCE, ge=1, le=MAX_AT_ONCE)

    @model_validator(mode="before")
    @classmethod
    def _off_whatever_else(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("activate") not in (None, False, ""):
            return data
        return {key: value for key, value in data.items() if key != "max_parallel_attempts"}


def _params(text: str) -> str:
    if len(text.encode("utf-8", "replace")) > MAX_PARAMS_BYTES:
        raise ValueError(f"has more than {MAX_PARAMS_BYTES} bytes")
    pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True) if text else []
    if len(pairs) > MAX_PARAMS or len({name.lower() for name, _ in pairs}) < len(pairs):
        raise ValueError(f"at most {MAX_PARAMS} parameters are sent, each once")
    for name, value in pairs:
        if not _PARAM_NAME.fullmatch(name) or not _PARAM_VALUE.fullmatch(value):
            raise ValueError(f"{short(f'{name}={value}')} cannot be a SIP header; letters, digits and _.@/+- can")
    return text


class _Programmable(_Part):
    """The keys of section 4.3."""

    destination: _Destination
    record: bool = False
    recording_channels: Literal["single", "dual"] = "single"
    max_ringing_duration: Whole = Field(MAX_RING_SECONDS, ge=1, le=MAX_RING_SECONDS)
    max_conversation_duration: Whole = Field(MAX_TALK_SECONDS, ge=1, le=MAX_TALK_SECONDS)
    fetch_after_attempt: bool = False
    custom_params: Annotated[str, AfterValidator(_params)] = ""
    outgoing_phone_number: Annotated[str, BeforeValidator(_digits)] | None = None
    music_on_hold: _Music | None = None
    start_call_playback: _Playback | None = None
    in_call_playback: Any = _NOT_ACTED_ON
    parallel_ringing: _Parallel | None = None
    dial_passthru_event_url: Annotated[str, AfterValidator(web_address)] | None = None
    distribute_calls: Any = _NOT_ACTED_ON
    # the call-centre variant
    destination_type: Any = _NOT_ACTED_ON
    sticky_agent: Any = _NOT_ACTED_ON
    state_management: Any = _NOT_ACTED_ON

    @model_validator(mode="before")
    @classmethod
    def _only_what_can_be_heard(cls, data: Any) -> Any:
        """Music and a playback without what is played are none."""
        if not isinstance(data, dict):
            return data
        music, playback = data.get("music_on_hold"), data.get("start_call_playback")
        silent = set()
        if isinstance(music, dict) and music.get("type") == "custom_tone" and not music.get("value"):
            silent.add("music_on_hold")
        if isinstance(playback, dict) and not playback.get("value"):
            silent.add("start_call_playback")
        return {key: value for key, value in data.items() if key not in silent}


def parse_agents(answer: Answer, *, ours: Collection[str] = (), trunks: Collection[str] = ()) -> AgentsAnswer:
    """The agents of an answer. `ours` are the account's numbers (E.164), of which agents may see one; `trunks` are the
    configured ones. Raises BadAnswer, naming the key."""
    text = text_of(answer)
    if media_type(answer) == "application/json" or _JSON_OBJECT.match(text):
        return _programmable(text, ours, trunks)
    if _WEB_PAGE.match(text):
        raise BadAnswer("body", "is a web page, not numbers; the URL leads to the wrong place or to an error page")
    return AgentsAnswer(_plain(text))


def _plain(text: str) -> list[str]:
    """Section 4.2: numbers with commas between, or semicolons, blanks or line ends. An empty text means nobody."""
    parts = listed(text)
    if len(parts) > MAX_NUMBERS:
        raise BadAnswer("numbers", f"{len(parts)} of them; at most {MAX_NUMBERS} are rung")
    numbers = []
    for index, part in enumerate(parts):
        try:
            numbers.append(_ringable(part))
        except ValueError as problem:
            raise BadAnswer(f"numbers.{index}", str(problem)) from None
    return numbers


def _programmable(text: str, ours: Collection[str], trunks: Collection[str]) -> AgentsAnswer:
    told = read(text, _Programmable, _own_words)
    given = told.model_fields_set
    if told.destination.trunk is not None and told.destination.trunk not in trunks:
        raise BadAnswer("destination.trunk", f"{short(told.destination.trunk)} is no configured trunk")
    parallel = told.parallel_ringing
    return AgentsAnswer(
        numbers=told.destination.numbers,
        record=told.record if "record" in given else None,
        dual=told.recording_channels == "dual" if "recording_channels" in given else None,
        ring_seconds=told.max_ringing_duration if "max_ringing_duration" in given else None,
        talk_seconds=told.max_conversation_duration if "max_conversation_duration" in given else None,
        again=told.fetch_after_attempt,
        shown=_one_of_ours(told.outgoing_phone_number, ours),
        at_once=None if parallel is None else parallel.max_parallel_attempts if parallel.activate else 1,
        music=None if told.music_on_hold is None else Music(told.music_on_hold.type, told.music_on_hold.value or ""),
        playback=_playback(told.start_call_playback),
        headers=_headers(told.custom_params),
        trunk=told.destination.trunk,
        events_url=told.dial_passthru_event_url,
        ignored=tuple(_ignored(told)),
    )


def _headers(params: str) -> dict[str, str]:
    """`a=1&b=2` as X-a and X-b."""
    return {f"X-{name.removeprefix('X-')}": value for name, value in parse_qsl(params, keep_blank_values=True)}


def _one_of_ours(text: str | None, ours: Collection[str]) -> str | None:
    """A CRM must not let agents see a stranger's number, and an exchange would not show it."""
    number = None if text is None else to_e164(text)
    if text is not None and (number is None or number not in ours):
        raise BadAnswer("outgoing_phone_number", f"{short(text)} is no number of this account")
    return number


def _playback(told: _Playback | None) -> Playback | None:
    if told is None:
        return None
    spoken = told.type == "text"
    return Playback(told.playback_to, text=told.value if spoken else "", url="" if spoken else told.value)


def _ignored(model: Strict) -> list[str]:
    """The keys that were sent and are not acted on, in the order of the class."""
    fields = type(model).model_fields
    return [name for name in fields if name in model.model_fields_set and fields[name].json_schema_extra]


def _own_words(key: str, kind: str, value: Any) -> str | None:
    """What is wrong with a value, where pydantic's words would not do."""
    if kind == "too_long":
        return f"{len(value)} of them; at most {MAX_NUMBERS} are rung"
    if key == "destination" and kind != "missing":
        return "must be an object with `numbers`; users and devices of a call centre are not served"
    return None
