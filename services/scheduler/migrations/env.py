"""What Alembic runs: the history inside the transaction of the connection that `upgrade.config` was given."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from services.scheduler.sql_schema import metadata

_LOCK = 0x6461726B_0001  # advisory: one process at a time changes the scheduler's tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table="scheduler_version",  # other services may keep their histories in the same database
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
)
with context.begin_transaction():
    if connection.dialect.name == "postgresql":  # on SQLite the transaction itself is the lock
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    context.run_migrations()
