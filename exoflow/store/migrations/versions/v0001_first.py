"""The first tables: calls, legs, recordings, journey entries, deliveries and their attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _calls()
    _legs()
    _recordings_and_entries()
    _deliveries()
    op.execute("PRAGMA application_id = 1702391654")  # "exof"


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("trunk", sa.Text, nullable=False),
        sa.Column("dialled_raw", sa.Text, nullable=False),
        sa.Column("caller_raw", sa.Text, nullable=False),
        sa.Column("dialled", sa.Text),
        sa.Column("caller", sa.Text),
        sa.Column("caller_withheld", sa.Boolean, nullable=False),
        sa.Column("account", sa.Text),
        sa.Column("flow", sa.Text),
        sa.Column("diverted_from", sa.Text),
        sa.Column("ring_at", sa.DateTime),
        sa.Column("answered_at", sa.DateTime),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("q850", sa.Integer),
        sa.Column("ended_by", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("digits", sa.Text, nullable=False),
        sa.Column("wanted_agent", sa.Boolean, nullable=False),
        sa.Column("caller_left", sa.Boolean, nullable=False),
        sa.Column("closed_at", sa.DateTime),
    )
    op.create_index("calls_created", "calls", ["created_at"])
    op.create_index("calls_account", "calls", ["account", "created_at"])
    op.create_index("calls_channel", "calls", ["channel"])
    op.create_index("calls_open", "calls", ["created_at"], sqlite_where=sa.text("closed_at IS NULL"))


def _legs() -> None:
    op.create_table(
        "legs",
        sa.Column("uuid", sa.Text, primary_key=True),
        sa.Column("call_id", sa.Text, sa.ForeignKey("calls.id"), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("number", sa.Text, nullable=False),
        sa.Column("trunk", sa.Text, nullable=False),
        sa.Column("agent", sa.Text),
        sa.Column("dialled_at", sa.DateTime),
        sa.Column("setup_at", sa.DateTime),
        sa.Column("alerting_at", sa.DateTime),
        sa.Column("early_media_at", sa.DateTime),
        sa.Column("answered_at", sa.DateTime),
        sa.Column("released_at", sa.DateTime),
        sa.Column("q850", sa.Integer),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("meaning", sa.Text, nullable=False),
        sa.Column("seen", sa.Boolean, nullable=False),
    )
    op.create_index("legs_call", "legs", ["call_id", "seq"])


def _recordings_and_entries() -> None:
    op.create_table(
        "recordings",
        sa.Column("call_id", sa.Text, sa.ForeignKey("calls.id"), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("channels", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime),
        sa.Column("seconds", sa.Float),
        sa.Column("problem", sa.Text, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("call_id", sa.Text, sa.ForeignKey("calls.id"), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("step", sa.Text),
        sa.Column("evidence", sa.JSON, nullable=False),
    )


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("webhook_id", sa.Text, nullable=False, unique=True),
        sa.Column("call_id", sa.Text, sa.ForeignKey("calls.id"), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("next_at", sa.DateTime, nullable=False),
        sa.Column("lease_until", sa.DateTime, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("delivered_at", sa.DateTime),
        sa.Column("problem", sa.Text, nullable=False),
        sa.UniqueConstraint("call_id", "seq", name="deliveries_call_seq"),
        sqlite_autoincrement=True,
    )
    open_rows = sa.text("state IN ('pending', 'leased')")
    op.create_index("deliveries_open", "deliveries", ["account", "next_at"], sqlite_where=open_rows)
    op.create_index("deliveries_call", "deliveries", ["call_id", "id"])
    op.create_table(
        "attempts",
        sa.Column("delivery_id", sa.Integer, sa.ForeignKey("deliveries.id"), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("ms", sa.Integer, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
