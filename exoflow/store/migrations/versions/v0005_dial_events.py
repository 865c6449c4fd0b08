"""Dial events are found past any backlog of deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    urgent = sa.text("state IN ('pending', 'leased') AND type IN ('dial.busy', 'dial.free')")
    op.create_index("deliveries_urgent", "deliveries", ["account", "next_at"], sqlite_where=urgent)
