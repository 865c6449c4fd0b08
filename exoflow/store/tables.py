"""The tables, as SQLAlchemy Core. A change here needs a revision in `migrations/versions` and the new `HEAD`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

HEAD = "0006"  # the newest revision; a test holds it equal to alembic's own head
APPLICATION_ID = 0x65786F66  # "exof" in SQLite's header: tells our file from a stranger's


class Utc(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC. In SQLite it is text that sorts and that a person can read."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value!r}")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


metadata = MetaData()

calls = Table(
    "calls",
    metadata,
    Column("id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("trunk", Text, nullable=False),
    Column("dialled_raw", Text, nullable=False),
    Column("caller_raw", Text, nullable=False),
    Column("dialled", Text),
    Column("caller", Text),
    Column("caller_withheld", Boolean, nullable=False),
    Column("account", Text),
    Column("flow", Text),
    Column("diverted_from", Text),
    Column("ring_at", Utc),
    Column("answered_at", Utc),
    Column("ended_at", Utc),
    Column("cause", Text, nullable=False),
    Column("q850", Integer),
    Column("ended_by", Text, nullable=False),
    Column("outcome", Text),
    Column("reason", Text, nullable=False),
    Column("digits", Text, nullable=False),
    Column("wanted_agent", Boolean, nullable=False),
    Column("caller_left", Boolean, nullable=False),
    Column("closed_at", Utc),  # NULL: the call is going on, or its process died
    Column("progress", JSON, nullable=False, server_default="{}"),  # where in its flow it is, for another process
    Column("config", Text, nullable=False, server_default=""),  # hash of the configuration it began with
    Column("placed", JSON(none_as_null=True)),  # what was asked for when it was placed; NULL: it came in
    Index("calls_created", "created_at"),
    Index("calls_account", "account", "created_at"),
    Index("calls_caller", "account", "caller", "created_at"),
    Index("calls_channel", "channel"),
    Index("calls_open", "created_at", sqlite_where=text("closed_at IS NULL"), postgresql_where=text("closed_at IS NULL")),
)

legs = Table(
    "legs",
    metadata,
    Column("uuid", Text, primary_key=True),
    Column("call_id", Text, ForeignKey("calls.id"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("number", Text, nullable=False),
    Column("trunk", Text, nullable=False),
    Column("agent", Text),
    Column("dialled_at", Utc),
    Column("setup_at", Utc),
    Column("alerting_at", Utc),
    Column("early_media_at", Utc),
    Column("answered_at", Utc),
    Column("released_at", Utc),
    Column("q850", Integer),
    Column("cause", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("meaning", Text, nullable=False),
    Column("seen", Boolean, nullable=False),
    Index("legs_call", "call_id", "seq"),
)

recordings = Table(
    "recordings",
    metadata,
    Column("call_id", Text, ForeignKey("calls.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("channels", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at", Utc),
    Column("seconds", Float),
    Column("problem", Text, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("call_id", Text, ForeignKey("calls.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", Utc, nullable=False),
    Column("stage", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("step", Text),
    Column("evidence", JSON, nullable=False),
)

marks = Table(  # of groups that are rung equally: whom a flow tried last
    "marks",
    metadata,
    Column("account", Text, primary_key=True),
    Column("flow", Text, primary_key=True),
    Column("number", Text, nullable=False),
)

agent_states = Table(  # of agents who have ever been switched; all others are on
    "agent_states",
    metadata,
    Column("account", Text, primary_key=True),
    Column("agent", Text, primary_key=True),  # his name in the account's file
    Column("available", Boolean, nullable=False),
    Column("changed_at", Utc, nullable=False),
    Column("changed_by", Text, nullable=False),  # "phone", "command" …
)

call_backs = Table(  # callers who asked in a queue to be called back
    "call_backs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("caller", Text, nullable=False),  # E.164
    Column("number", Text, nullable=False),  # of ours, that he had dialled
    Column("trunk", Text, nullable=False),
    Column("flow", Text, nullable=False),  # as it is run
    Column("step", Text, nullable=False),
    Column("team", Text, nullable=False),  # the group for which he waits
    Column("language", Text, nullable=False),
    Column("recorded", Boolean, nullable=False),  # false: he refused it
    Column("call", Text, nullable=False),  # id of the call in which he asked
    Column("since", Utc, nullable=False),  # how old his place in the queue is
    Column("asked_at", Utc, nullable=False),
    Column("state", Text, nullable=False),  # agents/callbacks.py
    Column("why", Text, nullable=False),  # what came of it last, in words
    Column("tries", Integer, nullable=False),
    Column("next_at", Utc, nullable=False),  # not called before
    Column("placed", Text, nullable=False),  # id of the call to him, the last one; empty: none yet
    Column("ended_at", Utc),  # NULL: he may yet be called
    Index(
        "call_backs_open",
        "asked_at",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index("call_backs_asked", "asked_at"),
)

configs = Table(  # each one that was loaded and found good: a call ends on the one it began with
    "configs",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("loaded_at", Utc, nullable=False),  # for the last time
    Column("files", JSON, nullable=False),  # their texts by path, the main file first
)

counts = Table(  # what has no call of its own: refusals, seconds with all channels taken, what a full disk made us drop
    "counts",
    metadata,
    Column("hour", Utc, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("trunk", Text, primary_key=True),  # empty: of no trunk
    Column("source", Text, primary_key=True),  # who counted: a sum in one process's memory, written absolute
    Column("amount", Float, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),  # the order in which rows of one call are sent
    Column("webhook_id", Text, nullable=False, unique=True),  # the same over all attempts
    Column("call_id", Text, ForeignKey("calls.id"), nullable=False),
    Column("seq", Integer, nullable=False),  # 1, 2, 3 … within the call
    Column("account", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),  # pending | leased | delivered | dead
    Column("created_at", Utc, nullable=False),
    Column("next_at", Utc, nullable=False),  # not sent before
    Column("lease_until", Utc, nullable=False),  # not taken over before
    Column("attempts", Integer, nullable=False),  # times claimed; fences a late answer off
    Column("failures", Integer, nullable=False),  # attempts with a known bad end
    Column("delivered_at", Utc),
    Column("problem", Text, nullable=False),  # the last failure in words; kept when dead
    UniqueConstraint("call_id", "seq", name="deliveries_call_seq"),
    Index(
        "deliveries_open",
        "account",
        "next_at",
        sqlite_where=text("state IN ('pending', 'leased')"),
        postgresql_where=text("state IN ('pending', 'leased')"),
    ),
    Index("deliveries_call", "call_id", "id"),
    Index(  # what tells of phones that ring now is found past any backlog
        "deliveries_urgent",
        "account",
        "next_at",
        sqlite_where=text("state IN ('pending', 'leased') AND type IN ('dial.busy', 'dial.free')"),
        postgresql_where=text("state IN ('pending', 'leased') AND type IN ('dial.busy', 'dial.free')"),
    ),
    sqlite_autoincrement=True,
)

attempts = Table(
    "attempts",
    metadata,
    Column("delivery_id", Integer, ForeignKey("deliveries.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("at", Utc, nullable=False),
    Column("url", Text, nullable=False),  # secrets masked
    Column("status", Integer),  # NULL: no answer
    Column("ms", Integer, nullable=False),
    Column("answer", Text, nullable=False),  # its first 200 bytes
    Column("reason", Text, nullable=False),  # empty for a success: "timeout", "refused", "status", "gone" …
)
