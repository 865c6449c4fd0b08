"""The typed configuration: what `exoflow.yaml` and the accounts' files become once they are read and found good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, StrictFloat, StrictInt, model_validator

from exoflow.config.actions import VariableName
from exoflow.config.callbacks import CallBacks
from exoflow.config.hours import Holidays
from exoflow.config.keep import Kept
from exoflow.config.people import Agent, Group
from exoflow.config.stepbase import MAIL_ADDRESS, MAX_MAIL_ADDRESS, Label, Language, Secret
from exoflow.config.steps import AnyStep, Located, Name, OurNumber, Prompt, Strict, Url
from exoflow.config.templates import without_names
from exoflow.config.turns import Argument, Arguments, GivenArgument, LanguageStep, entry_name
from exoflow.telephony.numbers import NumberType, tail_matches, to_e164

# what may stand in a dial string as a span's or gateway's name (telephony/dialstring.py)
TRUNK_NAME = r"^[A-Za-z0-9_.-]{1,64}$"
MAX_PUBLIC_URL = 80  # characters; receivers lose events whose RecordingUrl has more than 140, and the rest of it is 57
MAX_HOST = 253  # characters of a name (RFC 1035, section 2.3.4, without its length octets)
MAX_PORT = 65535  # TCP has 16 bits for it
LISTEN = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}$"


class Address(NamedTuple):
    host: str
    port: int


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))


def _port_in_range(text: str) -> str:
    if _address(text).port > MAX_PORT:
        raise ValueError(f"the port of `{text}` is above {MAX_PORT}")
    _host(_address(text).host)
    return text


def _host(text: str) -> str:
    """A name that can be looked up, or an address. The library of sockets raises UnicodeError and ValueError for others."""
    try:
        if ":" in text:
            IPv6Address(text)
        elif not text.isprintable() or " " in text or len(text.encode("idna")) > MAX_HOST:
            raise ValueError
    except ValueError:
        raise ValueError(f"`{text[:MAX_HOST]}` is no host; write a name or an address, e.g. 127.0.0.1") from None
    return text


HostPort = Annotated[str, Field(pattern=LISTEN), AfterValidator(_port_in_range)]


class EventSocket(Strict):
    """FreeSWITCH's own event socket, which we connect to (mod_event_socket)."""

    host: Annotated[str, Field(min_length=1), AfterValidator(_host)] = Field(
        "127.0.0.1", description="where FreeSWITCH's event_socket.conf listens"
    )
    port: StrictInt = Field(8021, ge=1, le=MAX_PORT, description="its listen-port")
    password: SecretStr | None = Field(None, description="the text itself, or `${NAME}` for an environment variable")
    password_file: Located | None = Field(None, description="file whose first line is the password")

    def password_text(self) -> str:
        """The password; the loader has already put what stands in the file or the environment in its place."""
        return "" if self.password is None else self.password.get_secret_value()


class Switch(Strict):
    listen: HostPort = Field("127.0.0.1:8084", description="host:port that FreeSWITCH's socket application connects to")
    event_socket: EventSocket = Field(EventSocket(), description="FreeSWITCH's own event socket, which exoflow connects to")
    recordings: Located = Field(Path("recordings"), validate_default=True, description="folder; one in it for each day")
    cdr: Located | None = Field(
        None, description="folder of FreeSWITCH's CDR files (exoflow_cdr_dir): how calls end while no app has them"
    )
    fallback: Located | None = Field(
        None, description="dialplan/fallback of FreeSWITCH's configuration: whom it rings by itself is written there"
    )
    max_calls: StrictInt = Field(1000, ge=1, le=5000, description="calls in one process; above it callers hear 'busy' (17)")

    @property
    def listen_address(self) -> Address:
        return _address(self.listen)


