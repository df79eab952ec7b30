"""What keys may be used for, until when, and which came in their place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_EARLIER = "jobs:write jobs:read models:read usage:read webhooks:write"  # all there was when they were made


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("api_keys") as keys:
        keys.add_column(sa.Column("scopes", sa.Text, nullable=False, server_default=_EARLIER))
        keys.add_column(sa.Column("expires_at", sa.Double))
        keys.add_column(sa.Column("replaced_by", sa.String(64)))
    with op.batch_alter_table("api_keys") as keys:
        keys.alter_column("scopes", existing_type=sa.Text, existing_nullable=False, server_default=None)


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("api_keys") as keys:
        for column in ("scopes", "expires_at", "replaced_by"):
            keys.drop_column(column)
