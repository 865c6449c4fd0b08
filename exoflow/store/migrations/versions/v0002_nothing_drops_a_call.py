"""Where a call is in its flow and on which configuration, for another process; configurations by hash; counts by the hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("calls", sa.Column("progress", sa.JSON, nullable=False, server_default="{}"))
    op.add_column("calls", sa.Column("config", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "configs",
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("loaded_at", sa.DateTime, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
    )
    op.create_table(
        "counts",
        sa.Column("hour", sa.DateTime, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("trunk", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("amount", sa.Float, nullable=False),
    )