class Outbound(Strict):
    dial_prefix: str = Field(
        "0", pattern=r"^[0-9]{0,6}$", description="digits before the national number; India: fixed to mobile needs 0"
    )
    cli: str | None = Field(None, pattern=r"^[0-9]{3,15}$", description="caller id our agents see; inside the PRI's own range")
    hunt: Literal["a", "A", "r", "R"] = Field("A", description="order in which free channels are looked for")


class Trunk(Strict):
    circle: Label | None = Field(None, description="Indian telecom circle, e.g. KA")
    operator: Label | None = Field(None, description="whose line it is")
    span: str | None = Field(None, pattern=TRUNK_NAME, description="FreeTDM span name")
    gateway: str | None = Field(None, pattern=TRUNK_NAME, description="SIP gateway name, instead of a span")
    channels: StrictInt = Field(30, ge=1, le=480, description="calls the trunk carries at once; 30 for an E1")
    std_code: str | None = Field(
        None, pattern=r"^[0-9]{2,4}$", description="STD code of the line, without 0: completes local numbers"
    )
    outbound: Outbound = Field(Outbound(), description="how agents are dialled on it")

    @model_validator(mode="after")
    def _one_kind(self) -> Trunk:
        if (self.span is None) == (self.gateway is None):
            raise ValueError("needs either `span` or `gateway`")
        return self


class Prompts(Strict):
    engine: str | None = Field(
        None,
        description="`espeak-ng`, `text` (silence of the text's length, for trying flows), or a command with {text} and {wav}, "
        "and {voice} if it has several",
    )
    voice: str = Field("en-in", description="voice of the engine")
    voices: dict[Language, str] = Field(
        default_factory=dict, description="voice of each language, e.g. {hi: hi, ta: ta}; `voice` for all others"
    )
    folder: Located = Field(Path("prompts"), validate_default=True, description="where rendered prompts lie")

    def voice_of(self, language: str | None) -> str:
        return self.voices.get(language or "", self.voice)


class StatusCallback(Strict):
    """Where the account's CRM hears that a call rings, was answered, or is over, in the dialect's form (docs/deliveries.md)."""

    url: Url = Field(description="receives POSTs of a form")
    events: list[Literal["terminal", "answered", "ringing"]] = Field(
        default_factory=list, description="of which it is told, with all fields; the end alone, with few fields, unless set"
    )
    content_type: Literal["application/x-www-form-urlencoded", "multipart/form-data", "application/json"] = Field(
        "application/x-www-form-urlencoded", description="form of the body, as `StatusCallbackContentType`"
    )
    timeout: StrictFloat = Field(15, gt=0, le=30, description="seconds for the whole answer")


class Number(Strict):
    number: OurNumber = Field(description="our number, E.164")
    trunk: str = Field(description="the trunk it is on, a name under `trunks`")
    diverted_from: OurNumber | None = Field(None, description="the customer-facing number that is diverted to ours")
    dnis: str | None = Field(
        None, pattern=r"^[0-9]{2,10}$", description="digits the exchange sends; the number's end unless set"
    )
    flow: str = Field(description="the flow that answers it")
    status_callback: StatusCallback | None = Field(None, description="of its calls, in place of the account's in `crm`")
    arguments: Arguments = Field(default_factory=dict, alias="with", description="values for the flow's `parameters`")

    @property
    def entry(self) -> str:
        """The flow as it is run, with these values."""
        return entry_name(self.flow, self.arguments)


ParameterType = Literal["text", "number", "file", "url", "group", "flow"]


class Parameter(Strict):
    """A value that each number, or each transfer, gives to a flow. As text alone, `team: group`, it is the type."""

    type: ParameterType = Field("text", description="what it is, and so where `{name}` may stand for it")
    default: GivenArgument | None = Field(None, description="taken where no value is given; without it one must be")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"type": data} if isinstance(data, str) else data


