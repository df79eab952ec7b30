"""What Alembic runs for this history."""

from __future__ import annotations

from libs.sql import migrations
from services.ratelimiter import schema

migrations.run(schema.build(), version_table=schema.VERSION_TABLE)
