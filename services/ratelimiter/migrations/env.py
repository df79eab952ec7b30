"""Alembic's entry: it runs this file with the connection that `services.ratelimiter.migrate` has opened."""

from __future__ import annotations

from alembic import context

from services.ratelimiter import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.build(),
    version_table=schema.VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