class Flow(Strict):
    parameters: dict[VariableName, Parameter] = Field(
        default_factory=dict,
        max_length=20,
        description="names to types; `{name}` stands for the value in `say`, `play`, `url`, `group` and `flow`, and it "
        "is a variable",
    )
    start: str = Field(description="the first step")
    steps: dict[Name, AnyStep] = Field(min_length=1, description="the flow's steps by their names")
    _arguments: dict[str, Argument] = PrivateAttr(default_factory=dict)

    @property
    def arguments(self) -> Mapping[str, Argument]:
        """The values that this flow is run with."""
        return self._arguments

    def set_arguments(self, arguments: Mapping[str, Argument]) -> None:
        self._arguments = dict(arguments)


DeliveryEvent = Literal["call.started", "call.answered", "call.ended", "call.missed", "recording.ready", "recording.failed"]


class Deliveries(Strict):
    """Where the account's CRM receives each call's data."""

    url: Url = Field(description="the account's CRM; receives each call's data by POST (docs/deliveries.md)")
    events: list[DeliveryEvent] = Field(["call.ended", "call.missed"], min_length=1, description="what it is told of")
    secret: SecretStr | None = Field(
        None, description="`whsec_` + base64 of 24 to 64 bytes: the text itself, or `${NAME}` for an environment variable"
    )
    secret_file: Located | None = Field(None, description="file whose first line is the secret")
    timeout: StrictFloat = Field(15, gt=0, le=30, description="seconds for the whole answer")

    def secret_text(self) -> str | None:
        """The secret; the loader has already put what stands in the file or the environment in its place."""
        return None if self.secret is None else self.secret.get_secret_value()


class OwnFallback(Strict):
    """What FreeSWITCH does by itself with the account's callers when no exoflow can take them (`switch.fallback`)."""

    say: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(without_names)] | None = Field(
        None, description="text for the caller first, in the account's language"
    )
    play: Located | None = Field(None, description="sound file instead; relative to the file that names it")
    group: str | None = Field(None, description="whom to ring, a name under `groups`; the account's first unless set")
    record: Literal["none", "mono", "dual"] = Field(
        "dual", description="the talk: not, in one channel, or caller and agent apart"
    )
    ring_seconds: StrictInt = Field(30, ge=5, le=60, description="seconds one agent is rung")
    talk_seconds: StrictInt = Field(3600, ge=10, le=14_400, description="seconds after which a talk is cut")

    @model_validator(mode="after")
    def _one_source(self) -> OwnFallback:
        if self.say is not None and self.play is not None:
            raise ValueError("has both `say` and `play`; it can be one of them")
        return self

    def spoken(self, language: str) -> Prompt | None:
        """What the caller hears first, in the account's language."""
        if self.say is None and self.play is None:
            return None
        return Prompt(say=self.say, play=None if self.play is None else str(self.play), language=language)


class DialEvents(Strict):
    """Where the account's CRM hears of each agent's phone that begins and ceases to ring (docs/deliveries.md)."""

    url: Url = Field(description="receives GETs with `EventType=Dial` and `Status=busy` or `free`")
    timeout: StrictFloat = Field(5, gt=0, le=10, description="seconds for the whole answer")


class Crm(Strict):
    allow_private: list[str] = Field(
        default_factory=list, description="private networks (CIDR) this account's URLs may reach, e.g. 10.1.0.0/16"
    )
    mask: list[str] = Field(
        default_factory=list,
        description="further query keys whose values are never shown; `/services/` masks what follows it in a path",
    )
    dial_events: DialEvents | None = Field(None, description="the pop-up URL; nowhere unless set")
    status_callback: StatusCallback | None = Field(None, description="the dialect's StatusCallback; nowhere unless set")


KEY_NAME = r"^[A-Za-z0-9_-]{2,64}$"  # an account's id may be one


