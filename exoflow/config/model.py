"""The typed configuration: what `exoflow.yaml` and the accounts' files become once they are read and found good."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, SecretStr, model_validator

from exoflow.config.steps import AnyStep, Strict


class Address(NamedTuple):
    host: str
    port: int


class EventSocket(Strict):
    """FreeSWITCH's own event socket, which we connect to (mod_event_socket)."""

    host: str = "127.0.0.1"
    port: int = Field(8021, ge=1, le=65535)
    password: SecretStr | None = None
    password_file: Path | None = None


class Switch(Strict):
    listen: str = Field("127.0.0.1:8084", description="host:port that FreeSWITCH's socket application connects to")
    event_socket: EventSocket = EventSocket()
    recordings: Path = Path("recordings")
    max_calls: int = Field(1000, ge=1, le=5000, description="calls in one process; above it callers hear 'busy' (17)")

    @property
    def listen_address(self) -> Address:
        host, _, port = self.listen.rpartition(":")
        return Address(host, int(port))


class Outbound(Strict):
    dial_prefix: str = Field("0", pattern=r"^[0-9]{0,6}$")
    cli: str | None = Field(None, description="caller id our agents see; inside the PRI's own range")
    hunt: Literal["a", "A", "r", "R"] = Field("A", description="order in which free channels are looked for")


class Trunk(Strict):
    circle: str | None = None
    operator: str | None = None
    span: str | None = Field(None, description="FreeTDM span name")
    gateway: str | None = Field(None, description="SIP gateway name, instead of a span")
    channels: int = Field(30, ge=1, le=480)
    std_code: str | None = Field(None, pattern=r"^[0-9]{2,4}$")
    outbound: Outbound = Outbound()

    @model_validator(mode="after")
    def _one_kind(self) -> Trunk:
        if (self.span is None) == (self.gateway is None):
            raise ValueError("needs either `span` or `gateway`")
        return self


class Prompts(Strict):
    engine: str | None = Field(
        None,
        description="`espeak-ng`, `text` (silence of the text's length, for trying flows), or a command with {text} and {wav}",
    )
    voice: str = Field("en-in", description="voice of espeak-ng")
    folder: Path = Path("prompts")


class Number(Strict):
    number: str = Field(description="our number, E.164")
    trunk: str
    diverted_from: str | None = Field(None, description="the customer-facing number that is diverted to ours")
    dnis: str | None = Field(
        None, pattern=r"^[0-9]{2,10}$", description="digits the exchange sends; the number's end unless set"
    )
    flow: str


class Agent(Strict):
    number: str
    name: str | None = None


class Group(Strict):
    agents: list[str] = Field(min_length=1)
    ring: Literal["in_order", "equally"] = "in_order"


class Flow(Strict):
    start: str
    steps: dict[str, AnyStep] = Field(min_length=1)


class Deliveries(Strict):
    """Where the account's CRM receives each call's data."""

    url: str = Field(min_length=8)
    secret: SecretStr | None = Field(None, description="`whsec_` + base64 of 24 to 64 bytes")
    secret_file: Path | None = None
    timeout: float = Field(15, gt=0, le=30)


class Crm(Strict):
    allow_private: list[str] = Field(
        default_factory=list, description="private networks (CIDR) this account's URLs may reach, e.g. 10.1.0.0/16"
    )
    mask: list[str] = Field(default_factory=list, description="further query keys whose values are never shown")


class Account(Strict):
    name: str
    contacts: list[str] = Field(default_factory=list)
    time_zone: str = "Asia/Kolkata"
    numbers: list[Number] = Field(default_factory=list)
    agents: dict[str, Agent] = Field(default_factory=dict)
    groups: dict[str, Group] = Field(default_factory=dict)
    deliveries: Deliveries | None = None
    crm: Crm = Crm()
    flows: dict[str, Flow] = Field(min_length=1)
