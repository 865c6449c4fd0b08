"""What receivers of deliveries may rely on, as models: docs/schemas/ is their JSON Schema, and tests hold each body against it.

Keys may be added later; none of these goes, or changes its meaning.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from exoflow.calls.model import CallOutcome, Stage

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Moment = datetime  # ISO 8601 in UTC to the millisecond


class LegData(BaseModel):
    """One attempt to reach an agent."""

    leg: str = Field(description="id of the leg, FreeSWITCH's channel uuid")
    seq: int = Field(ge=1, description="1, 2, 3 … in the order of dialling")
    number: str = Field(description="the agent's number, E.164")
    agent: str | None = Field(description="the agent's name in the configuration; null: a number that the CRM named")
    trunk: str = Field(description="the trunk it was dialled on")
    outcome: str = Field(description="answered, busy, no_answer, rejected, unreachable and the like; further words may come")
    meaning: str = Field(description="a sentence for people")
    dialled_at: Moment | None = Field(description="the switch was told")
    setup_at: Moment | None = Field(description="SETUP left")
    alerting_at: Moment | None = Field(description="the phone rang")
    answered_at: Moment | None
    released_at: Moment | None
    talk_seconds: float = Field(ge=0)
    q850: int | None = Field(description="cause of the release, Q.850")
    cause: str | None = Field(description="FreeSWITCH's name of it")
    seen: bool = Field(description="false: known from the caller's leg only")


class RecordingData(BaseModel):
    """One recording."""

    kind: Literal["talk", "voicemail"]
    file: str = Field(description="path on exoflow's box")
    channels: int = Field(ge=1, description="2: caller and agent apart")
    state: Literal["pending", "good", "failed"]
    started_at: Moment | None
    seconds: float | None
    problem: str | None = Field(description="why it failed, and the cure")
    url: str | None = Field(description="where it can be fetched; null: nowhere by web, or it failed")
    url_until: Moment | None = Field(description="when that address ends")


class EntryData(BaseModel):
    """One line of the journey."""

    seq: int = Field(ge=1)
    at: Moment
    stage: Stage = Field(description="A dialled, B line, C ivr, D to crm, E in crm, F answer, G ringing, H talk")
    code: str = Field(description='for programs: "menu.key", "crm.timeout", "leg.busy", …')
    text: str = Field(description="one sentence for people; for a failure it names the cure")
    step: str | None
    evidence: dict[str, Any] = Field(description="what shows it; empty where the delivery would be too long")


class PlacedData(BaseModel):
    """What was asked for when the account placed the call; `caller` is who was rung first."""

    to: str | None = Field(description="the second number, E.164; null: the flow took the call")
    custom_field: str = Field(description="CustomField as it was given")


class CallData(BaseModel):
    """A call, whole."""

    call: str = Field(description="id of the call, the dialect's CallSid: 32 hex digits", pattern="^[0-9a-f]{32}$")
    seq: int = Field(ge=1, description="rising with each of the call's deliveries")
    account: str = Field(description="name of the account's file")
    direction: Literal["inbound", "outbound-api"] = Field(description="outbound-api: the account placed it by the Calls API")
    flow: str | None
    trunk: str = Field(description="where it came in, or over which it was placed")
    number: str | None = Field(description="our number that was called, or that who was rung saw; E.164")
    dialled: str = Field(description="its digits as the exchange sent them")
    diverted_from: str | None = Field(description="the customer-facing number, E.164")
    caller: str | None = Field(description="E.164; null: withheld, or not readable")
    caller_withheld: bool
    outcome: CallOutcome | None = Field(description="null only while the call is going on")
    reason: str | None = Field(description="code of the journey's line that explains the outcome")
    reason_text: str | None = Field(description="that line's sentence")
    digits: str = Field(description="the last digits collected; stars for secret ones")
    placed: PlacedData | None = Field(description="what was asked for when it was placed; null: it came in")
    created_at: Moment = Field(description="the call arrived")
    ring_at: Moment | None = Field(description="the caller heard it ring")
    answered_at: Moment | None = Field(description="from here the caller pays")
    ended_at: Moment | None
    ended_by: Literal["caller", "exoflow", "switch"] | None
    cause: str | None = Field(description="of the caller's leg, FreeSWITCH's name")
    q850: int | None = Field(description="of the caller's leg, Q.850")
    talk_seconds: float = Field(ge=0, description="over all legs")
    legs: list[LegData]
    legs_left_out: int = Field(0, ge=1, description="there only if the middle of a long list is left out: so many")
    recordings: list[RecordingData]
    recordings_left_out: int = Field(0, ge=1, description="as legs_left_out")
    journey: list[EntryData]
    journey_left_out: int = Field(0, ge=1, description="as legs_left_out")


class PageData(BaseModel):
    """What a `page` step says."""

    call: str = Field(description="id of the call, the dialect's CallSid: 32 hex digits", pattern="^[0-9a-f]{32}$")
    account: str
    number: str | None = Field(description="our number that was called, E.164")
    caller: str | None = Field(description="E.164; null: withheld, or not readable")
    step: str = Field(description="the step that pages")
    text: str = Field(description="the step's `text`, filled")
    variables: dict[str, Any] = Field(description="the flow's variables; stars for secret digits")


class TalkData(CallData):
    """A call that an agent has answered."""

    leg: str = Field(description="which of the legs he answered")


class OneRecordingData(CallData):
    """A call of which a recording has been judged."""

    recording: RecordingData = Field(description="which of the recordings it is")


class CallStarted(BaseModel):
    """The call is taken: it rings with the caller, and its flow begins."""

    type: Literal["call.started"]
    timestamp: Moment = Field(description="when the delivery was made")
    data: CallData


class CallAnswered(BaseModel):
    """An agent has answered, and talks with the caller. Once for each talk."""

    type: Literal["call.answered"]
    timestamp: Moment = Field(description="when the delivery was made")
    data: TalkData


class RecordingReady(BaseModel):
    """A recording is there and as long as it must be. Once for each recording, mostly before the call's end."""

    type: Literal["recording.ready"]
    timestamp: Moment = Field(description="when the delivery was made")
    data: OneRecordingData


class RecordingFailed(BaseModel):
    """A recording is not what it should be: `recording.problem` says why. Its file may hold a part."""

    type: Literal["recording.failed"]
    timestamp: Moment = Field(description="when the delivery was made")
    data: OneRecordingData


class CallEnded(BaseModel):
    """The call is over; nobody needs to call back."""

    type: Literal["call.ended"]
    timestamp: Moment = Field(description="when the delivery was made")
    data: CallData


class CallMissed(BaseModel):
    """The call is over, and somebody should call back: an agent was wanted and none spoke, or it could not be served."""

    type: Literal["call.missed"]
    timestamp: Moment = Field(description="when the delivery was made")
    data: CallData


class CallPage(BaseModel):
    """A step of the flow pages a program, while the call goes on. Sent once."""

    type: Literal["call.page"]
    timestamp: Moment = Field(description="when the step ran")
    data: PageData


MODELS: dict[str, type[BaseModel]] = {
    "call.started": CallStarted,
    "call.answered": CallAnswered,
    "call.ended": CallEnded,
    "call.missed": CallMissed,
    "recording.ready": RecordingReady,
    "recording.failed": RecordingFailed,
    "call.page": CallPage,
}


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema of a delivery's body; `kind` is one of MODELS."""
    return {"$schema": SCHEMA_DIALECT, **MODELS[kind].model_json_schema()}
