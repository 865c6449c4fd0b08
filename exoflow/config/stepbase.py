"""What the steps of a flow are made of: names, addresses, numbers, prompts, and the base of all steps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    StrictFloat,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from exoflow.characters import belongs, one_line
from exoflow.config.findings import did_you_mean
from exoflow.config.templates import checked
from exoflow.errors import UnsafeText
from exoflow.telephony import causes, numbers

# begins the tags that tell the alternatives of one key apart: pydantic puts them into a mistake's path, where `shape` takes
# them out again. No key of a file has this character
ALTERNATIVE = "\0"
ONE, MANY = ALTERNATIVE + "one", ALTERNATIVE + "many"
# names of steps, flows, groups, agents: letters and digits of any script. Nothing that could expand or split in a command
Name = Annotated[str, Field(pattern=r"^[\w][\w .-]{0,63}$")]
# plain ASCII dot-atoms (RFC 5322): Python's own e-mail package fails on others, and some end a header. A domain in another
# script is written as xn--…
MAIL_ADDRESS = (
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$"
)
MAX_MAIL_ADDRESS = 254  # characters; RFC 5321 section 4.5.3.1.3, less the angle brackets
# as in BCP 47: en, hi, en-IN
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$")]
Url = Annotated[str, Field(min_length=1, max_length=2000)]
UrlTemplate = Annotated[Url, AfterValidator(checked)]  # of a step: `{name}` stands for a variable in it
MAX_URL_SECONDS = 15.0  # Exotel's own ceiling; a caller will not wait longer


def _locate(path: Path, info: ValidationInfo) -> Path:
    """A relative path is meant from the folder of the file that names it (the loader tells it as context)."""
    base: Path | None = (info.context or {}).get("base")
    if not all(map(belongs, str(path))):
        raise ValueError(f"`{one_line(str(path), '?')}` has a control character; write the name without")
    return path if base is None else base / path


def _locate_text(path: str, info: ValidationInfo) -> str:
    return str(_locate(Path(path), info))


Located = Annotated[Path, AfterValidator(_locate)]


def _one_line(text: str) -> str:
    odd = next((char for char in text if not belongs(char)), None)
    if odd is not None:
        problem = "has the control character U+{code}; delete it"
        raise PydanticCustomError("control_character", problem, {"code": f"{ord(odd):04X}"})
    return text


# what people read of a thing, in pages, mails and XML; YAML writes control characters as escapes
Label = Annotated[str, AfterValidator(_one_line)]


def _our_number(text: str) -> str:
    e164 = numbers.to_e164(text)
    if e164 is None:
        raise PydanticCustomError(
            "our_number", "{given} is no telephone number; write it as +91 and ten digits", {"given": text}
        )
    return e164


def _agent_number(text: str) -> str:
    try:
        return numbers.agent_number(text)
    except UnsafeText as refused:
        raise PydanticCustomError("agent_number", "{problem}", {"problem": str(refused)}) from None


def digits_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


def known_cause(name: str) -> str:
    known = {cause.name: cause for cause in causes.CAUSES if 0 < cause.q850 <= causes.MAX_Q850}
    if name in known:
        return name
    by_number = next((n for n, cause in known.items() if str(cause.q850) == name), None)
    cure = did_you_mean(name, known) if by_number is None else f"; write `{by_number}`"
    raise PydanticCustomError("hangup_cause", "unknown hangup cause {given}{cure}", {"given": name, "cure": cure})


class FromEnvironment(SecretStr):
    """A secret that is no text of the file: nothing is filled in it."""


def _from_environment(secret: SecretStr, info: ValidationInfo) -> SecretStr:
    """`${NAME}` becomes what the environment has under it (the loader tells the environment as context)."""
    variable = FROM_ENVIRONMENT.fullmatch(secret.get_secret_value())
    environ: Mapping[str, str] | None = (info.context or {}).get("environ")
    if variable is None or environ is None:
        return secret
    if not environ.get(variable[1]):
        raise PydanticCustomError("environment", "the environment variable {name} is not set; set it", {"name": variable[1]})
    return FromEnvironment(environ[variable[1]])


FROM_ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
Secret = Annotated[SecretStr, AfterValidator(_from_environment)]  # never shown; the text itself or `${NAME}`
OurNumber = Annotated[str, AfterValidator(_our_number)]  # becomes E.164
AgentNumber = Annotated[str, AfterValidator(_agent_number)]  # becomes E.164; Indian numbers that may be rung only


class Strict(BaseModel):
    """No unknown keys, no changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _by_language(value: Any) -> str:
    return MANY if isinstance(value, dict) else ONE


