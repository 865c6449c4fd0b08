"""Run by alembic with the connection that `exoflow.store.opening` hands over; the caller owns the transaction."""

from __future__ import annotations

from alembic import context

from exoflow.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
