"""A CRM's JSON, taken whole or not at all: each key once, nothing unknown, the key at fault named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from exoflow.crm.http import Answer
from exoflow.errors import ExoflowError

MAX_URL_CHARS = 2000  # of an address that an answer names; as in the configuration


class BadAnswer(ExoflowError):
    """The CRM's answer cannot be used. `key` is the place in it ("destination.numbers.0", "status", "body")."""

    def __init__(self, key: str, problem: str) -> None:
        self.key, self.problem = key, problem
        super().__init__(f"the CRM's answer is rejected whole: {key}: {problem}; correct it in the CRM")


class Strict(BaseModel):
    """An optional key that says nothing counts as not sent: many programs send each of their keys."""

    model_config = ConfigDict(extra="forbid", strict=True)
    NOTHING: ClassVar[tuple[Any, ...]] = (None,)

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_said(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        optional = {name for name, field in cls.model_fields.items() if not (field.is_required() or field.json_schema_extra)}
        return {key: value for key, value in data.items() if key not in optional or cls._says(value)}

    @classmethod
    def _says(cls, value: Any) -> bool:
        if isinstance(value, dict) and {} in cls.NOTHING:
            return any(cls._says(one) for one in value.values())
        return not any(type(value) is type(nothing) and value == nothing for nothing in cls.NOTHING)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]  # 30.0 is 30: JSON has one kind of number


Model = TypeVar("Model", bound=Strict)


def text_of(answer: Answer) -> str:
    """The text of an answer 200. Raises BadAnswer."""
    if answer.status != 200:
        raise BadAnswer("status", f"is {answer.status}; what is asked for comes with 200 only")
    try:
        # many PHP files begin with a byte order mark
        return answer.body.decode("utf-8-sig").strip(" \t\r\n")
    except UnicodeDecodeError:
        raise BadAnswer("body", "is not UTF-8 text") from None


def media_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def read(text: str, model: type[Model], own_words: Callable[[str, str, Any], str | None] = lambda *_: None) -> Model:
    """The text's one JSON object. Raises BadAnswer, naming the key; `own_words` gets the key, pydantic's kind of error and the
    value, and may say what is wrong."""
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise BadAnswer("body", "is nested too deeply") from None
    except ValueError as problem:  # JSONDecodeError, or an integer of thousands of digits
        where = f"line {problem.lineno} column {problem.colno}: " if isinstance(problem, json.JSONDecodeError) else ""
        raise BadAnswer("body", f"is not valid JSON: {where}{getattr(problem, 'msg', 'a number is too long')}") from None
    if not isinstance(data, dict):
        raise BadAnswer("body", "is JSON, but not an object")
    try:
        return model.model_validate(data)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
    key = ".".join(short(part, quoted=False) for part in first["loc"]) or "body"
    kind, value = first["type"], first["input"]
    if (said := own_words(key, kind, value)) is not None:
        raise BadAnswer(key, said)
    if kind == "extra_forbidden":
        raise BadAnswer(key, "no such key in the dialect")
    if kind == "missing":
        raise BadAnswer(key, "is missing")
    if kind == "value_error":
        raise BadAnswer(key, str(first["ctx"]["error"]))
    raise BadAnswer(key, f"{first['msg'][0].lower()}{first['msg'][1:]}, not {short(value)}")


def web_address(text: str) -> str:
    """The text, if it is an address that could be asked. Raises ValueError."""
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and text.isascii() and text.isprintable()
    except ValueError:
        fine = False
    if not fine or " " in text or len(text) > MAX_URL_CHARS:
        raise ValueError(f"{short(text)} is no http(s) URL of at most {MAX_URL_CHARS} characters")
    return text


def short(value: Any, *, quoted: bool = True) -> str:
    """A stranger's value for a message: printable and short."""
    text = ascii(value)
    if not quoted and isinstance(value, str):
        text = text[1:-1]
    return text if len(text) <= 60 else text[:57] + "..."


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys come once: of two values nobody knows which one is meant."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadAnswer(short(key, quoted=False), "comes twice")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise BadAnswer("body", f"{name} is no JSON")
