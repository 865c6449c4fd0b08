"""Steps that do something with what the call knows: variables, spoken values, consent, and messages to people and programs.

Texts with `{name}` in them are filled by one door (flow/templates.py). Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictFloat, StrictInt, model_validator
from pydantic_core import PydanticCustomError

from exoflow.config.findings import did_you_mean
from exoflow.config.spoken import LANGUAGES, LAST_RESORT, Kind, Unsayable, all_words, spoken_language, table_of, words
from exoflow.config.stepbase import (
    MAIL_ADDRESS,
    MAX_MAIL_ADDRESS,
    Block,
    FromEnvironment,
    Prompt,
    Secret,
    Step,
    Strict,
    UrlTemplate,
)
from exoflow.config.templates import VARIABLE, checked
from exoflow.config.values import Unfit, typed

MAX_VARIABLES = 20  # set in one step
MAX_SMS_SECONDS = 15.0  # as a passthru: a caller may be waiting
MAX_MAIL_SECONDS = 30.0  # a busy server greets late; a call's record waits for a mail beside it
MAX_PAGE_SECONDS = 15.0  # the call's record waits for it
MAX_TEXT = 2000  # characters of a message before it is filled
MAX_FIELDS = 50  # of a form, and of each mapping within a JSON body
MAX_JSON_DEPTH = 5  # of a body; providers' have two levels

VariableName = Annotated[str, Field(pattern=VARIABLE)]
MailAddress = Annotated[str, Field(pattern=MAIL_ADDRESS, max_length=MAX_MAIL_ADDRESS)]
_OWN_HEADERS = ("connection", "content-length", "host", "transfer-encoding")  # the client's, for it frames the request
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
PhoneKey = Annotated[str, Field(pattern=r"^[0-9*#]$")]


Template = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(checked)]


def _json_template(value: Any, depth: int = 0) -> Any:
    """Every text within a JSON body is a template; all else is sent as it stands."""
    if depth > MAX_JSON_DEPTH:
        raise PydanticCustomError("template", "the JSON body is nested deeper than {most} levels", {"most": MAX_JSON_DEPTH})
    if isinstance(value, str):
        return checked(value)
    if isinstance(value, (dict, list)):
        if len(value) > MAX_FIELDS:
            raise PydanticCustomError(
                "template", "a mapping or list of the JSON body has more than {most} entries", {"most": MAX_FIELDS}
            )
        for item in value.values() if isinstance(value, dict) else value:
            _json_template(item, depth + 1)
    return value


def texts_in(value: Any) -> Iterator[str]:
    """All templates of a JSON body."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)


JsonTemplate = Annotated[dict[str, Any], AfterValidator(_json_template)]