_Text = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(checked)]
_File = Annotated[str, Field(min_length=1), AfterValidator(_locate_text)]
_Texts = Annotated[
    Annotated[_Text, Tag(ONE)] | Annotated[dict[Language, _Text], Field(min_length=1), Tag(MANY)],
    Discriminator(_by_language),
]
_Files = Annotated[
    Annotated[_File, Tag(ONE)] | Annotated[dict[Language, _File], Field(min_length=1), Tag(MANY)],
    Discriminator(_by_language),
]


class Prompt(Strict):
    """What a caller hears: a text to speak, or a sound file; one for all, or one a language."""

    say: _Texts | None = Field(None, description="text with `{name}`, or `{en: …, hi: …}`; rendered by `exoflow prompts build`")
    play: _Files | None = Field(None, description="sound file, or one a language; relative to the file that names it")
    language: Language | None = Field(None, description="language of a single text; the account's unless set")

    @model_validator(mode="after")
    def _one_source(self) -> Prompt:
        if (self.say is not None and self.play is not None) or (not self.is_given and self.needs_words):
            raise ValueError("needs either `say` or `play`, and not both")
        if self.language is not None and isinstance(self.say, dict):
            raise ValueError("has `language` beside texts in several languages; it goes with a single one")
        return self

    @property
    def is_given(self) -> bool:
        """Is there a text or a file? One that a CRM gives need not have any."""
        return self.say is not None or self.play is not None

    @property
    def needs_words(self) -> bool:
        return True

    @property
    def languages(self) -> list[str]:
        """The languages it is written in one by one; empty for a single text or file."""
        source = self.say if self.say is not None else self.play
        return list(source) if isinstance(source, dict) else []

    def spoken_in(self, language: str, default: str) -> Prompt:
        """The single text or file for a caller who chose `language`; the account's `default` where there is none for him."""
        say, play = (_chosen(source, language, default) for source in (self.say, self.play))
        chosen = self.language or default
        if self.languages:
            chosen = language if language in self.languages else default
        return Prompt.model_construct(say=say, play=play, language=chosen)

    def variants(self, default: str) -> list[Prompt]:
        """A single text or file for each language it has; none if there is nothing to hear."""
        return [] if not self.is_given else [self.spoken_in(language, default) for language in self.languages or [default]]


def _chosen(source: str | dict[str, str] | None, language: str, default: str) -> str | None:
    if not isinstance(source, dict):
        return source
    return source.get(language) or source.get(default) or next(iter(source.values()))


class PromptOrUrl(Prompt):
    """What a caller hears, or where a CRM tells it; a text or file is then for when no CRM tells what can be played."""

    url: UrlTemplate | None = Field(None, description="the CRM that tells what is heard, asked by GET")
    fallback_url: UrlTemplate | None = Field(None, description="asked if `url` gives nothing that can be used")
    url_timeout: StrictFloat = Field(5, gt=0, le=MAX_URL_SECONDS, description="seconds for each URL's whole answer")
    hold: Prompt | None = Field(None, description="what the caller hears while it is asked; a soft tone unless set")

    @model_validator(mode="after")
    def _url_first(self) -> PromptOrUrl:
        if self.fallback_url is not None and self.url is None:
            raise ValueError("has a `fallback_url`, which goes with `url`")
        return self

    @property
    def needs_words(self) -> bool:
        return self.url is None

    @property
    def urls(self) -> list[str]:
        """In the order in which they are asked."""
        return [url for url in (self.url, self.fallback_url) if url is not None]


class Block(Prompt):
    """A word of a value, in one language: said with others in one sound, so it is rendered without silence around it."""

    def spoken_in(self, language: str, default: str) -> Prompt:
        return self

    def variants(self, default: str) -> list[Prompt]:
        return [self]


class Step(Strict):
    """Base of all steps. `applet` is the key that names it, `BRANCHES` are its keys that lead to other steps."""

    applet: ClassVar[str]
    BRANCHES: ClassVar[tuple[str, ...]] = ()
    # does the caller get a choice or an end here? (loops without one are refused)
    GIVES_CHOICE: ClassVar[bool] = False

    def branches(self) -> dict[str, str]:
        """The branches that are set: their key path in the step ("next", "keys.1") to the step they lead to."""
        return {name: getattr(self, name) for name in self.BRANCHES if getattr(self, name) is not None}

    def spoken(self, languages: Sequence[str]) -> list[Prompt]:
        """Blocks of sound the step needs beside the prompts written in it, for callers of these languages; the first is the
        account's."""
        return []