class ApiKey(Strict):
    """Made by `exoflow api-key`, which shows the token once."""

    key: str = Field(pattern=KEY_NAME, description="its name: the user of Basic auth")
    token_hash: str = Field(
        pattern=r"^scrypt\$14\$8\$1\$[A-Za-z0-9_-]{22}\$[A-Za-z0-9_-]{43}$",
        description="scrypt of its token; never the token itself",
    )


class Api(Strict):
    keys: list[ApiKey] = Field(
        default_factory=list, max_length=20, description="who may read its calls, and list and switch its agents"
    )
    place_calls: bool = Field(
        False, description="`true`: they may also place calls (`Calls/connect`), which cost channels and money"
    )
    calls_a_minute: StrictInt = Field(
        10, ge=1, le=600, description="calls that may be placed in a minute, by all keys together"
    )

    @model_validator(mode="after")
    def _each_once(self) -> Api:
        if len({key.key for key in self.keys}) < len(self.keys):
            raise ValueError("has two keys of one name; make another by `exoflow api-key`")
        return self


class Recordings(Strict):
    """How the account's recordings can be fetched (docs/deliveries.md)."""

    link_days: StrictInt = Field(30, ge=1, le=3650, description="days that an address of a recording works")
    access: Literal["link", "key"] = Field(
        "link", description="who has the address may fetch it; `key`: only with a key of `api` besides, by Basic auth"
    )


class Account(Strict):
    name: Label = Field(description="the business, for people")
    contacts: list[Annotated[str, Field(pattern=MAIL_ADDRESS, max_length=MAX_MAIL_ADDRESS)]] = Field(
        default_factory=list, description="e-mail addresses of its people"
    )
    time_zone: str = Field("Asia/Kolkata", description="of the tz database; recordings' folders and hours go by it")
    language: Language = Field("en", description="of texts that name none, and what callers hear where theirs is missing")
    holidays: Holidays = Field(Holidays(), description="days on which `timing` is closed")
    numbers: list[Number] = Field(default_factory=list, description="our numbers that are this account's")
    agents: dict[Name, Agent] = Field(default_factory=dict, description="people who can be rung, by a short name")
    groups: dict[Name, Group] = Field(default_factory=dict, description="agents who are rung for one another")
    deliveries: Deliveries | None = Field(None, description="where each call's data goes; nowhere unless set")
    crm: Crm = Field(Crm(), description="what the account's web addresses may reach and must not show")
    fallback: OwnFallback = Field(OwnFallback(), description="what FreeSWITCH does with callers when no exoflow is there")
    recordings: Recordings = Field(Recordings(), description="how recordings can be fetched, where `web.public_url` is set")
    call_backs: CallBacks | None = Field(
        None, description="callers who asked for it in a queue are called back (docs/queue.md); nobody is unless set"
    )
    api: Api = Field(Api(), description="the Calls API and the agents' on `web.listen`: off without keys (docs/calls-api.md)")
    flows: dict[Name, Flow] = Field(min_length=1, description="what callers meet")

    @property
    def languages(self) -> list[str]:
        """Those that its callers may hear: its own first, then what its `language` steps choose."""
        steps = (step for flow in self.flows.values() for step in flow.steps.values())
        return list(dict.fromkeys([self.language, *(step.language.to for step in steps if isinstance(step, LanguageStep))]))


class Web(Strict):
    listen: HostPort = Field("127.0.0.1:8080", description="host:port of /livez, /readyz, both APIs and recordings")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[A-Za-z0-9.:_\[\]-]+(/[A-Za-z0-9._~/-]*)?$",
        max_length=MAX_PUBLIC_URL,
        description="how the world reaches `listen`, e.g. https://calls.example.in; addresses of recordings begin with it",
    )
    link_secret_file: Located | None = Field(
        None, description="file of the secret that signs addresses of recordings; made beside the store unless set"
    )

    @property
    def listen_address(self) -> Address:
        return _address(self.listen)


