"""Exotel's dialect, inwards: the agents a CRM names for a connect step.

Two forms (facts, exotel-dialect.md sections 4.2 and 4.3): plain text with comma-separated numbers, or JSON with
`destination.numbers` and settings. One invalid key, value or number rejects the whole answer. Which form it is shows in
the body: many CRMs send JSON as text/html, and every number is held against the same rules anyway.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from exoflow.crm.http import Answer
from exoflow.errors import ExoflowError, UnsafeText
from exoflow.telephony.numbers import agent_number

MAX_NUMBERS = 50  # at 30 s each nobody waits for more; as in the configuration
MAX_RING_SECONDS = 60  # section 4.3
MAX_TALK_SECONDS = 4500  # section 4.3

# how these begin, whatever type the server says
_JSON_OBJECT = re.compile(r'\{\s*["}]')
_WEB_PAGE = re.compile(r"<(!doctype|html|\?xml)", re.IGNORECASE)


class BadAnswer(ExoflowError):
    """The CRM's answer cannot be used. `key` is the place in it ("destination.numbers.0", "status", "body")."""

    def __init__(self, key: str, problem: str) -> None:
        self.key, self.problem = key, problem
        super().__init__(f"the CRM's answer is rejected whole: {key}: {problem}; correct it in the CRM")


@dataclass(frozen=True, slots=True)
class AgentsAnswer:
    """Whom to ring, in order, and what the CRM wants of the talk; None where it says nothing."""

    numbers: list[str]  # E.164; empty: nobody is free
    record: bool | None = None
    dual: bool | None = None
    ring_seconds: int | None = None
    talk_seconds: int | None = None
    ignored: tuple[str, ...] = ()  # keys of the dialect that this version knows of and does not act on


def _ringable(text: str) -> str:
    try:
        return agent_number(text.strip(" "))
    except UnsafeText as unsafe:
        raise ValueError(f"{_short(text)} refused: {unsafe.problem}") from None


_Number = Annotated[str, AfterValidator(_ringable)]
_NOT_ACTED_ON = Field(None, json_schema_extra={"ignored": True})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Destination(_Strict):
    numbers: list[_Number] = Field(max_length=MAX_NUMBERS)
    trunk: Any = _NOT_ACTED_ON


class _Programmable(_Strict):
    """The keys of section 4.3."""

    destination: _Destination
    record: bool = False
    recording_channels: Literal["single", "dual"] = "single"
    max_ringing_duration: int = Field(MAX_RING_SECONDS, ge=1, le=MAX_RING_SECONDS)
    max_conversation_duration: int = Field(MAX_TALK_SECONDS, ge=1, le=MAX_TALK_SECONDS)
    fetch_after_attempt: Any = _NOT_ACTED_ON
    custom_params: Any = _NOT_ACTED_ON
    outgoing_phone_number: Any = _NOT_ACTED_ON
    music_on_hold: Any = _NOT_ACTED_ON
    start_call_playback: Any = _NOT_ACTED_ON
    in_call_playback: Any = _NOT_ACTED_ON
    parallel_ringing: Any = _NOT_ACTED_ON
    dial_passthru_event_url: Any = _NOT_ACTED_ON
    distribute_calls: Any = _NOT_ACTED_ON
    # the call-centre variant
    destination_type: Any = _NOT_ACTED_ON
    sticky_agent: Any = _NOT_ACTED_ON
    state_management: Any = _NOT_ACTED_ON


def parse_agents(answer: Answer) -> AgentsAnswer:
    """The agents of an answer. Raises BadAnswer, naming the key."""
    if answer.status != 200:
        raise BadAnswer("status", f"is {answer.status}; agents come with 200 only")
    try:
        # many PHP files begin with a byte order mark
        text = answer.body.decode("utf-8-sig").strip(" \t\r\n")
    except UnicodeDecodeError:
        raise BadAnswer("body", "is not UTF-8 text") from None
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json" or _JSON_OBJECT.match(text):
        return _programmable(text)
    if _WEB_PAGE.match(text):
        raise BadAnswer("body", "is a web page, not numbers; the URL leads to the wrong place or to an error page")
    return AgentsAnswer(_plain(text))


def _plain(text: str) -> list[str]:
    """Section 4.2: numbers with commas between. A comma behind the last is forgiven, an empty text means nobody."""
    if not text:
        return []
    parts = text.removesuffix(",").split(",")
    if len(parts) > MAX_NUMBERS:
        raise BadAnswer("numbers", f"{len(parts)} of them; at most {MAX_NUMBERS} are rung")
    numbers = []
    for index, part in enumerate(parts):
        try:
            numbers.append(_ringable(part))
        except ValueError as problem:
            raise BadAnswer(f"numbers.{index}", str(problem)) from None
    return numbers


def _programmable(text: str) -> AgentsAnswer:
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise BadAnswer("body", "is nested too deeply") from None
    except ValueError as problem:  # JSONDecodeError, or an integer of thousands of digits
        where = f"line {problem.lineno} column {problem.colno}: " if isinstance(problem, json.JSONDecodeError) else ""
        raise BadAnswer("body", f"is not valid JSON: {where}{getattr(problem, 'msg', 'a number is too long')}") from None
    if not isinstance(data, dict):
        raise BadAnswer("body", "is JSON, but not an object with `destination`")
    try:
        told = _Programmable.model_validate(data)
    except ValidationError as invalid:
        _reject(invalid)
    given = told.model_fields_set
    return AgentsAnswer(
        numbers=told.destination.numbers,
        record=told.record if "record" in given else None,
        dual=told.recording_channels == "dual" if "recording_channels" in given else None,
        ring_seconds=told.max_ringing_duration if "max_ringing_duration" in given else None,
        talk_seconds=told.max_conversation_duration if "max_conversation_duration" in given else None,
        ignored=(*_ignored(told), *(f"destination.{name}" for name in _ignored(told.destination))),
    )


def _ignored(model: _Strict) -> list[str]:
    """The keys that were sent and are not acted on, in the order of the class."""
    fields = type(model).model_fields
    return [name for name in fields if name in model.model_fields_set and fields[name].json_schema_extra]


def _reject(invalid: ValidationError) -> NoReturn:
    """BadAnswer from pydantic's first finding."""
    first = invalid.errors(include_url=False)[0]
    key = ".".join(_short(part, quoted=False) for part in first["loc"])
    kind, value = first["type"], first["input"]
    if kind == "extra_forbidden":
        problem = "no such key in the dialect"
    elif kind == "missing":
        problem = "is missing"
    elif kind == "value_error":
        problem = str(first["ctx"]["error"])
    elif kind == "too_long":
        problem = f"{len(value)} of them; at most {MAX_NUMBERS} are rung"
    elif key == "destination":
        problem = "must be an object with `numbers`; users and devices of a call centre are not served"
    else:
        problem = f"{first['msg'][0].lower()}{first['msg'][1:]}, not {_short(value)}"
    raise BadAnswer(key, problem)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys come once: of two values nobody knows which one is meant."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadAnswer(_short(key, quoted=False), "comes twice")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise BadAnswer("body", f"{name} is no JSON")


def _short(value: Any, *, quoted: bool = True) -> str:
    """A stranger's value for a message: printable and short."""
    text = ascii(value)
    if not quoted and isinstance(value, str):
        text = text[1:-1]
    return text if len(text) <= 60 else text[:57] + "..."