class Acting(Step):
    """A step whose settings have templates; the checks look for variables that nobody sets."""

    def templates(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Each template with its path in the step."""
        return iter(())


# --- variables ----------------------------------------------------------------------------------


def _fits(name: str, constant: str | int, wanted: str) -> None:
    try:
        typed(constant, wanted)
    except Unfit as problem:
        raise ValueError(f"cannot take its `{name}`, which {problem}") from None


class Variable(Strict):
    """Where one value comes from, and what it must be."""

    type: Literal["text", "integer", "digits"] = Field(
        "text", description="`integer`: a whole number; `digits`: 0 to 9, * and #, leading zeros kept"
    )
    source: Literal["gathered", "caller", "dialled", "crm"] | None = Field(
        None, alias="from", description="last digits pressed, a number of the call, or the last passthru's JSON answer"
    )
    key: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="with `from: crm`: the key in the answer, deeper ones by dots: order.due",
    )
    value: str | StrictInt | None = Field(None, description="a constant, instead of `from`")
    default: str | StrictInt | None = Field(None, description="taken when there is no value of the type")

    @model_validator(mode="after")
    def _one_source(self) -> Variable:
        if (self.source is None) == (self.value is None):
            raise ValueError("needs either `from` or `value`")
        if (self.source == "crm") != (self.key is not None):
            raise ValueError("needs `key` with `from: crm`, and with nothing else")
        for name, constant in (("value", self.value), ("default", self.default)):
            if constant is not None:
                _fits(name, constant, self.type)
        return self


class Set(Strict):
    variables: dict[VariableName, Variable] = Field(
        min_length=1, max_length=MAX_VARIABLES, description="name to what it gets; small letters, digits and `_`"
    )


class SetStep(Step):
    applet = "set"
    BRANCHES = ("next", "failed")
    set: Set = Field(description="gives names to values for the rest of the call")
    next: str = Field(description="the step that follows")
    failed: str | None = Field(None, description="the step if a variable got no value of its type; `next` unless set")


# --- the journey --------------------------------------------------------------------------------


class Note(Strict):
    text: Template = Field(description="the line; `{name}` stands for a variable")


class NoteStep(Acting):
    applet = "note"
    BRANCHES = ("next",)
    note: Note = Field(description="writes a line into the call's journey")
    next: str = Field(description="the step that follows")

    def templates(self) -> Iterator[tuple[tuple[str, ...], str]]:
        yield ("note", "text"), self.note.text


# --- spoken values ------------------------------------------------------------------------------


def _known_language(name: str) -> str:
    if table_of(name) is None:
        raise PydanticCustomError(
            "language", "unknown language {given}{cure}", {"given": name, "cure": did_you_mean(name, LANGUAGES)}
        )
    return name


class SayValue(Strict):
    variable: VariableName | None = Field(None, description="the variable whose value is said")
    value: str | StrictInt | None = Field(None, description="a constant, instead of `variable`")
    kind: Kind = Field(
        alias="as",
        description="`number`; `digits` one by one; `amount` in rupees (1250.50); `date` (2026-11-23 or 23112026); "
        "`time` (16:30 or 1630)",
    )
    before: Prompt | None = Field(None, description="played before it, in one piece with it")
    after: Prompt | None = Field(None, description="played after it, in one piece with it")
    language: Annotated[str, AfterValidator(_known_language)] | None = Field(
        None,
        description="language of the value; unless set the caller's, or the account's if exoflow has no words in the caller's. "
        f"There are words in {', '.join(LANGUAGES)}",
    )

    @model_validator(mode="after")
    def _one_value(self) -> SayValue:
        if (self.variable is None) == (self.value is None):
            raise ValueError("needs either `variable` or `value`")
        if self.value is not None:
            try:
                words(self.kind, self.value, LAST_RESORT)
            except Unsayable as problem:
                raise ValueError(f"has a `value` that cannot be said: {problem}") from None
        return self


class SayValueStep(Step):
    applet = "say_value"
    BRANCHES = ("next", "failed")
    say_value: SayValue = Field(description="says a number, digits, an amount, a date or a time from rendered blocks")
    next: str = Field(description="the step that follows")
    failed: str | None = Field(None, description="the step if the value cannot be said as that; `next` unless set")

    def spoken(self, languages: Sequence[str]) -> list[Prompt]:
        heard = dict.fromkeys(self.language_for(language, languages[0]) for language in languages)
        return [block for name in heard for block in all_blocks(self.say_value.kind, name)]

    def language_for(self, caller: str, account: str) -> str:
        """The language in which a caller hears the value."""
        return self.say_value.language or spoken_language(caller, account)


def blocks(words: Iterable[str], language: str) -> list[Prompt]:
    """Words as blocks of sound."""
    return [Block(say=word, language=language) for word in words]


@lru_cache(maxsize=128)  # kinds times languages; every step of a kind needs the same
def all_blocks(kind: Kind, language: str) -> list[Prompt]:
    """Every block that a value of this kind may need."""
    return blocks(all_words(kind, language), language)


# --- consent ------------------------------------------------------------------------------------


class Consent(Prompt):
    agree: PhoneKey = Field("1", description="key that agrees to being recorded")
    refuse: PhoneKey = Field("2", description="key that refuses")
    attempts: StrictInt = Field(2, ge=1, le=10, description="times it is asked; silence after the last is a refusal")
    timeout: StrictFloat = Field(5, ge=1, le=60, description="seconds to wait for the key after the prompt")

    @model_validator(mode="after")
    def _two_keys(self) -> Consent:
        if self.agree == self.refuse:
            raise ValueError("needs two different keys for `agree` and `refuse`")
        return self


class ConsentStep(Step):
    applet = "consent"
    BRANCHES = ("agreed", "refused")
    GIVES_CHOICE = True
    consent: Consent = Field(description="asks before recording; a refusal holds for all that is recorded in the call")
    agreed: str = Field(description="the step after the key that agrees")
    refused: str = Field(description="the step after a refusal, or silence")


# --- messages -----------------------------------------------------------------------------------


class Sms(Strict):
    url: UrlTemplate = Field(description="the SMS provider's address; the same rules for addresses as for a CRM's")
    method: Literal["get", "post"] = Field("post", description="`get` sends the form in the address")
    form: dict[str, Template] | None = Field(
        None, min_length=1, max_length=MAX_FIELDS, description="fields; texts with `{name}`"
    )
    json_body: JsonTemplate | None = Field(None, alias="json", description="a JSON body instead; every text in it is filled")
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict,
        max_length=20,
        description="e.g. the provider's key: a text with `{name}`, or `${NAME}` of the environment, which is sent as it is",
    )
    timeout: StrictFloat = Field(5, gt=0, le=MAX_SMS_SECONDS, description="seconds for the whole answer")
    hold: Prompt | None = Field(None, description="what the caller hears if the flow waits; a soft tone unless set")

    @model_validator(mode="after")
    def _one_body(self) -> Sms:
        if (self.form is None) == (self.json_body is None):
            raise ValueError("needs either `form` or `json`")
        if self.method == "get" and self.form is None:
            raise ValueError("needs `form` with `method: get`")
        for name, value in self.headers.items():
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"cannot set the header `{name}`, which the request itself needs")
            if not (value.get_secret_value().isascii() and value.get_secret_value().isprintable()):
                raise ValueError(f"has a header `{name}` with other characters than printable ASCII")
            if not isinstance(value, FromEnvironment):
                checked(value.get_secret_value())
        return self


class SmsStep(Acting):
    applet = "sms"
    BRANCHES = ("next", "failed")
    sms: Sms = Field(description="sends an SMS through a provider's HTTP address")
    next: str = Field(description="the step that follows")
    failed: str | None = Field(None, description="the step if the provider did not take it; set, the flow waits for the answer")

    def templates(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for name, text in (self.sms.form or {}).items():
            yield ("sms", "form", name), text
        for text in texts_in(self.sms.json_body):
            yield ("sms", "json"), text
        for name, value in self.sms.headers.items():
            if not isinstance(value, FromEnvironment):
                yield ("sms", "headers", name), value.get_secret_value()


class MailMessage(Strict):
    to: list[MailAddress] | None = Field(
        None, min_length=1, max_length=20, description="receivers; the account's `contacts` unless set"
    )
    subject: Annotated[Template, Field(max_length=200)] = Field(description="one line")
    text: Template = Field(description="plain text")
    timeout: StrictFloat = Field(10, gt=0, le=MAX_MAIL_SECONDS, description="seconds until the mail server has taken it")
    hold: Prompt | None = Field(None, description="what the caller hears if the flow waits; a soft tone unless set")


class MailStep(Acting):
    applet = "mail"
    BRANCHES = ("next", "failed")
    mail: MailMessage = Field(description="sends a mail by the server under `mail` in the main file")
    next: str = Field(description="the step that follows")
    failed: str | None = Field(None, description="the step if the server did not take it; set, the flow waits for it")

    def templates(self) -> Iterator[tuple[tuple[str, ...], str]]:
        yield ("mail", "subject"), self.mail.subject
        yield ("mail", "text"), self.mail.text


class Page(Strict):
    url: UrlTemplate = Field(description="who is paged by POST; signed with the secret of the account's `deliveries`")
    text: Template = Field(description="what for")
    timeout: StrictFloat = Field(5, gt=0, le=MAX_PAGE_SECONDS, description="seconds for the whole answer")


class PageStep(Acting):
    applet = "page"
    BRANCHES = ("next",)
    page: Page = Field(description="pages a program beside the call, which goes on at once")
    next: str = Field(description="the step that follows")

    def templates(self) -> Iterator[tuple[tuple[str, ...], str]]:
        yield ("page", "text"), self.page.text