class Mail(Strict):
    smtp: HostPort = Field("localhost:25", description="host:port of the server that takes our mails")
    sender: str = Field(
        alias="from", pattern=MAIL_ADDRESS, max_length=MAX_MAIL_ADDRESS, description="address that mails come from"
    )
    security: Literal["none", "starttls", "tls"] = Field("none", description="`none` only for a server on this box")
    ca_file: Located | None = Field(
        None, description="PEM file of the authority that signed the server's certificate, beside those that the system knows"
    )
    user: str | None = Field(None, min_length=1, description="if the server wants a login")
    password: Secret | None = Field(None, description="its password: the text itself, or `${NAME}` for an environment variable")

    @model_validator(mode="after")
    def _whole_login(self) -> Mail:
        if (self.user is None) != (self.password is None):
            raise ValueError("needs both `user` and `password`, or neither")
        return self

    @property
    def address(self) -> Address:
        return _address(self.smtp)


class Main(Strict):
    """The main file, `exoflow.yaml`."""

    switch: Switch = Field(default_factory=Switch, description="the FreeSWITCH on this box")
    store: str = Field("sqlite:///exoflow.db", description="where calls are kept: `sqlite:///` and a file")
    spill: Located | None = Field(
        None, description="folder on another file system that takes what the store cannot, until it can again"
    )
    prompts: Prompts = Field(default_factory=Prompts, description="how texts become sound")
    trunks: dict[Annotated[str, Field(pattern=TRUNK_NAME)], Trunk] = Field(
        min_length=1, description="PRI spans and SIP gateways, by the name the dialplan gives as exo_trunk"
    )
    accounts: str = Field("accounts/*.yaml", min_length=1, description="pattern of the accounts' files")
    web: Web | None = Field(None, description="/livez, /readyz, the APIs of calls and agents; off unless set")
    mail: Mail | None = Field(None, description="outgoing mail; the applet `mail` needs it")

    @model_validator(mode="before")
    @classmethod
    def _sections(cls, data: Any) -> Any:
        # a section left out is validated like an empty one, so that the paths it has by default are located too
        return {"switch": {}, "prompts": {}, **data} if isinstance(data, dict) else data


@dataclass(frozen=True, slots=True)
class Route:
    """Whose call it is: the account and the number that was dialled."""

    account_id: str
    account: Account
    number: Number


@dataclass(frozen=True)
class Config:
    """A configuration found good. Paths are absolute, numbers E.164, secrets read."""

    base: Path  # folder of the main file
    switch: Switch
    store: str
    prompts: Prompts
    trunks: dict[str, Trunk]
    accounts: dict[str, Account] = field(default_factory=dict)  # by the stem of the account's file
    web: Web | None = None
    mail: Mail | None = None
    spill: Path | None = None
    kept: Kept = field(default_factory=Kept)

    def candidates(self, dialled_raw: str, trunk: str, ton: NumberType | None = None) -> list[Route]:
        """The numbers of this trunk that the digits sent by the exchange can mean, by the best kind of match.

        Best is the `dnis` an engineer wrote, then the full number in any usual form, then 2 to 10 digits of its end.
        `ton` is the type of number that the exchange told.
        """
        std_code = self.trunks[trunk].std_code if trunk in self.trunks else None
        routes = [
            Route(account_id, account, number)
            for account_id, account in self.accounts.items()
            for number in account.numbers
            if number.trunk == trunk
        ]
        digits = dialled_raw.removeprefix("+")
        full = to_e164(dialled_raw, std_code, ton)
        by_dnis = [r for r in routes if r.number.dnis == digits]
        by_number = [r for r in routes if full is not None and r.number.number == full]
        return by_dnis or by_number or [r for r in routes if tail_matches(digits, r.number.number)]

    def route(self, dialled_raw: str, trunk: str) -> Route | None:
        """The one account and number a call is for; None if the digits mean nobody's number or several."""
        found = self.candidates(dialled_raw, trunk)
        return found[0] if len(found) == 1 else None
