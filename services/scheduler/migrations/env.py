"""What Alembic runs for this history."""

from __future__ import annotations

from libs.sql import migrations
from services.scheduler.storage.sql_schema import metadata

migrations.run(metadata, version_table="scheduler_version")  # other services may have theirs in the same database
